//! Node, and the module as it finds it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// The program, if it is installed.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) version: String,
    module: PathBuf,
}

impl Node {
    pub(crate) fn installed() -> anyhow::Result<Option<Node>> {
        let code = "process.versions.node.split('.')[0] >= 18 ? process.versions.node : ''";
        let Ok(output) = Command::new("node").args(["-p", code]).output() else {
            return Ok(None);
        };
        let version = String::from_utf8(output.stdout)?.trim().to_owned();
        if version.is_empty() {
            return Ok(None);
        }
        let module = module()?;
        Ok(Some(Node { version, module }))
    }

    /// Returns a command that runs Node. The module's path is in the environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("node");
        command.env("MODULE", &self.module);
        command.env("RUST_BACKTRACE", "0"); // of the panics that are tested
        command
    }
}

/// Copies the library to a name with the extension that `require` expects.
fn module() -> anyhow::Result<PathBuf> {
    let exe = env::current_exe()?;
    let library = exe.with_file_name("libwindlass_node.so");
    let name = exe.file_name().context("a test has a name")?;
    let module = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(name)
        .with_extension("node");
    // A rename, because another process may have loaded the old file.
    let new = module.with_extension("new");
    fs::copy(&library, &new).with_context(|| library.display().to_string())?;
    fs::rename(new, &module)?;
    Ok(module)
}
