//! Measuring with a warm-up, several rounds, the median and the spread.

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The median of the rounds.
    pub median: f64,
    /// Half of the range of the rounds, as a share of the median.
    pub spread: f64,
}

/// Returns true in the tests of the book, where a chapter takes about two seconds.
pub fn is_quick() -> bool {
    env::var_os("WINDLASS_BOOK_QUICK").is_some()
}

/// Returns the first number, or the second in the tests of the book.
pub fn effort(full: usize, quick: usize) -> usize {
    if is_quick() { quick } else { full }
}

/// Measures a round several times, after one round that only warms up.
///
/// # Errors
///
/// Returns the first error of a round.
pub fn rounds(mut round: impl FnMut() -> io::Result<f64>) -> io::Result<Sample> {
    round()?;
    let values = (0..effort(7, 3)).map(|_| round());
    Ok(Sample::of(values.collect::<io::Result<_>>()?))
}

/// Measures the nanoseconds per call, over a number of calls per round.
pub fn per_call(calls: usize, mut call: impl FnMut()) -> Sample {
    let calls = effort(calls, calls / 8).max(1);
    let round = || {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        Ok(start.elapsed().as_nanos() as f64 / calls as f64)
    };
    rounds(round).expect("a round that measures calls has no errors")
}

/// Returns the CPU time that this thread has used.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Sample {
    /// Takes the median and the spread of the values.
    ///
    /// # Panics
    ///
    /// Panics if there is no value.
    pub fn of(mut values: Vec<f64>) -> Sample {
        values.sort_by(f64::total_cmp);
        let median = values[values.len() / 2];
        let range = values[values.len() - 1] - values[0];
        Sample {
            median,
            spread: if median == 0.0 {
                0.0
            } else {
                range / 2.0 / median.abs()
            },
        }
    }

    /// Returns the sample in another unit.
    pub fn times(self, factor: f64) -> Sample {
        Sample {
            median: self.median * factor,
            ..self
        }
    }
}

/// A line on the terminal that shows the steps of a measurement.
#[derive(Debug)]
pub struct Progress {
    title: String,
    done: usize,
    steps: usize,
    is_shown: bool,
}

impl Progress {
    /// Creates the line, which is shown only on a terminal.
    pub fn new(title: &str) -> Progress {
        let is_shown = io::stderr().is_terminal();
        Progress {
            title: title.to_owned(),
            done: 0,
            steps: 1,
            is_shown,
        }
    }

    /// Sets the number of steps.
    pub fn steps(&mut self, steps: usize) {
        self.steps = steps;
    }

    /// Begins the next step.
    pub fn step(&mut self, name: &str) {
        self.done += 1;
        if self.is_shown {
            let filled = (20 * self.done / self.steps).min(20);
            let bar = "█".repeat(filled) + &"░".repeat(20 - filled);
            eprint!("\r\x1b[K{}  {bar}  {name}", self.title);
            io::stderr().flush().ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }
}
