//! The reactor of [windlass](https://docs.rs/windlass): readiness, timers and sockets.
//!
//! It knows no executor. Its futures leave a std [`Waker`](std::task::Waker) with the source of an
//! event. So they work under any executor of their thread, as long as something on the thread
//! turns the reactor. [`block_on`] does that for one future, which may be an executor of many
//! tasks.
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
//! The body of the turn:
//!
//! ```text
//! // reactor/src/inner.rs
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
//! let mut turned = TurnResult { woken: woken.len() };
//! wake_all(woken.drain(..));
//! shrink(&mut woken, turned.woken);
//! self.scratch.set(woken);
//! self.park.end_turn();
//! // A message that comes later keeps the next turn from blocking.
//! if self.remote.has_messages() {
//!     turned.woken += self.check_inbox();
//! }
//! panic.map_or(Ok(turned), |payload| resume_unwind(payload))
//! ```
//!
//! # Guarantees
//!
//! * **One system call per turn** on Linux, and one more when an earlier deadline is set.
//!   Descriptors are registered, edge-triggered, when a future first has to wait for them. The
//!   first wait to write costs another call.
//! * **Try first, wait after.** An operation that does not have to wait costs only its own system
//!   call.
//! * **Nothing starves.** A source that is always ready yields after 32 operations. A turn fires
//!   at most 1,024 timers.
//! * **Timers are never early.** A lone timer is punctual to the nanosecond. Timers within 100 µs
//!   of each other, or within [`Reactor::set_timer_slack`], share a wake-up. Starting and stopping
//!   a timer takes constant time.
//! * **Events carry a generation**, so an event of a closed descriptor does not reach the next one
//!   of the same number.
//! * **No user code runs under a borrow.** Wakers may call anything, including the reactor.
//! * **An error instead of a hang** where nothing turns the reactor.
//! * **Any thread may use a source.** It belongs to the reactor where something waits for it. An
//!   operation that does not wait takes no lock.
//!
//! # Windows
//!
//! The reactor waits with completion ports. It can watch sockets and the end of processes. An
//! [`Async`] holds a socket (`AsSocket`). Unix sockets and the descriptor of a [`Reactor`], which
//! another loop could watch, are absent.
//!
//! # Fork
//!
//! A process that is forked and continues without `exec` shares the parent's poller and pipes. The
//! child leaves them alone:
//!
//! * **New objects work.** [`block_on`] and [`Reactor::current`] start afresh in the child, on
//!   each thread, including the one that forked. Create new sockets and listeners there. An
//!   inherited socket works if nothing has waited for it, and after a conversion to std and back.
//! * **An inherited [`Reactor`] returns an error** from each turn, so each `block_on` panics.
//!   Returning into a `block_on` that was running during the fork ends in that panic.
//! * **Inherited sockets** for which something has waited in the parent work until they have to
//!   wait again, which is an error. Dropping them closes
//!   the child's descriptor and leaves the parent's registration in place.
//!
//! The descriptor of an inherited `Reactor` is the parent's poller, so no loop may watch it in the
//! child. In a program with other threads, the child inherits locks that they hold in the
//! allocator and in std, and the system's rules about `fork` and threads apply.
//! [`std::process::Command`] is safe, because all descriptors are closed at its `exec`.

mod block_on;
mod reactor;
mod inner;
mod current;
pub mod budget;
mod task_budget;
pub mod wake;
mod poller;
pub mod system;
#[cfg(all(target_os = "linux", not(windlass_portable)))]
mod entered;
#[cfg(all(target_os = "linux", not(windlass_portable)))]
pub mod host;
mod readiness_cell;
mod entry;
mod registry;
mod remote;
mod mailbox;
mod park;
mod counters;
mod pulse;
mod waits;
#[doc(hidden)]
pub mod layout;
pub mod fork;
pub mod completion;
mod completion_source;
mod registration;
mod other_entries;
mod always_ready;
mod source;
mod source_wait;
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
pub use counters::ReactorReading;
pub use current::release_reactor;
pub use current::{check_driven, is_driven};
pub use inner::TurnResult;
pub use mailbox::{Job, Mailbox};
pub use park::LoopState;
pub use pulse::ReactorPulse;
pub use reactor::{Awake, Reactor};
pub use readiness::{Readable, Writable};
#[cfg(windows)]
pub use waitable::Waitable;
pub use waits::{Wait, WaitEvent};

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
