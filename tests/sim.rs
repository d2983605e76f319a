//! Programs in a simulated world.

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::sim::{self, World};
use windlass::time::{interval, now, sleep, timeout};
use windlass::{spawn, yield_now};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_timeout_takes_no_real_time() {
    let real = Instant::now();
    sim::block_on(async {
        let start = now();
        assert!(timeout(HOUR, pending::<()>()).await.is_err());
        assert_eq!(now() - start, HOUR);
        let mut ticks = interval(Duration::from_secs(1));
        for _ in 0..100 {
            ticks.tick().await;
        }
        let sleeper = spawn(async {
            sleep(HOUR).await;
            now()
        });
        assert!(timeout(HOUR / 2, pending::<()>()).await.is_err());
        assert!(!sleeper.is_finished());
        assert!(sleeper.await > start);
    });
    assert!(real.elapsed() < Duration::from_secs(10));
}

#[test]
#[should_panic = "can't come"]
fn a_future_that_nothing_wakes_is_named() {
    sim::block_on(pending::<()>());
}

#[test]
fn a_program_that_polls_the_clock_makes_progress() {
    sim::block_on(async {
        let end = now() + Duration::from_millis(5);
        while now() < end {
            yield_now().await;
        }
    });
}

#[test]
fn hosts_share_the_time() {
    let world = World::new(0);
    let log = Rc::new(RefCell::new(Vec::new()));
    for (name, seconds) in [("a", 3), ("b", 1), ("c", 2)] {
        let log = log.clone();
        world.host(name, move || {
            let log = log.clone();
            async move {
                for _ in 0..3 {
                    sleep(Duration::from_secs(seconds)).await;
                    log.borrow_mut().push(name);
                }
            }
        });
    }
    world.run().unwrap();
    assert_eq!(world.now().as_secs(), 9);
    assert_eq!(log.borrow().len(), 9);
    assert_eq!(log.borrow()[0], "b");
}

async fn serve(addr: &str) -> io::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(async move {
            let (mut reader, mut writer) = (&stream, &stream);
            futures::io::copy(&mut reader, &mut writer).await
        })
        .detach();
    }
}

async fn echo(addr: &str, messages: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    for number in 0..messages {
        let message = format!("message {number}");
        stream.write_all(message.as_bytes()).await?;
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer).await?;
        assert_eq!(answer, message.as_bytes());
    }
    Ok(())
}

fn add_echo(world: &World) {
    world.host("server", || async { serve("0.0.0.0:7000").await });
    world.host("client", || async {
        while let Err(error) = echo("server:7000", 5).await {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn an_echo_over_tcp_completes() {
    let world = World::new(0);
    add_echo(&world);
    let report = world.run().unwrap();
    println!("{report} {:?}", world.now());
    assert!(world.now() > Duration::from_millis(2));
}

#[test]
fn each_seed_has_its_own_hash_and_keeps_it() {
    let run = |seed| {
        let world = World::new(seed);
        add_echo(&world);
        world.run().unwrap().hash()
    };
    let hashes: Vec<_> = (0..50).map(run).collect();
    let again: Vec<_> = (0..50).map(run).collect();
    assert_eq!(hashes, again);
    let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
    assert!(distinct.len() > 20, "{}", distinct.len());
}

#[test]
fn an_echo_survives_all_faults() {
    sim::check(0..200, add_echo);
}

#[test]
fn blocking_closures_and_files_take_virtual_time() {
    sim::block_on(async {
        let start = now();
        let sum = windlass::spawn_blocking(|| 20 + 22).await;
        assert_eq!(sum, 42);
        assert!(now() > start);
        windlass::fs::write("/tmp/windlass-only-simulated", b"ahoy")
            .await
            .unwrap();
        assert_eq!(
            windlass::fs::read("/tmp/windlass-only-simulated")
                .await
                .unwrap(),
            b"ahoy"
        );
        assert!(now() - start < Duration::from_secs(1));
    });
    assert!(!std::path::Path::new("/tmp/windlass-only-simulated").exists());
}

#[test]
fn a_host_is_stopped_by_a_signal() {
    let world = World::new(0);
    let stopped = Rc::new(RefCell::new(false));
    let flag = stopped.clone();
    let server = world.host("server", move || {
        let flag = flag.clone();
        async move {
            windlass::signal::ctrl_c().await?;
            *flag.borrow_mut() = true;
            io::Result::Ok(())
        }
    });
    let killed = world.host("killed", || async {
        sleep(HOUR).await;
        assert_eq!(now().elapsed(), HOUR, "the host is killed before");
    });
    server.signal_at(Duration::from_secs(7), windlass::signal::Signal::INT);
    killed.signal_at(Duration::from_secs(8), windlass::signal::Signal::TERM);
    world.run().unwrap();
    assert!(*stopped.borrow());
    assert_eq!(world.now(), Duration::from_secs(8));
}

#[test]
fn a_crashed_host_forgets_what_it_has_not_synced() {
    let whole = Some(10_000);
    let mut has_lost = false;
    for seed in 0..40 {
        let world = World::new(seed);
        let found = Rc::new(RefCell::new(Vec::new()));
        let log = found.clone();
        let host = world.host("server", move || {
            let log = log.clone();
            async move {
                let names = ["/synced", "/unsynced"];
                for name in names {
                    let length = windlass::fs::read(name).await.map(|bytes| bytes.len());
                    log.borrow_mut().push(length.ok());
                }
                windlass::fs::write(names[0], vec![7; 10_000]).await?;
                let file = windlass::fs::OpenOptions::new()
                    .write(true)
                    .open(names[0])
                    .await?;
                file.sync_all().await?;
                windlass::fs::File::open("/").await?.sync_all().await?;
                windlass::fs::write(names[1], vec![7; 10_000]).await?;
                sleep(HOUR).await;
                io::Result::Ok(())
            }
        });
        host.crash_at(Duration::from_secs(60));
        host.restart_at(Duration::from_secs(61));
        world.run().unwrap();
        let found = found.borrow();
        assert_eq!(found[..3], [None, None, whole], "seed {seed}");
        has_lost |= found[3] != whole;
    }
    assert!(has_lost, "each seed keeps what was not synced");
}

/// A host that ticks each second, and the log of its ticks.
fn add_clock(world: &World, name: &str, ticks: usize) -> (sim::Host, Rc<RefCell<Vec<usize>>>) {
    let log = Rc::new(RefCell::new(Vec::new()));
    let ticked = log.clone();
    let host = world.host(name, move || {
        let log = log.clone();
        async move {
            for tick in 0..ticks {
                sleep(Duration::from_secs(1)).await;
                log.borrow_mut().push(tick);
            }
        }
    });
    (host, ticked)
}

#[test]
fn a_run_for_a_time_stops_at_its_end() {
    for seed in 0..20 {
        let world = World::new(seed);
        let (_, ticked) = add_clock(&world, "clock", 5);
        world.run_for(Duration::from_millis(2_500)).unwrap();
        assert_eq!(world.now(), Duration::from_millis(2_500));
        assert_eq!(*ticked.borrow(), [0, 1]);
        world.run_for(Duration::from_millis(1_000)).unwrap();
        assert_eq!(world.now(), Duration::from_millis(3_500));
        assert_eq!(*ticked.borrow(), [0, 1, 2]);
        // The program ends before the time does.
        world.run_for(HOUR).unwrap();
        assert_eq!(world.now(), Duration::from_millis(3_500) + HOUR);
        assert_eq!(*ticked.borrow(), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_run_for_a_time_may_end_while_a_host_waits_for_a_signal() {
    let world = World::new(0);
    let stopped = Rc::new(RefCell::new(false));
    let flag = stopped.clone();
    let host = world.host("server", move || {
        let flag = flag.clone();
        async move {
            windlass::signal::ctrl_c().await?;
            *flag.borrow_mut() = true;
            io::Result::Ok(())
        }
    });
    world.run_for(Duration::from_secs(5)).unwrap();
    assert_eq!(world.now(), Duration::from_secs(5));
    assert!(!*stopped.borrow());
    host.signal(windlass::signal::Signal::INT);
    world.run_for(Duration::from_secs(5)).unwrap();
    assert_eq!(world.now(), Duration::from_secs(10));
    assert!(*stopped.borrow());
    world.run().unwrap();
}

#[test]
fn a_fast_clock_fires_its_timers_early() {
    let world = World::new(0);
    let (fast, fast_ticked) = add_clock(&world, "fast", 1_000);
    let (_, ticked) = add_clock(&world, "exact", 1_000);
    let (slow, slow_ticked) = add_clock(&world, "slow", 1_000);
    // One is set before the start of the host, the other one while a timer runs.
    fast.clock_skew(100_000);
    world.run_for(Duration::from_millis(500)).unwrap();
    slow.clock_skew(-500_000);
    world.run_for(Duration::from_millis(100_000)).unwrap();
    let counts = [&fast_ticked, &ticked, &slow_ticked].map(|log| log.borrow().len());
    // 100.5 s last 110.55 s on the fast host, and 0.5 s + 50 s on the slow one.
    assert_eq!(counts, [110, 100, 50]);
}

#[test]
fn a_thread_of_the_program_is_reported() {
    let world = World::new(0);
    world.host("server", || async {
        let waker = std::future::poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())).await;
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                waker.wake_by_ref();
            }
        });
        let _guard = StopOnDrop(stop, Some(thread));
        sleep(100_000 * HOUR).await;
    });
    world.host("other", || async {
        for _ in 0..1_000_000 {
            sleep(Duration::from_millis(1)).await;
        }
    });
    let failure = world.run().unwrap_err();
    assert!(failure.to_string().contains("another thread"), "{failure}");
}

/// Ends a thread when its host ends.
struct StopOnDrop(
    std::sync::Arc<std::sync::atomic::AtomicBool>,
    Option<std::thread::JoinHandle<()>>,
);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_disk_of_limited_capacity_is_full() {
    let world = World::new(0);
    let host = world.host("server", || async {
        let error = windlass::fs::write("/large", vec![0; 10_000])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        windlass::fs::remove_file("/large").await?;
        windlass::fs::write("/small", vec![0; 1_000]).await
    });
    host.disk_capacity(Some(4_096));
    world.run().unwrap();
}

#[test]
fn errors_of_a_disk_end_when_the_world_is_healed() {
    let failed = Rc::new(RefCell::new(0));
    for seed in 1..40 {
        let world = World::new(seed);
        let count = failed.clone();
        let host = world.host("server", move || {
            let count = count.clone();
            async move {
                for second in 0..20 {
                    sleep(Duration::from_secs(1)).await;
                    let file = windlass::fs::File::create(format!("/{second}")).await?;
                    file.write_at(b"ahoy", 0).await?;
                    let synced = file.sync_all().await;
                    assert!(synced.is_ok() || second < 11, "{synced:?}");
                    *count.borrow_mut() += usize::from(synced.is_err());
                }
                io::Result::Ok(())
            }
        });
        host.disk_sync_errors(2);
        world.heal_at(Duration::from_secs(10));
        world.run().unwrap();
    }
    assert!(*failed.borrow() > 10);
}

#[test]
fn a_unix_listener_takes_the_place_of_one_that_has_crashed() {
    let world = World::new(0);
    let starts = Rc::new(RefCell::new(0));
    let count = starts.clone();
    let host = world.host("server", move || {
        let count = count.clone();
        async move {
            *count.borrow_mut() += 1;
            let _ = windlass::fs::remove_file("/run.sock").await;
            let _listener = windlass::net::unix::UnixListener::bind("/run.sock").await?;
            sleep(HOUR).await;
            io::Result::Ok(())
        }
    });
    host.crash_at(Duration::from_secs(1));
    host.restart_at(Duration::from_secs(2));
    world.run().unwrap();
    assert_eq!(*starts.borrow(), 2);
}
