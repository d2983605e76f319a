//! Tests and examples of the project, in both worlds from one binary.
//!
//! The same source is in each module. A test below `simulated` runs in the world, and one below
//! `system` on the system (see `common::run`).

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
#![allow(clippy::duplicate_mod)]

mod examples;
mod simulated;
mod system;
