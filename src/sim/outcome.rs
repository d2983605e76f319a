//! What the future of a host may return.

use std::convert::Infallible;
use std::fmt;

/// The output of a host's future: nothing, or a result whose error fails the run.
///
/// This trait is sealed.
pub trait Outcome: sealed::Outcome {}

impl<T: sealed::Outcome> Outcome for T {}

pub(super) mod sealed {
    use super::*;

    pub trait Outcome: 'static {
        /// Returns the message of an error.
        fn into_error(self) -> Option<String>;
    }

    impl Outcome for () {
        fn into_error(self) -> Option<String> {
            None
        }
    }

    impl Outcome for Infallible {
        fn into_error(self) -> Option<String> {
            match self {}
        }
    }

    impl<T: Outcome, E: fmt::Debug + 'static> Outcome for Result<T, E> {
        fn into_error(self) -> Option<String> {
            match self {
                Ok(value) => value.into_error(),
                Err(error) => Some(format!("{error:?}")),
            }
        }
    }
}
