//! The project's argument as a program: a thread a connection against a task a connection.
//!
//! ```sh
//! cargo run --release --example threads_vs_tasks
//! cargo run --release --example threads_vs_tasks -- --connections 10,20000 --seconds 2
//! cargo run --release --example threads_vs_tasks -- --help
//! ```
//!
//! A server answers N clients over loopback TCP; each client thinks, sends a small request, and
//! checks the reply byte for byte. Once the server has a thread for each connection (`std::net`),
//! once a windlass task for each, all on one thread. Then come a table, a verdict in words, and a
//! chart as an SVG.
//!
//! What makes the comparison fair:
//!
//! * The server is a process of its own (this program, started again), so that its CPU time, its
//!   context switches and its memory are read from the OS and are nobody else's.
//! * The clients are the same program for both servers, and the two servers do the same work:
//!   see [`server`], where they stand side by side.
//! * The clients think longer the more of them there are, so that every rung asks for the same
//!   number of requests a second. What changes from rung to rung is only over how many
//!   connections they are spread.
//!
//! Read on in [`trial`], where one rung is measured.

mod trial;

mod clients;
mod server;

mod server_process;

mod descriptors;
mod usage;

mod options;
mod progress;

mod chart;
mod report;

use std::process::ExitCode;

use options::{Command, Options};
use progress::Progress;
use trial::{Outcome, Trial};

fn main() -> ExitCode {
    match options::parse() {
        Ok(Command::Help) => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Ok(Command::Serve { side, size }) => server::run(side, size),
        Ok(Command::Compare(options)) => compare(&options),
        Err(error) => {
            eprintln!("threads_vs_tasks: {error} (--help tells more)");
            ExitCode::from(2)
        }
    }
}

/// Runs every rung on every side, one after the other, and reports.
///
/// A rung that a side can't do is no failure of this program: it is part of the comparison.
fn compare(options: &Options) -> ExitCode {
    if let Err(error) = usage::Usage::of_this_process() {
        eprintln!("threads_vs_tasks: {error}");
        return ExitCode::FAILURE;
    }
    let trials = options.trials();
    let load_before = usage::load_average();
    let mut progress = Progress::new(trials.len());
    let outcomes: Vec<(Trial, Outcome)> = trials
        .into_iter()
        .map(|trial| {
            progress.begin(&trial);
            let outcome = trial.run(&progress);
            progress.end(&trial, &outcome);
            (trial, outcome)
        })
        .collect();
    progress.clear();

    println!(
        "{}",
        report::Report {
            options,
            outcomes: &outcomes,
            load_before
        }
    );
    let measured = |(_, outcome): &(Trial, Outcome)| matches!(outcome, Outcome::Measured(_));
    if !outcomes.iter().any(measured) {
        eprintln!("threads_vs_tasks: nothing could be measured, so there is no chart");
        return ExitCode::FAILURE;
    }
    if let Err(error) = chart::draw(options, &outcomes) {
        eprintln!(
            "threads_vs_tasks: can't draw {}: {error:#}",
            options.svg.display()
        );
        return ExitCode::FAILURE;
    }
    println!("chart: {}", options.svg.display());

    let failed = outcomes
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
