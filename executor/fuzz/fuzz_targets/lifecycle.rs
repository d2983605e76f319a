//! Sequences of spawn, wake, cancel, detach, drop, from outside, from polls and from destructors,
//! against the model.
//!
//! ```sh
//! cd executor && cargo +nightly fuzz run lifecycle -- -max_total_time=60
//! ```

#![no_main]

#[path = "../../tests/common/program.rs"]
mod program;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| program::check(bytes));
