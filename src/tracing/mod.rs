//! Spans of tasks for [tracing](https://docs.rs/tracing). They need the feature `tracing`.
//!
//! With the feature, each task that is spawned while a subscriber is interested has a span. Its
//! target is `windlass`, its name `task` and its level `INFO`:
//!
//! | field | value |
//! |---|---|
//! | `spawned_at` | the location of the call of `spawn`, as `file:line:column` |
//! | `id` | the id of the task, from the first poll on |
//! | `name` | the name that [`Task::named`](crate::Task::named) has given it by the first poll |
//!
//! The span is entered while the task is polled, and while its future is dropped. It is closed when
//! the future is gone, because the task has finished, has panicked or was cancelled. Its parent is
//! the span in which the task was spawned: the one of another task, or a span of the program. This
//! applies to [`spawn`](crate::spawn()), [`Runtime::spawn`](crate::Runtime::spawn), the children of
//! a [`TaskGroup`](crate::task::TaskGroup), also those that wait for room, and
//! [`Remote::spawn`](crate::Remote::spawn), where it is the span of the calling thread. The
//! children of a [`scope`](crate::task::scope()) and the future of a `block_on` are parts of the
//! code around them and have no span of their own.
//!
//! Reports of [stalls](crate::inspect::Stall) and of [deadlocks](crate::inspect::Deadlock) are
//! events with the same target, outside of any span of a task. A stall has the level `WARN` and the
//! fields `id`, `name`, `spawned_at` and `is_over`. A deadlock has the level `ERROR` and the number
//! of its `tasks`. The message is the report.
//!
//! The feature applies to all crates of a program. A filter such as `windlass=off` disables the
//! spans. A task without a span costs a few instructions per poll.
//!
//! ```toml
//! [dependencies]
//! windlass = { version = "0.1", features = ["tracing"] }
//! tracing = "0.1"
//! tracing-subscriber = "0.3"
//! ```
//!
//! # Examples
//!
//! ```
//! use tracing::{info, info_span};
//! use windlass::{block_on, spawn};
//!
//! tracing_subscriber::fmt().with_ansi(false).without_time().init();
//! block_on(async {
//!     let voyage = info_span!("voyage").in_scope(|| {
//!         spawn(async { info!("hauled") }).named("hauler")
//!     });
//!     voyage.await;
//! });
//! // Prints one line:
//! // INFO voyage:task{spawned_at=src/main.rs:7:9 id=1 name="hauler"}: voyage: hauled
//! ```
//!
//! # tokio-console
//!
//! [tokio-console](https://docs.rs/tokio-console) lists the tasks with their names, locations,
//! polls and busy times. The program calls `console_subscriber::init()`, which runs the server of
//! the console on a thread of its own, and is compiled with `--cfg console_without_tokio_unstable`
//! in `RUSTFLAGS`. For the console each task has a second span, from the first poll on, with the
//! level `TRACE` and the name `runtime.spawn`.
//!
//! Each poll after the first counts as one wake, which the console gets when the poll starts. So
//! several wakes before a poll count as one, the time between a wake and the poll is part of the
//! idle time, and the console knows of no wakes by the task itself. Wakers are numbers without a
//! reference to the task's span, and a check per wake would slow down programs without a console.

mod span;
pub(crate) mod spawn;

pub(crate) use span::{TaskSpans, traced};
