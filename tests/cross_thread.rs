//! Spawns and wakes from other threads.

mod common;

use std::cell::RefCell;
use std::error::Error;
#[cfg(unix)]
use std::fs;
use std::future::{Ready, pending, poll_fn};
use std::io;
#[cfg(unix)]
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{OnDrop, watchdog};
use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use futures::executor::block_on;
use futures::future::join_all;
use windlass::time::sleep;
use windlass::{Remote, RemoteError, Runtime, yield_now};

#[test]
fn threads_spawn_tasks_and_receive_their_outputs() -> io::Result<()> {
    const THREADS: usize = 8;
    const TASKS: usize = 200;
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let home = thread::current().id();
    let (done, mut all_done) = mpsc::unbounded();
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let (remote, done) = (runtime.remote(), done.clone());
            thread::spawn(move || {
                let tasks = (0..TASKS).map(|task| {
                    remote.spawn(move || {
                        let stays = Rc::new(number * TASKS + task); // not `Send`
                        async move {
                            yield_now().await;
                            (thread::current().id(), *stays)
                        }
                    })
                });
                let outputs = block_on(join_all(tasks));
                let wrong = outputs.into_iter().enumerate().find(|(task, output)| {
                    *output.as_ref().unwrap() != (home, number * TASKS + task)
                });
                done.unbounded_send(wrong.is_none()).unwrap();
            })
        })
        .collect();
    drop(done);
    let right = runtime.block_on(async {
        let mut right = 0;
        while let Some(is_right) = all_done.next().await {
            right += usize::from(is_right);
        }
        right
    });
    assert_eq!(right, THREADS);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    Ok(())
}

#[test]
fn remote_tasks_start_in_the_order_of_their_spawns() -> io::Result<()> {
    thread_local!(static STARTED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) });
    let runtime = Runtime::new()?;
    let remote = runtime.remote();
    let spawning = thread::spawn(move || {
        let start = |number| move || async move { STARTED.with_borrow_mut(|all| all.push(number)) };
        (0..1000)
            .map(|number| remote.spawn(start(number)))
            .collect::<Vec<_>>()
    });
    runtime.block_on(join_all(spawning.join().unwrap()));
    STARTED.with_borrow(|started| assert!(started.iter().copied().eq(0..1000)));
    Ok(())
}

#[test]
fn a_panic_of_a_remote_task_is_an_error_of_its_handle() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let remote = runtime.remote();
    let in_future = remote.spawn(|| async { panic!("no rope left") });
    let in_closure = remote.spawn(|| -> Ready<()> { panic!("no anchor") });
    let fine = remote.spawn(|| async { 7 });
    let error = runtime.block_on(in_future).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("a task spawned at tests/cross_thread.rs:"));
    assert!(text.ends_with(" panicked: no rope left"));
    let error = runtime.block_on(in_closure).unwrap_err();
    assert!(error.to_string().ends_with(" panicked: no anchor"));
    assert_eq!(runtime.block_on(fine).unwrap(), 7);
    assert_eq!(runtime.block_on(remote.spawn(|| async { 8 })).unwrap(), 8);
    Ok(())
}

#[test]
fn dropping_the_runtime_is_an_error_of_remote_handles() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let remote = runtime.remote();
    let dropped = Arc::new(AtomicUsize::new(0));
    let flag = |dropped: &Arc<AtomicUsize>| {
        let dropped = dropped.clone();
        OnDrop(move || {
            dropped.fetch_add(1, SeqCst);
        })
    };
    let (started, unstarted) = (flag(&dropped), flag(&dropped));
    let started = remote.spawn(move || async move {
        let _started = started;
        pending::<()>().await;
    });
    while runtime.turn(Some(Duration::ZERO))?.ready {}
    let unstarted = remote.spawn(move || async move { drop(unstarted) });
    drop(runtime);
    assert_eq!(
        dropped.load(SeqCst),
        2,
        "closure and future are dropped with the runtime"
    );
    let late = remote.spawn(|| async {});
    for task in [started, unstarted, late] {
        let error = block_on(task).unwrap_err();
        assert!(matches!(error, RemoteError::Gone));
        assert!(error.source().is_none());
        assert_eq!(
            error.to_string(),
            "the runtime was dropped before the task completed"
        );
    }
    Ok(())
}

#[test]
fn a_runtime_can_be_dropped_during_remote_spawns() -> io::Result<()> {
    let _watchdog = watchdog();
    for _ in 0..200 {
        let runtime = Runtime::new()?;
        let start = Arc::new(Barrier::new(3));
        let threads = [(); 2].map(|()| {
            let (remote, start) = (runtime.remote(), start.clone());
            thread::spawn(move || {
                start.wait();
                let tasks: Vec<_> = (0..20)
                    .map(|number| remote.spawn(move || async move { number }))
                    .collect();
                block_on(join_all(tasks))
            })
        });
        start.wait();
        runtime.turn(Some(Duration::ZERO))?;
        drop(runtime);
        for thread in threads {
            // Each call returns either its output or an error after the end of the runtime. None
            // hangs.
            for (number, output) in thread.join().unwrap().into_iter().enumerate() {
                match output {
                    Ok(output) => assert_eq!(output, number),
                    Err(error) => assert!(matches!(error, RemoteError::Gone), "{error}"),
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_remote_task_continues_after_its_handle_is_dropped() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let (sender, receiver) = oneshot::channel();
    drop(runtime.remote().spawn(|| async {
        yield_now().await;
        sender.send(7)
    }));
    assert_eq!(runtime.block_on(receiver), Ok(7));
    Ok(())
}

/// The status file of the calling thread.
#[cfg(unix)]
fn status_file() -> PathBuf {
    let thread = fs::read_link("/proc/thread-self").expect("there is a /proc");
    PathBuf::from("/proc").join(thread).join("stat")
}

/// Returns true if the system reports the thread as sleeping.
#[cfg(unix)]
fn sleeps(status_file: &PathBuf) -> bool {
    let status = fs::read_to_string(status_file).expect("the thread is alive");
    status
        .rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('S'))
}

/// Unknown on this platform, so some of the wakes come before the sleep.
#[cfg(windows)]
fn sleeps(_: &()) -> bool {
    true
}

#[cfg(windows)]
fn status_file() {}

#[test]
fn a_remote_wake_unblocks_the_loop() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    for _ in 0..50 {
        let (sender, receiver) = oneshot::channel();
        let here = status_file();
        let waking = thread::spawn(move || {
            while !sleeps(&here) {
                thread::yield_now();
            }
            sender.send(7)
        });
        assert_eq!(runtime.block_on(receiver), Ok(7)); // no timer would end this wait
        waking.join().unwrap().unwrap();
    }
    Ok(())
}

#[test]
fn a_remote_wake_ends_a_turn_that_waits_for_a_timer() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    runtime.spawn(sleep(Duration::from_secs(3600))).detach();
    let (sender, receiver) = oneshot::channel();
    let task = runtime.spawn(receiver);
    while runtime.turn(Some(Duration::ZERO))?.ready {}
    let here = status_file();
    let waking = thread::spawn(move || {
        while !sleeps(&here) {
            thread::yield_now();
        }
        sender.send(7)
    });
    while !task.is_finished() {
        runtime.turn(None)?;
    }
    waking.join().unwrap().unwrap();
    Ok(())
}

#[test]
fn no_remote_wake_is_lost_in_a_busy_or_parking_loop() -> io::Result<()> {
    const THREADS: usize = 4;
    const WAKES: usize = 20_000;
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    // Each thread waits until its wake was seen before it sends the next, so a lost wake hangs
    // both.
    let sent: Arc<[AtomicUsize; THREADS]> = Arc::default();
    let seen: Arc<[AtomicUsize; THREADS]> = Arc::default();
    let tasks: Vec<_> = (0..THREADS)
        .map(|number| {
            let (sent, seen) = (sent.clone(), seen.clone());
            let (sender, receiver) = oneshot::channel::<Waker>();
            let thread = thread::spawn(move || {
                let waker = block_on(receiver).unwrap();
                for wake in 1..=WAKES {
                    sent[number].store(wake, SeqCst);
                    waker.wake_by_ref();
                    while seen[number].load(SeqCst) < wake {
                        thread::yield_now();
                    }
                }
            });
            (number, sender, thread)
        })
        .collect();
    let mut threads = Vec::new();
    let waiting: Vec<_> = tasks
        .into_iter()
        .map(|(number, sender, thread)| {
            threads.push(thread);
            let (sent, seen) = (sent.clone(), seen.clone());
            let mut sender = Some(sender);
            runtime.spawn(poll_fn(move |cx| {
                if let Some(sender) = sender.take() {
                    sender.send(cx.waker().clone()).unwrap();
                }
                let sent = sent[number].load(SeqCst);
                seen[number].store(sent, SeqCst);
                if sent == WAKES {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }))
        })
        .collect();
    runtime.block_on(join_all(waiting));
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    Ok(())
}

#[test]
fn a_waker_that_outlives_its_runtime_does_nothing() -> io::Result<()> {
    let stale = {
        let runtime = Runtime::new()?;
        let (sender, receiver) = oneshot::channel();
        let mut sender = Some(sender);
        let mut give_waker = move |waker: &Waker| sender.take().map(|s| s.send(waker.clone()));
        let task = runtime.spawn(poll_fn(move |cx| {
            give_waker(cx.waker());
            Poll::<()>::Pending
        }));
        let waker = runtime.block_on(receiver).unwrap();
        drop(task);
        waker
    };
    // Another runtime, with a task in the same slot.
    let runtime = Runtime::new()?;
    let polled = Arc::new(AtomicBool::new(false));
    let flag = polled.clone();
    let _stranger = runtime.spawn(poll_fn(move |_| {
        flag.store(true, SeqCst);
        Poll::<()>::Pending
    }));
    while runtime.turn(Some(Duration::ZERO))?.ready {}
    assert!(polled.swap(false, SeqCst));
    let from_a_thread = stale.clone();
    stale.wake();
    thread::spawn(move || from_a_thread.wake()).join().unwrap();
    let turn = runtime.turn(Some(Duration::ZERO))?;
    assert_eq!((turn.polled, turn.ready), (0, false));
    assert!(!polled.load(SeqCst));
    Ok(())
}

#[test]
fn remote_closures_run_in_order_and_return_values() -> io::Result<()> {
    thread_local!(static RAN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) });
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let home = thread::current().id();
    let remote = runtime.remote();
    let run = |number| {
        move || {
            RAN.with_borrow_mut(|ran| ran.push(number));
            (number, thread::current().id())
        }
    };
    let sending = thread::spawn(move || {
        let sent = (0..1000).map(|number| remote.run(run(number)));
        sent.collect::<Vec<_>>()
    });
    let values = runtime.block_on(join_all(sending.join().unwrap()));
    for (number, value) in values.into_iter().enumerate() {
        assert_eq!(value.unwrap(), (number, home));
    }
    RAN.with_borrow(|ran| assert!(ran.iter().copied().eq(0..1000)));
    Ok(())
}

#[test]
fn a_panicking_or_dropped_remote_closure_is_an_error() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let remote = runtime.remote();
    let panicking = remote.run(|| -> u8 { panic!("no rope left") });
    let error = runtime.block_on(panicking).unwrap_err();
    assert!(error.to_string().ends_with(" panicked: no rope left"));
    // The task runs although its handle was dropped.
    let ran = Arc::new(AtomicBool::new(false));
    let flag = ran.clone();
    drop(remote.run(move || flag.store(true, SeqCst)));
    runtime.block_on(remote.run(|| ())).unwrap();
    assert!(ran.load(SeqCst));
    let unrun = remote.run(|| ());
    drop(runtime);
    assert!(matches!(block_on(unrun), Err(RemoteError::Gone)));
    Ok(())
}

#[test]
fn two_runtimes_run_closures_on_each_other() -> io::Result<()> {
    type Peer = (Remote, mpsc::Sender<()>);
    let _watchdog = watchdog();
    let [(to_one, ones), (to_two, twos)] = [channel(), channel()];
    let peer = |to_other: Sender<Peer>, others: Receiver<Peer>| {
        move || {
            let runtime = Runtime::new()?;
            let home = thread::current().id();
            // The other thread drops this when it no longer needs this runtime.
            let (needed, mut unneeded) = mpsc::channel::<()>(0);
            to_other.send((runtime.remote(), needed)).unwrap();
            let (other, needs) = others.recv().unwrap();
            runtime.block_on(async {
                for number in 0..500 {
                    let there = move || (number + 1, thread::current().id());
                    let (next, thread) = other.run(there).await.unwrap();
                    assert!(next == number + 1 && thread != home);
                }
                drop(needs);
                assert_eq!(unneeded.next().await, None);
            });
            io::Result::Ok(())
        }
    };
    let one = thread::spawn(peer(to_two, ones));
    let two = thread::spawn(peer(to_one, twos));
    one.join().unwrap()?;
    two.join().unwrap()
}
