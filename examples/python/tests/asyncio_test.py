"""What awaits, cancellations, exceptions, panics, shutdown and threads do across the two languages."""

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unittest

import windlass_asyncio as windlass

try:
    import uvloop
except ImportError:
    uvloop = None
    print("SKIPPED: uvloop, which is not installed")

LIMIT = 60  # seconds, for what takes milliseconds


async def echo_server():
    async def serve(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


class OnLoop:
    """The tests for one kind of loop."""

    def run_async(self, main):
        async def limited():
            return await asyncio.wait_for(main, LIMIT)

        loop = self.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(limited())
        finally:
            # As `asyncio.run`, which has no choice of the loop before Python 3.12.
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            asyncio.set_event_loop(None)
            self.assertEqual(windlass.guests(), 0)

    # Rust futures in Python.

    def test_ready_future_starts_in_the_next_iteration(self):
        async def main():
            future = windlass.ready([7])
            self.assertFalse(future.done())
            self.assertEqual(await future, [7])

        self.run_async(main())

    def test_timer_is_never_early(self):
        async def main():
            for _ in range(10):
                start = time.monotonic()
                self.assertIsNone(await windlass.sleep(0.01))
                self.assertGreaterEqual(time.monotonic() - start, 0.01)

        self.run_async(main())

    def test_futures_run_at_the_same_time(self):
        async def main():
            sleeps = [windlass.sleep(0.2 + n / 1000) for n in range(100)]
            start = time.monotonic()
            await asyncio.gather(*sleeps, windlass.busy(1000), asyncio.sleep(0.2))
            self.assertLess(time.monotonic() - start, 10)  # one after the other take 25

        self.run_async(main())

    def test_exception_is_raised_at_the_await(self):
        async def main():
            error = LookupError("no such rope")
            with self.assertRaises(LookupError) as raised:
                await windlass.fail(error)
            self.assertIs(raised.exception, error)
            with self.assertRaises(ConnectionRefusedError):
                await windlass.connect("127.0.0.1", 1)
            with self.assertRaises(TypeError):  # asyncio refuses `StopIteration`
                await windlass.fail(StopIteration())

        self.run_async(main())

    def test_panic_is_an_exception(self):
        async def main():
            with self.assertRaises(BaseException) as raised:
                await windlass.panic("a rope broke")
            self.assertEqual(type(raised.exception).__name__, "PanicException")
            self.assertEqual(str(raised.exception), "a rope broke")
            self.assertEqual(await windlass.ready(8), 8)

        self.run_async(main())

    def test_cancelled_task_drops_the_rust_future(self):
        async def main():
            dropped = asyncio.Event()

            async def wait():
                await windlass.pending(dropped.set)

            task = asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            self.assertFalse(dropped.is_set())
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            await dropped.wait()

        self.run_async(main())

    def test_time_limit_of_asyncio_drops_the_rust_future(self):
        async def main():
            dropped = asyncio.Event()
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(windlass.pending(dropped.set), 0.01)
            await dropped.wait()

        self.run_async(main())

    def test_result_after_a_cancellation_is_discarded(self):
        async def main():
            future = windlass.sleep(0)
            future.cancel()
            windlass.turn()  # it completes before the callback of the cancellation
            with self.assertRaises(asyncio.CancelledError):
                await future

        self.run_async(main())

    def test_sockets(self):
        async def main():
            server, port = await echo_server()
            connections = await asyncio.gather(
                *[windlass.connect("127.0.0.1", port) for _ in range(20)]
            )
            for n in range(5):
                data = bytes([n]) * 100_000
                echoes = await asyncio.gather(*[one.echo(data) for one in connections])
                self.assertEqual(echoes, [data] * 20)
            connections.clear()
            server.close()

        self.run_async(main())

    # Awaitables of Python in Rust.

    def test_coroutine_is_awaited_from_rust(self):
        async def main():
            async def coroutine():
                await asyncio.sleep(0.01)
                return 7

            self.assertEqual(await windlass.call(coroutine), 7)
            future = asyncio.get_running_loop().create_future()
            future.set_result(8)
            self.assertEqual(await windlass.call(lambda: future), 8)

        self.run_async(main())

    def test_context_variables_pass_through_rust(self):
        request = contextvars.ContextVar("request", default=0)

        async def read():
            await windlass.sleep(0.001)
            return request.get()

        async def handle(number):
            request.set(number)
            return await windlass.call(lambda: windlass.call(read))

        async def main():
            numbers = await asyncio.gather(*[asyncio.create_task(handle(n)) for n in range(1, 9)])
            self.assertEqual(numbers, list(range(1, 9)))
            self.assertEqual(await windlass.call(read), 0)

        async def set_before_the_first_call():
            request.set(7)
            future = asyncio.get_running_loop().create_future()
            future.set_result(await windlass.ready(0))
            # A plain function runs in the turn, which has no variables.
            found = []
            await windlass.call(lambda: found.append(request.get()) or future)
            self.assertEqual(found, [0])

        self.run_async(main())
        self.run_async(set_before_the_first_call())

    def test_nested_awaits(self):
        async def down(depth):
            if depth == 0:
                await windlass.sleep(0.001)
                return 0
            return 1 + await windlass.call(lambda: down(depth - 1))

        self.assertEqual(self.run_async(down(50)), 50)

    def test_exception_of_a_coroutine_reaches_rust_and_returns(self):
        error = LookupError("no such rope")

        async def main():
            async def coroutine():
                await asyncio.sleep(0)
                raise error

            with self.assertRaises(LookupError) as raised:
                await windlass.call(coroutine)
            self.assertIs(raised.exception, error)
            with self.assertRaises(TypeError):
                await windlass.call(lambda: 5)

        self.run_async(main())

    def test_dropped_rust_future_cancels_the_coroutine(self):
        async def main():
            cancelled = asyncio.Event()

            async def coroutine():
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    cancelled.set()
                    raise

            with self.assertRaises(TimeoutError):
                await windlass.call_within(0.01, coroutine)
            await cancelled.wait()

        self.run_async(main())

    def test_cancellation_passes_through_rust(self):
        async def main():
            cancelled = asyncio.Event()

            async def coroutine():
                try:
                    await asyncio.sleep(3600)
                finally:
                    cancelled.set()

            task = asyncio.ensure_future(windlass.call(coroutine))
            await asyncio.sleep(0.01)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            await cancelled.wait()

        self.run_async(main())

    def test_coroutine_that_is_cancelled_in_python_is_an_error_in_rust(self):
        async def main():
            inner = asyncio.ensure_future(asyncio.sleep(3600))
            outer = windlass.call(lambda: inner)
            await asyncio.sleep(0.01)
            inner.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await outer

        self.run_async(main())

    # Loops, threads and the end.

    def test_end_of_the_loop_drops_rust_tasks(self):
        dropped = []

        async def main():
            windlass.detach_pending(lambda: dropped.append("task"))
            windlass.pending(lambda: dropped.append("future"))
            self.assertEqual(windlass.guests(), 1)

        self.run_async(main())
        self.assertEqual(sorted(dropped), ["future", "task"])

    def test_loops_one_after_the_other(self):
        for n in range(3):
            self.assertEqual(self.run_async(windlass_after_sleep(n)), n)

    def test_loop_that_is_closed_without_a_shutdown(self):
        dropped = []

        async def leave():
            windlass.detach_pending(lambda: dropped.append(1))

        loop = self.new_event_loop()
        loop.run_until_complete(leave())
        loop.close()
        self.assertEqual(dropped, [])
        self.run_async(windlass_after_sleep(1))  # attaches to the next loop
        self.assertEqual(dropped, [1])

    def test_two_loops_take_turns_on_one_thread(self):
        loops = [self.new_event_loop() for _ in range(2)]
        try:
            futures = []
            for loop in loops:

                async def start():
                    return windlass.busy(300)  # pending at the end of a turn

                futures.append(loop.run_until_complete(start()))
            self.assertEqual(windlass.guests(), 2)
            for loop, future in zip(loops, futures):
                self.assertIs(future.get_loop(), loop)

                async def wait(future):
                    before = time.process_time()
                    await asyncio.sleep(0.2)
                    used = time.process_time() - before
                    self.assertLess(used, 0.15, "the loop spins")
                    return await future

                self.assertEqual(loop.run_until_complete(wait(future)), 300)
        finally:
            for loop in loops:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()
        self.assertEqual(windlass.guests(), 0)

    def test_loops_in_threads(self):
        results = []

        def run(n):
            try:
                for round in range(3):
                    self.run_async(windlass_after_sleep(n))
                    self.run_async(windlass.call_coroutine(n))
                results.append(n)
            except BaseException as error:
                results.append(error)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(sorted(results, key=str), [0, 1, 2, 3])

    def test_no_thread_is_started(self):
        async def main():
            server, port = await echo_server()  # uvloop starts threads here
            before = len(os.listdir("/proc/self/task"))
            connection = await windlass.connect("127.0.0.1", port)
            await connection.echo(b"ahoy")
            await windlass.call(lambda: asyncio.sleep(0))
            self.assertEqual(len(os.listdir("/proc/self/task")), before)
            server.close()

        self.run_async(main())

    def test_nothing_leaks(self):
        async def main():
            async def coroutine():
                return 1

            async def rounds():
                for _ in range(100):
                    await windlass.ready(object())
                    await windlass.sleep(0)
                    await windlass.call(coroutine)
                    windlass.pending(int).cancel()
                    await asyncio.sleep(0)
                gc.collect()
                return len(gc.get_objects())

            await rounds()
            before = await rounds()
            after = await rounds()
            self.assertLess(after - before, 100)

        self.run_async(main())

    def test_without_a_loop(self):
        with self.assertRaisesRegex(RuntimeError, "no running event loop"):
            windlass.ready(1)


async def windlass_after_sleep(value):
    await windlass.sleep(0.001)
    return value


async def call_coroutine(value):
    return await windlass.call(lambda: windlass_after_sleep(value))


windlass.call_coroutine = call_coroutine


class Asyncio(OnLoop, unittest.TestCase):
    new_event_loop = staticmethod(asyncio.new_event_loop)


class AsyncioInDebugMode(OnLoop, unittest.TestCase):
    @staticmethod
    def new_event_loop():
        loop = asyncio.new_event_loop()
        loop.set_debug(True)
        return loop


if uvloop:

    class Uvloop(OnLoop, unittest.TestCase):
        new_event_loop = staticmethod(uvloop.new_event_loop)


class Processes(unittest.TestCase):
    """Ends of an interpreter."""

    def run_program(self, program, status=0):
        child = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual(child.returncode, status, child.stderr)
        return child

    def test_asyncio_run_twice(self):
        child = self.run_program(
            """
            import asyncio, windlass_asyncio as windlass
            async def main():
                windlass.pending(lambda: print("dropped"))
                await windlass.sleep(0.001)
            asyncio.run(main())
            print("between")
            asyncio.run(main())
            """
        )
        self.assertEqual(child.stdout.split(), ["dropped", "between", "dropped"])
        self.assertEqual(child.stderr, "")

    def test_exit_inside_of_the_loop(self):
        child = self.run_program(
            """
            import asyncio, sys, windlass_asyncio as windlass
            async def main():
                windlass.detach_pending(lambda: print("dropped"))
                await windlass.sleep(0.001)
                sys.exit(3)
            asyncio.run(main())
            """,
            status=3,
        )
        self.assertEqual((child.stdout, child.stderr), ("dropped\n", ""))

    def test_exit_with_an_open_loop(self):
        child = self.run_program(
            """
            import asyncio, windlass_asyncio as windlass
            async def main():
                windlass.detach_pending(lambda: print("dropped"))
                await windlass.sleep(0.001)
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            """
        )
        self.assertEqual((child.stdout, child.stderr), ("dropped\n", ""))

    def test_exit_while_a_thread_runs_a_loop(self):
        child = self.run_program(
            """
            import asyncio, threading, time, windlass_asyncio as windlass
            started = threading.Event()
            async def main():
                windlass.detach_pending(lambda: print("dropped"))
                started.set()
                while True:
                    await windlass.sleep(0.0001)
            threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
            started.wait()
            time.sleep(0.05)
            print("the end")
            """
        )
        self.assertEqual((child.stdout, child.stderr), ("the end\n", ""))

    def test_thread_that_ends_with_an_open_loop(self):
        child = self.run_program(
            """
            import asyncio, threading, windlass_asyncio as windlass
            async def main():
                windlass.detach_pending(lambda: print("dropped"))
                await windlass.sleep(0.001)
            def run():
                loop = asyncio.new_event_loop()
                loop.run_until_complete(main())
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            asyncio.run(main())
            """
        )
        self.assertEqual((child.stdout, child.stderr), ("dropped\n", ""))

    def test_interrupt_cancels_the_rust_future(self):
        child = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(
                    """
                    import asyncio, windlass_asyncio as windlass
                    async def main():
                        future = windlass.pending(lambda: print("dropped", flush=True))
                        print("started", flush=True)
                        await future
                    try:
                        asyncio.run(main())
                    except KeyboardInterrupt:
                        print("interrupted")
                    """
                ),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertEqual(child.stdout.readline(), "started\n")
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=30)
        self.assertEqual(out, "dropped\ninterrupted\n")


if __name__ == "__main__":
    unittest.main()
