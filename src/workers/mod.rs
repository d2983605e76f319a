//! Many cores: several processes or threads, each with its own loop.
//!
//! One loop uses one core. The way to all of them is the simplest one: several workers, each with
//! its own loop, nothing shared, no lock. [`workers`](crate::workers()) starts them, hands them
//! their listeners, and supervises them.
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
//! * A worker fails, panics, or is killed: it starts another. At once, if that one had served for
//!   a second; else after a rest, which doubles from 50 ms to 5 s.
//! * A worker dies at once, five times in a row, and no other has served for a second either: it
//!   gives up, and `run` returns an error that says how the last one died.
//! * A worker's loop gives no sign of life for 10 s ([`heartbeat`](Builder::heartbeat)): it kills
//!   the worker and starts another.
//! * A killed worker has not ended after 2 s, because it is traced or hangs in the kernel: it logs
//!   the worker's PID and treats the worker as ended. If the worker still lives at the end, `run`
//!   returns an error that names it.
//! * A worker can't be restarted because the system has no processes, threads or file descriptors
//!   left: it retries until it can.
//! * A worker gets SIGTERM from somebody else: it has the same 20 s as below to end, and then
//!   another is started.
//! * A worker returns `Ok`: it leaves it at that. When all have, `run` returns.
//! * SIGTERM or SIGINT: it lets the workers finish what they have begun, for 20 s at most
//!   ([`drain_limit`](Builder::drain_limit)), and `run` returns. A second one ends all at once, and
//!   is an error. If SIGINT is ignored at the start, it stays ignored: a shell starts background
//!   programs (`&`) like this.
//! * SIGHUP: it replaces the workers, by the program that is there now. When all of the new ones
//!   are ready, the old ones finish what they have begun. No connection is refused. Signals that
//!   come meanwhile ask for one more replacement, after this one. Of old ones that still drain
//!   there are eight sets at most: for another, the oldest has to end at once. If SIGHUP is
//!   ignored at the start, it stays ignored: `nohup` starts programs like this.
//! * SIGUSR1: it prints the [`Figures`] of each worker.
//! * It is killed itself: so are the workers, on Linux at once, and elsewhere when their loops come
//!   round.
//!
//! The parent logs all this on standard error. A thread writes the log, so a full pipe or a
//! stopped terminal doesn't stop the supervision. The thread's queue holds 512 KiB. Messages beyond
//! that are dropped, and the log reports their number once there is room again.
//!
//! Elsewhere than on Unix there are no such signals but Ctrl-C; [`Parent::stop`] and
//! [`Parent::replace`] do the same.
//!
//! # Processes
//!
//! A worker is the program, run again with the same arguments. So `main` runs in the worker as
//! well, up to [`run`](Builder::run), which doesn't return there. Thus:
//!
//! * Call [`workers`](crate::workers()) first thing in `main`: what comes before it, each worker
//!   does again, and programs that are started before it inherit the worker's link to its parent.
//! * All processes must make the same calls of [`listen`](Builder::listen). In a worker that
//!   doesn't listen: the worker gets the parent's sockets.
//! * A program has one set of processes.
//! * A worker's standard input is empty.
//!
//! The parent itself is not replaced by SIGHUP. It has the sockets and these options, and little
//! code that could be wrong; who changes the listeners or the number of workers starts the service
//! anew, which with sockets of systemd refuses no connection either. A worker that is started after
//! a crash is of the same program as the others, also if the file has been replaced or deleted
//! meanwhile (on Linux). If the new program can't be started, or one of its workers dies before it
//! is [ready](Worker::ready), the old ones go on, and the parent says why.
//!
//! As the first process of a container (PID 1) the parent handles its signals and waits for its
//! workers as anywhere else. It doesn't wait for processes that others leave to it: if your workers
//! start programs that may outlive them, start the parent by an init (`docker run --init`, tini),
//! or share the process namespace of the pod (`shareProcessNamespace`), so that somebody does.
//!
//! # Threads
//!
//! They are the same, with two differences. A panic is caught, but what ends the process ends all.
//! And a thread that is stuck can't be killed: it's left to itself, and another one is started. If
//! it is still stuck at the end, `run` returns an error.
//!
//! # systemd and Kubernetes
//!
//! The parent takes sockets that systemd hands over (`LISTEN_FDS`), and says when it is ready, when
//! it replaces its workers, when it ends, and that it lives (`Type=notify-reload`, `WatchdogSec`).
//! Notifications are best effort. If `NOTIFY_SOCKET` is of an unknown kind, the parent logs that
//! and runs without notifications.
//!
//! `examples/workers` of the repository has a unit, a manifest for Kubernetes, and the program that
//! matches.

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
mod payload;
mod control;
mod message;
mod metrics;
#[cfg(unix)]
mod metrics_server;
#[cfg(unix)]
mod systemd;
mod cpu;

use std::future::Future;

use windlass_reactor::shortage::explain;

pub use builder::Builder;
pub use listener::Listener;
#[cfg(feature = "serde")]
pub use message::encode;
pub use message::{Message, Parent, Party};
pub use metrics::Figures;
pub use worker::{OpenConnection, Worker};

/// Several workers, each with its own loop, under supervision: how many, of which kind, and what
/// they do, the [`Builder`] is told. See the module [`workers`](mod@crate::workers).
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

/// As [`block_on`](crate::block_on), but returns an error if the runtime can't be created.
fn try_block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = crate::Runtime::builder().build_unwatched();
    Ok(runtime.map_err(explain)?.block_on(future))
}
