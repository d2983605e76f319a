//! Channels and locks for one thread: plain cells, no atomics.
//!
//! # When one needs a lock at all
//!
//! Tasks of one thread run one at a time, and another gets its turn only at an `.await`. So from
//! one `.await` to the next nobody interferes, and what tasks share is an `Rc` of a `Cell` or a
//! `RefCell`:
//!
//! ```
//! use std::{cell::Cell, rc::Rc};
//! use windlass::{block_on, spawn};
//!
//! block_on(async {
//!     let count = Rc::new(Cell::new(0));
//!     let tasks = [1, 2].map(|n| {
//!         let count = count.clone();
//!         spawn(async move { count.set(count.get() + n) })
//!     });
//!     for task in tasks {
//!         task.await;
//!     }
//!     assert_eq!(count.get(), 3);
//! });
//! ```
//!
//! Only what must stay as it is *over* an `.await` needs more. A borrow of a `RefCell` that is
//! held over one panics as soon as another task borrows; a [`Mutex`] lets that task wait.
//!
//! | for | there is |
//! |---|---|
//! | steps that belong together, with an await in between | [`Mutex`] |
//! | what only so many may do at once | [`Semaphore`] |
//! | values from one task to another | [`mpsc`] |
//! | one reply | [`oneshot`] |
//! | the newest of a value that changes | [`watch`] |
//! | waiting until something in your own cells is so | [`Event`] |
//! | other threads | crates such as async-channel: its futures run here as well |
//!
//! # What they promise
//!
//! * **Fair.** Who waits is served in the order of coming, and isn't overtaken by who asks at
//!   once (the `try_` forms).
//! * **Bounded.** One poll of a task completes 32 to 96 operations. Then the next one yields, even
//!   if it is ready ([`budget`](crate::task::budget)). So a loop over a channel that always has a
//!   value keeps neither timeouts nor other tasks waiting.
//! * **Cancel-safe.** Any of the futures may be dropped at any time. Nobody is forgotten for that:
//!   a permit, a lock, room in a channel or a notification that it has been given already goes to
//!   the next in line. What each drop costs the one who dropped it, its method says.
//! * **Any executor** of the thread runs them, and any waker wakes them. A waker that panics when
//!   it is called disturbs nobody else. They stay on their thread: none is `Send` or `Sync`.
//! * **No user code under a borrow.** Wakers and the drops of values may use the channel or lock
//!   that calls them.
//! * **No allocation** to wait, unless more wait than did lately, or to wake one; to wake several
//!   at once takes a list of them.
//! * **Memory is given back** after a burst: a channel keeps room for four times what is in it, and
//!   for 8 KiB or 32 values; a line of waiters ends with the last that waits.
//!
//! A channel drops its values with its receiver, within that drop. Tasks in it may own further
//! channels and tasks, [to any depth](crate::Task#tasks-that-own-tasks). A chain of channels alone,
//! each of which holds the receiver of the next, takes stack for each of them when it is dropped,
//! as a chain of boxes does: values may borrow, so their drop can't be deferred.
//!
//! A future of these that was polled until it was ready must not be polled again: it panics. (A
//! [`oneshot::Receiver`] says that it is closed.)

mod error;
mod event;
pub mod mpsc;
mod mutex;
pub mod oneshot;
mod semaphore;
pub(crate) mod shrink;
pub(crate) mod waiter;
mod waiters;
pub mod watch;

pub use error::{Closed, SendError, TryAcquireError, TryRecvError, TrySendError};
pub use event::{Event, Listener};
pub use mutex::{Lock, Mutex, MutexGuard};
pub use semaphore::{Acquire, Permit, Semaphore};
