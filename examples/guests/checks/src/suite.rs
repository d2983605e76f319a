//! All checks of several hosts, each in a process of its own.

use std::env;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use comfy_table::{Table, presets::ASCII_MARKDOWN};

use crate::CHECKS;

/// Time limit of a check. All of them take a second or two.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs all checks of each host and prints a table of the results. The arguments of the program
/// select hosts by a part of the name.
///
/// `command` returns the program that runs one check of one host. That program prints the result
/// of the check, or fails. `None` leaves the host out, which is printed.
pub fn run_suite(
    hosts: &[&str],
    command: impl Fn(&str, &str) -> anyhow::Result<Option<Command>>,
) -> anyhow::Result<ExitCode> {
    // Cargo's own options are ignored.
    let wanted: Vec<_> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let is_wanted = |host: &str| wanted.is_empty() || wanted.iter().any(|part| host.contains(part));
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(
        ["host"]
            .into_iter()
            .chain(CHECKS.iter().map(|(name, _)| *name)),
    );
    let mut failures = Vec::new();
    for host in hosts.iter().filter(|host| is_wanted(host)) {
        let mut row = vec![host.to_string()];
        for (check, _) in CHECKS {
            let result = match command(host, check)? {
                Some(command) => in_a_process(command),
                None => Ok("SKIPPED".to_owned()),
            };
            if let Err(error) = &result {
                failures.push(format!("{host}, {check}: {error:#}"));
            }
            row.push(result.unwrap_or_else(|_| "FAILED".to_owned()));
        }
        table.add_row(row);
    }
    println!("{table}");
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the check in a process with a time limit, and returns its result.
fn in_a_process(mut command: Command) -> anyhow::Result<String> {
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break status;
        }
        if start.elapsed() > LIMIT {
            process.kill()?;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (mut said, mut error) = (String::new(), String::new());
    process
        .stdout
        .take()
        .context("the stream is piped")?
        .read_to_string(&mut said)?;
    process
        .stderr
        .take()
        .context("the stream is piped")?
        .read_to_string(&mut error)?;
    anyhow::ensure!(status.success(), "{status} {}", error.trim());
    Ok(said.trim().to_owned())
}
