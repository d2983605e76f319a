//! Groups, scopes, graceful shutdown and task-local values.
//!
//! # Why a task should not outlive the function that spawned it
//!
//! A function that has returned is done, with its resources closed and its errors known. A task
//! that it has detached breaks this rule. The task still uses resources that the caller believes to
//! be free, its errors reach no caller, and no handle is left to stop it. Detached tasks are the
//! `goto` of concurrency. The cure is the same, namely blocks that end only when everything in them
//! has ended.
//!
//! | for | use |
//! |---|---|
//! | one task | [`Task`], to be awaited, or dropped, which cancels it |
//! | many tasks of a kind | [`TaskGroup`] |
//! | the connections of a server | [`TaskGroup::independent`] |
//! | a few tasks that work on the same variables | [`scope`], [`try_scope`]: children may borrow |
//! | a fixed number of futures in one task | `join!` and `select!` of the futures crate |
//!
//! In all of them except `independent`, the first failure cancels the others and propagates to the
//! task that awaits the block. A task that should live as long as the runtime is
//! [detached](Task::detach) explicitly.
//!
//! ```
//! use std::io;
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use windlass::net::{TcpListener, TcpStream};
//! use windlass::task::TaskGroup;
//!
//! /// Reads one byte from each server. The first error cancels the other reads.
//! async fn read_all(addrs: Vec<std::net::SocketAddr>) -> io::Result<Vec<u8>> {
//!     let mut group: TaskGroup<io::Result<u8>> = TaskGroup::new();
//!     for addr in addrs {
//!         group.spawn(async move {
//!             let mut stream = TcpStream::connect(addr).await?;
//!             let mut byte = [0];
//!             stream.read_exact(&mut byte).await?;
//!             Ok(byte[0])
//!         });
//!     }
//!     let mut bytes = Vec::new();
//!     while let Some(byte) = group.join_next().await {
//!         bytes.push(byte?); // an error returns, which drops the group and cancels the rest
//!     }
//!     Ok(bytes)
//! }
//!
//! # fn main() -> io::Result<()> {
//! windlass::block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let reads = windlass::spawn(read_all(vec![listener.local_addr()?; 3]));
//!     for number in 1..=3 {
//!         listener.accept().await?.0.write_all(&[number]).await?;
//!     }
//!     assert_eq!(reads.await?.iter().sum::<u8>(), 6);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Cancelling and graceful shutdown
//!
//! Cancelling a task drops its future at its current await. It takes effect immediately, needs no
//! cooperation, and runs destructors. A [`StopSource`] sends a request instead, and the task
//! chooses where to end, for example between two requests. Graceful shutdown combines both. It
//! requests the stop, waits until a deadline, and cancels the remaining tasks.
//!
//! # Cancel safety of each future
//!
#![doc = include_str!("cancel_safety.md")]

mod child;
mod listed_group;
mod group;
mod local;
mod local_value;
mod scope;
mod stop;
pub(crate) mod layout;

pub use group::{Spawner, TaskGroup};
#[doc(hidden)]
pub use local::TaskLocalSlot;
pub use local::{TaskLocal, WithLocal};
pub use local_value::Local;
pub use scope::{Scope, scope, try_scope};
pub use stop::{StopSource, StopToken, Stopped, UntilStopped};
pub use windlass_executor::{Panic, Task, budget};
