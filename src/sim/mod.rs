//! Programs in a simulated world: virtual time, a network and disks that depend on a seed alone.

// Until the world uses them.
#![allow(dead_code)]

mod check;
mod choices;
mod command;
mod compare;
mod context;
mod explore;
mod last_line;
mod panics;
mod problem;
mod replay;
mod report;
mod run;
mod shrink;
mod site;
mod time_limit;
mod trace;

pub use report::{Failure, FailureKind, Report};

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
