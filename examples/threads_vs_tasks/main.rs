//! Compares one thread per connection with one task per connection.
//!
//! ```sh
//! cargo run --release --example threads_vs_tasks
//! cargo run --release --example threads_vs_tasks -- --connections 10,20000 --seconds 2
//! cargo run --release --example threads_vs_tasks -- --help
//! ```
//!
//! A server answers N clients over loopback TCP. Each client thinks, sends a small request, and
//! checks the reply byte for byte. The server runs once with a thread per connection (`std::net`),
//! and once with a windlass task per connection, all on one thread. The results are a table, a
//! summary in words, and a chart as an SVG.
//!
//! Conditions of a fair comparison:
//!
//! * The server is a separate process (this program, started again), so that the OS reports its CPU
//!   time, context switches and memory separately.
//! * The clients are the same program for both servers, and both servers do the same work.
//!   [`server`] shows them side by side.
//! * Think times grow with the number of clients, so that every step has the same number of
//!   requests per second. Only the number of connections changes from step to step.
//!
//! Continue with [`trial`], which measures one step.

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
            eprintln!("threads_vs_tasks: {error} (see --help)");
            ExitCode::from(2)
        }
    }
}

/// Runs every step with every kind of server, one after the other, and reports.
///
/// A step that one kind of server cannot do is a result, not an error of this program.
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
