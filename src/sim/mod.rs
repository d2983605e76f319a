//! Programs in a simulated world: virtual time, a network and disks that depend on a seed alone.

#[allow(dead_code)] // Until the world uses it.
mod choices;
#[allow(dead_code)] // Until the world uses it.
mod context;
#[allow(dead_code)] // Until the world uses it.
pub(crate) mod current;
#[allow(dead_code)] // Until the world uses it.
pub(crate) mod disk;
#[allow(dead_code)] // Until the world uses it.
mod explore;
#[allow(dead_code)] // Until the world uses it.
mod site;
#[allow(dead_code)] // Until the world uses it.
mod trace;

#[cfg(test)]
mod choices_tests;
#[cfg(test)]
mod trace_tests;
