//! Programs in a simulated world: virtual time, a network and disks that depend on a seed alone.

// Until the world uses them.
#![allow(dead_code)]

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
