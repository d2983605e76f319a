//! The reactor of [windlass](https://docs.rs/windlass): readiness, timers, sockets, files and
//! signals.
//!
//! It knows no executor. Its futures leave a std [`Waker`](std::task::Waker) where an event will
//! find it, and whoever made that waker takes care of the rest: so they work under any executor on
//! their thread, as long as something on the thread turns the reactor. [`block_on`] does that for
//! one future, which may be an executor of many tasks.
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt, join};
//! use windlass_reactor::{block_on, net::TcpListener, net::TcpStream};
//!
//! # fn main() -> std::io::Result<()> {
//! block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let (accepted, connected) =
//!         join!(listener.accept(), TcpStream::connect(listener.local_addr()?));
//!     let ((server, _), mut client) = (accepted?, connected?);
//!     client.write_all(b"ahoy").await?;
//!     let mut text = [0; 4];
//!     (&server).read_exact(&mut text).await?;
//!     assert_eq!(&text, b"ahoy");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! The turn, from its source:
//!
//! ```text
//! self.check_origin()?;
//! self.turn.set(self.turn.get().wrapping_add(1));
//! let is_idle = self.submit()? & !self.park.has_deferred();
//! // Until the wakers are called, nothing runs that could start or stop a timer.
//! let deadline = self.next_deadline();
//! self.wait(is_idle, deadline, limit)?;
//! // From here on nothing may unwind: an edge that was taken is not reported again.
//! let mut woken = self.scratch.take();
//! self.collect_deferred(&mut woken);
//! self.collect_ready(&mut woken);
//! self.collect_due(deadline, &mut woken);
//! let panic = self.collect_completions(&mut woken);
//! let turned = Turned { woken: woken.len() };
//! wake_all(woken.drain(..));
//! shrink(&mut woken, turned.woken);
//! self.scratch.set(woken);
//! self.park.end_turn();
//! panic.map_or(Ok(turned), |payload| resume_unwind(payload))
//! ```
//!
//! # What it promises
//!
//! * **One system call a turn** on Linux, and one more when an earlier deadline comes up.
//!   Descriptors are registered, edge-triggered, when something first has to wait for them; the
//!   first wait to write costs another call.
//! * **Try first, wait after.** An operation costs its own system call and nothing else, if it
//!   doesn't have to wait.
//! * **Nothing starves.** A source that is always ready gives way after 32 operations, a turn
//!   fires at most 1,024 timers.
//! * **Timers are never early**, a lone one is punctual to the nanosecond, and those within 100 µs
//!   of each other, or within what [`Reactor::set_timer_slack`] says, share a wake-up. To start and
//!   to stop one takes the same time however many there are.
//! * **Events find their source or nobody**: keys carry a generation, so a descriptor that is
//!   closed and used again in the middle of things is not mistaken for the one before.
//! * **No user code under a borrow.** Wakers may do anything, turn the reactor again included.
//! * **An error instead of a hang** where nothing turns the reactor.
//!
//! # Windows
//!
//! It waits by completion ports. What can be watched there are sockets, and the end of processes;
//! files are for threads, as everywhere but on Linux, and so are standard input and the pipes of
//! children. What there's no good way to have is absent: Unix sockets, `io::pipe`, signals but
//! Ctrl-C and Ctrl-Break, and the descriptor of a [`Reactor`] that another loop could watch. What
//! an [`Async`] holds is a socket (`AsSocket`).
//!
//! # Fork
//!
//! A process that is forked and goes on without `exec` shares the parent's poller, ring and pipes.
//! The child leaves them alone:
//!
//! * **New things work.** [`block_on`], [`Reactor::current`] and pools start afresh in the child,
//!   on each thread, also on the one that forked. Make new sockets and listeners there. An
//!   inherited socket goes on after it was converted to that of std and back.
//! * **An inherited [`Reactor`] gives an error** in each turn, and so panics in each `block_on`. To
//!   return into a `block_on` that was running during the fork ends in that panic.
//! * **Inherited sockets and files** work until they have to wait, which is an error. Dropping them
//!   closes the child's descriptor and leaves the parent's registration as it is. An operation on a
//!   file that was in flight gives an error; a blocking closure panics.
//! * **Child processes and signal listeners** are the parent's. The handles give errors in the
//!   child, and dropping a [`Child`](process::Child) neither kills nor reaps. Signals of the child
//!   reach the listeners that it makes.
//!
//! The descriptor of an inherited `Reactor` is the parent's poller, so no loop may watch it in the
//! child. In a program with other threads, the child inherits the locks that they hold in the
//! allocator and in std; what the system says about `fork` and threads holds there.
//! [`std::process::Command`] and [`process::Command`] are safe: all descriptors are closed at their
//! `exec`.

mod block_on;
pub mod budget;
mod reactor;
mod current;
pub mod wake;
mod poller;
mod registry;
mod park;
pub mod fork;
pub mod completion;
mod completion_source;
mod registration;
mod source;
mod waiters;
mod ticket;
mod readiness;
mod async_io;
#[cfg(windows)]
mod waitable;
mod timers;
mod clock;
pub mod time;
pub mod net;
pub mod shortage;
mod unwind;

pub use async_io::{Async, set_nonblocking};
pub use block_on::block_on;
pub use current::release_reactor;
pub use current::{check_driven, is_driven};
pub use reactor::{Awake, Reactor, Turned};
pub use readiness::{Readable, Writable};
#[cfg(windows)]
pub use waitable::Waitable;

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
