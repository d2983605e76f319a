//! The current runtime: guards between turns, handles, and the traits for spawning.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::{Count, OnDrop, assert_contains, panic_of, run, watchdog};
use futures::task::{LocalSpawn, LocalSpawnExt, Spawn, SpawnExt};
use windlass::task::TaskGroup;
use windlass::{EnterGuard, Handle, Remote, RemoteError, Runtime, spawn, yield_now};

const NO_WAIT: Option<Duration> = Some(Duration::ZERO);

/// Returns the runtime that `spawn` uses here, by the task that it gets.
fn spawns_on(runtimes: &[&Runtime]) -> Option<usize> {
    let before: Vec<_> = runtimes.iter().map(|it| it.tasks().len()).collect();
    let task = spawn(pending::<()>());
    let position = (0..runtimes.len()).find(|&i| runtimes[i].tasks().len() > before[i]);
    drop(task);
    position
}

#[test]
fn a_callback_between_turns_spawns_under_a_guard() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let count = Count::default();
    let callback = |count: &Count| {
        let count = count.clone();
        spawn(async move { count.add() }).detach();
    };
    let guard = runtime.enter();
    callback(&count);
    assert_eq!(count.get(), 0, "the guard polls nothing");
    runtime.turn(NO_WAIT)?;
    callback(&count); // the guard is held over the turn
    runtime.block_on(async { callback(&count) });
    drop(guard);
    runtime.turn(NO_WAIT)?;
    assert_eq!(count.get(), 3);
    assert_contains(
        &panic_of(|| callback(&count)),
        "hold the guard of `Runtime::enter`",
    );
    Ok(())
}

#[test]
fn groups_and_timers_work_under_a_guard() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let mut group = TaskGroup::infallible();
    {
        let _guard = runtime.enter();
        group.spawn(async {
            windlass::time::sleep(Duration::from_millis(1)).await;
            7
        });
    }
    assert_eq!(runtime.block_on(group.join_next()), Some(7));
    Ok(())
}

#[test]
fn the_newest_guard_counts_and_a_loop_takes_precedence() -> io::Result<()> {
    let (a, b) = (Runtime::new()?, Runtime::new()?);
    let runtimes = [&a, &b];
    let first = a.enter();
    assert_eq!(spawns_on(&runtimes), Some(0));
    let second = b.enter();
    assert_eq!(spawns_on(&runtimes), Some(1));
    a.block_on(async {
        assert_eq!(spawns_on(&runtimes), Some(0));
        let _in_task = b.enter();
        yield_now().await; // held over an await
        assert_eq!(spawns_on(&runtimes), Some(0));
    });
    assert_eq!(spawns_on(&runtimes), Some(1));
    drop(first); // out of order
    assert_eq!(spawns_on(&runtimes), Some(1));
    drop(second);
    assert!(Runtime::try_current().is_none());
    Ok(())
}

#[test]
fn a_guard_from_inside_of_a_task_counts_after_the_loop() -> io::Result<()> {
    let (a, b) = (Runtime::new()?, Runtime::new()?);
    let guard: EnterGuard<'_> = a.block_on(async { b.enter() });
    assert_eq!(spawns_on(&[&a, &b]), Some(1));
    drop(guard);
    assert!(Runtime::try_current().is_none());
    Ok(())
}

#[test]
fn without_a_runtime_current_panics_and_names_the_ways() {
    for message in [panic_of(Runtime::current), panic_of(Remote::current)] {
        assert_contains(&message, "no runtime is current on this thread");
        assert_contains(&message, "`windlass::block_on`");
        assert_contains(&message, "`Runtime::enter`");
        assert_contains(&message, "`Remote`");
    }
    assert!(Runtime::try_current().is_none() && Remote::try_current().is_none());
}

#[test]
fn a_spawn_under_a_guard_calls_the_hook() -> io::Result<()> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let hook = move || {
        counter.fetch_add(1, SeqCst);
    };
    let runtime = Runtime::builder().on_wake(hook).build()?;
    let _guard = runtime.enter();
    spawn(async {}).detach();
    assert_eq!(calls.load(SeqCst), 1);
    Ok(())
}

#[test]
fn a_hook_may_use_the_current_remote() -> io::Result<()> {
    thread_local!(static FOUND: Cell<usize> = const { Cell::new(0) });
    let hook = || FOUND.set(FOUND.get() + usize::from(Remote::try_current().is_some()));
    let runtime = Runtime::builder().on_wake(hook).build()?;
    let _guard = runtime.enter();
    drop(Remote::current()); // starts the task that receives the jobs, which calls the hook
    assert_eq!(FOUND.get(), 1);
    assert_eq!(runtime.tasks().len(), 1);
    Ok(())
}

#[test]
fn a_handle_outlives_its_runtime_without_keeping_it() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let handle = runtime.block_on(async { Runtime::current() });
    let dropped = Count::default();
    let (first, second) = (dropped.clone(), dropped.clone());
    let guard = OnDrop(move || first.add());
    handle
        .spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        })
        .detach();
    assert!(!handle.is_closed());
    drop(runtime);
    assert_eq!(dropped.get(), 1);
    assert!(handle.is_closed());
    let guard = OnDrop(move || second.add());
    let task = handle.spawn(async move { drop(guard) });
    assert_eq!(dropped.get(), 2, "the future is dropped at once");
    assert!(task.is_finished());
    let _guard = handle.enter(); // has no effect
    assert!(Runtime::try_current().is_none());
    assert!(
        handle
            .spawn_local(async {})
            .is_err_and(|error| error.is_shutdown())
    );
    let remote = handle.remote();
    assert!(remote.is_closed() && remote.status().is_err_and(|error| error.is_shutdown()));
    let gone = run(remote.spawn(|| async {}));
    assert!(matches!(gone, Err(RemoteError::Gone)));
    Ok(())
}

#[test]
fn a_destructor_during_the_drop_of_a_runtime_finds_it_closed() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let found = Rc::new(RefCell::new(None::<Handle>));
    let inner = found.clone();
    let guard = OnDrop(move || drop(inner.replace(Runtime::try_current())));
    runtime
        .spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        })
        .detach();
    drop(runtime);
    assert!(found.take().is_some_and(|handle| handle.is_closed()));
    Ok(())
}

#[test]
fn threads_started_inside_spawn_by_the_current_remote() {
    let sum = run(async {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let remote = Remote::current();
                thread::spawn(move || remote.spawn(move || async move { number }))
            })
            .collect();
        let mut sum = 0;
        for thread in threads {
            sum += thread.join().unwrap().await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 6);
}

#[test]
fn remotes_of_one_runtime_share_the_receiving_task() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let remotes = runtime.block_on(async { (Remote::current(), Remote::current()) });
    let third = runtime.remote();
    assert_eq!(runtime.tasks().len(), 1);
    drop((remotes, third));
    Ok(())
}

#[test]
fn a_remote_spawn_on_the_current_runtime_bypasses_the_queue() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let remote = runtime.remote();
    runtime.turn(NO_WAIT)?;
    let _guard = runtime.enter();
    let before = runtime.tasks().len();
    let output = remote.spawn(|| async { 7 });
    assert!(runtime.tasks().len() > before, "the task exists at once");
    assert_eq!(runtime.block_on(output).unwrap(), 7);

    let other = Runtime::new()?;
    let _newer = other.enter(); // now `remote` is not of the current runtime
    let before = runtime.tasks().len();
    let output = remote.run(|| 8);
    assert_eq!(runtime.tasks().len(), before);
    assert_eq!(runtime.block_on(output).unwrap(), 8);
    Ok(())
}

#[test]
fn a_remote_task_on_the_current_runtime_is_lazy() -> io::Result<()> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let called = Arc::new(AtomicUsize::new(0));
        let counter = called.clone();
        let output = Remote::current().run(move || counter.fetch_add(1, SeqCst));
        assert_eq!(called.load(SeqCst), 0);
        output.await.unwrap();
        assert_eq!(called.load(SeqCst), 1);
    });
    Ok(())
}

#[test]
fn the_spawn_traits_spawn_on_the_runtime() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let (handle, remote) = (runtime.handle(), runtime.remote());
    let local: [&dyn LocalSpawn; 2] = [&runtime, &handle];
    let all: [&dyn Spawn; 3] = [&runtime, &handle, &remote];
    let count = Count::default();
    for spawner in local {
        spawner.status_local().unwrap();
        let count = count.clone();
        spawner.spawn_local(async move { count.add() }).unwrap();
    }
    let calls = Arc::new(AtomicUsize::new(0));
    for spawner in all {
        spawner.status().unwrap();
        let calls = calls.clone();
        let add = async move {
            calls.fetch_add(1, SeqCst);
        };
        spawner.spawn(add).unwrap();
    }
    let output = handle.spawn_local_with_handle(async { 7 }).unwrap();
    assert_eq!(runtime.block_on(output), 7);
    let last = remote.spawn_with_handle(async { 8 }).unwrap();
    assert_eq!(runtime.block_on(last), 8);
    assert_eq!((count.get(), calls.load(SeqCst)), (2, 3));
    Ok(())
}

#[test]
fn tasks_of_the_traits_are_listed_with_the_line_of_the_call() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let (handle, future) = (runtime.handle(), Box::new(pending()).into());
    let (line, spawned) = (line!(), handle.spawn_local_obj(future));
    spawned.unwrap();
    assert_eq!(runtime.tasks()[0].spawned_at.line(), line);
    Ok(())
}
