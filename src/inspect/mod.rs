//! A view into a running program: its tasks, their waits, deadlocks, stalls, and metrics.
//!
//! [`tasks`] lists the tasks of this thread with the events that they wait for, and
//! [`Runtime::tasks`](crate::Runtime::tasks) lists the tasks of one runtime. [`track`] adds how
//! often and for how long they were polled.
//!
//! A loop that sleeps while nothing can wake its tasks prints a note on standard error after one
//! second. If a task waits for an event that no table names, which another thread may cause, the
//! note is printed once per thread. [`Builder::on_deadlock`](crate::Builder::on_deadlock) replaces
//! the note, for example to let a test fail. [`deadlock`] finds tasks that wait for each other
//! while others run.
//!
//! [`watch`] starts a watchdog, which reports stalls of the loops while they last. The environment
//! variable `WINDLASS_WATCH=50ms` starts it in any program. [`metrics()`] counts the work of all
//! loops, and [`serve()`] shows all of it on a page.
//!
//! ```text
//! windlass: task 12 "parser", spawned at src/main.rs:40:9, has blocked the loop of thread main for
//! 50 ms: on the CPU for 49 of 50 ms; 1,204 other tasks wait
//! ```
//!
//! A listing inverts the tables by which events find their tasks. So programs that list nothing pay
//! nothing.
//!
//! `docs/hangs-and-stalls.md` in the repository leads from a symptom to its cause. It has the
//! output of each of these, and states its limits and its price.

mod deadlock;
mod descriptor;
mod graph;
mod id_map;
mod loop_thread;
pub(crate) mod loops;
mod metrics;
#[cfg(all(
    feature = "inspect-outside",
    target_os = "linux",
    target_pointer_width = "64"
))]
pub mod outside;
mod poll_sampler;
#[cfg(target_os = "linux")]
pub(crate) mod proc_file;
mod prometheus;
pub(crate) mod report;
mod root;
mod sampler;
#[cfg(feature = "inspect-outside")]
mod serve;
pub(crate) mod stack;
mod stall;
#[cfg(target_os = "linux")]
pub(crate) mod system_call;
mod thread_notifier;
pub(crate) mod thread_state;
pub(crate) mod watchdog;
pub(crate) mod observers;
mod tasks;
mod track;
mod wait;
pub(crate) mod wait_point;

pub use crate::counters::poll_times::PollTimes;
pub use deadlock::{Deadlock, deadlock};
pub(crate) use deadlock::{
    Handler, Registration as DeadlockRegistration, watch as watch_deadlocks,
};
pub use graph::Cycle;
pub use metrics::{Metrics, SystemCalls, metrics};
pub use poll_sampler::sample_polls;
pub(crate) use prometheus::write_all;
#[cfg(feature = "inspect-outside")]
pub use serve::{Server, ServerBuilder, serve};
pub use stack::{Frame, Stack};
pub use stall::{Phase, Stall, StalledTask};
pub(crate) use tasks::tasks_of;
pub use tasks::{TaskInfo, tasks};
pub use thread_state::Activity;
pub use track::track;
pub use wait::Wait;
pub use watchdog::{Watchdog, WatchdogBuilder, watch};
pub use windlass_executor::{TaskId, TaskState};
