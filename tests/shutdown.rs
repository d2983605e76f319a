//! The end of runtimes, several runtimes on one thread, and nested runtimes.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use common::{Count, OnDrop, is_open, name_of, pair, panic_of, run, watchdog};
use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::TcpStream;
use windlass::time::{interval, sleep};
use windlass::{Runtime, spawn, yield_now};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn block_on_drops_the_remaining_tasks() -> io::Result<()> {
    let dropped = Count::default();
    let name = run(async {
        let (near, mut far) = pair().await?;
        let name = name_of(&far);
        for _ in 0..3 {
            let count = dropped.clone();
            let left = OnDrop(move || count.add());
            spawn(async move {
                let _left = left;
                sleep(HOUR).await;
            })
            .detach();
        }
        spawn(async move { far.read(&mut [0]).await }).detach();
        yield_now().await;
        assert_eq!(dropped.get(), 0);
        drop(near);
        io::Result::Ok(name)
    })?;
    assert_eq!(dropped.get(), 3);
    assert!(!is_open(&name));
    Ok(())
}

#[test]
fn a_runtime_keeps_its_tasks_until_it_is_dropped() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let (steps, dropped) = (Count::default(), Count::default());
    let (counting, count) = (steps.clone(), dropped.clone());
    let left = OnDrop(move || count.add());
    let endless = async move {
        let _left = left;
        loop {
            counting.add();
            yield_now().await;
        }
    };
    runtime.spawn(endless).detach();
    runtime.block_on(yield_now());
    let before = steps.get();
    runtime.block_on(yield_now());
    assert!(before > 0 && steps.get() > before);
    assert_eq!(dropped.get(), 0);
    drop(runtime);
    assert_eq!(dropped.get(), 1);
    Ok(())
}

#[test]
fn destructors_of_remaining_tasks_can_use_the_runtime() -> io::Result<()> {
    let dropped = Count::default();
    let names = run(async {
        let (near, far) = pair().await?;
        let names = [name_of(&near), name_of(&far)];
        let victim = spawn(pending::<()>());
        let (count, late) = (dropped.clone(), dropped.clone());
        let mut held = Some((near, victim));
        let last_words = OnDrop(move || {
            let late = late.clone();
            let late = OnDrop(move || late.add());
            // Dropped immediately, because nothing will run it.
            spawn(async move { drop(late) }).detach();
            assert_eq!(count.get(), 1);
            drop(held.take()); // a socket and a task
            count.add();
        });
        spawn(async move {
            let _last_words = last_words;
            pending::<()>().await;
        })
        .detach();
        let (reader, peer) = (far.clone(), far);
        spawn(async move { (&reader).read(&mut [0]).await }).detach();
        spawn(async move { peer.readable().await }).detach();
        for _ in 0..3 {
            sleep(Duration::ZERO).await;
        }
        io::Result::Ok(names)
    })?;
    assert_eq!(dropped.get(), 2);
    assert!(!names.iter().any(|name| is_open(name)));
    Ok(())
}

#[test]
fn a_panic_of_the_main_future_drops_the_remaining_tasks() {
    let dropped = Count::default();
    let count = dropped.clone();
    let text = panic_of(|| {
        run(async move {
            let left = OnDrop(move || count.add());
            spawn(async move {
                let _left = left;
                sleep(HOUR).await;
            })
            .detach();
            sleep(Duration::ZERO).await;
            panic!("man overboard");
        })
    });
    assert_eq!(text, "man overboard");
    assert_eq!(dropped.get(), 1);
    run(async { sleep(Duration::ZERO).await }); // the thread is still usable
}

/// A runtime with tasks that wait for sockets and timers, and use both in their destructors.
fn lively_runtime() -> io::Result<Runtime> {
    let runtime = Runtime::new()?;
    let (near, mut far) = runtime.block_on(pair())?;
    let mut near = Some(near);
    let at_the_end = OnDrop(move || {
        drop(near.take());
        drop(sleep(HOUR));
    });
    runtime
        .spawn(async move { far.read(&mut [0]).await })
        .detach();
    runtime
        .spawn(async move {
            let _at_the_end = at_the_end;
            interval(HOUR).tick().await; // immediately
            sleep(HOUR).await;
        })
        .detach();
    while runtime.turn(Some(Duration::ZERO))?.polled > 0 {}
    Ok(runtime)
}

#[test]
fn a_runtime_in_a_thread_local_is_dropped_when_its_thread_ends() {
    // Destructors of thread-locals run in the order of their first use or in reverse order, so one
    // of these is first used before the reactor's own, and one after it.
    thread_local! {
        static BEFORE: RefCell<Option<Runtime>> = const { RefCell::new(None) };
        static AFTER: RefCell<Option<Runtime>> = const { RefCell::new(None) };
        static LAZY: Runtime = lively_runtime().unwrap();
    }
    let thread = thread::spawn(|| -> io::Result<()> {
        BEFORE.with_borrow(|runtime| assert!(runtime.is_none()));
        let (first, second) = (lively_runtime()?, lively_runtime()?);
        AFTER.set(Some(second));
        BEFORE.set(Some(first));
        LAZY.with(|runtime| runtime.block_on(sleep(Duration::ZERO)));
        Ok(())
    });
    // A panic in a destructor of a thread-local would abort the process.
    thread.join().unwrap().unwrap();
    for early in [false, true] {
        let thread = thread::spawn(move || -> io::Result<()> {
            if early {
                BEFORE.with_borrow(|runtime| assert!(runtime.is_none()));
            }
            BEFORE.set(Some(lively_runtime()?));
            Ok(())
        });
        thread.join().unwrap().unwrap();
    }
}

#[test]
fn sockets_and_timers_in_thread_locals_outlive_the_reactor() {
    thread_local! {
        static BEFORE: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
    }
    let thread = thread::spawn(|| -> io::Result<()> {
        BEFORE.with_borrow(|held| assert!(held.is_empty()));
        let runtime = Runtime::new()?;
        let (near, far) = runtime.block_on(pair())?;
        let mut started = sleep(HOUR);
        runtime.block_on(async {
            assert!(futures::poll!(&mut started).is_pending());
            assert!(futures::poll!(near.readable()).is_pending());
        });
        let task = runtime.spawn(async move { far.readable().await });
        drop(runtime);
        BEFORE.with_borrow_mut(|held| {
            held.push(Box::new(near));
            held.push(Box::new(started));
            held.push(Box::new(task));
        });
        Ok(())
    });
    thread.join().unwrap().unwrap();
}

#[test]
fn two_runtimes_on_one_thread_wait_for_each_other() -> io::Result<()> {
    let _watchdog = watchdog();
    let (one, other) = (Runtime::new()?, Runtime::new()?);
    let (near, far) = one.block_on(pair())?;
    let echo = one.spawn(async move {
        let (mut near, mut byte) = (near, [0]);
        while near.read(&mut byte).await? > 0 {
            near.write_all(&byte).await?;
        }
        io::Result::Ok("echoed")
    });
    let asking = other.spawn(async move {
        let mut far = far;
        for byte in 0..10 {
            far.write_all(&[byte]).await?;
            let mut back = [0];
            far.read_exact(&mut back).await?;
            assert_eq!(back, [byte]);
            sleep(Duration::from_millis(1)).await;
        }
        drop(far);
        echo.await // a task of the other runtime
    });
    while !asking.is_finished() {
        // Each turn serves the sources of both runtimes, and each runtime polls only its own tasks.
        one.turn(Some(Duration::from_millis(1)))?;
        other.turn(Some(Duration::from_millis(1)))?;
    }
    assert_eq!(other.block_on(asking)?, "echoed");
    Ok(())
}

#[test]
fn spawn_uses_the_runtime_of_the_calling_task() -> io::Result<()> {
    let (one, other) = (Runtime::new()?, Runtime::new()?);
    let ran = Count::default();
    let count = ran.clone();
    let task = one.spawn(async move { spawn(async move { count.add() }).detach() });
    one.block_on(task);
    while other.turn(Some(Duration::ZERO))?.polled > 0 {}
    assert_eq!(ran.get(), 0, "the task is on the other runtime");
    one.turn(Some(Duration::ZERO))?;
    assert_eq!(ran.get(), 1);
    Ok(())
}

#[test]
fn a_nested_runtime_serves_the_sources_of_both() -> io::Result<()> {
    let _watchdog = watchdog();
    let outer = Runtime::new()?;
    let outer_beats = Count::default();
    let beats = outer_beats.clone();
    outer
        .spawn(async move {
            let mut interval = interval(Duration::from_millis(1));
            loop {
                interval.tick().await;
                beats.add();
            }
        })
        .detach();
    outer.block_on(async {
        let (mut near, mut far) = pair().await?;
        let outer_reader = spawn(async move {
            let mut byte = [0];
            far.read_exact(&mut byte).await?;
            io::Result::Ok(byte[0])
        });
        sleep(Duration::ZERO).await; // the reader waits
        let inner = Runtime::new()?;
        inner.block_on(async {
            near.write_all(b"!").await?; // the event arrives while the inner loop turns
            let (mut left, mut right) = pair().await?;
            let inner_reader = spawn(async move {
                let mut byte = [0];
                right.read_exact(&mut byte).await.map(|()| byte[0])
            });
            for _ in 0..5 {
                sleep(Duration::from_millis(2)).await;
            }
            left.write_all(b"?").await?;
            assert_eq!(inner_reader.await?, b'?');
            io::Result::Ok(())
        })?;
        drop(inner);
        // Back in the outer runtime, events that arrived meanwhile are not lost.
        assert_eq!(outer_reader.await?, b'!');
        let before = outer_beats.get();
        while outer_beats.get() < before + 2 {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    })
}

#[test]
fn a_wake_of_the_outer_runtime_during_the_inner_is_kept() -> io::Result<()> {
    let _watchdog = watchdog();
    let outer = Runtime::new()?;
    let (sender, receiver) = futures::channel::oneshot::channel();
    let waiting = outer.spawn(receiver);
    let answer = outer.block_on(async {
        yield_now().await;
        let inner = Runtime::new().unwrap();
        inner.block_on(async {
            thread::spawn(move || sender.send(7))
                .join()
                .unwrap()
                .unwrap();
            sleep(Duration::ZERO).await;
        });
        waiting.await
    });
    assert_eq!(answer, Ok(7));
    Ok(())
}

#[test]
fn repeated_short_block_on_calls_serve_all_sources() -> io::Result<()> {
    let _watchdog = watchdog();
    let runtime = Runtime::new()?;
    let (mut near, mut far) = runtime.block_on(pair())?;
    let read = Rc::new(Cell::new(false));
    let flag = read.clone();
    runtime
        .spawn(async move {
            sleep(Duration::from_millis(1)).await;
            flag.set(far.read(&mut [0]).await.is_ok());
        })
        .detach();
    runtime.block_on(near.write_all(b"!"))?;
    while !read.get() {
        runtime.block_on(yield_now()); // ready almost immediately, repeatedly
    }
    Ok(())
}

#[test]
fn a_stream_can_move_to_the_next_runtime_of_its_thread() -> io::Result<()> {
    let (mut near, far) = run(pair())?;
    let name = name_of(&far);
    run(async { near.write_all(b"ahoy").await })?;
    let far: TcpStream = run(async {
        let mut text = [0; 4];
        (&far).read_exact(&mut text).await?;
        assert_eq!(&text, b"ahoy");
        assert!(futures::poll!(far.readable()).is_pending());
        io::Result::Ok(far)
    })?;
    drop(far);
    assert!(!is_open(&name));
    Ok(())
}
