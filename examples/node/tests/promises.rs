//! The tests of `promises_test.mjs`.

mod node;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let Some(node) = node::Node::installed()? else {
        println!("SKIPPED: node, which is not installed or older than 18");
        return Ok(ExitCode::SUCCESS);
    };
    println!("Node {}", node.version);
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/promises_test.mjs");
    let status = node.command().args(["--expose-gc", tests]).status()?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
