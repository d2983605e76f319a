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

use std::env;
use std::process::{Command, ExitCode};

use anyhow::Context;
use windlass_guest_checks::{check_by_name, run_suite};
use windlass_guests::HOSTS;

/// Names the host and the check, in the process that runs it.
const ONE: &str = "WINDLASS_CONFORMANCE";

fn main() -> anyhow::Result<ExitCode> {
    if let Ok(one) = env::var(ONE) {
        let (host, check) = one.split_once('/').context(ONE)?;
        println!("{}", check_one(host, check)?);
        return Ok(ExitCode::SUCCESS);
    }
    let hosts: Vec<_> = HOSTS.iter().map(|(name, _)| *name).collect();
    run_suite(&hosts, |host, check| {
        if host.starts_with("winit") && env::var_os("DISPLAY").is_none() {
            println!("SKIPPED: {host}, because there is no display");
            return Ok(None);
        }
        let mut command = Command::new(env::current_exe()?);
        command.env(ONE, format!("{host}/{check}"));
        Ok(Some(command))
    })
}

fn check_one(host: &str, check: &str) -> anyhow::Result<String> {
    let (_, make) = HOSTS
        .iter()
        .find(|(name, _)| *name == host)
        .context("no such host")?;
    check_by_name(check)?(&make()?)
}
