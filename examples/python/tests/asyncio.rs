//! The tests of `asyncio_test.py`, on each Python that is installed.

mod python;

use std::process::ExitCode;

use python::Python;

fn main() -> anyhow::Result<ExitCode> {
    let pythons = Python::installed()?;
    for python in pythons {
        println!("Python {}, {}", python.version, python.program);
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/asyncio_test.py");
        let status = python.command().arg(tests).status()?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
