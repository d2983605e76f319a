//! Compares windlass with its peers. Contains the suite, and the child processes that it starts.

mod contend;
mod load;
mod suite;

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};

fn main() -> ExitCode {
    let mut args: Vec<String> = env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("work") => contend::work(&args.split_off(1)),
        Some("serve") => contend::serve(&args.split_off(1)),
        Some("load") => load::run(&args.split_off(1)),
        Some("services") => services(args.split_off(1)),
        Some("readme") => readme(),
        _ => suite::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything in half an hour, and writes the tables and charts of the README.
fn readme() -> Result<()> {
    let services = services(words("--update-readme --minutes 9"));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/results");
    let mut args = words("--update-readme --minutes 18 --ms 200 --out");
    args.push(folder.to_owned());
    suite::run(&args)?;
    services
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Runs the part `services`, which is a program of its own.
fn services(args: Vec<String>) -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/services");
    let status = Command::new("python3").arg(folder).args(args).status();
    ensure!(
        status.context("python3")?.success(),
        "the services have failed"
    );
    Ok(())
}
