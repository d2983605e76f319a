//! The executor of [windlass](https://docs.rs/windlass): tasks on one thread.
//!
//! It knows no operating system and no I/O. It makes one future out of many:
//! [`Executor::run`] polls the tasks that are ready and returns `Pending` when none is, and its
//! waker is called when one becomes ready again. Anything that can drive a future can drive it:
//!
//! ```
//! use windlass_executor::{block_on, spawn, yield_now, Executor};
//!
//! let executor = Executor::new();
//! block_on(executor.run(async {
//!     let haul = spawn(async {
//!         yield_now().await;
//!         "hauled"
//!     });
//!     assert_eq!(haul.await, "hauled");
//! }));
//! ```
//!
//! The loop, from [`Executor::run`]:
//!
//! ```text
//! for _ in 0..BUDGET / LOOK {
//!     core.look(..);                                  // have other threads woken somebody?
//!     for _ in 0..LOOK {
//!         match core.next() {                         // the run queue, first in, first out
//!             Next::Task(cell) => core.poll(cell),
//!             Next::Main => if main.poll(..) is ready { return its output },
//!             Next::Nothing => break out,
//!         }
//!     }
//! }
//! if core.has_ready() { outer.wake() }                // the budget is used up: come back soon
//! Pending                                             // nothing is ready: park me
//! ```
//!
//! # What it promises
//!
//! * **Wakers are plain numbers.** To clone or drop one does nothing; a waker that outlives its
//!   task or its executor does nothing when woken. On the executor's thread a wake takes no lock
//!   and no atomic; from another thread it takes a short lock and allocates a bounded amount.
//! * **Fair.** First in, first out; a task is queued at most once; one that wakes itself comes
//!   after all others; whatever drives the executor gets control back after 256 polls.
//! * **One allocation a task**, for the future and its output.
//! * **Panics stay in their task** and come out where it is awaited. They say where the task was
//!   spawned, and its [name](Task::named).
//! * **A caught panic leaves all of it usable**: executors and tasks are `UnwindSafe`.
//! * **No user code under a borrow or a lock**: futures, wakers and destructors may call anything
//!   here, at any time. What can't work, such as running an executor inside of itself, panics with
//!   a message that says what to do.

mod executor;
mod inner;
mod task;
mod panic;
mod cell;
mod table;
mod queue;
mod key;
mod waker;
mod inbox;
mod current;
mod block_on;
mod yield_now;
pub mod budget;
mod nested_drop;
mod unwind_safe;

pub use block_on::block_on;
pub use current::{Entered, in_task};
pub use executor::{Executor, Run, Tick};
pub use nested_drop::drop_nested;
pub use panic::{Panic, discard_panic};
pub use task::Task;
pub use yield_now::{YieldNow, yield_now};

use std::future::Future;
use std::panic::Location;

use cell::NewCell;

/// Spawns a task on the executor that runs on this thread.
///
/// Neither the future nor its output need be `Send`. It's polled later, never at once.
///
/// # Panics
///
/// Outside of a running executor: there, use [`Executor::spawn`], or [`Executor::enter`] first.
///
/// # Examples
///
/// ```
/// use windlass_executor::{block_on, spawn, Executor};
///
/// block_on(Executor::new().run(async {
///     assert_eq!(spawn(async { 7 }).await, 7);
/// }));
/// ```
#[inline]
#[track_caller]
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
{
    Task::spawn_here(NewCell::new(future, Location::caller()))
}

/// As [`spawn`], for those who spawn on behalf of others: a task says that it was spawned at
/// `spawned_at`.
///
/// # Panics
///
/// As [`spawn`].
///
/// # Examples
///
/// ```
/// use std::panic::Location;
/// use windlass_executor::{Executor, Task, block_on, spawn_at};
///
/// /// Spawned later, but it's the caller that Debug and panics will name.
/// #[track_caller]
/// fn later() -> impl FnOnce() -> Task<u32> {
///     let place = Location::caller();
///     move || spawn_at(place, async { 7 })
/// }
///
/// block_on(Executor::new().run(async {
///     assert_eq!(later()().await, 7);
/// }));
/// ```
#[inline]
#[track_caller]
pub fn spawn_at<F>(spawned_at: &'static Location<'static>, future: F) -> Task<F::Output>
where
    F: Future + 'static,
{
    Task::spawn_here(NewCell::new(future, spawned_at))
}

#[cfg(doctest)]
#[doc = include_str!("../tests/must_not_compile.md")]
struct MustNotCompile;

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
