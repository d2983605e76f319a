//! Shows the progress as a live bar on a terminal, and as one line per trial elsewhere.

use std::io::{IsTerminal, stderr};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::trial::{Outcome, Trial};

/// Steps of the bar per trial.
const STEPS: u64 = 1000;

pub(crate) struct Progress {
    /// Hidden if there is no terminal.
    bar: ProgressBar,
    done: u64,
    current: String,
}

impl Progress {
    pub(crate) fn new(trials: usize) -> Self {
        // Drawn by `show` only, because a thread that redraws would disturb the measurement.
        let bar = ProgressBar::new(trials as u64 * STEPS);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress {
            bar,
            done: 0,
            current: String::new(),
        }
    }

    pub(crate) fn begin(&mut self, trial: &Trial) {
        self.current = trial.to_string();
        self.show(0.0, "starting");
    }

    pub(crate) fn show(&self, part: f64, doing: &'static str) {
        self.bar
            .set_position(self.done * STEPS + (part * STEPS as f64) as u64);
        self.bar.set_message(format!("{}: {doing}", self.current));
    }

    pub(crate) fn end(&mut self, trial: &Trial, outcome: &Outcome) {
        self.done += 1;
        self.bar.set_position(self.done * STEPS);
        let line = format!("{trial}: {}", gist(outcome));
        if stderr().is_terminal() {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn gist(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Measured(figures) => format!(
            "{} requests/s, p99 {:.2} ms",
            HumanCount(figures.requests_per_second as u64),
            figures.p99_ms,
        ),
        Outcome::Refused(why) => why.clone(),
        Outcome::Failed(error) => format!("failed: {error:#}"),
    }
}
