//! A runtime embedded in the event loop of a host, here a loop of `poll(2)`.

// Windows has no descriptor that a host could poll.
#![cfg(unix)]

mod common;

use std::cell::{OnceCell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{Count, pair, panic_of, watchdog};
use futures::channel::oneshot;
use futures::{AsyncReadExt, AsyncWriteExt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use windlass::time::{interval, sleep};
use windlass::{Async, Runtime, spawn, yield_now};

const HOUR: Duration = Duration::from_secs(3600);
const NOT_AT_ALL: Option<Duration> = Some(Duration::ZERO);

/// Calls `poll(2)`, and returns the readable descriptors.
fn readable<const N: usize>(
    descriptors: [&dyn AsFd; N],
    limit: Option<Duration>,
) -> io::Result<[bool; N]> {
    let limit = limit.map(|limit| Timespec::try_from(limit).expect("it is short"));
    let mut polled =
        descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN));
    poll(&mut polled, limit.as_ref())?;
    Ok(polled.map(|polled| polled.revents().contains(PollFlags::IN)))
}

fn is_readable(runtime: &Runtime) -> io::Result<bool> {
    Ok(readable([runtime], NOT_AT_ALL)?[0])
}

/// Waits up to 30 s for the descriptor.
fn becomes_readable(runtime: &Runtime) -> io::Result<bool> {
    Ok(readable([runtime], Some(Duration::from_secs(30)))?[0])
}

/// Turns until nothing more is ready.
fn settle(runtime: &Runtime) -> io::Result<()> {
    while runtime.turn(NOT_AT_ALL)?.ready || is_readable(runtime)? {}
    Ok(())
}

#[test]
fn the_descriptor_of_an_idle_runtime_is_not_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    assert!(!is_readable(&runtime)?);
    let (near, _far) = runtime.block_on(pair())?;
    runtime.spawn(async move { near.readable().await }).detach();
    runtime.spawn(sleep(HOUR)).detach();
    runtime.spawn(pending::<()>()).detach();
    settle(&runtime)?;
    assert!(!is_readable(&runtime)?);
    assert_eq!(runtime.turn(NOT_AT_ALL)?.polled, 0);
    assert!(!is_readable(&runtime)?);
    assert_eq!(runtime.as_fd().as_raw_fd(), runtime.as_raw_fd());
    Ok(())
}

#[test]
fn data_on_a_socket_makes_the_descriptor_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let (near, mut far) = runtime.block_on(pair())?;
    let task = runtime.spawn(async move {
        let mut text = [0; 4];
        (&near).read_exact(&mut text).await.map(|()| text)
    });
    settle(&runtime)?;
    runtime.block_on(far.write_all(b"ahoy"))?;
    // `block_on` has turned the loop, and its last turn may have missed the data.
    while !task.is_finished() {
        assert!(becomes_readable(&runtime)?);
        runtime.turn(NOT_AT_ALL)?;
    }
    assert_eq!(&runtime.block_on(task)?, b"ahoy");
    Ok(())
}

#[test]
#[cfg(all(target_os = "linux", not(windlass_portable)))]
fn a_timer_makes_the_descriptor_readable_when_due() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let start = Instant::now();
    let limit = Duration::from_millis(20);
    let task = runtime.spawn(sleep(limit));
    settle(&runtime)?;
    while !task.is_finished() {
        assert!(becomes_readable(&runtime)?);
        runtime.turn(NOT_AT_ALL)?;
    }
    assert!(start.elapsed() >= limit);
    // An earlier deadline replaces a later one.
    runtime.spawn(sleep(HOUR)).detach();
    settle(&runtime)?;
    let task = runtime.spawn(sleep(limit));
    settle(&runtime)?;
    while !task.is_finished() {
        assert!(becomes_readable(&runtime)?);
        runtime.turn(NOT_AT_ALL)?;
    }
    Ok(())
}

#[test]
#[cfg(all(target_os = "linux", not(windlass_portable)))]
fn a_timer_started_between_turns_makes_it_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    settle(&runtime)?;
    let mut timer = sleep(Duration::from_millis(5));
    let polled = runtime.block_on(async { futures::poll!(&mut timer) });
    assert!(polled.is_pending());
    assert!(becomes_readable(&runtime)?);
    settle(&runtime)?;
    assert_eq!(runtime.next_deadline(), None);
    Ok(())
}

/// The host polls futures, too, outside of turns.
#[test]
fn a_timer_that_the_host_polls_makes_it_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    runtime.spawn(sleep(HOUR)).detach();
    settle(&runtime)?;
    let cx = &mut Context::from_waker(Waker::noop());
    // Where the descriptor has no timers, it is readable at once, and the host reads the deadline.
    let limit = Duration::from_millis(5);
    let mut timer = sleep(limit);
    assert!(Pin::new(&mut timer).poll(cx).is_pending());
    assert!(becomes_readable(&runtime)?);
    settle(&runtime)?;
    while Pin::new(&mut timer).poll(cx).is_pending() {
        let left = runtime.next_deadline().unwrap() - Instant::now();
        readable([&runtime], Some(left))?;
        settle(&runtime)?;
    }
    for at in [Duration::ZERO, limit] {
        let mut timer = sleep(HOUR);
        assert!(Pin::new(&mut timer).poll(cx).is_pending());
        settle(&runtime)?;
        assert!(!is_readable(&runtime)?);
        timer.reset(Instant::now() + at);
        assert!(becomes_readable(&runtime)?);
        settle(&runtime)?;
    }
    Ok(())
}

#[test]
fn a_remote_wake_makes_the_descriptor_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    for _ in 0..100 {
        let (sender, receiver) = oneshot::channel();
        let task = runtime.spawn(receiver);
        settle(&runtime)?;
        let waking = thread::spawn(move || sender.send(7));
        assert!(becomes_readable(&runtime)?);
        while !task.is_finished() {
            runtime.turn(NOT_AT_ALL)?;
        }
        waking.join().unwrap().unwrap();
    }
    Ok(())
}

#[test]
fn a_remote_spawn_makes_the_descriptor_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let remote = runtime.remote();
    settle(&runtime)?;
    let spawning = thread::spawn(move || futures::executor::block_on(remote.spawn(|| async { 7 })));
    assert!(becomes_readable(&runtime)?);
    while !spawning.is_finished() {
        runtime.turn(NOT_AT_ALL)?;
    }
    assert_eq!(spawning.join().unwrap().unwrap(), 7);
    Ok(())
}

#[test]
fn a_local_wake_between_turns_makes_it_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let (sender, receiver) = oneshot::channel();
    let task = runtime.spawn(receiver);
    settle(&runtime)?;
    sender.send(7).unwrap();
    assert!(is_readable(&runtime)?);
    settle(&runtime)?;
    assert!(task.is_finished());
    Ok(())
}

#[test]
fn a_spawn_between_turns_makes_it_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    for _ in 0..3 {
        settle(&runtime)?;
        let task = runtime.spawn(async {});
        assert!(is_readable(&runtime)?);
        settle(&runtime)?;
        assert!(task.is_finished());
        assert!(!is_readable(&runtime)?);
    }
    Ok(())
}

#[test]
fn it_stays_readable_while_a_turn_leaves_tasks_ready() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    runtime
        .spawn(async {
            loop {
                yield_now().await
            }
        })
        .detach();
    for _ in 0..10 {
        let turn = runtime.turn(NOT_AT_ALL)?;
        assert!(turn.ready && turn.polled > 0);
        assert!(is_readable(&runtime)?);
    }
    Ok(())
}

#[test]
fn it_stays_readable_when_block_on_leaves_tasks_ready() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let count = Count::default();
    let counting = count.clone();
    runtime.block_on(async {
        spawn(async move { counting.add() }).detach();
    });
    if count.get() == 0 {
        assert!(is_readable(&runtime)?);
        settle(&runtime)?;
    }
    assert_eq!(count.get(), 1);
    Ok(())
}

#[test]
fn it_stays_readable_when_block_on_panics() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    settle(&runtime)?;
    let count = Count::default();
    let counting = count.clone();
    let text = panic_of(|| {
        runtime.block_on(async {
            spawn(async move { counting.add() }).detach();
            panic!("no rope left")
        })
    });
    assert_eq!((&*text, count.get()), ("no rope left", 0));
    assert!(is_readable(&runtime)?);
    settle(&runtime)?;
    assert_eq!(count.get(), 1);
    Ok(())
}

#[test]
fn turn_for_runs_until_idle_and_never_waits() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let (mut near, far) = UnixStream::pair()?;
    let far = runtime.block_on(async { Async::new(far) })?;
    runtime.spawn(sleep(HOUR)).detach();
    let reading = runtime.spawn(async move { far.readable().await });
    let yields = Count::default();
    let counting = yields.clone();
    let _task = runtime.spawn(async move {
        for _ in 0..1000 {
            counting.add();
            yield_now().await;
        }
    });
    let turn = runtime.turn_for(HOUR)?; // returns without a wait for the sleep of an hour
    assert!(!turn.ready && turn.polled > 1000);
    assert!(turn.next_deadline.is_some());
    assert_eq!(yields.get(), 1000);
    assert_eq!(runtime.turn_for(HOUR)?.polled, 0);
    near.write_all(b"!")?;
    assert_eq!(runtime.turn_for(HOUR)?.polled, 1);
    assert!(reading.is_finished());
    Ok(())
}

#[test]
fn turn_for_continues_operations_deferred_by_a_turn() -> io::Result<()> {
    const BYTES: usize = 1000; // a turn reads 32 times
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let (mut near, far) = UnixStream::pair()?;
    let mut far = runtime.block_on(async { Async::new(far) })?;
    let reading = runtime.spawn(async move {
        for _ in 0..BYTES {
            far.read_exact(&mut [0]).await?;
        }
        io::Result::Ok(())
    });
    settle(&runtime)?;
    near.write_all(&[7; BYTES])?;
    runtime.turn_for(HOUR)?;
    assert!(reading.is_finished());
    Ok(())
}

/// Spawns tasks that read more cached data than a turn copies.
#[cfg(target_os = "linux")]
fn read_much(runtime: &Runtime) -> io::Result<Vec<windlass::Task<io::Result<()>>>> {
    let path = std::env::current_exe()?;
    let file = Rc::new(runtime.block_on(windlass::fs::File::open(path))?);
    let read = |file: Rc<windlass::fs::File>| async move {
        for _ in 0..20 {
            assert!(file.read_at(&mut vec![0; 1 << 18], 0).await? > 0);
        }
        io::Result::Ok(())
    };
    Ok((0..6).map(|_| runtime.spawn(read(file.clone()))).collect())
}

#[test]
#[cfg(target_os = "linux")]
fn cached_reads_beyond_the_limit_of_a_turn_continue() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let reading = read_much(&runtime)?;
    while !reading.iter().all(|it| it.is_finished()) {
        assert!(becomes_readable(&runtime)?);
        runtime.turn(NOT_AT_ALL)?;
    }
    let reading = read_much(&runtime)?;
    while !reading.iter().all(|it| it.is_finished()) {
        runtime.turn_for(HOUR)?;
    }
    runtime.block_on(futures::future::join_all(read_much(&runtime)?));
    Ok(())
}

#[test]
fn turn_for_stops_at_its_budget_and_keeps_the_rest() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let steps = Count::default();
    let counting = steps.clone();
    let endless = async move {
        loop {
            counting.add();
            yield_now().await;
        }
    };
    runtime.spawn(endless).detach();
    for _ in 0..10 {
        let (before, start, budget) = (steps.get(), Instant::now(), Duration::from_millis(2));
        let turn = runtime.turn_for(budget)?;
        assert!(start.elapsed() >= budget, "tasks were ready");
        assert!(turn.ready);
        assert!(
            turn.next_deadline
                .is_some_and(|deadline| deadline <= Instant::now())
        );
        assert_eq!(turn.polled, steps.get() - before);
        assert!(is_readable(&runtime)?);
    }
    let turn = runtime.turn_for(Duration::ZERO)?;
    assert_eq!((turn.polled, turn.ready), (1, true), "no budget, one poll");
    Ok(())
}

#[test]
fn next_deadline_is_the_time_of_the_next_turn() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    assert_eq!(runtime.next_deadline(), None);
    let later = runtime.spawn(sleep(2 * HOUR));
    assert!(
        runtime
            .next_deadline()
            .is_some_and(|at| at <= Instant::now()),
        "a task is ready"
    );
    settle(&runtime)?;
    let at = runtime.next_deadline().expect("a timer runs");
    assert!(at > Instant::now() + HOUR && at < Instant::now() + 3 * HOUR);
    let sooner = runtime.spawn(sleep(HOUR));
    settle(&runtime)?;
    assert!(runtime.next_deadline().expect("two timers run") < at - HOUR / 2);
    drop(sooner);
    let turn = runtime.turn(NOT_AT_ALL)?;
    assert_eq!(turn.next_deadline, runtime.next_deadline());
    assert!(runtime.next_deadline().is_some_and(|next| next >= at));
    drop(later);
    assert_eq!(runtime.next_deadline(), None);
    Ok(())
}

#[test]
fn a_host_can_rely_on_next_deadline_alone() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let ticks = Count::default();
    let counting = ticks.clone();
    let task = runtime.spawn(async move {
        let mut interval = interval(Duration::from_millis(3));
        for _ in 0..5 {
            interval.tick().await;
            counting.add();
        }
    });
    while !task.is_finished() {
        runtime.turn(NOT_AT_ALL)?;
        if let Some(deadline) = runtime.next_deadline() {
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
        }
    }
    assert_eq!(ticks.get(), 5);
    Ok(())
}

#[test]
fn turn_waits_at_most_for_its_limit() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    runtime.spawn(sleep(HOUR)).detach();
    settle(&runtime)?;
    let (start, limit) = (Instant::now(), Duration::from_millis(5));
    while start.elapsed() < limit {
        assert_eq!(runtime.turn(Some(limit))?.polled, 0); // the wait is limited, so this returns
    }
    Ok(())
}

#[test]
fn a_turn_inside_a_task_of_the_same_runtime_panics() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Rc::new(Runtime::new()?);
    let inner = runtime.clone();
    runtime.block_on(async {
        for limit in [None, NOT_AT_ALL] {
            let text = panic_of(|| inner.turn(limit));
            assert!(text.contains("inside a task"), "{text}");
        }
        let text = panic_of(|| inner.turn_for(HOUR));
        assert!(text.contains("inside a task"), "{text}");
        spawn(async {}).await; // still works
    });
    Ok(())
}

/// The host has its own descriptor, and serves both in one loop.
#[test]
fn one_loop_serves_the_host_and_the_runtime() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let (mut hosts, mut peers) = UnixStream::pair()?;
    let (near, mut far) = runtime.block_on(pair())?;
    let echo = runtime.spawn(async move {
        let (mut near, mut byte) = (near, [0]);
        while near.read(&mut byte).await? > 0 {
            near.write_all(&byte).await?;
        }
        io::Result::Ok(())
    });
    let client = runtime.spawn(async move {
        for byte in 0..10 {
            far.write_all(&[byte]).await?;
            far.read_exact(&mut [0]).await?;
            sleep(Duration::from_millis(1)).await;
            peers.write_all(&[byte])?; // data for the host
        }
        io::Result::Ok(())
    });
    let mut heard = Vec::new();
    while heard.len() < 10 {
        let limit = runtime
            .next_deadline()
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let [guest, own] = readable([&runtime, &hosts], limit)?;
        if own {
            let mut byte = [0];
            hosts.read_exact(&mut byte)?;
            heard.extend(byte);
        }
        if guest
            || runtime
                .next_deadline()
                .is_some_and(|deadline| deadline <= Instant::now())
        {
            runtime.turn(NOT_AT_ALL)?;
        }
    }
    assert!(heard.into_iter().eq(0..10));
    runtime.block_on(async {
        client.await?;
        echo.await
    })
}

#[test]
fn events_taken_by_another_loop_keep_it_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let (guest, other) = (Runtime::new()?, Runtime::new()?);
    let remote = guest.remote();
    let take_in: [&dyn Fn(); 4] = [
        &|| windlass::block_on(sleep(Duration::from_millis(1))),
        &|| other.block_on(sleep(Duration::from_millis(1))),
        &|| assert_eq!(other.turn(NOT_AT_ALL).unwrap().polled, 0),
        &|| assert_eq!(other.turn_for(HOUR).unwrap().polled, 0),
    ];
    for take_in in take_in {
        settle(&guest)?;
        let here = guest.spawn(async {});
        take_in();
        assert!(is_readable(&guest)?);
        settle(&guest)?;
        assert!(here.is_finished());

        let there = thread::scope(|scope| scope.spawn(|| remote.run(|| ())).join().unwrap());
        take_in();
        assert!(is_readable(&guest)?);
        settle(&guest)?;
        guest.block_on(there).unwrap();
        take_in();
        assert!(!is_readable(&guest)?, "everything is done");
    }
    Ok(())
}

#[test]
fn a_wake_in_a_turn_of_another_runtime_makes_it_readable() -> io::Result<()> {
    let _watchdog = watchdog();
    let (guest, other) = (Runtime::new()?, Runtime::new()?);
    let (near, mut far) = UnixStream::pair()?;
    let near = guest.block_on(async { Async::new(near) })?;
    let task = guest.spawn(async move { near.readable().await });
    settle(&guest)?;
    far.write_all(b"!")?;
    assert_eq!(other.turn(None)?.polled, 0);
    assert!(is_readable(&guest)?);
    settle(&guest)?;
    assert!(task.is_finished());
    Ok(())
}

/// A runtime with a hook that counts its calls.
fn counting() -> io::Result<(Runtime, Arc<AtomicUsize>)> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let hook = move || {
        counted.fetch_add(1, SeqCst);
    };
    let runtime = Runtime::builder().on_wake(hook).build()?;
    Ok((runtime, calls))
}

#[test]
fn a_spawn_before_the_first_turn_calls_the_hook() -> io::Result<()> {
    let _watchdog = watchdog();
    let (runtime, calls) = counting()?;
    assert_eq!(calls.load(SeqCst), 0);
    runtime.spawn(async {}).detach();
    assert_eq!(calls.load(SeqCst), 1);
    assert!(is_readable(&runtime)?);
    settle(&runtime)?;

    let unhooked = Runtime::new()?;
    settle(&unhooked)?;
    unhooked.spawn(async {}).detach();
    assert!(is_readable(&unhooked)?);
    Ok(())
}

#[test]
fn the_hook_is_called_once_for_all_wakes_between_two_turns() -> io::Result<()> {
    let _watchdog = watchdog();
    let (runtime, calls) = counting()?;
    let remote = runtime.remote();
    settle(&runtime)?;
    for sleep in 1..=10 {
        let before = calls.load(SeqCst);
        let here = runtime.spawn(async {});
        let there = thread::scope(|scope| {
            let run = || (0..20).map(|_| remote.run(|| ())).collect::<Vec<_>>();
            let threads = [scope.spawn(run), scope.spawn(run)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(calls.load(SeqCst) - before, 1, "sleep {sleep}");
        settle(&runtime)?;
        assert!(here.is_finished());
        for ran in there.into_iter().flatten() {
            runtime.block_on(ran).unwrap();
        }
    }
    Ok(())
}

#[test]
fn the_hook_is_not_called_for_wakes_within_a_turn() -> io::Result<()> {
    let _watchdog = watchdog();
    let (runtime, calls) = counting()?;
    let remote = runtime.remote();
    let (near, mut far) = UnixStream::pair()?;
    let near = runtime.block_on(async { Async::new(near) })?;
    let counted = calls.clone();
    let task = runtime.spawn(async move {
        near.readable().await.unwrap(); // woken by the reactor, within a turn
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let waking = move || {
            waker.wake();
            remote.run(|| ())
        };
        let ran = thread::spawn(waking).join().unwrap();
        let so_far = counted.load(SeqCst);
        ran.await.unwrap();
        so_far
    });
    settle(&runtime)?;
    let before = calls.load(SeqCst);
    far.write_all(b"!")?;
    assert!(runtime.turn(None)?.ready);
    assert_eq!(calls.load(SeqCst), before + 1, "tasks are left ready");
    settle(&runtime)?;
    assert_eq!(runtime.block_on(task), before, "the turn continued");
    Ok(())
}

#[test]
fn the_hook_is_called_when_a_turn_leaves_tasks_ready() -> io::Result<()> {
    let _watchdog = watchdog();
    let (runtime, calls) = counting()?;
    let endless = async {
        loop {
            yield_now().await
        }
    };
    let endless = runtime.spawn(endless);
    for turns in 1..10 {
        assert_eq!(calls.load(SeqCst), turns);
        assert!(runtime.turn(NOT_AT_ALL)?.ready);
    }
    drop(endless);
    settle(&runtime)?;
    let before = calls.load(SeqCst);
    assert_eq!(runtime.turn(NOT_AT_ALL)?.polled, 0);
    assert_eq!(calls.load(SeqCst), before, "everything is done");
    Ok(())
}

#[test]
fn the_hook_is_called_after_block_on_even_if_it_panics() -> io::Result<()> {
    let _watchdog = watchdog();
    let (runtime, calls) = counting()?;
    let remote = runtime.remote();
    let block_ons: [&dyn Fn(); 2] = [
        &|| runtime.block_on(sleep(Duration::from_millis(1))),
        &|| {
            drop(panic_of(|| {
                runtime.block_on(async { panic!("no rope left") })
            }))
        },
    ];
    for block_on in block_ons {
        settle(&runtime)?;
        block_on();
        let before = calls.load(SeqCst);
        let remote = remote.clone();
        let ran = thread::spawn(move || remote.run(|| 7)).join().unwrap();
        assert_eq!(calls.load(SeqCst) - before, 1);
        settle(&runtime)?;
        assert_eq!(runtime.block_on(ran).unwrap(), 7);
    }
    Ok(())
}

#[test]
fn the_hook_is_not_called_for_wakes_within_block_on() -> io::Result<()> {
    let _watchdog = watchdog();
    let (runtime, calls) = counting()?;
    let (near, mut far) = UnixStream::pair()?;
    let near = runtime.block_on(async { Async::new(near) })?;
    let task = runtime.spawn(async move { near.readable().await });
    settle(&runtime)?;
    let before = calls.load(SeqCst);
    far.write_all(b"!")?;
    runtime.block_on(task)?;
    assert_eq!(calls.load(SeqCst), before);
    runtime.spawn(async {}).detach();
    assert_eq!(calls.load(SeqCst), before + 1);
    Ok(())
}

#[test]
fn each_runtime_of_a_thread_has_its_own_hook() -> io::Result<()> {
    let _watchdog = watchdog();
    let ((one, ones_calls), (two, twos_calls)) = (counting()?, counting()?);
    let calls = || (ones_calls.load(SeqCst), twos_calls.load(SeqCst));
    let (near, mut far) = two.block_on(pair())?;
    settle(&one)?;
    let (ones, twos) = calls();
    let task = one.spawn(async move { (&near).read_exact(&mut [0]).await });
    assert_eq!(calls(), (ones + 1, twos));
    settle(&one)?;
    // The other runtime turns the shared reactor, which wakes a task of the first.
    let (ones, twos) = calls();
    two.block_on(async {
        far.write_all(b"!").await?;
        while ones_calls.load(SeqCst) == ones {
            sleep(Duration::from_millis(1)).await;
        }
        io::Result::Ok(())
    })?;
    assert_eq!(calls(), (ones + 1, twos));
    settle(&one)?;
    assert!(task.is_finished());
    Ok(())
}

#[test]
fn a_panicking_call_of_the_hook_counts_as_made() -> io::Result<()> {
    let _watchdog = watchdog();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let hook = move || {
        counted.fetch_add(1, SeqCst);
        panic!("the host is full");
    };
    let runtime = Runtime::builder().on_wake(hook).build()?;
    for turns in 1..=3 {
        assert_eq!(panic_of(|| runtime.spawn(async {})), "the host is full");
        let task = runtime.spawn(async {});
        assert_eq!(calls.load(SeqCst), turns);
        settle(&runtime)?;
        assert!(task.is_finished());
    }
    Ok(())
}

thread_local! {
    static RE_ENTERED: OnceCell<Runtime> = const { OnceCell::new() };
}

#[test]
fn the_hook_can_call_the_runtime_and_panic() -> io::Result<()> {
    let _watchdog = watchdog();
    let polls = Arc::new(AtomicUsize::new(0));
    let polled = polls.clone();
    let hook = move || {
        RE_ENTERED.with(|runtime| {
            let runtime = runtime.get().expect("it was made");
            polled.fetch_add(runtime.turn(NOT_AT_ALL).unwrap().polled, SeqCst);
        });
        panic!("the host is full");
    };
    RE_ENTERED.with(|cell| {
        let runtime = cell.get_or_init(|| Runtime::builder().on_wake(hook).build().unwrap());
        for spawned in 1..=3 {
            let text = panic_of(|| runtime.spawn(async {}).detach());
            assert_eq!(text, "the host is full");
            assert_eq!(polls.load(SeqCst), spawned, "the hook has used the turn");
        }
        Ok(())
    })
}

/// `block_on` takes the same steps as a short loop of a host.
#[test]
fn block_on_is_a_loop_of_turns() -> io::Result<()> {
    let _watchdog = watchdog();
    fn program(trace: &Rc<RefCell<Vec<String>>>) -> impl Future<Output = usize> + use<> {
        let trace = trace.clone();
        async move {
            let tasks = [3, 1, 2].map(|number| {
                let trace = trace.clone();
                spawn(async move {
                    trace.borrow_mut().push(format!("start {number}"));
                    yield_now().await;
                    sleep(Duration::from_millis(10 * number)).await;
                    trace.borrow_mut().push(format!("end {number}"));
                })
            });
            futures::future::join_all(tasks).await.len()
        }
    }
    let [theirs, ours] = [(); 2].map(|()| Rc::new(RefCell::new(Vec::new())));
    let runtime = Runtime::new()?;
    assert_eq!(runtime.block_on(program(&theirs)), 3);

    let main = runtime.spawn(program(&ours));
    while !main.is_finished() {
        runtime.turn(None)?;
    }
    assert_eq!(ours, theirs);
    Ok(())
}

#[test]
fn is_running_is_per_runtime() -> io::Result<()> {
    let _watchdog = watchdog();
    let [one, two] = [Rc::new(Runtime::new()?), Rc::new(Runtime::new()?)];
    let (inner, other) = (one.clone(), two.clone());
    let task = one.spawn(async move {
        assert!(inner.is_running() && !other.is_running());
        other.turn(NOT_AT_ALL) // so `turn` is allowed here
    });
    assert!(!one.is_running());
    settle(&one)?;
    assert!(!one.is_running());
    one.block_on(task)?;
    Ok(())
}
