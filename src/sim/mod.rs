//! Programs in a simulated world: virtual time, a network and disks that depend on a seed alone.

mod choices;
pub(crate) mod current;
pub(crate) mod disk;
