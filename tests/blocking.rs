//! `spawn_blocking` runs closures on other threads.

mod common;

use std::env;
use std::io;
use std::panic::panic_any;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use common::{OnDrop, panic_of, run, watchdog};
use futures::future::{FusedFuture, join_all};
use windlass::time::{sleep, timeout};
use windlass::{Remote, RemoteError, Runtime, block_on, spawn, spawn_blocking};

/// Runs the test `name` in a process with a pool of that many threads.
fn with_threads(threads: usize, name: &str, body: impl FnOnce()) {
    if env::var_os("WINDLASS_CHILD").is_some() {
        let _watchdog = watchdog();
        return body();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CHILD", "1")
        .env("BLOCKING_MAX_THREADS", threads.to_string())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "it did not run: {text}");
}

/// Blocks its callers until it is opened.
fn gate() -> (mpsc::Sender<()>, impl FnOnce() + Send + 'static) {
    let (key, locked) = mpsc::channel::<()>();
    (key, move || _ = locked.recv())
}

#[test]
fn a_closure_runs_on_another_thread_and_returns_its_value() {
    let (value, thread): (Vec<u8>, ThreadId) = run(async {
        let given = vec![1, 2, 3];
        spawn_blocking(move || (given, thread::current().id())).await
    });
    assert_eq!(value, [1, 2, 3]);
    assert_ne!(thread, thread::current().id());
}

#[test]
fn the_loop_turns_while_closures_block() {
    run(async {
        let (keys, gates): (Vec<_>, Vec<_>) = (0..20).map(|_| gate()).unzip();
        let blocked: Vec<_> = gates.into_iter().map(spawn_blocking).collect();
        for _ in 0..10 {
            sleep(Duration::from_millis(1)).await;
        }
        let waiting = timeout(Duration::ZERO, join_all(blocked));
        assert!(waiting.await.is_err(), "the closures are still blocked");
        drop(keys);
    });
}

#[test]
fn the_end_of_a_closure_wakes_the_waiting_task() {
    run(async {
        let (key, gate) = gate();
        let waits = spawn(spawn_blocking(gate));
        sleep(Duration::ZERO).await; // the task waits now
        drop(key);
        waits.await;
    });
}

#[test]
fn a_panic_of_a_closure_propagates_to_its_awaiter() {
    let text = panic_of(|| run(async { spawn_blocking(|| panic!("planned")).await }));
    assert_eq!(text, "planned");
    run(async {
        let task = spawn(spawn_blocking(|| panic_any(7)));
        let payload = task.catch().await.map(|()| "no panic").unwrap_err();
        assert_eq!(payload.into_inner().downcast_ref(), Some(&7));
        assert_eq!(spawn_blocking(|| 8).await, 8, "the pool still works");
    });
}

#[test]
fn a_started_closure_completes_after_its_future_is_dropped() {
    run(async {
        let (key, gate) = gate();
        let (sender, receiver) = mpsc::channel();
        let here = thread::current().id();
        let mut task = spawn_blocking(move || {
            sender.send("begun").unwrap();
            gate();
            OnDrop(move || {
                assert_ne!(thread::current().id(), here);
                sender.send("output dropped").unwrap();
            })
        });
        assert!(timeout(Duration::ZERO, &mut task).await.is_err());
        assert_eq!(receiver.recv(), Ok("begun"));
        drop(task);
        drop(key);
        assert_eq!(receiver.recv(), Ok("output dropped"));
    });
}

#[test]
fn a_queued_closure_is_cancelled_by_drop_and_kept_by_detach() {
    let name = "a_queued_closure_is_cancelled_by_drop_and_kept_by_detach";
    with_threads(1, name, || {
        let (sender, receiver) = mpsc::channel();
        let closure = |word: &'static str| {
            let sender = sender.clone();
            let on_drop = sender.clone();
            let guard = OnDrop(move || on_drop.send("dropped").unwrap());
            move || {
                sender.send(word).unwrap();
                drop(guard);
            }
        };
        let (key, gate) = gate();
        spawn_blocking(gate).detach(); // occupies the only thread
        let cancelled = spawn_blocking(closure("cancelled"));
        spawn_blocking(closure("detached")).detach();
        drop(cancelled);
        drop(key);
        let words = [(); 3].map(|()| receiver.recv().unwrap());
        assert_eq!(words, ["dropped", "detached", "dropped"]);
    });
}

#[test]
fn closures_beyond_the_thread_limit_are_queued() {
    with_threads(3, "closures_beyond_the_thread_limit_are_queued", || {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let task = |_| {
            let (running, most) = (running.clone(), most.clone());
            spawn_blocking(move || {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                thread::yield_now();
                running.fetch_sub(1, SeqCst);
            })
        };
        let ended = block_on(join_all((0..1000).map(task)));
        assert_eq!(ended.len(), 1000);
        assert!((1..=3).contains(&most.load(SeqCst)), "{most:?}");
    });
}

#[test]
fn closures_that_wait_for_each_other_get_separate_threads() {
    let barrier = Arc::new(std::sync::Barrier::new(100));
    let meet = |_| {
        let barrier = barrier.clone();
        spawn_blocking(move || barrier.wait().is_leader())
    };
    let leaders = run(join_all((0..100).map(meet)));
    assert_eq!(leaders.into_iter().filter(|leader| *leader).count(), 1);
}

#[test]
fn spawn_blocking_works_with_and_without_any_executor() {
    let early = spawn_blocking(|| 6);
    assert_eq!(futures::executor::block_on(early), 6);
    let remote = thread::spawn(|| futures::executor::block_on(spawn_blocking(|| 7)));
    assert_eq!(remote.join().unwrap(), 7);
}

#[test]
fn a_blocked_closure_delays_neither_block_on_nor_drop() -> io::Result<()> {
    let (key, gate) = gate();
    let runtime = Runtime::new()?;
    let task = runtime.spawn(spawn_blocking(gate));
    runtime.block_on(sleep(Duration::ZERO));
    assert!(!task.is_finished());
    drop(runtime);
    drop((task, key)); // blocked until here
    Ok(())
}

#[test]
fn debug_shows_whether_a_closure_has_finished() {
    let (key, gate) = gate();
    let mut task = spawn_blocking(gate);
    assert_eq!(format!("{task:?}"), "BlockingTask { finished: false }");
    drop(key);
    run(&mut task);
    assert_eq!(format!("{task:?}"), "BlockingTask { finished: true }");
}

#[test]
fn a_blocking_task_is_terminated_once_its_output_is_taken() {
    run(async {
        let mut task = spawn_blocking(|| 7);
        while !task.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(!task.is_terminated());
        assert_eq!((&mut task).await, 7);
        assert!(task.is_terminated());
        let again = spawn(task).catch().await.unwrap_err();
        let message = "this `BlockingTask` was awaited to its end before";
        assert_eq!(again.message(), Some(message));
    });
}

#[test]
fn select_takes_blocking_and_remote_tasks_without_fuse() {
    run(async {
        let mut blocking = spawn_blocking(|| 1);
        let mut remote = Remote::current().spawn(|| async { 2 });
        let (mut sum, mut count) = (0, 0);
        loop {
            futures::select! {
                output = blocking => sum += output,
                output = remote => sum += output.unwrap(),
                complete => break,
            }
            count += 1;
        }
        assert_eq!((sum, count), (3, 2));
        assert!(remote.is_terminated());
        let again = spawn(remote).catch().await.unwrap_err();
        let message = "this `RemoteTask` was awaited to its end before";
        assert_eq!(again.message(), Some(message));
    });
}

#[test]
fn a_remote_task_is_terminated_after_the_error_gone() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let mut remote = runtime.remote().run(|| ());
    drop(runtime);
    assert!(!remote.is_terminated());
    assert!(matches!(run(&mut remote), Err(RemoteError::Gone)));
    assert!(remote.is_terminated());
    Ok(())
}
