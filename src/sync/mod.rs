//! Channels and locks for the tasks of one thread, made of plain cells without atomics.
//!
//! # When a lock is needed
//!
//! The tasks of a thread run one at a time, and switch only at an `.await`. Between two awaits a
//! task runs alone, so an `Rc` of a `Cell` or a `RefCell` is enough to share state:
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
//! Only state that must stay the same *across* an `.await` needs more. A `RefCell` borrow that is
//! held across one makes the next borrow of another task panic. A [`Mutex`] makes that task wait.
//!
//! | for | use |
//! |---|---|
//! | steps that belong together, with an await in between | [`Mutex`] |
//! | limiting how many tasks do something at once | [`Semaphore`] |
//! | a value that an asynchronous function computes once | [`OnceCell`] |
//! | values from one task to another | [`mpsc`] |
//! | each value to each of several tasks | [`broadcast`] |
//! | one reply | [`oneshot`] |
//! | the newest value of something that changes | [`watch`] |
//! | waiting for a condition on your own cells | [`Event`] |
//! | other threads | crates such as async-channel, with futures that also run here |
//!
//! # Guarantees
//!
//! * **Fair.** Waiters are served first in, first out. `try_` calls never barge.
//! * **Bounded.** One poll of a task completes 32 to 96 operations. Then the next one yields, even
//!   if it is ready ([`budget`](crate::task::budget)). So timeouts and other tasks make progress
//!   beside a loop over a channel that always has a value.
//! * **Cancel-safe.** Any of the futures may be dropped at any time. A permit, lock, channel
//!   capacity or notification that it was already granted goes to the next waiter. Each method
//!   documents what its caller loses.
//! * **Executor-independent.** Any executor of the thread can run them, and any waker can wake
//!   them. A waker that panics leaves the other waiters unaffected. The types stay on their thread,
//!   because they are neither `Send` nor `Sync`.
//! * **No user code under a borrow.** Wakers and destructors of values may use the channel or lock
//!   that calls them.
//! * **Few allocations.** Waiting allocates only if more tasks wait than did lately. Waking several
//!   tasks at once allocates a list, waking one is free of allocations.
//! * **Memory shrinks** after a burst. A channel keeps capacity for four times its values, and for
//!   at least 8 KiB or 32 values. A wait queue ends with its last waiter.
//!
//! The drop of a receiver drops the values of its channel. Tasks among them may own further
//! channels and tasks [to any depth](crate::Task#tasks-that-own-tasks). A chain of channels alone,
//! each of which holds the receiver of the next, takes stack per channel when it is dropped, like a
//! chain of boxes. Values may borrow, so their drop cannot be deferred.
//!
//! Polling one of these futures after it has completed panics, except for a [`oneshot::Receiver`],
//! which then returns an error, and for a `recv`, which then receives the next value.
//!
//! The futures and streams of receivers, locks and semaphores implement `FusedFuture` and
//! `FusedStream`, so `futures::select!` takes them without `.fuse()`.

pub mod broadcast;
mod error;
mod event;
pub mod mpsc;
mod mutex;
mod once_cell;
pub mod oneshot;
mod semaphore;
pub(crate) mod shrink;
pub(crate) mod slab;
pub(crate) mod layout;
pub(crate) mod wait_queue;
pub(crate) mod waker_cell;
pub mod watch;

pub use error::{Closed, SendError, TryAcquireError, TryRecvError, TrySendError};
pub use event::{Event, Listener};
pub use mutex::{Lock, Mutex, MutexGuard, OwnedMutexGuard};
pub use once_cell::OnceCell;
pub use semaphore::{Acquire, Permit, Semaphore};
