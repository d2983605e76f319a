//! Sleeping and timeouts, on a timer wheel and the reactor of chapter 7.

#![allow(missing_debug_implementations)]

// ANCHOR: imports
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::wheel::{Key, Wheel};
use crate::ch07::program::Reactor;
// ANCHOR_END: imports

// ANCHOR: timers
/// The wheel of a loop, and the length of its ticks.
pub struct Timers {
    wheel: RefCell<Wheel>,
    start: Instant,
    tick: Duration,
    pub(super) turns: Cell<u64>,
}

impl Timers {
    /// Creates a wheel without timers.
    pub fn new(tick: Duration) -> Rc<Timers> {
        Rc::new(Timers {
            wheel: RefCell::default(),
            start: Instant::now(),
            tick,
            turns: Cell::new(0),
        })
    }

    /// The first tick at or after the deadline.
    fn tick(&self, deadline: Instant) -> u64 {
        let time = deadline.saturating_duration_since(self.start);
        time.as_nanos().div_ceil(self.tick.as_nanos()) as u64
    }

    /// How long the loop may wait.
    pub fn limit(&self) -> Option<Duration> {
        let tick = self.wheel.borrow().next()?;
        let time = Duration::from_nanos(tick * self.tick.as_nanos() as u64);
        Some(time.saturating_sub(self.start.elapsed()))
    }

    /// Wakes the tasks whose ticks have passed.
    pub fn fire(&self) {
        let now = self.start.elapsed().as_nanos() / self.tick.as_nanos();
        let due = self.wheel.borrow_mut().advance(now as u64);
        due.into_iter().for_each(Waker::wake);
    }
}

/// Runs a future to its end, and waits for sockets and for timers meanwhile.
pub fn block_on<F: Future>(reactor: &Reactor, timers: &Timers, future: F) -> io::Result<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(reactor.park.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        reactor.park.is_woken.store(false, SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        reactor.turn(timers.limit())?;
        timers.fire();
        timers.turns.set(timers.turns.get() + 1);
    }
}
// ANCHOR_END: timers

// ANCHOR: sleep
/// Waits until the deadline.
pub struct Sleep {
    timers: Rc<Timers>,
    deadline: Instant,
    key: Option<Key>,
}

/// Waits for a time.
pub fn sleep(timers: &Rc<Timers>, time: Duration) -> Sleep {
    Sleep {
        timers: timers.clone(),
        deadline: Instant::now() + time,
        key: None,
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.cancel();
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        let tick = self.timers.tick(self.deadline);
        let waker = context.waker().clone();
        let key = self.timers.wheel.borrow_mut().set(tick, waker);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some(key) = self.key.take() {
            self.timers.wheel.borrow_mut().cancel(key);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
// ANCHOR_END: sleep

// ANCHOR: timeout
/// Waits for a future, at most for a time. Then the future is dropped.
pub async fn timeout<F: Future>(
    timers: &Rc<Timers>,
    time: Duration,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut sleep = pin!(sleep(timers, time));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
    })
    .await
}
// ANCHOR_END: timeout
