//! The executor behaves like a plain model of it in every random program.
//!
//! 64-bit targets only. On 32-bit targets the programs use up the 1,024 generations of an executor
//! id. A stale wake may then wake the driver once for nothing, which the model rejects.
#![cfg(target_pointer_width = "64")]

#[path = "common/program.rs"]
mod program;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_program_behaves_like_the_model(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        program::check(&bytes);
    }
}
