//! Models of the park protocol. loom runs them in all interleavings of two or three threads.
//!
//! ```sh
//! RUSTFLAGS="--cfg windlass_loom" cargo test --release -p windlass-reactor --lib park
//! ```
//!
//! A lost wake is a deadlock, which loom reports.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use loom::sync::{Arc as LoomArc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use super::{BlockOnWaker, MonotonicNanos, Notify, Park};

/// The poller. Its only events are notifications, and a wait takes all pending ones.
struct Poller {
    is_notified: Mutex<bool>,
    changed: Condvar,
}

impl Poller {
    fn wait(&self, block: bool) {
        if block {
            self.wait_until_readable();
        }
        *self.is_notified.lock().unwrap() = false;
    }

    /// The wait of a host that watches the descriptor.
    fn wait_until_readable(&self) {
        let mut is_notified = self.is_notified.lock().unwrap();
        while !*is_notified {
            is_notified = self.changed.wait(is_notified).unwrap();
        }
    }
}

impl Notify for Arc<Poller> {
    fn notify(&self) {
        *self.is_notified.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// A reactor with a queue of completions as its only source.
struct Reactor {
    park: Park<Arc<Poller>>,
    poller: Arc<Poller>,
    completions: LoomArc<Mutex<Vec<u32>>>,
    collected: Vec<u32>,
    has_messages: Flag,
    has_handled: bool,
}

impl Reactor {
    fn new() -> Reactor {
        let poller = Arc::new(Poller {
            is_notified: Mutex::new(false),
            changed: Condvar::new(),
        });
        Reactor {
            park: Park::new(poller.clone()),
            poller,
            completions: LoomArc::new(Mutex::new(Vec::new())),
            collected: Vec::new(),
            has_messages: Flag::new(),
            has_handled: false,
        }
    }

    fn is_idle(&self) -> bool {
        self.completions.lock().unwrap().is_empty() && !self.park.has_deferred()
    }

    /// As `ReactorInner::turn`.
    fn inner_turn(&mut self, limit: Option<Duration>) {
        let (is_idle, never) = (self.is_idle(), MonotonicNanos::MAX);
        let blocks = self.park.may_block(is_idle, never, limit, |_| Ok(()));
        let blocks = blocks.unwrap();
        self.poller.wait(blocks);
        self.park.unpark(blocks, false, 0);
        let woken = self.park.deferred().take();
        self.collected.append(&mut self.completions.lock().unwrap());
        woken.into_iter().for_each(Waker::wake);
        self.park.end_turn();
        if self.has_messages.0.swap(false, Relaxed) {
            self.has_handled = true;
        }
    }

    /// As the drop of `Awake`.
    fn leave(&self) {
        if self.park.leave() {
            let never = MonotonicNanos::MAX;
            self.park.detach(self.is_idle(), never, |_| Ok(()));
        }
    }

    /// As `Reactor::turn`.
    fn turn(&mut self, limit: Option<Duration>) {
        self.park.enter();
        self.inner_turn(limit);
        self.leave();
    }

    /// As `Reactor::block_on`.
    fn block_on(&mut self, mut poll: impl FnMut(&mut Reactor, &Waker) -> bool) {
        self.park.enter();
        let block_on: Arc<BlockOnWaker<_>> = self.park.block_on_waker();
        let waker = Waker::from(block_on.clone());
        loop {
            if block_on.take_woken() && poll(self, &waker) {
                break;
            }
            self.inner_turn(block_on.is_woken().then_some(Duration::ZERO));
        }
        self.leave();
    }
}

/// An event that another thread reports.
#[derive(Clone)]
struct Flag(LoomArc<AtomicBool>);

impl Flag {
    fn new() -> Flag {
        Flag(LoomArc::new(AtomicBool::new(false)))
    }

    /// Relaxed, because the wake has to make the store visible.
    fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    fn set(&self, waker: &Waker) {
        self.0.store(true, Relaxed);
        waker.wake_by_ref();
    }

    fn set_by_thread(&self, waker: &Waker) -> JoinHandle<()> {
        let (flag, waker) = (self.clone(), waker.clone());
        thread::spawn(move || flag.set(&waker))
    }
}

fn join(thread: JoinHandle<()>) {
    thread.join().unwrap();
}

/// Tries the interleavings of three threads with at most three preemptions per run.
fn model_of_three(code: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(code);
}

#[test]
fn a_wake_ends_the_wait_of_a_block_on() {
    loom::model(|| {
        let (flag, mut thread) = (Flag::new(), None);
        Reactor::new().block_on(|_, waker| {
            thread.get_or_insert_with(|| flag.set_by_thread(waker));
            flag.is_set()
        });
        thread.unwrap().join().unwrap();
    });
}

#[test]
fn wakes_of_two_threads_are_both_seen() {
    model_of_three(|| {
        let (flags, mut threads) = ([Flag::new(), Flag::new()], None);
        Reactor::new().block_on(|_, waker| {
            threads.get_or_insert_with(|| flags.each_ref().map(|flag| flag.set_by_thread(waker)));
            flags.iter().all(Flag::is_set)
        });
        threads.into_iter().flatten().for_each(join);
    });
}

#[test]
fn a_nested_block_on_does_not_swallow_the_wake_of_the_outer_one() {
    loom::model(|| {
        let (outer, inner, mut thread) = (Flag::new(), Flag::new(), None);
        Reactor::new().block_on(|reactor, outer_waker| {
            if thread.is_none() {
                reactor.block_on(|_, inner_waker| {
                    thread.get_or_insert_with(|| {
                        let (outer, outer_waker) = (outer.clone(), outer_waker.clone());
                        let (inner, inner_waker) = (inner.clone(), inner_waker.clone());
                        thread::spawn(move || {
                            inner.set(&inner_waker);
                            outer.set(&outer_waker);
                        })
                    });
                    inner.is_set()
                });
            }
            outer.is_set()
        });
        thread.unwrap().join().unwrap();
    });
}

#[test]
fn a_turn_inside_of_a_block_on_does_not_swallow_its_wake() {
    loom::model(|| {
        let (flag, mut thread) = (Flag::new(), None);
        Reactor::new().block_on(|reactor, waker| {
            let is_set = flag.is_set();
            if thread.is_none() {
                thread = Some(flag.set_by_thread(waker));
                reactor.inner_turn(Some(Duration::ZERO));
            }
            is_set
        });
        thread.unwrap().join().unwrap();
    });
}

#[test]
fn a_loop_around_another_one_sees_wakes_of_its_reactor() {
    loom::model(|| {
        let (flag, mut reactor) = (Flag::new(), Reactor::new());
        reactor.park.enter();
        let thread = flag.set_by_thread(&reactor.park.waker());
        let mut is_first = true;
        while !flag.is_set() {
            // Another future of the same round runs a nested loop.
            if std::mem::take(&mut is_first) {
                reactor.park.enter();
                reactor.inner_turn(Some(Duration::ZERO));
                reactor.leave();
            }
            reactor.inner_turn(None);
        }
        reactor.leave();
        thread.join().unwrap();
    });
}

#[test]
fn a_turn_of_a_host_sees_a_wake_from_before_it() {
    loom::model(|| {
        let (flag, mut reactor) = (Flag::new(), Reactor::new());
        let thread = flag.set_by_thread(&reactor.park.waker());
        while !flag.is_set() {
            reactor.turn(None);
        }
        thread.join().unwrap();
    });
}

#[test]
fn the_descriptor_of_a_host_is_readable_after_a_wake() {
    loom::model(|| {
        let (flag, mut reactor) = (Flag::new(), Reactor::new());
        let thread = flag.set_by_thread(&reactor.park.waker());
        while !flag.is_set() {
            reactor.poller.wait_until_readable();
            reactor.turn(Some(Duration::ZERO));
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_wake_while_a_host_polls_makes_the_descriptor_readable() {
    loom::model(|| {
        let (flag, reactor) = (Flag::new(), Reactor::new());
        let thread = flag.set_by_thread(&reactor.park.waker());
        loop {
            reactor.park.enter();
            let is_set = flag.is_set();
            reactor.leave();
            if is_set {
                break;
            }
            reactor.poller.wait_until_readable();
            reactor.poller.wait(false);
        }
        thread.join().unwrap();
    });
}

#[test]
fn completions_of_threads_are_never_left_in_the_queue() {
    model_of_three(|| {
        let mut reactor = Reactor::new();
        let threads = [1, 2].map(|completion| {
            let (queue, waker) = (reactor.completions.clone(), reactor.park.waker());
            thread::spawn(move || {
                queue.lock().unwrap().push(completion);
                waker.wake();
            })
        });
        reactor.park.enter();
        while reactor.collected.len() < 2 {
            reactor.inner_turn(None);
        }
        reactor.leave();
        threads.into_iter().for_each(join);
    });
}

#[test]
fn completions_make_the_descriptor_of_a_host_readable() {
    loom::model(|| {
        let mut reactor = Reactor::new();
        let (queue, waker) = (reactor.completions.clone(), reactor.park.waker());
        let thread = thread::spawn(move || {
            queue.lock().unwrap().push(1);
            waker.wake();
        });
        while reactor.collected.is_empty() {
            reactor.poller.wait_until_readable();
            reactor.turn(Some(Duration::ZERO));
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_deferred_waker_is_called_in_the_next_turn() {
    loom::model(|| {
        let mut reactor = Reactor::new();
        let block_on = reactor.park.block_on_waker();
        block_on.take_woken();
        let defer = |reactor: &Reactor| reactor.park.defer(Waker::from(block_on.clone()));
        // Deferred by a host between two turns.
        defer(&reactor);
        reactor.poller.wait_until_readable();
        reactor.turn(None);
        assert!(block_on.take_woken());
        // Deferred by a loop that returns to its turn.
        reactor.park.enter();
        defer(&reactor);
        reactor.inner_turn(None);
        assert!(block_on.take_woken());
        // Deferred by a loop that exits.
        defer(&reactor);
        reactor.leave();
        reactor.poller.wait_until_readable();
        reactor.turn(Some(Duration::ZERO));
        assert!(block_on.take_woken());
    });
}

#[test]
fn a_message_ends_the_wait_of_a_loop() {
    loom::model(|| {
        let mut reactor = Reactor::new();
        let thread = reactor.has_messages.set_by_thread(&reactor.park.waker());
        reactor.park.enter();
        while !reactor.has_handled {
            reactor.inner_turn(None);
        }
        reactor.leave();
        join(thread);
    });
}

#[test]
fn a_message_makes_the_descriptor_of_a_host_readable() {
    loom::model(|| {
        let mut reactor = Reactor::new();
        reactor.turn(Some(Duration::ZERO));
        let thread = reactor.has_messages.set_by_thread(&reactor.park.waker());
        while !reactor.has_handled {
            reactor.poller.wait_until_readable();
            reactor.turn(Some(Duration::ZERO));
        }
        join(thread);
    });
}
