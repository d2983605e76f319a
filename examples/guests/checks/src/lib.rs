//! One list of checks for all event loops that embed windlass, whatever their language.
//!
//! A [`Host`] is a loop with its [`Guest`]. The [`CHECKS`] run on any host. [`run_suite`] runs each
//! check of each host in its own process, and prints the properties of the hosts.

// Closures and foreign loops don't implement Debug.
#![allow(missing_debug_implementations)]

mod checks;
mod guest;
mod host;
mod suite;

pub use checks::{CHECKS, Check, check_by_name};
pub use guest::Guest;
pub use host::Host;
pub use suite::run_suite;
