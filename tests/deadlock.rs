//! Loops that sleep while nothing can wake their tasks.

// The programs read standard input, and their notes name descriptors.
#![cfg(unix)]

#[path = "../examples/hangs.rs"]
#[allow(dead_code)]
mod hangs;

use std::cell::{Cell, RefCell};
use std::env;
use std::future::pending;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self as std_mpsc, RecvTimeoutError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, poll, select};
use windlass::inspect::{self, Deadlock, TaskState, Wait};
use windlass::net::TcpListener;
use windlass::sync::{Event, Mutex, mpsc};
use windlass::task::TaskGroup;
use windlass::{Async, Runtime, Task, block_on, spawn, spawn_blocking, time, yield_now};
use windlass_reactor::{LoopState, Reactor};

/// Runs a program of the example in this process, if it is the child of [`stderr_of`].
#[test]
fn child() {
    if let Some(cause) = env::var_os("WINDLASS_HANG") {
        // The note is missing then, and the test fails.
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(60));
            std::process::exit(1);
        });
        let program = hangs::program(cause.to_str().unwrap()).expect("the program exists");
        block_on(program);
    }
}

/// Starts this program as a child that runs a program of the example. Returns what it prints on
/// standard error up to a line that `is_last` selects, or up to its end.
fn stderr_of(cause: &str, is_last: impl Fn(&str) -> bool) -> String {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_HANG", cause)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        text = text + &line + "\n";
        if is_last(&line) {
            break;
        }
    }
    let _ = child.kill(); // it may have ended
    child.wait().unwrap();
    text
}

/// Checks that the note of a program has these texts in this order. Cycles are its last lines.
#[track_caller]
fn assert_note(cause: &str, texts: &[&str]) {
    let is_cycle = |text: &&&str| text.contains("cycle:");
    let last = texts.iter().find(is_cycle).or(texts.last()).unwrap();
    let note = stderr_of(cause, |line| line.contains(last));
    let mut rest = &note[..];
    for text in ["windlass: no event can wake the tasks of thread `"]
        .iter()
        .chain(texts)
    {
        match rest.find(text) {
            Some(found) => rest = &rest[found + text.len()..],
            None => panic!("`{text}` is missing, or not in this place, in:\n{note}"),
        }
    }
}

#[test]
fn the_note_names_two_tasks_that_join_each_other() {
    let texts = [
        "deadlock of 3 tasks:",
        "\"second\", spawned at",
        "waiting: join of task",
        "\"first\", spawned at",
        "waiting: join of task",
        "cycle: task",
        "-> join of task",
        "-> join of task",
    ];
    assert_note("joins", &texts);
}

#[test]
fn the_note_names_the_locks_that_two_tasks_hold() {
    let texts = [
        "\"deck\", spawned at",
        "waiting: lock created at",
        "held by task",
        "\"helm\", spawned at",
        "waiting: lock created at",
        "held by task",
        "cycle: task",
        "\"deck\" -> lock created at",
        "held by task",
        "\"helm\" -> lock created at",
        "held by task",
        "\"deck\"",
    ];
    assert_note("locks", &texts);
}

#[test]
fn the_note_names_a_full_channel() {
    let texts = [
        "\"producer\", spawned at",
        "waiting: room in the channel created at",
        "capacity 1, awaited at tests/../examples/hangs.rs:",
    ];
    assert_note("channel", &texts);
}

#[test]
fn the_note_names_probable_ends_of_full_channels() {
    let texts = [
        "\"port\", spawned at",
        "waiting: room in the channel created at",
        "awaited at tests/../examples/hangs.rs:",
        "probably held up by task",
        "probable cycle: task",
        "\"port\" -> room in the channel created at",
        "probably held up by task",
        "\"starboard\" -> room in the channel created at",
        "probably held up by task",
        "\"port\"",
    ];
    assert_note("channels", &texts);
}

#[test]
fn the_note_names_an_event_that_was_notified_too_early() {
    assert_note("event", &["(main)", "waiting: event created at"]);
}

#[test]
fn the_note_names_a_task_whose_waker_is_lost() {
    assert_note(
        "waker",
        &["deadlock of 1 task:", "(main)", "waiting: unknown event"],
    );
}

#[test]
fn the_note_names_a_semaphore_without_permits() {
    let texts = [
        "waiting: permits of the semaphore created at",
        "1 wanted, 0 available",
    ];
    assert_note("semaphore", &texts);
}

#[test]
fn the_note_names_a_child_that_waits_for_the_stop_of_its_group() {
    let texts = [
        "(main)",
        "waiting: end of a child of the group created at",
        "child of task",
        "waiting: stop created at",
    ];
    assert_note("group", &texts);
}

#[test]
fn the_note_names_a_oneshot_channel_whose_sender_is_leaked() {
    assert_note(
        "oneshot",
        &["waiting: value of the oneshot channel created at"],
    );
}

#[test]
fn silent_standard_input_is_listed_without_a_note() {
    let list = stderr_of("stdin", |line| line == "end of the list");
    assert!(list.contains("waiting: readable fd "), "{list}");
    assert!(list.contains("(pipe, standard input)"), "{list}");
    assert!(!list.contains("windlass:"), "{list}");
}

#[test]
fn a_late_wake_by_another_thread_follows_one_note() {
    let text = stderr_of("thread", |_| false);
    assert_eq!(text.matches("windlass:").count(), 1, "{text}");
    assert!(text.contains("the program ends"), "{text}");
}

#[test]
fn a_select_with_a_timer_gets_no_note() {
    let text = stderr_of("select", |_| false);
    assert!(!text.contains("windlass:"), "{text}");
    assert!(text.contains("the program ends"), "{text}");
}

/// A runtime with a handler that panics.
fn strict() -> Runtime {
    let builder = Runtime::builder().on_deadlock(|deadlock| panic!("{deadlock}"));
    builder.build().unwrap()
}

/// Runs the future, and returns the panic message of a deadlock.
fn deadlock_in(runtime: &Runtime, future: impl Future) -> Option<String> {
    let run = AssertUnwindSafe(|| drop(runtime.block_on(future)));
    let payload = catch_unwind(run).err()?;
    Some(
        *payload
            .downcast::<String>()
            .expect("the message is formatted"),
    )
}

/// Two tasks that join each other.
async fn knot() -> Rc<RefCell<Option<Task<()>>>> {
    let handle: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let first = handle.clone();
    let second = spawn(async move {
        yield_now().await;
        let first = first.take().unwrap();
        first.await;
    });
    *handle.borrow_mut() = Some(spawn(second));
    yield_now().await;
    yield_now().await;
    handle
}

#[test]
fn the_runtime_stays_usable_after_a_panic_in_the_handler() {
    let runtime = strict();
    for _ in 0..3 {
        let message = deadlock_in(&runtime, async {
            let (_sender, mut receiver) = mpsc::channel::<u8>(1);
            receiver.recv().await
        });
        assert!(
            message
                .unwrap()
                .contains("value of the mpsc channel created at")
        );
        assert_eq!(runtime.block_on(spawned_answer()), 42);
    }
}

async fn spawned_answer() -> u32 {
    time::sleep(Duration::from_millis(1)).await;
    spawn(async { 42 }).await
}

#[test]
fn a_panic_in_the_handler_propagates_from_a_turn() {
    let runtime = strict();
    runtime
        .spawn(async { Event::new().listen().await })
        .detach();
    let turns = AssertUnwindSafe(|| while runtime.turn(None).is_ok() {});
    let payload = catch_unwind(turns).unwrap_err();
    assert!(
        payload
            .downcast::<String>()
            .unwrap()
            .contains("waiting: event created at")
    );
    let answer = runtime.spawn(spawned_answer());
    while !answer.is_finished() {
        runtime.turn(None).unwrap();
    }
}

#[test]
fn a_wake_by_the_handler_lets_the_task_continue() {
    let wakes = Arc::new(AtomicUsize::new(0));
    let (post, posted) = std_mpsc::channel();
    let counted = wakes.clone();
    let runtime = Runtime::builder()
        .on_deadlock(move |deadlock: &Deadlock| {
            counted.fetch_add(1, Relaxed);
            post.send(deadlock.clone()).unwrap();
            WAKER.take().expect("the task has left its waker").wake();
        })
        .build()
        .unwrap();
    thread_local!(static WAKER: Cell<Option<std::task::Waker>> = const { Cell::new(None) });
    let mut polls = 0;
    runtime.block_on(std::future::poll_fn(|cx| {
        polls += 1;
        WAKER.set(Some(cx.waker().clone()));
        if polls == 3 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    assert_eq!(wakes.load(Relaxed), 2);
    let deadlock = posted.recv().unwrap();
    assert_eq!(deadlock.tasks().len(), 1);
    assert_eq!(deadlock.tasks()[0].waits, [Wait::Unknown]);
    assert!(deadlock.cycles().is_empty());
}

#[test]
fn a_handler_may_run_another_loop() {
    let runtime = Runtime::builder()
        .on_deadlock(|_| {
            assert_eq!(block_on(spawned_answer()), 42);
            panic!("after the inner loop");
        })
        .build()
        .unwrap();
    let run = AssertUnwindSafe(|| runtime.block_on(async { Event::new().listen().await }));
    assert!(catch_unwind(run).is_err());
    assert_eq!(runtime.block_on(spawned_answer()), 42);
}

#[test]
fn a_handler_is_called_once_until_a_task_is_polled() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let runtime = Runtime::builder()
        .on_deadlock(move |_| {
            counted.fetch_add(1, Relaxed);
        })
        .build()
        .unwrap();
    runtime
        .spawn(async { Event::new().listen().await })
        .detach();
    let waker = runtime.remote(); // keeps the loop from hanging for ever
    drop(waker);
    let (stop, stopped) = futures::channel::oneshot::channel();
    let unpark = thread::spawn({
        let calls = calls.clone();
        move || {
            while calls.load(Relaxed) == 0 {
                thread::yield_now();
            }
            stop.send(()).unwrap();
        }
    });
    runtime.block_on(stopped).unwrap();
    unpark.join().unwrap();
    assert_eq!(calls.load(Relaxed), 1);
}

#[test]
fn an_idle_source_hides_no_deadlock() {
    let runtime = strict();
    let message = deadlock_in(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut accept = Box::pin(listener.accept());
        assert!(poll!(&mut accept).is_pending());
        drop(accept);
        Event::new().listen().await;
    });
    assert!(message.unwrap().contains("waiting: event created at"));
}

#[test]
fn a_wait_for_an_event_from_outside_is_no_deadlock() {
    let runtime = strict();
    let message = deadlock_in(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let _accepting = spawn(async move { listener.accept().await });
        let (sender, mut receiver) = mpsc::channel(1);
        let _connecting = spawn(async move {
            // On a thread, so that the loop sleeps meanwhile.
            spawn_blocking(move || {
                thread::sleep(Duration::from_millis(20));
                std::net::TcpStream::connect(addr).unwrap();
            })
            .await;
            sender.send(()).await
        });
        receiver.recv().await.unwrap();
    });
    assert_eq!(message, None);
}

#[test]
fn a_wait_in_a_combinator_is_no_deadlock() {
    let message = deadlock_in(&strict(), async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connecting = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            std::net::TcpStream::connect(addr).unwrap()
        });
        // The reactor has the waker of the combinator.
        let mut accepting: FuturesUnordered<_> = [listener.accept()].into_iter().collect();
        let event = Event::new();
        select! {
            accepted = accepting.next() => drop(accepted.unwrap().unwrap()),
            () = event.listen().fuse() => unreachable!("no code notifies the event"),
        }
        connecting.join().unwrap();
    });
    assert_eq!(message, None);
}

#[test]
fn a_closure_of_a_pool_is_no_deadlock() {
    let run = async { spawn_blocking(|| thread::sleep(Duration::from_millis(1200))).await };
    assert_eq!(deadlock_in(&strict(), run), None);
}

#[test]
fn a_detached_closure_may_wake_a_task_through_a_foreign_channel() {
    let run = async {
        let (sender, receiver) = futures::channel::oneshot::channel();
        let closure = move || {
            thread::sleep(Duration::from_millis(1500));
            sender.send(42)
        };
        spawn_blocking(closure).detach();
        assert_eq!(receiver.await, Ok(42));
    };
    assert_eq!(deadlock_in(&strict(), run), None);
}

#[test]
fn a_remote_is_no_deadlock() {
    let runtime = strict();
    let (remote, event) = (runtime.remote(), Rc::new(Event::new()));
    thread_local!(static EVENT: Cell<Option<Rc<Event>>> = const { Cell::new(None) });
    EVENT.set(Some(event.clone()));
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(remote.run(|| EVENT.take().unwrap().notify(1)));
    });
    let listening = runtime.spawn(async move { event.listen().await });
    assert_eq!(deadlock_in(&runtime, listening), None);
    thread.join().unwrap();
    let hang = async { Event::new().listen().await };
    assert!(
        deadlock_in(&runtime, hang).is_some(),
        "the `Remote` is gone"
    );
}

#[test]
fn the_drop_of_the_last_remote_wakes_a_loop_in_a_deadlock() {
    let runtime = strict();
    let remotes = [runtime.remote(), runtime.remote()];
    let pulse = Reactor::current().unwrap().pulse();
    let (ended, end) = std_mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        while pulse.loop_state() != LoopState::Asleep {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(20)); // so that it has examined the tasks
        drop(remotes);
        if end.recv_timeout(Duration::from_secs(30)) == Err(RecvTimeoutError::Timeout) {
            println!("the loop does not wake");
            std::process::abort();
        }
    });
    let hang = async { Event::new().listen().await };
    assert!(deadlock_in(&runtime, hang).is_some());
    drop(ended);
    thread.join().unwrap();
}

#[test]
fn a_turn_of_a_host_waits_longer_than_the_search_for_deadlocks() {
    let runtime = Runtime::new().unwrap();
    let (sender, receiver) = futures::channel::oneshot::channel();
    let task = runtime.spawn(receiver);
    runtime.turn(Some(Duration::ZERO)).unwrap();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1500)); // the search begins after a second
        sender.send(7).unwrap();
    });
    assert_eq!(runtime.turn(None).unwrap().polled, 1);
    assert_eq!(runtime.block_on(task), Ok(7));
    thread.join().unwrap();
}

#[test]
fn a_runtime_with_a_handler_works_while_its_thread_ends() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            assert_eq!(strict().block_on(async { spawn(async { 42 }).await }), 42);
        }
    }
    thread_local!(static LATE: Late = const { Late });
    let thread = thread::spawn(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        drop(Async::new(listener)); // creates the reactor, which is dropped last
        LATE.with(|_| {});
        assert_eq!(strict().block_on(spawned_answer()), 42);
    });
    thread.join().unwrap();
}

#[test]
fn the_newest_handler_of_a_thread_is_called() {
    let older = strict();
    let newer = Runtime::builder()
        .on_deadlock(|_| panic!("newer"))
        .build()
        .unwrap();
    let hang = || async { Event::new().listen().await };
    let run = AssertUnwindSafe(|| older.block_on(hang()));
    assert_eq!(
        catch_unwind(run).unwrap_err().downcast_ref(),
        Some(&"newer")
    );
    drop(newer);
    assert!(
        deadlock_in(&older, hang())
            .unwrap()
            .starts_with("deadlock of 1 task:")
    );
}

#[test]
fn a_probable_cycle_hides_no_certain_one() {
    let message = deadlock_in(&strict(), async {
        let handle: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let (sender, mut receiver) = mpsc::channel(1);
        let parent = handle.clone();
        let joiner = spawn(async move {
            receiver.recv().await;
            let parent = parent.take().unwrap();
            parent.await;
        });
        // The first child is probably held up by the joiner, and the second one joins it.
        let parent = spawn(async move {
            let mut group = TaskGroup::infallible();
            group.spawn(async move { while sender.send(()).await.is_ok() {} });
            group.spawn(joiner);
            while group.join_next().await.is_some() {}
        });
        *handle.borrow_mut() = Some(parent);
        Event::new().listen().await;
    });
    let message = message.unwrap();
    assert!(message.contains("\n  cycle: task"), "{message}");
}

#[test]
fn tasks_that_wait_for_each_other_are_found_while_others_run() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _idle = spawn(async move { listener.accept().await });
        assert!(inspect::deadlock().is_none());
        let _handle = knot().await;
        let deadlock = inspect::deadlock().unwrap();
        assert_eq!(deadlock.tasks().len(), 2);
        assert_eq!(deadlock.cycles().len(), 1);
        let steps: Vec<_> = deadlock.cycles()[0].steps().collect();
        let [(first, first_wait), (second, second_wait)] = steps[..] else {
            panic!("{deadlock}");
        };
        assert_eq!(*first_wait, Wait::Join(second));
        assert_eq!(*second_wait, Wait::Join(first));
    });
}

#[test]
fn a_task_that_waits_for_a_knot_is_stuck_too() {
    block_on(async {
        let lock = Rc::new(Mutex::new(()));
        let held = lock.clone();
        let _holder = spawn(async move {
            let _guard = held.lock().await;
            let _handle = knot().await;
            pending::<()>().await;
        });
        let handle = knot().await;
        let joiner = spawn(async move {
            let task = handle.take().unwrap();
            task.await;
        });
        yield_now().await;
        // The first task of the knot has taken the handle, so the joiner has panicked.
        assert!(joiner.catch().await.is_err());
        let deadlock = inspect::deadlock().unwrap();
        assert!(
            deadlock
                .tasks()
                .iter()
                .all(|task| task.state == TaskState::Waiting)
        );
    });
}

#[test]
fn a_branch_that_may_end_keeps_a_knot_alive() {
    block_on(async {
        let handle: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let first = handle.clone();
        let second = spawn(async move {
            yield_now().await;
            let mut first = first.take().unwrap().fuse();
            select! {
                () = first => {}
                () = time::sleep(Duration::from_secs(3600)).fuse() => {}
            }
        });
        *handle.borrow_mut() = Some(spawn(second));
        for _ in 0..4 {
            yield_now().await;
        }
        assert_eq!(inspect::tasks().len(), 3);
        assert!(inspect::deadlock().is_none());
    });
}
