//! A view into a running program: its tasks, their waits, and deadlocks.
//!
//! [`tasks`] lists the tasks of this thread with the events that they wait for, and
//! [`Runtime::tasks`](crate::Runtime::tasks) lists the tasks of one runtime. [`track`] adds how
//! often and for how long they were polled.
//!
//! A loop that sleeps while nothing can wake its tasks prints a note on standard error after one
//! second. [`Builder::on_deadlock`](crate::Builder::on_deadlock) replaces the note, for example to
//! let a test fail. [`deadlock`] finds tasks that wait for each other while others run.
//!
//! A listing inverts the tables by which events find their tasks. So programs that list nothing pay
//! nothing.

mod deadlock;
mod descriptor;
mod graph;
mod id_map;
pub(crate) mod loops;
pub(crate) mod observers;
pub(crate) mod system_call;
mod tasks;
pub(crate) mod thread_state;
pub(crate) mod stack;
mod track;
mod wait;
pub(crate) mod wait_point;

pub use deadlock::{Deadlock, deadlock};
pub(crate) use deadlock::{
    Handler, Registration as DeadlockRegistration, watch as watch_deadlocks,
};
pub use graph::Cycle;
pub(crate) use tasks::tasks_of;
pub use tasks::{TaskInfo, tasks};
pub use track::track;
pub use wait::Wait;
pub use windlass_executor::{TaskId, TaskState};
