//! Programs in a simulated world: virtual time, a network and disks that depend on a seed alone.

#![allow(dead_code)]

mod choices;

mod context;

mod explore;

mod site;

mod trace;

mod block_on;
mod clock;
mod compare;
mod descriptors;
mod host;
mod link;
mod net;
mod outcome;
mod run;
mod system;
mod world;

pub use block_on::block_on;
pub use host::Host;
pub use link::Link;
pub use outcome::Outcome;
pub use world::World;

#[cfg(test)]
mod choices_tests;
#[cfg(test)]
mod trace_tests;
