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
        Some("services") => services(&args.split_off(1)),
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

/// Runs the part `services`, which is a program of its own.
fn services(args: &[String]) -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/services");
    let status = Command::new("python3").arg(folder).args(args).status();
    ensure!(
        status.context("python3")?.success(),
        "the services have failed"
    );
    Ok(())
}
