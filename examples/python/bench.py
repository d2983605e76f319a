"""windlass on asyncio's thread beside tokio on threads of its own (pyo3-async-runtimes), and no Rust.

    examples/python/bench.sh

Each round measures all in alternating order, each in a process of its own. The table has the medians of the
rounds, and the ratios are medians of the ratios per round.
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time

SECONDS = float(os.environ.get("BENCH_SECONDS", "1"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
MESSAGE = b"x" * 64


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def echo(self, data):
        self.writer.write(data)
        return await self.reader.readexactly(len(data))


async def connect_in_python(host, port):
    return Connection(*await asyncio.open_connection(host, port))


def functions(way):
    if way == "asyncio":
        return lambda _: asyncio.sleep(0), connect_in_python, lambda function: asyncio.create_task(function())
    import windlass_asyncio as module

    if way == "windlass":
        return module.ready, module.connect, module.call
    return module.peer_ready, module.peer_connect, module.peer_call


async def latency(step):
    """Returns p50 and p99 in µs, awaits per second, and µs of CPU per await."""
    for _ in range(200):
        await step()
    times = []
    used = time.process_time()
    start = now = time.perf_counter()
    while now - start < SECONDS:
        await step()
        before, now = now, time.perf_counter()
        times.append(now - before)
    used = time.process_time() - used
    times.sort()
    return {
        "p50": times[len(times) // 2] * 1e6,
        "p99": times[len(times) * 99 // 100] * 1e6,
        "per_second": len(times) / (now - start),
        "cpu": used / len(times) * 1e6,
    }


async def throughput(steps):
    """As many coroutines as steps, each awaiting again and again."""
    count = 0
    end = time.perf_counter() + SECONDS

    async def run(step):
        nonlocal count
        while time.perf_counter() < end:
            await step()
            count += 1

    used, start = time.process_time(), time.perf_counter()
    await asyncio.gather(*[run(step) for step in steps])
    used, seconds = time.process_time() - used, time.perf_counter() - start
    return {"per_second": count / seconds, "cpu": used / count * 1e6}


async def measure(way, case, port):
    ready, connect, call = functions(way)
    connection = await connect("127.0.0.1", port)
    stop = threading.Event()
    if case == "ready":
        result = await latency(lambda: ready(1))
    elif case == "coroutine":

        async def coroutine():
            return 1

        result = await latency(lambda: call(coroutine))
    elif case == "echo":
        result = await latency(lambda: connection.echo(MESSAGE))
    elif case == "echo, 64 connections":
        connections = [await connect("127.0.0.1", port) for _ in range(64)]
        result = await throughput([lambda c=c: c.echo(MESSAGE) for c in connections])
    elif case == "echo, busy loop":

        async def work():
            while not stop.is_set():
                sum(range(2000))  # some 30 µs
                await asyncio.sleep(0)

        working = asyncio.create_task(work())
        result = await latency(lambda: connection.echo(MESSAGE))
        stop.set()
        await working
    elif case == "echo, busy thread":

        def work():
            while not stop.is_set():
                sum(range(2000))

        working = threading.Thread(target=work)
        working.start()
        result = await latency(lambda: connection.echo(MESSAGE))
        stop.set()
        working.join()
    result["threads"] = len(os.listdir("/proc/self/task"))
    result["switches"] = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    return result


CASES = ["ready", "coroutine", "echo", "echo, 64 connections", "echo, busy loop", "echo, busy thread"]
COLUMNS = [("p50", "p50"), ("p99", "p99"), ("per_second", "awaits/s"), ("cpu", "CPU per await"), ("threads", "threads")]


def shown(name, value):
    if value is None:
        return ""
    if name == "per_second":
        return f"{value:,.0f}"
    return f"{value:.0f}" if name == "threads" else f"{value:.1f} µs"


def main():
    server = subprocess.Popen([os.environ["ECHO"], "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        port = server.stdout.readline().strip().rpartition(":")[2]
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {ROUNDS} rounds of {SECONDS:g} s\n")
        print("| await of | way |", " | ".join(title for _, title in COLUMNS), "|")
        print("|---|---|" + "---:|" * len(COLUMNS))
        for case in CASES:
            results = {"windlass": [], "tokio": [], "asyncio": []}
            for round in range(ROUNDS):
                for way in sorted(results, reverse=round % 2 == 0):
                    run = [sys.executable, __file__, way, case, port]
                    results[way].append(json.loads(subprocess.check_output(run)))
            for way, rounds in results.items():
                medians = [
                    shown(name, statistics.median(r[name] for r in rounds) if name in rounds[0] else None)
                    for name, _ in COLUMNS
                ]
                print(f"| {case} | {way} |", " | ".join(medians), "|")
            ratios = [
                f"{statistics.median(t[name] / w[name] for t, w in zip(results['tokio'], results['windlass'])):.2f}"
                if name in results["tokio"][0]
                else ""
                for name, _ in COLUMNS
            ]
            print("| | tokio / windlass |", " | ".join(ratios), "|", flush=True)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        way, case, port = sys.argv[1:]
        print(json.dumps(asyncio.run(measure(way, case, int(port)))), flush=True)
        os._exit(0)  # threads of tokio may crash the interpreter while it ends
    else:
        main()
