//! The sources of nondeterminism, each as the table in `docs/testing.md` has it.

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::future::{Future, pending, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use futures::channel::oneshot;
use futures::{FutureExt, select};
use windlass::net::TcpStream;
use windlass::sim::{self, World};
use windlass::time::{now, sleep};
use windlass::{spawn, yield_now};

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

/// Asserts that a program is deterministic in the world. Returns the hash of its runs.
fn assert_repeats<F>(program: impl Fn() -> F + Clone + 'static)
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
fn a_thread_that_wakes_a_task_fails_the_check() {
    let text = failure_of(|| async {
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            sender.send(()).unwrap();
        });
        receiver.await.unwrap();
    });
    println!("{text}");
    assert!(text.contains("deadlock"), "{text}");
}
