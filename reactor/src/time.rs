//! Sleeping, time limits, and ticks.
//!
//! Deadlines have a resolution of nanoseconds. A timer never fires early. A lone timer fires at its
//! deadline. Timers with deadlines close together, within 100 µs unless [chosen
//! otherwise](crate::Reactor::set_timer_slack), fire together at the last of these deadlines, which
//! saves a wake-up for each.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::clock::{self, MonotonicNanos};
use crate::current;
use crate::inner::ReactorInner;
use crate::timers::TimerKey;

/// Returns the time now, as the timers of this module see it.
///
/// ```
/// use std::time::Duration;
/// use windlass::time::{now, sleep};
///
/// windlass::block_on(async {
///     let start = now();
///     sleep(Duration::from_millis(5)).await;
///     assert!(now() - start >= Duration::from_millis(5));
/// });
/// ```
pub fn now() -> Instant {
    clock::now()
}

/// Waits for a time.
///
/// `Duration::MAX`, and any other duration beyond the range of the clock, waits forever.
/// [`Duration::ZERO`] waits for the next turn of the reactor.
///
/// # Panics
///
/// The first poll panics if no reactor turns on this thread.
///
/// # Cancel safety
///
/// May be dropped at any time.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use windlass::{block_on, time::sleep};
///
/// let start = Instant::now();
/// block_on(sleep(Duration::from_millis(5)));
/// assert!(start.elapsed() >= Duration::from_millis(5));
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::until(MonotonicNanos::now().after(duration))
}

/// Waits until a point in time. If that has passed, waits until the next turn of the reactor.
///
/// # Panics
///
/// As [`sleep`].
///
/// # Cancel safety
///
/// May be dropped at any time.
///
/// ```
/// use std::time::{Duration, Instant};
/// use windlass::{block_on, time::sleep_until};
///
/// let noon = Instant::now() + Duration::from_millis(5);
/// block_on(sleep_until(noon));
/// assert!(Instant::now() >= noon);
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::until(deadline.into())
}

/// The future of [`sleep`] and [`sleep_until`].
///
/// It is a plain key, `Unpin` and `Send`, so `select!` takes it without pinning, and any thread may
/// own it. The reactor of the polling thread serves it.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Sleep {
    deadline: MonotonicNanos,
    timer: Option<Timer>,
}

/// A timer that was started, in the reactor of that id.
#[derive(Debug)]
struct Timer {
    reactor: NonZeroU64,
    key: TimerKey,
}

impl Sleep {
    pub(crate) fn until(deadline: MonotonicNanos) -> Sleep {
        let timer = None;
        Sleep { deadline, timer }
    }

    /// The deadline. `None` means never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.instant()
    }

    /// Sets another deadline. A task that awaits this is woken at the new deadline instead of the
    /// old one.
    ///
    /// Call it on the thread of the reactor that serves this. On another thread, it takes effect at
    /// the next poll, at the old deadline at the latest.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use windlass::{block_on, time::sleep};
    ///
    /// let mut sleep = sleep(Duration::MAX);
    /// sleep.reset(Instant::now());
    /// block_on(sleep);
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline.into();
        let Some(timer) = self.timer.take() else {
            return;
        };
        // On another thread, or while the thread ends, the old timer stays until it fires.
        let reactor = current::existing_reactor().filter(|reactor| reactor.id() == timer.reactor);
        let restarted = reactor.and_then(|reactor| reactor.restart_timer(timer.key, self.deadline));
        self.timer = restarted.map(|key| Timer { key, ..timer });
    }

    /// `waker` is called at the deadline, unless another one replaces it.
    #[inline]
    fn start(&mut self, reactor: &ReactorInner, waker: Waker) {
        self.timer = Some(Timer {
            reactor: reactor.id(),
            key: reactor.start_timer(self.deadline, waker),
        });
    }

    /// As `poll`, for operations that return an error instead of a panic.
    pub(crate) fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reactor = current::current_reactor()?;
        if !reactor.has_drivers() {
            return Poll::Ready(Err(current::not_driven(Some(&reactor))));
        }
        let started = self.timer.as_ref().filter(|it| it.reactor == reactor.id());
        let Some(timer) = started else {
            // Also without a deadline, so that `reset` finds the waker.
            self.start(&reactor, cx.waker().clone());
            return Poll::Pending;
        };
        match reactor.timer_wakes(timer.key, cx.waker()) {
            None => return Poll::Ready(Ok(())),
            Some(true) => return Poll::Pending,
            Some(false) => {}
        }
        match reactor.change_timer(timer.key, cx.waker().clone()) {
            Some(old) => {
                drop(old); // outside of any borrow
                Poll::Pending
            }
            None => Poll::Ready(Ok(())), // the timer has fired while the waker was cloned
        }
    }

    /// Returns the registered waker. The caller drops it outside of any borrow.
    #[inline]
    fn stop(&mut self) -> Option<Waker> {
        let timer = self.timer.take()?;
        // On another thread, or while the thread ends, the timer stays until it fires.
        current::stop_timer(timer.reactor, timer.key)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_io(cx).map(|slept| match slept {
            Ok(()) => (),
            Err(error) => panic!("can't sleep: {error}"),
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Limits the time of a future. Returns its output, or [`Elapsed`] after the limit.
///
/// The future is polled first, so a future that is ready at once always succeeds. After the limit,
/// it is dropped with the `Timeout`. The limit also holds for a future that is always ready for its
/// next step, because sockets, files, channels and locks yield after a number of operations.
///
/// # Panics
///
/// As [`sleep`], if the future is not ready at once.
///
/// # Cancel safety
///
/// The timeout is as cancel-safe as the future in it.
///
/// # Examples
///
/// ```
/// use std::{future::pending, time::Duration};
/// use windlass::{block_on, time::timeout};
///
/// block_on(async {
///     assert_eq!(timeout(Duration::from_secs(1), async { 7 }).await, Ok(7));
///     assert!(timeout(Duration::from_millis(1), pending::<()>()).await.is_err());
/// });
/// ```
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    let sleep = sleep(limit);
    Timeout { future, sleep }
}

/// Limits a future to a point in time. See [`timeout`].
///
/// ```
/// use std::{future::pending, time::Instant};
/// use windlass::{block_on, time::timeout_at};
///
/// assert!(block_on(timeout_at(Instant::now(), pending::<()>())).is_err());
/// ```
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    let sleep = sleep_until(deadline);
    Timeout { future, sleep }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited or polled"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed(())))
    }
}

/// The error of a [`timeout`] that has expired. `?` converts it to an `io::Error` of kind
/// `TimedOut`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit was up")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Ticks every `period`, the first time at once.
///
/// # Panics
///
/// Panics if the period is zero. Waiting for a tick panics as [`sleep`] does.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::{block_on, time::interval};
///
/// block_on(async {
///     let period = Duration::from_millis(2);
///     let mut interval = interval(period);
///     let first = interval.tick().await;
///     assert_eq!(interval.tick().await, first + period);
/// });
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(now(), period)
}

/// Ticks every `period`, the first time at `start`. See [`interval`].
///
/// # Panics
///
/// As [`interval`].
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "the period of an interval must not be zero"
    );
    Interval {
        sleep: sleep_until(start),
        period,
        missed: MissedTicks::default(),
    }
}

/// How an [`Interval`] handles missed ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MissedTicks {
    /// Missed ticks come at once, one after the other, until the interval has caught up.
    #[default]
    Burst,
    /// Missed ticks are dropped. The next tick comes at the next whole number of periods.
    Skip,
    /// The next tick comes one period after the late one was taken.
    Delay,
}

/// The ticks of [`interval`] and [`interval_at`]. Also an endless [`Stream`].
#[derive(Debug)]
pub struct Interval {
    /// Its deadline is the next tick.
    sleep: Sleep,
    period: Duration,
    missed: MissedTicks,
}

impl Interval {
    /// Chooses how to handle missed ticks. The default is [`MissedTicks::Burst`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use windlass::time::{interval, MissedTicks};
    ///
    /// let frames = interval(Duration::from_millis(16)).missed_ticks(MissedTicks::Skip);
    /// ```
    #[must_use]
    pub fn missed_ticks(mut self, missed: MissedTicks) -> Interval {
        self.missed = missed;
        self
    }

    /// Waits for the next tick. Returns the time at which it was due.
    ///
    /// # Panics
    ///
    /// As [`sleep`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// [`tick`](Interval::tick) for hand-written futures.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(tick) = self.sleep.deadline() else {
            return Poll::Pending;
        };
        ready!(Pin::new(&mut self.sleep).poll(cx));
        let next = self.after(tick);
        self.sleep = Sleep::until(next.map_or(MonotonicNanos::MAX, MonotonicNanos::from));
        Poll::Ready(tick)
    }

    fn after(&self, tick: Instant) -> Option<Instant> {
        match self.missed {
            MissedTicks::Burst => tick.checked_add(self.period),
            MissedTicks::Delay => now().checked_add(self.period),
            MissedTicks::Skip => {
                let late = now().saturating_duration_since(tick);
                let since_whole = late.as_nanos() % self.period.as_nanos();
                // The remainder is below `late`, which is below the age of the machine.
                let whole = late - Duration::from_nanos(since_whole as u64);
                tick.checked_add(whole)?.checked_add(self.period)
            }
        }
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
}
