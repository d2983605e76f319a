//! The executor does what a plain model of it says, word for word, whatever the program.
//!
//! On 64 bits: on 32 so many programs use up the 1,024 generations of an executor id, and then a
//! stale wake may ring once for nothing, which the model doesn't allow.
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
    fn any_program_does_what_the_model_says(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        program::check(&bytes);
    }
}
