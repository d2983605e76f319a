//! Programs in a simulated world: virtual time, a network and disks that depend on a seed alone.
//!
//! A test of a timeout takes no time:
//!
//! ```
//! # use std::{future::pending, time::Duration};
//! # use windlass::time::timeout;
//! windlass::sim::block_on(async {
//!     assert!(timeout(Duration::from_secs(3600), pending::<()>()).await.is_err());
//! });
//! ```
//!
//! A [`World`] has several hosts, which are programs with a clock and a disk of their own. They use
//! [`net`](crate::net), [`time`](crate::time), [`fs`](crate::fs), [`sync`](crate::sync),
//! [`spawn_blocking`](crate::spawn_blocking()) and [`signal`](crate::signal) as always. [`check()`]
//! runs them with many seeds. Each seed has its own order of tasks, latencies, partial reads and
//! lost writes. The first failure is shrunk to the few decisions that matter:
//!
//! ```
//! use std::time::Duration;
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use windlass::net::{TcpListener, TcpStream};
//! use windlass::sim;
//!
//! sim::check(0..20, |world| {
//!     world.host("server", || async {
//!         let listener = TcpListener::bind("0.0.0.0:7000").await?;
//!         let (mut stream, _) = listener.accept().await?;
//!         stream.write_all(b"ahoy").await
//!     });
//!     world.host("client", || async {
//!         let mut stream = loop {
//!             match TcpStream::connect("server:7000").await {
//!                 Ok(stream) => break stream,
//!                 Err(_) => windlass::time::sleep(Duration::from_millis(10)).await,
//!             }
//!         };
//!         let mut text = String::new();
//!         stream.read_to_string(&mut text).await?;
//!         assert_eq!(text, "ahoy");
//!         std::io::Result::Ok(())
//!     });
//!     world.partition("server", "client", Duration::ZERO..Duration::from_secs(10));
//! });
//! ```
//!
//! The page [Testing](https://github.com/windlass-rs/windlass/blob/main/docs/testing.md) explains
//! faults, replay, the end of a run, the limits of the models, and the sources of nondeterminism.
//!
//! # Determinism
//!
//! A run depends on its seed and on the program. `HashMap` with its random order, real clocks,
//! entropy and threads make runs differ. [`check()`] runs some seeds twice, and names the first
//! difference. The page has a table of all sources.

mod block_on;
mod check;
mod choices;
mod clock;
mod command;
mod compare;
mod context;
pub(crate) mod current;
mod descriptors;
pub(crate) mod disk;
mod explore;
mod host;
mod last_line;
mod link;
mod net;
mod outcome;
mod panics;
mod problem;
mod replay;
mod report;
mod run;
mod shrink;
pub(crate) mod signals;
mod site;
mod system;
mod time_limit;
mod trace;
mod world;

pub use block_on::block_on;
pub use check::{check, check_bytes};
pub use host::Host;
pub use link::Link;
pub use outcome::Outcome;
pub use report::{Failure, FailureKind, Report};
pub use world::World;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod choices_tests;
#[cfg(test)]
mod compare_tests;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod shrink_tests;
#[cfg(test)]
mod trace_tests;
