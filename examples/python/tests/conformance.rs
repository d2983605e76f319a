//! The checks of `examples/guests`, with Python as the host.
//!
//! ```sh
//! cargo test -p windlass-python --test conformance
//! cargo test -p windlass-python --test conformance -- uvloop # one host
//! ```

mod python;

use std::process::{Command, ExitCode};

use python::Python;
use windlass_guest_checks::run_suite;

fn main() -> anyhow::Result<ExitCode> {
    let mut hosts = Vec::new();
    for python in Python::installed()? {
        for module in ["asyncio", "uvloop"] {
            if python.has_module(module)? {
                hosts.push((
                    format!("{module}, Python {}", python.version),
                    module,
                    python.clone(),
                ));
            } else {
                println!(
                    "SKIPPED: {module} on {}, which is not installed",
                    python.version
                );
            }
        }
    }
    let names: Vec<_> = hosts.iter().map(|(name, ..)| name.as_str()).collect();
    run_suite(&names, |host, check| {
        let (_, module, python) = hosts
            .iter()
            .find(|(name, ..)| name == host)
            .expect("the suite knows these hosts");
        let program = format!(
            "import {module}, windlass_asyncio\n\
             print(windlass_asyncio.check({module}.new_event_loop(), '{check}'))"
        );
        let mut command: Command = python.command();
        command.args(["-c", &program]);
        Ok(Some(command))
    })
}
