//! How a run fails.

use std::fmt::{self, Write};

use super::compare::Difference;
use super::panics::Panicked;

/// Why a run failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// The program or an assertion of the test panicked.
    Panic {
        message: String,
        /// The file, line and column.
        place: Option<String>,
    },
    /// The future of a host has returned an error.
    Error { host: String, error: String },
    /// No task is ready and no timer is set. The lines name the tasks and their waits.
    Deadlock { waits: Vec<String> },
    /// The program has not finished within a limit, for example after the last fault.
    NoProgress { limit: String, waits: Vec<String> },
    /// Two runs with the same decisions differ.
    Nondeterminism(Difference),
}

impl From<Panicked> for Problem {
    fn from(Panicked { message, place }: Panicked) -> Problem {
        Problem::Panic { message, place }
    }
}

impl Problem {
    /// Returns whether another problem is probably the same one. The message of a panic may contain
    /// values that depend on the decisions, so its place counts. An error has no place, so its text
    /// counts without the digits.
    pub(super) fn is_like(&self, other: &Problem) -> bool {
        match (self, other) {
            (
                Problem::Panic { message, place },
                Problem::Panic {
                    message: other,
                    place: other_place,
                },
            ) => place == other_place && (place.is_some() || message == other),
            (
                Problem::Error { host, error },
                Problem::Error {
                    host: other_host,
                    error: other,
                },
            ) => host == other_host && without_digits(error).eq(without_digits(other)),
            (Problem::Deadlock { .. }, Problem::Deadlock { .. })
            | (Problem::NoProgress { .. }, Problem::NoProgress { .. })
            | (Problem::Nondeterminism(_), Problem::Nondeterminism(_)) => true,
            _ => false,
        }
    }

    /// Returns a number of the kind, which becomes part of the hash.
    pub(super) fn number(&self) -> u64 {
        match self {
            Problem::Panic { .. } => 1,
            Problem::Deadlock { .. } => 2,
            Problem::NoProgress { .. } => 3,
            Problem::Nondeterminism(_) => 4,
            Problem::Error { .. } => 5,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Panic { message, place } => {
                match place {
                    Some(place) => write!(f, "panic at {place}:")?,
                    None => f.write_str("panic:")?,
                }
                let is_short = !message.contains('\n');
                f.write_char(if is_short { ' ' } else { '\n' })?;
                f.write_str(message.trim_end())
            }
            Problem::Error { host, error } => write!(f, "error of host `{host}`: {error}"),
            Problem::Deadlock { waits } => {
                f.write_str("deadlock: no task is ready, and no timer is set")?;
                write_waits(f, waits)
            }
            Problem::NoProgress { limit, waits } => {
                write!(f, "no progress: {limit}")?;
                write_waits(f, waits)
            }
            Problem::Nondeterminism(difference) => difference.fmt(f),
        }
    }
}

fn without_digits(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| !c.is_ascii_digit())
}

fn write_waits(f: &mut fmt::Formatter<'_>, waits: &[String]) -> fmt::Result {
    waits.iter().try_for_each(|wait| write!(f, "\n    {wait}"))
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn errors_are_alike_if_their_texts_differ_in_digits_only() {
        let problem = |host: &str, error: &str| Problem::Error {
            host: host.to_owned(),
            error: error.to_owned(),
        };
        let late = problem("client", "no answer after 17 ms");
        assert!(late.is_like(&problem("client", "no answer after 9 ms")));
        assert!(!late.is_like(&problem("server", "no answer after 17 ms")));
        assert!(!late.is_like(&problem("client", "the answer is empty")));
    }
}
