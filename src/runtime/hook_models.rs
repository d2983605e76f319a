//! Models of the hook, in which loom tries all orders that two or three threads can take.
//!
//! ```sh
//! RUSTFLAGS="--cfg windlass_loom" cargo test --release -p windlass --lib
//! ```
//!
//! A `Remote` shares three values between threads: a queue of the `futures` crate, the inbox of
//! the executor, which has models there, and the hook. These models run the hook's code. The
//! inbox here has the guarantees of the executor's. A remote wake is stored before the waker is
//! called, and the first thread that stores one after the loop has collected them calls the
//! waker. The last check takes no lock, so the hook's flag makes the earlier stores visible to
//! it.

use loom::sync::atomic::AtomicBool;
use loom::sync::{Arc, Mutex, Notify};
use loom::thread;
use std::sync::Arc as StdArc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::task::Waker;

use super::{Hook, HookWaker};

struct Inbox {
    /// There may be remote wakes. Written under the lock, and read without.
    has_remote_wakes: AtomicBool,
    /// Their number, and the waker to call when there are some.
    remote_wakes: Mutex<(usize, Option<Waker>)>,
}

/// A host that sleeps until the hook is called, and its guest.
struct Host {
    inbox: Arc<Inbox>,
    hook_waker: StdArc<HookWaker>,
    /// To wait for a call that never comes is a deadlock, which loom reports.
    message: StdArc<Notify>,
    calls: StdArc<AtomicUsize>,
}

impl Host {
    fn new() -> Host {
        let (message, calls) = (StdArc::new(Notify::new()), StdArc::new(AtomicUsize::new(0)));
        let (post, count) = (message.clone(), calls.clone());
        let hook = Hook::new(move || {
            count.fetch_add(1, SeqCst);
            post.notify();
        });
        let hook_waker = StdArc::new(HookWaker::new(Waker::noop().clone(), hook));
        let inbox = Inbox {
            has_remote_wakes: AtomicBool::new(false),
            remote_wakes: Mutex::new((0, Some(Waker::from(hook_waker.clone())))),
        };
        Host {
            inbox: Arc::new(inbox),
            hook_waker,
            message,
            calls,
        }
    }

    fn waker(&self) -> Waker {
        Waker::from(self.hook_waker.clone())
    }

    fn collect(&self) -> usize {
        let mut remote_wakes = self.inbox.remote_wakes.lock().unwrap();
        self.inbox.has_remote_wakes.store(false, Relaxed);
        std::mem::replace(&mut *remote_wakes, (0, Some(self.waker()))).0
    }

    /// As `Runtime::turn`: what it has collected.
    fn turn(&self) -> usize {
        self.hook_waker.suspend();
        let collected = self.collect();
        self.hook_waker.resume();
        if self.inbox.has_remote_wakes.load(Acquire) {
            self.waker().wake();
        }
        collected
    }

    /// Takes a turn whenever it is told to.
    fn live_until(&self, wanted: usize) {
        let mut collected = 0;
        while collected < wanted {
            self.message.wait();
            collected += self.turn();
        }
    }

    /// A thread that wakes something, as often as this.
    fn post(&self, times: usize) -> thread::JoinHandle<()> {
        let inbox = self.inbox.clone();
        thread::spawn(move || {
            for _ in 0..times {
                let mut remote_wakes = inbox.remote_wakes.lock().unwrap();
                remote_wakes.0 += 1;
                inbox.has_remote_wakes.store(true, Release);
                let outer = remote_wakes.1.take();
                drop(remote_wakes);
                outer.into_iter().for_each(Waker::wake);
            }
        })
    }
}

#[test]
fn a_wake_is_never_lost_to_a_host_that_sleeps() {
    loom::model(|| {
        let host = Host::new();
        let other = host.post(1);
        host.live_until(1);
        other.join().unwrap();
        // None, if the host has woken by itself and was in a turn already. Two, if the turn has
        // seen a remote wake that was still on its way to the hook.
        assert!(host.calls.load(SeqCst) <= 2);
    });
}

#[test]
fn a_wake_is_never_lost_to_a_turn_that_ends() {
    loom::model(|| {
        let host = Host::new();
        let other = host.post(2);
        host.live_until(2);
        other.join().unwrap();
    });
}

#[test]
fn two_wakes_in_one_sleep_call_the_hook_once() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let host = Host::new();
        let others = [host.post(1), host.post(1)];
        // A third one is that of a task on this thread, which goes past the inbox.
        host.waker().wake();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(host.calls.load(SeqCst), 1);
        assert_eq!(host.turn(), 2);
        host.waker().wake();
        assert_eq!(
            host.calls.load(SeqCst),
            2,
            "the next sleep has a call of its own"
        );
    });
}
