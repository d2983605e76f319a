//! Exercises of chapter 1. The tests are in `checks/ch01.rs`.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use windlass_book::hole;

/// 1.1: Runs the work, and returns the share of the time in which this thread did not run.
///
/// `windlass_book::measure::thread_cpu` returns the CPU time that the thread has used.
fn waiting(work: impl FnOnce()) -> f64 {
    let _ = work;
    hole("compare the CPU time with the time that has passed")
}

/// 1.2: Answers numbers with their sum, like the session of the chapter. A line `quit` ends it.
fn session(input: impl BufRead, output: impl Write) -> io::Result<()> {
    let _ = (input, output);
    hole("write the session, and end it at `quit`")
}

/// 1.3: How many clients can one core serve, if its threads work for `cpu` per request and each
/// client sends its next request `away` after it has the reply?
fn clients(cpu: Duration, away: Duration) -> u32 {
    let _ = (cpu, away);
    hole("divide the time of a request by the CPU time of a request")
}

#[cfg(test)]
#[path = "../checks/ch01.rs"]
mod checks;
