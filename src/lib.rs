//! A single-threaded async runtime made to be embedded: one drum that hauls many ropes.
//!
//! One thread runs many tasks. A future issues its request, other tasks run meanwhile, and the
//! event loop wakes the future when the answer has arrived. Tasks of one thread share state
//! through plain `Rc` and `Cell`. Several processes or threads, each with its own loop, use
//! several cores.
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use windlass::net::{TcpListener, TcpStream};
//!
//! # fn main() -> std::io::Result<()> {
//! windlass::block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let addr = listener.local_addr()?;
//!     windlass::spawn(async move {
//!         while let Ok((stream, _)) = listener.accept().await {
//!             let echo = async move { futures::io::copy(&stream, &mut &stream).await };
//!             windlass::spawn(echo).detach();
//!         }
//!     })
//!     .detach();
//!
//!     let mut stream = TcpStream::connect(addr).await?;
//!     stream.write_all(b"ahoy").await?;
//!     let mut reply = [0; 4];
//!     stream.read_exact(&mut reply).await?;
//!     assert_eq!(&reply, b"ahoy");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # The design on one page
//!
//! ```text
//!            windlass            one expression:  reactor.block_on(executor.run(main))
//!            ┌────┴───────────────────────┐
//!   windlass-executor             windlass-reactor
//!   tasks, run queue, wakers      readiness, timers, leaf futures:
//!   Knows no operating system.    TcpStream, Sleep, ... Knows no executor.
//!            └── std::future::Future + std::task::Waker: the whole interface ──┘
//! ```
//!
//! [`block_on`] is that expression. It repeats two steps:
//!
//! 1. The executor polls each ready task, first in, first out, with at most 256 polls. A poll ends
//!    in a leaf future that is not ready and leaves the task's waker with its source.
//! 2. The reactor waits for the poller with one system call, which covers sockets, timers and
//!    other threads. Then it calls the wakers of the events, which put their tasks on the run
//!    queue.
//!
//! Six functions, marked ① to ⑥ in the source, make up the loop. `spawn` ① puts a task on the run
//! queue. The executor ② polls it. A leaf future ③ tries its system call and leaves a waker.
//! `block_on` ④ turns the reactor. The turn ⑤ collects wakers and calls them. A wake ⑥ puts its
//! task on the run queue.
//!
//! # Contents
//!
//! * [`spawn`] and [`Task`]. Dropping a task cancels it. A panic surfaces where the task is
//!   awaited.
//! * [`task`]: groups, scopes with children that borrow, graceful shutdown, task-local values, and
//!   a table of the cancel safety of futures.
//! * A table of the types and futures that are [`Send`](#what-is-send).
//! * [`net`]: TCP, UDP and Unix sockets. [`time`]: sleeps, timeouts, intervals. [`signal`]: Ctrl-C
//!   and other signals. [`io`]: standard streams, pipes and copies. [`Async`]: any other file
//!   descriptor.
//! * [`fs`]: files and directories, through io_uring where it exists, and otherwise through
//!   threads.
//! * [`process`]: child processes and their standard streams.
//! * [`Runtime`]: tasks that outlive a `block_on`, and single steps of the loop, for programs that
//!   have a loop of their own. [`Handle`]: spawns from anywhere on its thread. [`Remote`]: spawns
//!   and runs closures from other threads.
//! * [`spawn_blocking`]: runs a closure that blocks on a thread.
//! * [`completion`]: the hook for code that takes part in the turn of the loop.
//! * [`coroutine`]: functions that suspend, yield a value, and resume with a value, with or
//!   without I/O in between.
//! * [`workers`](mod@workers): several processes or threads, each with its own loop.
//! * [`sync`]: channels and locks of one thread.
//! * [`inspect`]: the tasks of a running program with their waits, deadlocks, stalls, and metrics.
//! * With the features of these names, `http`: an HTTP client, `hyper`: adapters for that crate,
//!   and `tokio`: crates that require tokio, on the same thread.
//! * The default features `workers` and `inspect-outside` ([`inspect::serve`](inspect::serve()) and
//!   [`inspect::outside`]) are parts that no other part uses. With `default-features = false` a
//!   release build takes a quarter less CPU time.
//! * The [`futures`](https://docs.rs/futures) crate has combinators (`join!`, `select!`, streams).
//!   Any channel between threads works.
//!
//! # Fork
//!
//! A process that is forked and continues without `exec` has none of its parent's threads, and
//! shares the kernel objects of its parent's reactors. [`block_on`], [`Runtime::new`],
//! [`spawn_blocking`], [`Pool`]s and [`fs`] start afresh in the child, on each thread, including
//! the one that forked.
//!
//! Inherited objects return errors and leave the parent alone. This applies to each turn of a
//! [`Runtime`] (its `block_on` panics with that error), to a socket that has waited in the parent
//! and would have to wait again, to a file operation in flight, to a child process and to a signal
//! listener. A [`BlockingTask`] panics. All of them may be dropped in the child, which neither
//! unregisters the parent's sockets nor kills its children.
//!
//! Inside a task the inherited loop is still running, so `block_on` panics as it does in each
//! task. Create a `Runtime` there, or use another thread, and end the child without returning into
//! the loop. In a program with other threads, the system's rules about `fork` and threads apply.
//!
#![doc = include_str!("send.md")]
// The parts that are left out are the only users of some helpers, and other pages link to them.
#![cfg_attr(
    not(all(feature = "inspect-outside", feature = "workers")),
    allow(dead_code, unused_imports, rustdoc::broken_intra_doc_links)
)]

mod waits;
mod runtime;
mod counters;
#[cfg(any(feature = "inspect-outside", feature = "workers"))]
mod page_server;
mod blocking;
pub mod coroutine;
pub mod fs;
pub mod sync;
pub mod task;
pub mod io;
pub mod process;
pub mod signal;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "workers")]
pub mod workers;
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
pub mod sim;
#[cfg(feature = "tracing")]
pub mod tracing;
pub mod inspect;

pub use blocking::{BlockingTask, Pool, spawn_blocking};
pub use runtime::{Builder, EnterGuard, Handle, Remote, RemoteError, RemoteTask, Runtime, Turn};
pub use windlass_executor::{Panic, Task, YieldNow, yield_now};
pub use windlass_reactor::{Async, Readable, Writable};
pub use windlass_reactor::{completion, net, time};
#[cfg(feature = "workers")]
pub use workers::workers;

#[cfg(feature = "tracing")]
pub use tracing::spawn::{spawn, spawn_at};
#[cfg(not(feature = "tracing"))]
pub use windlass_executor::{spawn, spawn_at};

use std::future::Future;
use std::pin::pin;

use runtime::BlockOn;

#[cfg(doctest)]
#[doc = include_str!("../tests/must_not_compile.md")]
struct MustNotCompile;

/// The README's server compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/testing.md")]
struct Testing;

#[cfg(doctest)]
#[doc = include_str!("../docs/coming-from-tokio.md")]
struct ComingFromTokio;

#[cfg(doctest)]
#[doc = include_str!("../docs/hangs-and-stalls.md")]
struct HangsAndStalls;

/// Runs a future and the tasks that it spawns until the future completes. The remaining tasks are
/// then dropped. A [`Runtime`] keeps them.
///
/// # Panics
///
/// Panics inside a task, because it would stop the loop that the future may be waiting for. Panics
/// if the runtime cannot be created, for example because the process is out of file descriptors;
/// [`Runtime::new`] returns that as an error. If the future panics, the panic propagates to the
/// caller.
///
/// # Examples
///
/// ```
/// let answer = windlass::block_on(async {
///     let six = windlass::spawn(async { 6 });
///     six.await * 7
/// });
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    assert!(
        !windlass_executor::in_task(),
        "`block_on` inside a task would stop all other tasks: `.await` the future there, or \
         `spawn` it"
    );
    #[cfg(all(feature = "tokio", unix))]
    assert!(
        !tokio::is_hosted(),
        "`block_on` inside a task of tokio would stop all tasks of this thread: `.await` the \
         future there, or `spawn` it"
    );
    match Runtime::builder().build_unwatched() {
        Ok(runtime) => {
            let block_on = BlockOn::new(&runtime);
            let future = pin!(future);
            block_on.run(future)
        }
        Err(error) => panic!("can't create a runtime: {error}"),
    }
}
