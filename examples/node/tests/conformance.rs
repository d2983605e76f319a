//! The checks of `examples/guests`, with Node as the host.
//!
//! ```sh
//! cargo test -p windlass-node --test conformance
//! ```

mod node;

use std::process::ExitCode;

use windlass_guest_checks::run_suite;

fn main() -> anyhow::Result<ExitCode> {
    let Some(node) = node::Node::installed()? else {
        println!("SKIPPED: node, which is not installed or older than 18");
        return Ok(ExitCode::SUCCESS);
    };
    let name = format!("Node {}", node.version);
    run_suite(&[&name], |_, check| {
        let mut command = node.command();
        command.args([
            "-p",
            &format!("require(process.env.MODULE).check('{check}')"),
        ]);
        Ok(Some(command))
    })
}
