//! Random programs compare every output and every wake-up of channels and locks with plain models.

use proptest::prelude::*;

use crate::program;

/// One test per kind of program.
macro_rules! model {
    ($($name:ident = $which:literal;)+) => {
        proptest! {
            #![proptest_config(ProptestConfig {
                cases: 1000,
                failure_persistence: None,
                ..ProptestConfig::default()
            })]

            $(#[test]
            fn $name(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
                program::check(&[&[$which], &bytes[..]].concat());
            })+
        }
    };
}

model! {
    a_semaphore_does_what_its_model_says = 0;
    a_mutex_does_what_its_model_says = 1;
    an_event_does_what_its_model_says = 2;
    a_bounded_channel_does_what_its_model_says = 3;
    an_unbounded_channel_does_what_its_model_says = 4;
    a_oneshot_does_what_its_model_says = 5;
    a_watch_does_what_its_model_says = 6;
    a_broadcast_does_what_its_model_says = 7;
    a_once_cell_does_what_its_model_says = 8;
}
