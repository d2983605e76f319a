//! How tasks belong together: groups, scopes, asking to stop, values of a task.
//!
//! # Why a task must not outlive who spawned it
//!
//! A function that returns is done: whatever it has opened is closed, and its errors are known. A
//! task that it has let go of breaks that. It still uses what the caller believes to be free, its
//! error comes where nobody looks, and to stop it nobody has a handle. That is `goto` for
//! concurrency, so to say, and the cure is the same one: blocks that are left only when all that
//! happens in them has ended.
//!
//! | what you have | the block |
//! |---|---|
//! | one task | [`Task`]: await it, or drop it, which cancels it |
//! | many of a kind | [`TaskGroup`] |
//! | a server's connections | [`TaskGroup::independent`] |
//! | a few that work on the same variables | [`scope`], [`try_scope`]: children may borrow |
//! | a fixed number of futures in one task | `join!` and `select!` of the futures crate |
//!
//! In each the first failure cancels the rest, and comes out where the block is awaited; but one
//! connection is no business of another. What really shall live as long as the runtime says so:
//! [`Task::detach`].
//!
//! ```
//! use std::io;
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use windlass::net::{TcpListener, TcpStream};
//! use windlass::task::TaskGroup;
//!
//! /// The first line of each; if one can't be had, the others aren't waited for.
//! async fn ask_all(addrs: Vec<std::net::SocketAddr>) -> io::Result<Vec<u8>> {
//!     let mut group: TaskGroup<io::Result<u8>> = TaskGroup::new();
//!     for addr in addrs {
//!         group.spawn(async move {
//!             let mut stream = TcpStream::connect(addr).await?;
//!             let mut byte = [0];
//!             stream.read_exact(&mut byte).await?;
//!             Ok(byte[0])
//!         });
//!     }
//!     let mut answers = Vec::new();
//!     while let Some(answer) = group.join_next().await {
//!         answers.push(answer?); // returns, which drops the group, which cancels the rest
//!     }
//!     Ok(answers)
//! }
//!
//! # fn main() -> io::Result<()> {
//! windlass::block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let asking = windlass::spawn(ask_all(vec![listener.local_addr()?; 3]));
//!     for number in 1..=3 {
//!         listener.accept().await?.0.write_all(&[number]).await?;
//!     }
//!     assert_eq!(asking.await?.iter().sum::<u8>(), 6);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Cancelling, and asking to stop
//!
//! To cancel a task is to drop its future, at whatever await it is. That's at once, needs nothing
//! of the task, and its destructors run. A [`StopSource`] asks instead, and leaves it to the task
//! where to end: between two requests, say, and not within one. A graceful shutdown is both: ask,
//! wait for a while, cancel what is left.
//!
//! # What is safe to cancel
//!
#![doc = include_str!("cancel_safety.md")]

mod child;
mod group;
mod local;
mod scope;
mod stop;

pub use group::{Spawner, TaskGroup};
#[doc(hidden)]
pub use local::TaskLocalSlot;
pub use local::{TaskLocal, WithLocal};
pub use scope::{Scope, scope, try_scope};
pub use stop::{StopSource, StopToken, Stopped, UntilStopped};
pub use windlass_executor::{Panic, Task, budget};
