//! The executor does what a plain model of it says, word for word, whatever the program.

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
