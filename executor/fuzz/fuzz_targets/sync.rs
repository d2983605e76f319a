//! Programs over the channels and locks of `sync`, against their models.
//!
//! ```sh
//! cd executor && cargo +nightly fuzz run sync -- -max_total_time=60
//! ```

#![no_main]

#[path = "../../../tests/sync/program.rs"]
mod program;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| program::check(bytes));
