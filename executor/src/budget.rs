//! The budget of a poll, which limits how many operations a task completes before it yields.
//!
//! A loop over a channel that always has a value, or over a socket that always has bytes, never has
//! to return `Pending`. Without a limit, its task would occupy the thread, and all timeouts and
//! other tasks would starve. So each poll of a task may complete [`OPERATIONS`] operations. The
//! next one wakes the task and returns `Pending`, and the task continues after all other tasks that
//! are ready.
//!
//! Channels, locks, groups and task handles charge the budget, and so do the sockets, pipes and
//! files of `windlass`. Timers are exempt, so that a timeout fires however busy the future in it
//! is. Operations that have to wait are free, and so are the `try_` forms.
//!
//! A leaf future of your own takes part with [`poll_with`], a long computation with [`charge`].
//!
//! # Examples
//!
//! A queue of your own that yields like a channel:
//!
//! ```
//! use std::{cell::RefCell, collections::VecDeque, task::{Context, Poll, Waker}};
//! use windlass::task::budget;
//!
//! #[derive(Default)]
//! struct Queue {
//!     values: RefCell<VecDeque<u32>>,
//!     waker: RefCell<Option<Waker>>,
//! }
//!
//! impl Queue {
//!     fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<u32> {
//!         budget::poll_with(cx, |cx| match self.values.borrow_mut().pop_front() {
//!             Some(value) => Poll::Ready(value),
//!             None => {
//!                 self.waker.replace(Some(cx.waker().clone()));
//!                 Poll::Pending
//!             }
//!         })
//!     }
//! }
//! # let queue = Queue::default();
//! # queue.values.borrow_mut().push_back(7);
//! # let popped = windlass::block_on(std::future::poll_fn(|cx| queue.poll_pop(cx)));
//! # assert_eq!(popped, 7);
//! ```

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use crate::current;
use crate::inner::CurrentPoll;

/// How many operations one poll of a task may complete, at least. It may complete up to three
/// times as many, and a task that spawns others up to 2,048 more in place of those that it has
/// missed while they were polled.
///
/// A yield costs the task some 10 ns in the run queue, or one turn of the reactor (a system call of
/// 200 to 300 ns) if the operation is one on a socket. Spread over 32 operations that is below 2 %
/// of the cost of a socket's operations.
pub const OPERATIONS: u32 = 32;

/// After so many refusals to one poll, a refill is granted. A task that polls futures in a loop of
/// its own (another runtime's `block_on`, for example) may never return to the executor.
const REFUSALS: u32 = 1024;

/// How many operations a poll completes that serves a request: one that reads it, and one that
/// writes the reply.
const PER_POLL: u32 = 2;

/// How many operations a dispatcher may complete in place of those that it has missed. This many
/// accepts take some 10 ms.
const CATCH_UP: u32 = 2048;

thread_local! {
    /// How many operations may complete until the next refill.
    static LEFT: Cell<u32> = const { Cell::new(OPERATIONS) };
    static LAST: Cell<Refill> = const { Cell::new(Refill::NONE) };
    static REFUSED: Cell<Refusals> = const { Cell::new([None; DISPATCHERS]) };
}

/// The last refusals to dispatchers, the latest one first.
type Refusals = [Option<Refused>; DISPATCHERS];

/// How many dispatchers may catch up. A server has an accept loop per address.
const DISPATCHERS: usize = 4;

/// A refusal to a dispatcher.
#[derive(Clone, Copy)]
struct Refused {
    poll: CurrentPoll,
    /// How many tasks it had spawned in that poll. Their first polls are its own work.
    spawned: u32,
}

/// The last refill.
#[derive(Clone, Copy)]
struct Refill {
    /// The poll that it was for, as of its first refill.
    poll: Option<CurrentPoll>,
    /// How many more refills this poll gets if it spawns tasks.
    missed: u32,
    /// How many more refills this poll was refused.
    refused: u32,
    /// After how many refusals one refill is granted nevertheless. One more with each poll, so that
    /// each future gets a refill at times if one task polls several in a fixed order (`join!`) and
    /// the first one is always ready.
    granted: u32,
}

impl Refill {
    const NONE: Refill = Refill {
        poll: None,
        missed: 0,
        refused: 0,
        granted: 0,
    };

    fn is_for(&self, poll: CurrentPoll) -> bool {
        let same = |of: CurrentPoll| (of.executor, of.number) == (poll.executor, poll.number);
        self.poll.is_some_and(same)
    }
}

/// Charges one operation that is about to complete.
///
/// `Pending` means that the budget is exhausted. The task has been woken, and the operation must be
/// left for the next poll. [Refund](refund) the charge if the operation turns out to wait.
/// [`poll_with`] does both.
#[inline(always)]
pub fn poll_charge(cx: &mut Context<'_>) -> Poll<()> {
    let (left, is_exhausted) = LEFT.get().overflowing_sub(1);
    LEFT.set(left);
    if is_exhausted {
        return refill(cx);
    }
    Poll::Ready(())
}

#[cold]
fn refill(cx: &mut Context<'_>) -> Poll<()> {
    if try_refill() != Some(false) {
        LEFT.set(OPERATIONS - 1);
        return Poll::Ready(());
    }
    LEFT.set(0);
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Returns whether the current poll of a task may complete [`OPERATIONS`] more operations. `None`
/// outside of the poll of a task, where operations are unlimited.
///
/// For a reactor, which counts operations on sockets and files itself, and calls this for each
/// [`OPERATIONS`] of them. This is its only link to the executor.
///
/// A poll is granted one refill, at its first call. So an operation costs one decrement and a poll
/// one increment. A refill before each poll would cost every poll more.
///
/// A dispatcher is a task that spawns others, such as an accept loop. Each of its operations adds a
/// task that is polled before it is polled again, so with a fixed budget it would fall behind. It
/// may also complete as many operations as the polls of other tasks since its last refusal, which
/// count as two each.
#[cold]
pub fn try_refill() -> Option<bool> {
    let poll = current::count_refill()?;
    let mut last = LAST.get();
    if !last.is_for(poll) {
        let next = last.granted + 1;
        last.granted = if next < last.refused { next } else { 1 };
        (last.poll, last.refused) = (Some(poll), 0);
        last.missed = missed_by(poll) / OPERATIONS;
        LAST.set(last);
        return Some(true);
    }
    let spawned = last
        .poll
        .map_or(0, |first| poll.spawned.wrapping_sub(first.spawned));
    let catches_up = spawned > 0 && last.missed > 0;
    if catches_up {
        last.missed -= 1;
    } else {
        if spawned > 0 && last.refused == 0 {
            remember(Refused { poll, spawned });
        }
        // Starts over at 1, because only the first refusal is remembered.
        last.refused = last.refused % (REFUSALS + 1) + 1;
    }
    LAST.set(last);
    Some(catches_up || [last.granted, REFUSALS].contains(&(last.refused - 1)))
}

fn remember(refused: Refused) {
    let mut all = REFUSED.get();
    all.rotate_right(1);
    all[0] = Some(refused);
    REFUSED.set(all);
}

/// How many operations a dispatcher has missed since its last refusal.
fn missed_by(poll: CurrentPoll) -> u32 {
    let is_same = |of: &mut Refused| (of.poll.executor, of.poll.task) == (poll.executor, poll.task);
    let mut all = REFUSED.get();
    let refused = all.iter_mut().find_map(|one| one.take_if(is_same));
    REFUSED.set(all);
    refused.map_or(0, |refused| {
        let polls = poll.number.wrapping_sub(refused.poll.number);
        let of_others = polls.saturating_sub(refused.spawned);
        of_others.saturating_mul(PER_POLL).min(CATCH_UP)
    })
}

/// Restores the budget that a thread has at its start. A run of a simulation must not depend on
/// earlier ones.
#[doc(hidden)]
pub fn reset() {
    LEFT.set(OPERATIONS);
    LAST.set(Refill::NONE);
    REFUSED.set([None; DISPATCHERS]);
}

/// Forgets the last poll. A new executor may have the id of a dropped one, and then numbers its
/// polls the same.
pub(crate) fn forget_poll() {
    let mut last = LAST.get();
    last.poll = None;
    LAST.set(last);
    REFUSED.set([None; DISPATCHERS]);
}

/// Takes back the last [charge](poll_charge), since the operation has to wait.
#[inline(always)]
pub fn refund() {
    LEFT.set(LEFT.get() + 1);
}

/// Polls an operation within the budget, and charges it if it completes.
#[inline(always)]
pub fn poll_with<T>(
    cx: &mut Context<'_>,
    operation: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    ready!(poll_charge(cx));
    let polled = operation(cx);
    if polled.is_pending() {
        refund();
    }
    polled
}

/// Charges one operation, and yields if the budget is exhausted.
///
/// For long computations. It is cheap in a loop, unlike [`yield_now`](crate::yield_now), which
/// always yields.
///
/// # Cancel safety
///
/// The future may be dropped at any time.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, task::budget};
///
/// let sum = block_on(async {
///     let mut sum = 0_u64;
///     for number in 0..10_000 {
///         sum += number;
///         budget::charge().await;
///     }
///     sum
/// });
/// assert_eq!(sum, 49_995_000);
/// ```
pub async fn charge() {
    poll_fn(poll_charge).await;
}
