//! Programs over the channels and locks of `sync`, against their models.
//!
//! ```sh
//! cd executor && cargo +nightly fuzz run sync -- -max_total_time=60
//! ```

#![no_main]

#[path = "../../tests/common/sync_program.rs"]
mod sync_program;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sync_program::check(bytes));
