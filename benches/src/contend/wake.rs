//! Wakes of a task from another thread.

use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
    },
    task::Poll,
    thread,
    time::Instant,
};

use anyhow::Result;
use futures::task::AtomicWaker;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::meter::{Params, print, thread_cpu};
use super::runtime::{Runtime, yield_once};

/// The state shared by the loop's thread and its partner.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) asked: AtomicU64,
    answered: AtomicU64,
    pub(crate) over: AtomicBool,
    waker: AtomicWaker,
}

impl Shared {
    /// The loop's side, which answers requests and wakes the partner.
    pub(crate) fn answer(&self, partner: &thread::Thread) {
        let asked = self.asked.load(Acquire);
        if asked != self.answered.load(Relaxed) {
            self.answered.store(asked, Release);
            partner.unpark();
        }
    }
}

pub(crate) fn run<R: Runtime>(params: &Params) -> Result<()> {
    let shared = Arc::new(Shared::default());
    let theirs = shared.clone();
    let partner = partner(params, shared.clone(), move || theirs.waker.wake());
    let thread = partner.thread().clone();
    let is_busy = params.text("loop") == Some("busy");
    let meter = Meter::start();
    R::block_on(async {
        let over = Rc::new(Cell::new(false));
        if is_busy {
            let over = over.clone();
            R::detach(R::spawn(async move {
                while !over.get() {
                    yield_once().await;
                }
            }));
        }
        poll_fn(|cx| {
            shared.waker.register(cx.waker());
            shared.answer(&thread);
            if shared.over.load(Acquire) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        over.set(true);
    });
    meter.print(&shared);
    partner.join().expect("the partner has no fault");
    Ok(())
}

/// Another thread, on another core. It repeatedly sends a request, wakes the loop, and waits for
/// the answer.
pub(crate) fn partner(
    params: &Params,
    shared: Arc<Shared>,
    wake: impl Fn() + Send + 'static,
) -> thread::JoinHandle<()> {
    let (window, ops) = (params.window(), params.number("ops"));
    thread::spawn(move || {
        on_another_core();
        let start = Instant::now();
        for number in 1.. {
            shared.asked.store(number, Release);
            wake();
            while shared.answered.load(Acquire) != number {
                thread::park();
            }
            if ops.map_or(start.elapsed() >= window, |ops| number >= ops) {
                break;
            }
        }
        shared.over.store(true, Release);
        wake();
    })
}

fn on_another_core() {
    let mut other = CpuSet::new();
    // The suite has pinned this process to the first core.
    if other.set(1).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &other);
    }
}

pub(crate) struct Meter {
    cpu: u64,
    start: Instant,
}

impl Meter {
    pub(crate) fn start() -> Meter {
        Meter {
            cpu: thread_cpu(),
            start: Instant::now(),
        }
    }

    pub(crate) fn print(self, shared: &Shared) {
        let trips = shared.answered.load(Acquire) as f64;
        print("cpu_ns", (thread_cpu() - self.cpu) as f64 / trips);
        print("wall_ns", self.start.elapsed().as_nanos() as f64 / trips);
        print("distance_ns", distance());
    }
}

/// The round trip of a cache line between this core and the other.
fn distance() -> f64 {
    const TRIPS: u64 = 20_000;
    let line = Arc::new(AtomicU64::new(0));
    let theirs = line.clone();
    let partner = thread::spawn(move || {
        on_another_core();
        for trip in 0..TRIPS {
            while theirs.load(Acquire) != 2 * trip + 1 {
                std::hint::spin_loop();
            }
            theirs.store(2 * trip + 2, Release);
        }
    });
    let start = Instant::now();
    for trip in 0..TRIPS {
        line.store(2 * trip + 1, Release);
        let mut spins = 0_u64;
        while line.load(Acquire) != 2 * trip + 2 {
            spins += 1;
            if spins > 10_000 {
                thread::yield_now(); // there is only one core
            }
        }
    }
    let took = start.elapsed();
    partner.join().expect("the partner has no fault");
    took.as_nanos() as f64 / TRIPS as f64
}
