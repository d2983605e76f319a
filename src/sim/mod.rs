//! Programs in a simulated world: virtual time, a network and disks that depend on a seed alone.

mod choices;
#[allow(dead_code, unused_imports)] // until the world drives it
mod net;
