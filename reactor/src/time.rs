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
use futures_core::future::FusedFuture;
use futures_core::stream::FusedStream;
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
///
/// After it has completed, each further poll completes too, until a [`reset`](Sleep::reset). It is
/// a [`FusedFuture`], so `futures::select!` takes it without `fuse()` and skips it once it has
/// completed.
///
/// ```
/// use std::time::Duration;
/// use futures::future::FusedFuture;
/// use windlass::{block_on, time::sleep};
///
/// block_on(async {
///     let (mut short, mut long) = (sleep(Duration::from_millis(1)), sleep(Duration::MAX));
///     futures::select! {
///         () = short => {}
///         () = long => unreachable!(),
///     }
///     assert!(short.is_terminated() && !long.is_terminated());
/// });
/// ```
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

/// In place of the id of a reactor, the mark of a `Sleep` that has completed. It takes no room of
/// its own, and the drop finds no timer to stop.
const COMPLETED: NonZeroU64 = NonZeroU64::MAX;

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
        self.restart(deadline.into());
    }

    fn restart(&mut self, deadline: MonotonicNanos) {
        self.deadline = deadline;
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
        let key = match &self.timer {
            Some(timer) if timer.reactor == reactor.id() => timer.key,
            Some(timer) if timer.reactor == COMPLETED => return Poll::Ready(Ok(())),
            _ => {
                // Also without a deadline, so that `reset` finds the waker.
                self.start(&reactor, cx.waker().clone());
                return Poll::Pending;
            }
        };
        match reactor.timer_wakes(key, cx.waker()) {
            None => {
                self.set_completed(key);
                return Poll::Ready(Ok(()));
            }
            Some(true) => return Poll::Pending,
            Some(false) => {}
        }
        match reactor.change_timer(key, cx.waker().clone()) {
            Some(old) => {
                drop(old); // outside of any borrow
                Poll::Pending
            }
            None => {
                self.set_completed(key); // the timer has fired while the waker was cloned
                Poll::Ready(Ok(()))
            }
        }
    }

    #[inline]
    fn set_completed(&mut self, key: TimerKey) {
        let reactor = COMPLETED;
        self.timer = Some(Timer { reactor, key });
    }

    /// Stops the timer, and completes without it.
    #[inline]
    fn complete(&mut self) {
        let (reactor, key) = (COMPLETED, TimerKey::default());
        if let Some(timer) = self.timer.replace(Timer { reactor, key }) {
            stop(&timer);
        }
    }

    fn is_completed(&self) -> bool {
        let is_completed = |timer: &Timer| timer.reactor == COMPLETED;
        self.timer.as_ref().is_some_and(is_completed)
    }
}

/// Stops a timer. On another thread, or while the thread ends, it stays until it fires.
#[inline(never)]
fn stop(timer: &Timer) {
    drop(current::stop_timer(timer.reactor, timer.key)); // the waker, outside of any borrow
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

impl FusedFuture for Sleep {
    fn is_terminated(&self) -> bool {
        self.is_completed()
    }
}

impl Drop for Sleep {
    #[inline]
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            if timer.reactor != COMPLETED {
                stop(timer);
            }
        }
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
    ///
    /// It is a [`FusedFuture`]. Polled again after [`Elapsed`], it polls the inner future again and
    /// returns its output if there is one. Polled again after an output, it does what the inner
    /// future does then.
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
            this.sleep.complete();
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed(())))
    }
}

impl<F: Future> FusedFuture for Timeout<F> {
    fn is_terminated(&self) -> bool {
        self.sleep.is_completed()
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

    /// Returns the time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Moves the next tick to one period from now. The ticks after it follow from there, and missed
    /// ticks are forgotten.
    ///
    /// ```
    /// use std::time::Duration;
    /// use windlass::time::{interval, now};
    ///
    /// /// A heartbeat that is only due after a period of silence.
    /// let mut heartbeat = interval(Duration::from_millis(2));
    /// let received = now();
    /// heartbeat.reset(); // after each message
    /// let tick = windlass::block_on(heartbeat.tick());
    /// assert!(tick >= received + heartbeat.period());
    /// ```
    pub fn reset(&mut self) {
        self.reset_after(self.period);
    }

    /// Moves the next tick to now. The ticks after it follow from there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use windlass::time::{interval_at, now};
    ///
    /// let mut poll = interval_at(now() + Duration::from_secs(60), Duration::from_secs(60));
    /// poll.reset_immediately(); // on request
    /// windlass::block_on(poll.tick());
    /// ```
    pub fn reset_immediately(&mut self) {
        self.reset_at(now());
    }

    /// Moves the next tick to a duration from now. The ticks after it follow from there. A duration
    /// beyond the range of the clock stops the ticks until the next reset.
    ///
    /// ```
    /// use std::time::Duration;
    /// use windlass::time::{interval, now};
    ///
    /// let mut retry = interval(Duration::from_secs(60));
    /// let start = now();
    /// retry.reset_after(Duration::from_millis(2));
    /// assert!(windlass::block_on(retry.tick()) >= start + Duration::from_millis(2));
    /// ```
    pub fn reset_after(&mut self, duration: Duration) {
        self.sleep.restart(MonotonicNanos::now().after(duration));
    }

    /// Moves the next tick to a point in time. The ticks after it follow from there. A task that
    /// waits for the tick is woken at the new time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use windlass::time::{interval, now};
    ///
    /// let mut interval = interval(Duration::from_secs(60));
    /// let noon = now() + Duration::from_millis(2);
    /// interval.reset_at(noon);
    /// assert_eq!(windlass::block_on(interval.tick()), noon);
    /// ```
    pub fn reset_at(&mut self, deadline: Instant) {
        self.sleep.restart(deadline.into());
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

/// It never ends.
impl FusedStream for Interval {
    fn is_terminated(&self) -> bool {
        false
    }
}
