//! Several processes or threads, each with its own event loop, under a supervisor. They need the
//! feature `workers`, which is on by default.
//!
//! One event loop uses one core. To use all cores, run several workers, each with its own loop and
//! without shared state or locks. [`workers`](crate::workers()) starts them, passes them their
//! listeners, and supervises them.
//!
//! ```no_run,ignore-windows
//! use futures::io::copy;
//!
//! fn main() -> std::io::Result<()> {
//!     windlass::workers() // as many as there are cores
//!         .processes()
//!         .listen("0.0.0.0:7000")?
//!         .run(|worker| async move {
//!             let echo = |stream, _peer| async move {
//!                 copy(&stream, &mut &stream).await.ok();
//!             };
//!             worker.serve(echo).await
//!         })
//! }
//! ```
//!
//! # What the parent does
//!
//! * **Crash**: if a worker returns an error, panics or is killed, the parent restarts it. If the
//!   worker had served for at least 1 s, the restart is immediate. Otherwise the parent waits, at
//!   first for 50 ms; the time doubles with each crash, up to 5 s.
//! * **Crash loop**: if a worker crashes five times in a row within a second of its start, and no
//!   other worker has served for a second, `run` returns an error that describes the last crash.
//! * **Stuck worker**: if the loop of a worker sends no heartbeat for 10 s
//!   ([`heartbeat`](Builder::heartbeat)), the parent kills the worker and starts another.
//! * **Blocked loop**: if a task blocks the loop of a worker or of the parent for 50 ms
//!   ([`stall_threshold`](Builder::stall_threshold)), a [watchdog](crate::inspect::Watchdog) names
//!   the task on standard error.
//! * **Unkillable worker**: if a killed worker has not exited after 2 s, because it is traced or
//!   hangs in the kernel, the parent logs its PID and treats it as exited. If the process still
//!   exists when `run` returns, `run` returns an error that names it.
//! * **Out of resources**: if a restart fails because the system is out of processes, threads or
//!   file descriptors, the parent retries until it succeeds.
//! * **SIGTERM to a worker**: the worker drains, within the same 20 s as below, and the parent
//!   starts another.
//! * **`Ok` from a worker**: the parent does not restart it. When all workers have returned `Ok`,
//!   `run` returns.
//! * **SIGTERM or SIGINT**: graceful shutdown. The workers stop accepting connections and finish
//!   the open ones, within 20 s ([`drain_limit`](Builder::drain_limit)); then `run` returns. A
//!   second signal kills the workers and makes `run` return an error. If SIGINT is ignored at the
//!   start, it stays ignored, because a shell starts background programs (`&`) like this.
//! * **SIGHUP**: reload. The parent starts new workers from the current file of the program. When
//!   all of them are ready, the old ones drain. No connection is refused. Further signals during a
//!   reload request one more reload. At most eight sets of old workers drain at the same time;
//!   beyond that, the oldest set is killed. If SIGHUP is ignored at the start, it stays ignored,
//!   because `nohup` starts programs like this.
//! * **SIGUSR1**: the parent logs the metrics ([`Figures`]) of each worker.
//! * **Death of the parent**: the workers end too, on Linux immediately, elsewhere as soon as their
//!   loops notice that the parent's socket is closed.
//!
//! The parent logs these events on standard error. A thread writes the log, so a full pipe or a
//! stopped terminal does not block the supervisor. The queue of that thread holds 512 KiB. Messages
//! beyond that are dropped and counted, and the log reports the count once the queue has space
//! again.
//!
//! Of these signals only Ctrl-C exists on Windows. [`Parent::stop`] and [`Parent::replace`] work
//! everywhere.
//!
//! # Processes
//!
//! A worker is the same program, started again with the same arguments. `main` runs in the worker
//! as well, up to [`run`](Builder::run), which does not return there. This has four consequences:
//!
//! * Call [`workers`](crate::workers()) at the start of `main`. Each worker repeats the code before
//!   the call, and programs started before it inherit the worker's socket to the parent.
//! * All processes must make the same calls of [`listen`](Builder::listen). In a worker, `listen`
//!   takes the parent's sockets instead of opening new ones.
//! * A program can have one set of worker processes.
//! * The standard input of a worker is empty.
//!
//! A reload does not replace the parent, which only holds the sockets and the options. To change
//! the listeners or the number of workers, restart the service; with sockets from systemd, a
//! restart refuses no connections either. On Linux, a worker that is restarted after a crash runs
//! the same program as the others, even if the file was replaced or deleted since. If the new
//! program cannot be started, or one of its workers exits before it is [ready](Worker::ready), the
//! old workers continue and the parent logs the reason.
//!
//! The parent can be the first process of a container (PID 1), where it handles its signals and
//! reaps its workers. It does not reap orphaned processes. If your workers start programs that may
//! outlive them, start the parent through an init (`docker run --init`, tini), or share the process
//! namespace of the pod (`shareProcessNamespace`).
//!
//! # Threads
//!
//! Workers that are threads behave the same, with two differences. A panic is caught and ends one
//! worker, but whatever ends the process ends all of them. A stuck thread cannot be killed, so the
//! parent abandons it and starts another. If the thread is still stuck when `run` returns, `run`
//! returns an error.
//!
//! # systemd and Kubernetes
//!
//! The parent takes the sockets that systemd passes (`LISTEN_FDS`). It notifies systemd when it is
//! ready, reloading or stopping, and it supports the watchdog (`Type=notify-reload`,
//! `WatchdogSec`). Notifications are best effort. If `NOTIFY_SOCKET` is of an unsupported kind, the
//! parent logs that and runs without notifications.
//!
//! The directory `examples/workers` of the repository has a unit, a Kubernetes manifest, and a
//! program that uses them.

mod builder;
mod bind;
mod supervisor;
mod slot;
mod worker_handle;
mod signals;
mod worker;
mod listener;
mod thread;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod program;
mod channel;
mod mailbox;
mod log;
mod control;
mod message;
mod metrics;
#[cfg(unix)]
mod metrics_server;
#[cfg(unix)]
mod systemd;
mod cpu;

use std::any::Any;
use std::future::Future;

use windlass_executor::discard_panic;
use windlass_reactor::shortage::explain;

pub use builder::Builder;
pub use listener::Listener;
#[cfg(feature = "serde")]
pub use message::encode;
pub use message::{Message, Parent, Party};
pub use metrics::Figures;
pub use worker::{OpenConnection, Worker};

/// Returns a [`Builder`], which configures and runs several workers, each with its own event loop.
/// See the module [`workers`](mod@crate::workers).
///
/// # Examples
///
/// ```
/// windlass::workers().count(2).run(|worker| async move {
///     println!("this is worker {} of {}", worker.index(), worker.count());
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn workers() -> Builder {
    Builder::new()
}

/// Like [`block_on`](crate::block_on), but returns an error if the runtime can't be created.
fn try_block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = crate::Runtime::builder().build_unwatched();
    Ok(runtime.map_err(explain)?.block_on(future))
}

/// Returns the message of a panic and drops the payload. The drop runs user code, so it may panic
/// in turn, and must not unwind into the caller.
fn describe_panic(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    discard_panic(|| drop(payload));
    text.unwrap_or_else(|| "with a value that is not a string".into())
}
