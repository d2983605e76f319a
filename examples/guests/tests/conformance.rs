//! One list of checks for all hosts.
//!
//! ```sh
//! xvfb-run -a -s '-noreset' cargo test -p windlass-guests --test conformance
//! xvfb-run -a -s '-noreset' cargo test -p windlass-guests --test conformance -- glib # one host
//! ```
//!
//! Each check runs in its own process, because some loops can be created only once per process, and
//! only on its main thread. The checks assert events and counts, and that no host spins or polls
//! periodically. Other times are printed.

mod checks;

use std::env;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use checks::CHECKS;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use windlass_guests::HOSTS;

/// Time limit of a check. All of them take a second or two.
const LIMIT: Duration = Duration::from_secs(30);

/// Names the host and the check, in the process that runs it.
const ONE: &str = "WINDLASS_CONFORMANCE";

fn main() -> anyhow::Result<ExitCode> {
    if let Ok(one) = env::var(ONE) {
        let (host, check) = one.split_once('/').context(ONE)?;
        println!("{}", check_one(host, check)?);
        return Ok(ExitCode::SUCCESS);
    }
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
    for (host, _) in HOSTS.iter().filter(|(host, _)| is_wanted(host)) {
        let mut row = vec![host.to_string()];
        for (check, _) in CHECKS {
            let result = in_a_process(host, check);
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

fn check_one(host: &str, check: &str) -> anyhow::Result<String> {
    let (_, make) = HOSTS
        .iter()
        .find(|(name, _)| *name == host)
        .context("no such host")?;
    let (_, check) = CHECKS
        .iter()
        .find(|(name, _)| *name == check)
        .context("no such check")?;
    check(&make()?)
}

/// Runs the check in a process with a time limit, and returns its result.
fn in_a_process(host: &str, check: &str) -> anyhow::Result<String> {
    if host.starts_with("winit") && env::var_os("DISPLAY").is_none() {
        return Ok("SKIPPED: no display".to_owned());
    }
    let mut process = Command::new(env::current_exe()?)
        .env(ONE, format!("{host}/{check}"))
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
