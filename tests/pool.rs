//! The state that a closure leaves on a thread of a pool.

// Reads descriptors from `/proc`.
#![cfg(target_os = "linux")]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::fs as std_fs;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use common::wait_until;
use common::{PATIENCE, descriptors, hook, hooked, in_child, poll, run, tcp_pair, unhook};
use futures::future::join_all;
use futures::{AsyncReadExt, AsyncWriteExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use windlass::Pool;
use windlass::fs;
use windlass::io::copy;
use windlass::net::unix::UnixStream;
use windlass::process::Command;
use windlass::time::sleep;
use windlass_reactor::Reactor;

static POOL: Pool = Pool::new("test", 300, PATIENCE);

/// Uses files, sockets, timers, children and a copy, in a loop of its own.
fn use_all() {
    run(async {
        sleep(Duration::from_millis(1)).await;
        assert!(!fs::read("Cargo.toml").await.unwrap().is_empty());
        let (mut here, mut there) = tcp_pair().await;
        here.write_all(b"ahoy").await.unwrap();
        there.read_exact(&mut [0; 4]).await.unwrap();
        let copied = copy(here, &mut there);
        drop(copied);
        // The child is dropped while it runs, so the reactor watches it.
        let sleeper = Command::new("sleep").arg("0.1").spawn().unwrap();
        drop(sleeper);
    });
}

#[test]
fn a_closure_leaves_no_reactor_on_the_thread_of_a_pool() {
    in_child(
        "a_closure_leaves_no_reactor_on_the_thread_of_a_pool",
        || {
            run(async {
                POOL.run(|| ()).unwrap().await;
                let before = descriptors();
                for _ in 0..20 {
                    POOL.run(|| run(sleep(Duration::ZERO))).unwrap().await;
                    assert_eq!(descriptors(), before);
                    POOL.run(|| drop(Reactor::current().unwrap()))
                        .unwrap()
                        .await;
                    assert_eq!(descriptors(), before);
                }
                for _ in 0..5 {
                    POOL.run(use_all).unwrap().await;
                }
                // A child's descriptor is closed when the child is reaped, for example by a spawn.
                while descriptors() != before {
                    sleep(Duration::from_millis(1)).await;
                    drop(Command::new("true").status().await);
                }
            });
        },
    );
}

#[test]
fn a_reactor_that_a_thread_local_uses_outlives_the_closure() {
    thread_local!(static KEPT: RefCell<Option<UnixStream>> = const { RefCell::new(None) });
    static ONE: Pool = Pool::new("one", 1, PATIENCE);
    run(async {
        let (here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        let keeps = move || KEPT.set(Some(here.try_into().unwrap()));
        ONE.run(keeps).unwrap().await;
        std::io::Write::write_all(&mut there, b"ahoy").unwrap();
        let reads = || {
            let mut bytes = [0; 4];
            run(KEPT.take().unwrap().read_exact(&mut bytes)).unwrap();
            bytes
        };
        assert_eq!(&ONE.run(reads).unwrap().await, b"ahoy");
    });
}

#[test]
fn three_hundred_loops_share_a_thousand_descriptors() {
    in_child("three_hundred_loops_share_a_thousand_descriptors", || {
        let limit = getrlimit(Resource::Nofile);
        let current = Some(1024);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        for _ in 0..2 {
            let nap = || run(sleep(Duration::from_millis(50)));
            let naps = (0..300).map(|_| POOL.run(nap).unwrap());
            run(join_all(naps));
            run(async {
                let path = std::env::temp_dir().join(format!("windlass-{}", std::process::id()));
                fs::write(&path, "ahoy").await.unwrap();
                assert_eq!(fs::read(&path).await.unwrap(), b"ahoy");
                std_fs::remove_file(path).unwrap();
            });
        }
    });
}

#[test]
fn a_waker_that_panics_when_dropped_loses_no_result() {
    let mut task = POOL.run(|| 7).unwrap();
    wait_until(|| format!("{task:?}").contains("finished: true"));
    let waker = ManuallyDrop::new(hooked());
    hook(|what| assert_ne!(what, "drop", "a planned panic"));
    let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut task, &waker)));
    unhook();
    assert!(matches!(polled, Ok(Poll::Ready(7))), "{polled:?}");
}
