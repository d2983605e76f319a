//! windlass and tokio on one thread.
#![cfg(unix)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use common::watchdog;
use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

const MILLISECOND: Duration = Duration::from_millis(1);

/// `windlass::tokio::block_on` with a time limit.
#[track_caller]
fn run<F: Future>(future: F) -> F::Output {
    let _watchdog = watchdog();
    windlass::tokio::block_on(future)
}

/// Returns the message of the panic of `run`.
fn message_of<T>(run: impl FnOnce() -> T) -> String {
    let payload = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

/// Calls the closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn the_main_future_may_borrow_and_returns_its_output() {
    let word = String::from("ahoy");
    assert_eq!(run(async { &word[..2] }), "ah");
}

#[test]
fn cached_reads_beyond_the_limit_of_a_turn_continue() {
    let path = std::env::current_exe().unwrap();
    run(async {
        let read = |path: std::path::PathBuf| async move {
            let file = windlass::fs::File::open(path).await.unwrap();
            for _ in 0..20 {
                assert!(file.read_at(&mut vec![0; 1 << 18], 0).await.unwrap() > 0);
            }
        };
        let tasks = (0..6).map(|_| windlass::spawn(read(path.clone())));
        futures::future::join_all(tasks).await;
        // In a task of tokio.
        tokio::task::spawn_local(read(path.clone())).await.unwrap();
    });
}

#[test]
fn timers_of_both_work_in_tasks_of_both() {
    async fn both(order: Rc<RefCell<Vec<&'static str>>>) {
        windlass::time::sleep(MILLISECOND).await;
        tokio::time::sleep(MILLISECOND).await;
        let late = tokio::time::timeout(MILLISECOND, windlass::time::sleep(Duration::MAX));
        assert!(late.await.is_err());
        let late = windlass::time::timeout(MILLISECOND, tokio::time::sleep(Duration::MAX));
        assert!(late.await.is_err());
        order.borrow_mut().push("done");
    }
    let order = Rc::new(RefCell::new(Vec::new()));
    run(async {
        let ours = windlass::spawn(both(order.clone()));
        let theirs = tokio::task::spawn_local(both(order.clone()));
        both(order.clone()).await;
        ours.await;
        theirs.await.unwrap();
    });
    assert_eq!(*order.borrow(), ["done"; 3]);
}

/// No turn follows the start of the timer, until the timer itself causes one.
#[test]
fn a_timer_that_only_a_task_of_tokio_has_started_fires() {
    for limit in [Duration::ZERO, 5 * MILLISECOND] {
        run(async {
            let task = tokio::task::spawn_local(async move {
                let start = Instant::now();
                windlass::time::sleep(limit).await;
                start.elapsed()
            });
            assert!(task.await.unwrap() >= limit);
        });
    }
}

/// Serves one connection of each runtime's listener with the echo of four bytes.
#[test]
fn sockets_of_both_work_in_tasks_of_both() -> io::Result<()> {
    async fn serve_one(ours: windlass::net::TcpListener, theirs: tokio::net::TcpListener) {
        let (mut stream, _) = ours.accept().await.unwrap();
        let mut request = [0; 4];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&request).await.unwrap();
        let (mut stream, _) = theirs.accept().await.unwrap();
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&request).await.unwrap();
    }
    async fn check(spawn: fn(windlass::net::TcpListener, tokio::net::TcpListener)) {
        let ours = windlass::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap();
        let theirs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addrs = (ours.local_addr().unwrap(), theirs.local_addr().unwrap());
        spawn(ours, theirs);
        let mut reply = [0; 4];
        // Each client is of the other runtime.
        let mut stream = tokio::net::TcpStream::connect(addrs.0).await.unwrap();
        stream.write_all(b"ahoy").await.unwrap();
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"ahoy");
        let mut stream = windlass::net::TcpStream::connect(addrs.1).await.unwrap();
        stream.write_all(b"hola").await.unwrap();
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"hola");
    }
    let in_windlass = |ours, theirs| windlass::spawn(serve_one(ours, theirs)).detach();
    let in_tokio = |ours, theirs| drop(tokio::task::spawn_local(serve_one(ours, theirs)));
    run(async {
        check(in_windlass).await;
        check(in_tokio).await;
        windlass::spawn(check(in_tokio)).await;
        tokio::task::spawn_local(check(in_windlass)).await.unwrap();
    });
    Ok(())
}

#[test]
fn tasks_of_tokio_spawn_on_windlass() {
    run(async {
        let spawn = || async { windlass::spawn(async { 1 }).await };
        assert_eq!(tokio::task::spawn_local(spawn()).await.unwrap(), 1);
        // The future of `tokio::spawn` is `Send`, so it can only detach the task.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let spawned = tokio::spawn(async move {
            windlass::spawn(async move {
                windlass::time::sleep(MILLISECOND).await;
                sender.send(2).unwrap();
            })
            .detach();
        });
        spawned.await.unwrap();
        assert_eq!(receiver.await, Ok(2));
        // Out of a task that tokio has spawned in a task of tokio.
        let nested =
            tokio::task::spawn_local(
                async move { tokio::task::spawn_local(spawn()).await.unwrap() },
            );
        assert_eq!(nested.await.unwrap(), 1);
    });
}

#[test]
fn tasks_of_tokio_are_spawned_with_and_without_send() {
    run(async {
        let task = windlass::spawn(async {
            let local = Rc::new(1);
            let local = tokio::task::spawn_local(async move { *local });
            let sent = tokio::spawn(async { 2 });
            let blocking = tokio::task::spawn_blocking(|| 3);
            let blocked = windlass::spawn_blocking(|| 4).await;
            local.await.unwrap() + sent.await.unwrap() + blocking.await.unwrap() + blocked
        });
        assert_eq!(task.await, 10);
    });
}

#[test]
fn files_children_and_lookups_of_both_work() -> io::Result<()> {
    async fn read_both(path: &str) -> (usize, usize) {
        let ours = windlass::fs::read(path).await.unwrap();
        let theirs = tokio::fs::read(path).await.unwrap();
        (ours.len(), theirs.len())
    }
    async fn run_both() {
        let ours = windlass::process::Command::new("echo")
            .arg("ours")
            .output()
            .await;
        assert_eq!(ours.unwrap().stdout, b"ours\n");
        let theirs = tokio::process::Command::new("echo")
            .arg("theirs")
            .output()
            .await;
        assert_eq!(theirs.unwrap().stdout, b"theirs\n");
        let (ours, theirs) = futures::join!(
            async {
                windlass::process::Command::new("sleep")
                    .arg("0.01")
                    .status()
                    .await
            },
            async {
                tokio::process::Command::new("sleep")
                    .arg("0.01")
                    .status()
                    .await
            },
        );
        assert!(ours.unwrap().success() && theirs.unwrap().success());
    }
    let length = std::fs::metadata("Cargo.toml")?.len() as usize;
    run(async {
        let ours = windlass::spawn(async {
            run_both().await;
            read_both("Cargo.toml").await
        });
        let theirs = tokio::task::spawn_local(async {
            run_both().await;
            read_both("Cargo.toml").await
        });
        assert_eq!(ours.await, (length, length));
        assert_eq!(theirs.await.unwrap(), (length, length));
    });
    Ok(())
}

#[test]
fn signals_reach_the_listeners_of_both() {
    use tokio::signal::unix::{SignalKind, signal};
    use windlass::signal::{Signal, Signals};

    run(async {
        let mut ours = Signals::new([Signal::from_raw(nix::libc::SIGWINCH)]).unwrap();
        let mut theirs = signal(SignalKind::window_change()).unwrap();
        let task = tokio::task::spawn_local(async move {
            for _ in 0..3 {
                theirs.recv().await.unwrap();
            }
        });
        while !task.is_finished() {
            let pid = rustix::process::getpid();
            rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
            poll_fn(|cx| ours.poll_recv(cx)).await.unwrap();
            tokio::task::yield_now().await;
        }
        task.await.unwrap();
    });
}

/// Runs the rest of the test in a process of its own. Returns false in the process of the caller.
fn is_alone(test: &str) -> bool {
    if std::env::var_os("WINDLASS_ALONE").is_some() {
        return true;
    }
    let ended = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--test-threads=1", "--nocapture"])
        .env("WINDLASS_ALONE", "")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        ended.status.success() && String::from_utf8_lossy(&ended.stdout).contains("1 passed"),
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    false
}

#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
#[cfg(target_os = "linux")]
fn everything_runs_on_one_thread() {
    if !is_alone("everything_runs_on_one_thread") {
        return;
    }
    let before = threads();
    let here = thread::current().id();
    windlass::tokio::block_on(async {
        let ours = windlass::spawn(async { thread::current().id() });
        let theirs = tokio::spawn(async {
            tokio::time::sleep(MILLISECOND).await;
            thread::current().id()
        });
        let local = tokio::task::spawn_local(async {
            windlass::time::sleep(MILLISECOND).await;
            thread::current().id()
        });
        let (near, _far) = tokio::net::UnixStream::pair().unwrap();
        near.writable().await.unwrap();
        assert_eq!(ours.await, here);
        assert_eq!(theirs.await.unwrap(), here);
        assert_eq!(local.await.unwrap(), here);
        assert_eq!(threads(), before);
    });
}

/// The processor time of this process.
fn processor_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};

    let used = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
    };
    of(used.user_time()) + of(used.system_time())
}

#[test]
fn an_idle_thread_does_not_run() {
    if !is_alone("an_idle_thread_does_not_run") {
        return;
    }
    windlass::tokio::block_on(async {
        // Each runtime has tasks that wait for sockets, and timers that are far away.
        let (ours, _ours) = windlass::net::unix::UnixStream::pair().unwrap();
        let (theirs, _theirs) = tokio::net::UnixStream::pair().unwrap();
        let far = Duration::from_secs(3600);
        let _ours = windlass::spawn(async move {
            let _ = windlass::time::timeout(far, (&ours).read(&mut [0; 1])).await;
        });
        tokio::task::spawn_local(async move {
            let _ = tokio::time::timeout(far, theirs.readable()).await;
        });
        tokio::task::spawn_local(windlass::time::sleep(far));
        windlass::time::sleep(MILLISECOND).await;
        for timer in [true, false] {
            let (turns, used) = (windlass::inspect::metrics().turns, processor_time());
            match timer {
                true => windlass::time::sleep(Duration::from_secs(1)).await,
                false => tokio::time::sleep(Duration::from_secs(1)).await,
            }
            let (turns, used) = (
                windlass::inspect::metrics().turns - turns,
                processor_time() - used,
            );
            assert!(turns <= 10, "{turns} turns in a second without work");
            assert!(
                used <= 50 * MILLISECOND,
                "{used:?} in a second without work"
            );
        }
    });
}

#[test]
fn tokios_budget_does_not_stop_the_tasks_of_windlass() {
    const MESSAGES: usize = 100_000;
    // As long as the messages, a timer of either runtime fires at least now and then.
    run(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
        let received = Rc::new(Cell::new(0));
        let count = received.clone();
        let _sender = windlass::spawn(async move {
            for message in 0..MESSAGES {
                sender.send(message).await.unwrap();
            }
        });
        let receiving = windlass::spawn(async move {
            while let Some(message) = receiver.recv().await {
                assert_eq!(message, count.replace(count.get() + 1));
            }
        });
        let latest = Rc::new(Cell::new(Duration::ZERO));
        let ticking = |theirs: bool| {
            let latest = latest.clone();
            async move {
                loop {
                    let before = Instant::now();
                    match theirs {
                        false => windlass::time::sleep(MILLISECOND).await,
                        true => tokio::time::sleep(MILLISECOND).await,
                    }
                    latest.set(latest.get().max(before.elapsed()));
                }
            }
        };
        let _ours = windlass::spawn(ticking(false));
        let theirs = tokio::task::spawn_local(ticking(true));
        receiving.await;
        theirs.abort();
        assert_eq!(received.get(), MESSAGES);
        assert!(latest.get() < Duration::from_secs(2), "{:?}", latest.get());
    });
}

#[test]
fn more_messages_than_a_budget_are_received_in_one_poll() {
    run(async {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        (0..100_000).for_each(|message| sender.send(message).unwrap());
        drop(sender);
        let mut polls = 0;
        let mut receiving = Box::pin(async move {
            let mut sum = 0_u64;
            while let Some(message) = receiver.recv().await {
                sum += message;
            }
            sum
        });
        let received = windlass::spawn(async move {
            let sum = poll_fn(|cx| {
                polls += 1;
                receiving.as_mut().poll(cx)
            })
            .await;
            (sum, polls)
        });
        assert_eq!(received.await, (4_999_950_000, 1));
    });
}

/// Busy tasks of one runtime neither stop the tasks, nor the timers and sockets of the other.
#[test]
fn busy_tasks_do_not_stop_the_other_runtime() {
    async fn everything() {
        let (mut near, mut far) = windlass::net::unix::UnixStream::pair().unwrap();
        let (mut their_near, mut their_far) = tokio::net::UnixStream::pair().unwrap();
        for _ in 0..10 {
            windlass::time::sleep(MILLISECOND).await;
            windlass::time::sleep(Duration::ZERO).await;
            tokio::time::sleep(MILLISECOND).await;
            near.write_all(b"a").await.unwrap();
            far.read_exact(&mut [0]).await.unwrap();
            their_near.write_all(b"a").await.unwrap();
            their_far.read_exact(&mut [0]).await.unwrap();
        }
    }
    for in_windlass in [true, false] {
        for in_tokio in [true, false] {
            run(async {
                let _ours = in_windlass.then(|| {
                    windlass::spawn(async {
                        loop {
                            windlass::yield_now().await;
                        }
                    })
                });
                let theirs = in_tokio.then(|| {
                    tokio::spawn(async {
                        loop {
                            tokio::task::yield_now().await;
                        }
                    })
                });
                let checks = tokio::task::spawn_local(everything());
                windlass::spawn(everything()).await;
                everything().await;
                checks.await.unwrap();
                theirs.inspect(|theirs| theirs.abort());
            });
        }
    }
}

/// A windlass socket that is always readable, in a task of tokio, uses up windlass's budget.
#[test]
fn windlass_has_a_budget_in_tasks_of_tokio() {
    run(async {
        let (near, far) = windlass::net::unix::UnixStream::pair().unwrap();
        let (sent, done) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(false)));
        let (count, is_done) = (sent.clone(), done.clone());
        let reading = tokio::task::spawn_local(async move {
            let mut byte = [0];
            let mut near = near;
            while !is_done.get() {
                // A socket that refills itself.
                while far.try_write(&[1; 1]).is_ok() && count.get() % 64 != 0 {
                    count.set(count.get() + 1);
                }
                count.set(count.get() + 1);
                near.read_exact(&mut byte).await.unwrap();
            }
        });
        windlass::time::sleep(5 * MILLISECOND).await;
        tokio::time::sleep(5 * MILLISECOND).await;
        done.set(true);
        reading.await.unwrap();
        assert!(sent.get() > 64);
    });
}

/// More events than one turn of the reactor takes.
#[test]
fn no_event_is_lost_when_many_come_at_once() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    const PAIRS: u64 = 1500; // a turn takes 1,024
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 2 * PAIRS + 500 {
        eprintln!("SKIPPED: the limit of descriptors is {hard}");
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    run(async {
        let pairs: Vec<_> = (0..PAIRS)
            .map(|_| windlass::net::unix::UnixStream::pair().unwrap())
            .collect();
        let (nears, fars): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let reading: Vec<_> = fars
            .into_iter()
            .map(|mut far| windlass::spawn(async move { far.read_exact(&mut [0]).await }))
            .collect();
        windlass::time::sleep(MILLISECOND).await; // all of them wait
        for near in &nears {
            near.try_write(b"a").unwrap();
        }
        for read in reading {
            read.await.unwrap();
        }
    });
}

#[test]
fn wakes_from_other_threads_arrive() {
    run(async {
        for _ in 0..100 {
            let (sender, receiver) = futures::channel::oneshot::channel();
            let (their_sender, their_receiver) = tokio::sync::oneshot::channel();
            let thread = thread::spawn(move || {
                sender.send(1).unwrap();
                their_sender.send(2).unwrap();
            });
            let ours = windlass::spawn(receiver);
            let theirs = tokio::spawn(their_receiver);
            assert_eq!(ours.await, Ok(1));
            assert_eq!(theirs.await.unwrap(), Ok(2));
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_drop_cancels_across_the_seam() {
    run(async {
        let dropped = Rc::new(Cell::new(0));
        let guard = || {
            let dropped = dropped.clone();
            OnDrop(move || dropped.set(dropped.get() + 1))
        };
        // A task of windlass that a task of tokio owns, which is aborted.
        let inner = guard();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let outer = tokio::task::spawn_local(async move {
            let task = windlass::spawn(async move {
                let _inner = inner;
                started.send(()).unwrap();
                pending::<()>().await;
            });
            task.await;
        });
        has_started.await.unwrap();
        outer.abort();
        assert!(outer.await.unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 1);

        // A task of tokio outlives the task of windlass that has spawned it, until it is aborted.
        let inner = guard();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let outer = windlass::spawn(async move {
            let task = tokio::task::spawn_local(async move {
                let _inner = inner;
                pending::<()>().await;
            });
            sender.send(task.abort_handle()).unwrap();
            task.await.unwrap();
        });
        let abort = receiver.await.unwrap();
        drop(outer);
        windlass::yield_now().await;
        assert_eq!(dropped.get(), 1);
        abort.abort();
        while dropped.get() == 1 {
            windlass::yield_now().await;
        }

        // A time limit of either drops the socket operation of the other.
        let (mut near, _far) = tokio::net::UnixStream::pair().unwrap();
        let late = windlass::time::timeout(MILLISECOND, near.read_u8()).await;
        assert!(late.is_err());
    });
}

#[test]
fn panics_surface_where_the_task_is_awaited() {
    run(async {
        let theirs = tokio::task::spawn_local(async { panic!("of tokio") });
        let panic = theirs.await.unwrap_err().into_panic();
        assert_eq!(*panic.downcast::<&str>().unwrap(), "of tokio");

        let ours = windlass::spawn(async { panic!("of windlass") });
        let panic = ours.catch().await.unwrap_err().to_string();
        assert!(panic.contains("of windlass"), "{panic}");

        // Both still work.
        tokio::spawn(async {}).await.unwrap();
        windlass::spawn(async {}).await;
    });
    let ours = || run(async { windlass::spawn(async { panic!("through windlass") }).await });
    assert_eq!(message_of(ours), "through windlass");
    assert_eq!(message_of(|| run(async { panic!("of main") })), "of main");
    assert_eq!(run(async { windlass::spawn(async { 42 }).await }), 42);
}

#[test]
fn a_nested_block_on_says_what_to_do() {
    let inside = |block_on: fn()| message_of(|| run(async { block_on() }));
    let inside_ours = |block_on: fn()| {
        let task = async move { windlass::spawn(async move { block_on() }).await };
        message_of(|| run(task))
    };
    let inside_theirs = |block_on: fn()| {
        message_of(|| {
            let joined = run(async { tokio::spawn(async move { block_on() }).await });
            std::panic::resume_unwind(joined.unwrap_err().into_panic())
        })
    };
    let same = || windlass::tokio::block_on(async {});
    let ours = || windlass::block_on(async {});
    let theirs = || tokio::runtime::Runtime::new().unwrap().block_on(async {});
    for block_on in [same, ours] {
        assert!(inside(block_on).contains("would stop all"));
        assert!(inside_ours(block_on).contains("would stop all"));
        assert!(inside_theirs(block_on).contains("would stop all"));
    }
    assert!(inside(theirs).contains("runtime from within a runtime"));
    assert!(inside_ours(theirs).contains("runtime from within a runtime"));

    // In loops that are not of this module.
    let in_windlass = message_of(|| windlass::block_on(async { same() }));
    assert!(in_windlass.contains("`windlass::tokio::block_on` inside a task"));
    let in_tokio = message_of(|| {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        tokio.block_on(async { same() })
    });
    assert!(
        in_tokio.contains("runtime from within a runtime"),
        "{in_tokio}"
    );
    run(async {}); // the thread is still usable
}

#[test]
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
fn a_simulation_refuses_tokio() {
    let message = message_of(|| windlass::sim::block_on(async { run(async {}) }));
    assert!(message.contains("outside of `windlass::sim`"), "{message}");
}

#[test]
fn the_main_future_ends_first_then_tokio_then_windlass() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let note = |name: &'static str| {
        let order = order.clone();
        OnDrop(move || {
            order.borrow_mut().push(name);
            // Both still spawn. The tasks are dropped without a poll.
            drop(tokio::spawn(async { unreachable!() }));
            windlass::spawn(async { unreachable!() }).detach();
        })
    };
    let (main, ours, theirs) = (note("main"), note("windlass"), note("tokio"));
    run(async move {
        let _main = main;
        windlass::spawn(async move {
            let _ours = ours;
            pending::<()>().await
        })
        .detach();
        tokio::task::spawn_local(async move {
            let _theirs = theirs;
            pending::<()>().await
        });
        windlass::time::sleep(MILLISECOND).await;
    });
    assert_eq!(*order.borrow(), ["main", "tokio", "windlass"]);
}

#[test]
fn resources_may_outlive_their_runtime() {
    let (ours, theirs, sleep, task) = run(async {
        let ours = windlass::net::unix::UnixStream::pair().unwrap();
        let theirs = tokio::net::UnixStream::pair().unwrap();
        let task = tokio::task::spawn_local(pending::<()>());
        (ours, theirs, tokio::time::sleep(MILLISECOND), task)
    });
    drop((theirs, sleep));
    let ended = run(async {
        (&ours.0).write_all(b"a").await.unwrap();
        (&ours.1).read_exact(&mut [0]).await.unwrap();
        task.await
    });
    assert!(ended.unwrap_err().is_cancelled());
}

#[test]
fn block_in_place_panics_on_one_thread() {
    let message = message_of(|| run(async { tokio::task::block_in_place(|| ()) }));
    assert!(message.contains("can call blocking only"), "{message}");
}

/// Code that is generic over tokio's traits, as database drivers are.
async fn ask_by_tokio<S>(mut stream: S) -> io::Result<Vec<u8>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(b"ahoy").await?;
    stream.shutdown().await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    Ok(reply)
}

/// The same for the traits of futures-io.
async fn answer_by_futures<S>(mut stream: S) -> io::Result<()>
where
    S: futures::AsyncRead + futures::AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    stream.read_to_end(&mut request).await?;
    request.make_ascii_uppercase();
    stream.write_all(&request).await?;
    stream.close().await
}

#[test]
fn streams_are_converted_in_both_directions() -> io::Result<()> {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let answering = tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            answer_by_futures(stream.compat()).await
        });
        let stream = windlass::net::TcpStream::connect(addr).await?;
        assert_eq!(ask_by_tokio(stream.compat()).await?, b"AHOY");
        answering.await?
    })
}

/// The recipe for a guest of another host: a runtime of tokio on a helper thread. Its context is
/// entered around the turns.
#[test]
fn a_guest_enters_the_context_of_a_helper_thread() -> io::Result<()> {
    async fn work() -> (Option<String>, [u8; 1]) {
        tokio::time::sleep(MILLISECOND).await;
        windlass::time::sleep(MILLISECOND).await;
        let (mut near, mut far) = tokio::net::UnixStream::pair().unwrap();
        let served = tokio::spawn(async move {
            near.write_all(b"a").await.unwrap();
            thread::current().name().map(str::to_owned)
        });
        let mut read = [0];
        far.read_exact(&mut read).await.unwrap();
        (served.await.unwrap(), read)
    }
    let _watchdog = watchdog();
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("helper")
        .enable_all()
        .build()?;
    let _entered = tokio.enter();

    let runtime = windlass::Runtime::new()?;
    let task = runtime.spawn(work());
    while !task.is_finished() {
        runtime.turn(None)?;
    }
    let expected = (Some("helper".to_owned()), *b"a");
    assert_eq!(runtime.block_on(task), expected);
    assert_eq!(windlass::block_on(work()), expected);
    Ok(())
}
