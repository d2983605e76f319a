//! The sources of nondeterminism, each as the table in `docs/testing.md` has it.

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use futures::channel::oneshot;
use futures::{AsyncReadExt, FutureExt, poll, select, select_biased};
use windlass::net::{TcpStream, UdpSocket};
use windlass::sync::mpsc;
use windlass::time::{now, sleep};
use windlass::{fs, sim, spawn, yield_now};

/// Checks a program of one host, and returns the text of the failure.
fn failure_of<F>(program: impl Fn() -> F + Clone + 'static) -> String
where
    F: Future<Output = ()> + 'static,
{
    let check = || {
        sim::check(0..20, |world| {
            world.host("host", program.clone());
        });
    };
    let payload = catch_unwind(AssertUnwindSafe(check)).expect_err("the check has to fail");
    *payload.downcast().expect("the payload is the text")
}

/// Asserts that a program is found to be nondeterministic, and that the step is named.
#[track_caller]
fn assert_found<F>(program: impl Fn() -> F + Clone + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let text = failure_of(program);
    let is_named = text.contains("two runs with the same decisions differ at step")
        && text.contains("first:")
        && text.contains("second:");
    assert!(is_named, "{text}");
}

/// Asserts that a program passes, and that its runs with the same seed are equal.
fn repeats<F>(program: impl Fn() -> F + Clone + 'static)
where
    F: Future<Output = ()> + 'static,
{
    sim::check(0..20, |world| {
        world.host("host", program.clone());
    });
}

fn micros(number: u64) -> Duration {
    Duration::from_micros(number % 1_000_000)
}

// Detected.

#[test]
fn the_order_of_a_hash_map_is_found() {
    assert_found(|| async {
        let ropes: HashMap<u64, &str> = (0..20).map(|number| (number, "rope")).collect();
        for number in ropes.keys() {
            sleep(micros(*number)).await;
        }
    });
}

#[test]
fn a_real_clock_is_found() {
    let start = Instant::now();
    assert_found(move || async move {
        sleep(start.elapsed()).await;
    });
}

#[test]
fn the_date_is_found() {
    assert_found(|| async {
        let date = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        sleep(Duration::from_nanos(date.unwrap().subsec_nanos().into())).await;
    });
}

#[test]
fn real_entropy_is_found() {
    assert_found(|| async {
        sleep(micros(RandomState::new().hash_one(0))).await;
    });
    assert_found(|| async {
        let mut bytes = [0; 8];
        let mut file = std::fs::File::open("/dev/urandom").unwrap();
        file.read_exact(&mut bytes).unwrap();
        sleep(micros(u64::from_le_bytes(bytes))).await;
    });
}

#[test]
fn the_order_of_select_is_found() {
    assert_found(|| async {
        for _ in 0..20 {
            select! {
                () = std::future::ready(()).fuse() => sleep(micros(1)).await,
                () = std::future::ready(()).fuse() => sleep(micros(2)).await,
            }
        }
    });
}

#[test]
fn a_static_that_runs_share_is_found() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    assert_found(|| async {
        sleep(micros(RUNS.fetch_add(1, Relaxed))).await;
    });
}

#[test]
fn bytes_of_messages_and_files_are_compared() {
    let key = || RandomState::new().hash_one(0).to_le_bytes();
    assert_found(move || async move {
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        socket.send_to(&key(), ("host", addr.port())).await.unwrap();
    });
    assert_found(move || async move {
        fs::write("/tmp/key", key()).await.unwrap();
    });
}

#[test]
fn an_address_as_a_number_is_found() {
    assert_found(|| async {
        let leaked = Box::leak(Box::new([0_u64; 9]));
        sleep(micros(ptr::from_ref(leaked).addr() as u64)).await;
    });
}

#[test]
fn a_thread_that_wakes_a_task_fails_the_run() {
    let text = failure_of(|| async {
        let (sender, mut receiver) = oneshot::channel();
        assert!(poll!(&mut receiver).is_pending());
        let thread = thread::spawn(move || sender.send(()));
        thread.join().unwrap().unwrap();
        receiver.await.unwrap();
        sleep(micros(1)).await;
    });
    assert!(text.contains("another thread has woken a task"), "{text}");
}

#[test]
fn a_wait_for_a_slow_thread_is_a_deadlock() {
    let text = failure_of(|| async {
        let (sender, receiver) = oneshot::channel::<()>();
        let _thread = thread::spawn(move || {
            thread::park();
            drop(sender);
        });
        receiver.await.unwrap();
    });
    assert!(text.contains("deadlock"), "{text}");
}

// Refused.

#[test]
fn descriptors_of_the_real_system_are_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    repeats(move || async move {
        let stream = std::net::TcpStream::connect(addr).unwrap();
        let mut byte = [0];
        let read = match TcpStream::try_from(stream) {
            Ok(mut stream) => stream.read(&mut byte).await,
            Err(error) => Err(error),
        };
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::Unsupported);
    });
}

#[test]
fn processes_and_pipes_are_refused() {
    repeats(|| async {
        let child = windlass::process::Command::new("true").spawn();
        assert_eq!(child.unwrap_err().kind(), io::ErrorKind::Unsupported);
        let pipe = windlass::io::pipe();
        assert_eq!(pipe.unwrap_err().kind(), io::ErrorKind::Unsupported);
    });
}

// Controlled.

#[test]
fn clocks_timers_closures_and_channels_repeat() {
    repeats(|| async {
        let start = now();
        let (sender, mut receiver) = mpsc::channel(3);
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let sender = sender.clone();
                spawn(async move {
                    sleep(micros(number % 3)).await;
                    yield_now().await;
                    let number = windlass::spawn_blocking(move || number).await;
                    sender.send(number).await.unwrap();
                })
            })
            .collect();
        for _ in 0..20 {
            sleep(micros(receiver.recv().await.unwrap())).await;
        }
        drop(tasks);
        // The time of a closure depends on the seed.
        sleep(now() - start).await;
    });
}

#[test]
fn a_biased_select_repeats() {
    repeats(|| async {
        for _ in 0..20 {
            select_biased! {
                () = std::future::ready(()).fuse() => sleep(micros(1)).await,
                () = std::future::ready(()).fuse() => sleep(micros(2)).await,
            }
        }
    });
}

#[test]
fn signals_and_names_repeat() {
    sim::check(0..20, |world| {
        let host = world.host("host", || async {
            windlass::signal::ctrl_c().await.unwrap();
            let unknown = TcpStream::connect("elsewhere:80").await;
            assert!(unknown.is_err());
        });
        host.signal_at(Duration::from_secs(1), windlass::signal::Signal::INT);
    });
}
