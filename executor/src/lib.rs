//! The executor of [windlass](https://docs.rs/windlass): tasks on one thread.
//!
//! It uses no operating system calls and no I/O. It makes one future of many: [`Executor::run`]
//! polls the tasks that are ready and returns `Pending` when none is. Its waker is called when one
//! becomes ready again. Anything that can drive a future can drive it:
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
//! The loop, one turn of it per poll of [`Run`]:
//!
//! ```text
//! // executor/src/executor.rs
//! while polls < budget {
//!     self.check_inbox(driver_waker);                 // wakes from other threads
//!     let check_at = budget.min(polls + INBOX_CHECK_INTERVAL);
//!     while polls < check_at {
//!         let Some(cell) = self.queue.pop() else {    // first in, first out
//!             return (polls, Poll::Pending);          // park until the waker is called
//!         };
//!         …
//!         match cell.poll(key, &self.pulse.current_task, cx) {
//!             PollOutcome::Ended => continue,
//!             PollOutcome::Pending => {}
//!             PollOutcome::Requeue(cell) => self.queue.push(cell),
//!             PollOutcome::Done(key) => self.finish(key),
//!             …
//!         }
//!         report.polled(TaskId::of_key(key));
//!         polls += 1;
//!     }
//!     …
//! }
//! ```
//!
//! # Guarantees
//!
//! * **Wakers are plain numbers.** Cloning or dropping one does nothing. A waker that outlives its
//!   task or its executor does nothing when woken. On the executor's thread a wake takes no lock
//!   and no atomic. From another thread it takes a short lock and allocates a bounded amount.
//! * **Fair.** First in, first out. A task is queued at most once, and one that wakes itself is
//!   polled after all others. The driver gets control back after 256 polls.
//! * **One allocation per task**, for the future and its output.
//! * **A panic ends its task alone** and resumes where the task is awaited. Its message says where
//!   the task was spawned, and its [name](Task::named).
//! * **A caught panic leaves executors and tasks usable**: they are `UnwindSafe`.
//! * **No user code runs under a borrow or a lock**: futures, wakers and destructors may call
//!   anything here at any time. Calls that can't work, such as running an executor inside of
//!   itself, panic with a message that says what to do instead.
//!
//! The crate `windlass` adds a reactor, and builds groups, scopes, channels, locks and coroutines
//! on the items of this crate.

mod executor;
mod inner;
mod handle;
mod task;
mod abort;
mod cell;
mod table;
mod queue;
mod key;
mod waker;
mod inbox;
mod current;
mod fallback;
mod panic;
mod block_on;
mod yield_now;
pub mod budget;
mod nested_drop;
mod pulse;
mod names;
mod observe;
mod report;
mod sample;
mod task_id;
mod task_entry;
#[doc(hidden)]
pub mod layout;

pub use abort::AbortHandle;
pub use block_on::block_on;
pub use current::{Entered, Workload, in_task, list_tasks, observe_all, workload};
pub use executor::{Executor, Run, TickResult};
pub use fallback::Fallback;
pub use handle::Handle;
pub use nested_drop::drop_nested;
pub use observe::Observer;
pub use panic::{Panic, discard_panic};
pub use pulse::{Pulse, PulseReading, publish_polls};
pub use sample::{PollSampler, sample_polls};
pub use task::{Task, spawn, spawn_at};
pub use task_entry::{TaskEntry, TaskState};
pub use task_id::TaskId;
pub use yield_now::{YieldNow, yield_now};

#[cfg(doctest)]
#[doc = include_str!("../tests/must_not_compile.md")]
struct MustNotCompile;

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
