//! The interpreters on this machine, and the module as they find it.

// Each test uses a part of it.
#![allow(dead_code)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// The names of interpreters that may be different ones.
const PROGRAMS: [&str; 2] = ["python3", "/usr/bin/python3"];

/// An interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    pub(crate) program: &'static str,
    pub(crate) version: String,
    /// The folder with the module, and the one with uvloop.
    path: OsString,
}

impl Python {
    /// Returns the interpreters with different versions that are new enough.
    pub(crate) fn installed() -> anyhow::Result<Vec<Python>> {
        let path = env::join_paths([module_folder()?, packages()])?;
        let mut found: Vec<Python> = Vec::new();
        for program in PROGRAMS {
            let Some(version) = version(program) else {
                println!("SKIPPED: {program}, which is not installed or older than 3.9");
                continue;
            };
            if found.iter().all(|other| other.version != version) {
                found.push(Python {
                    program,
                    version,
                    path: path.clone(),
                });
            }
        }
        Ok(found)
    }

    /// Returns a command that runs this interpreter.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.env("PYTHONPATH", &self.path);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("RUST_BACKTRACE", "0"); // of the panics that are tested
        command
    }

    pub(crate) fn has_module(&self, module: &str) -> anyhow::Result<bool> {
        let output = self
            .command()
            .args(["-c", &format!("import {module}")])
            .output()?;
        Ok(output.status.success())
    }
}

/// `pip install --target target/python uvloop` installs it for these tests.
fn packages() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python")
}

fn version(program: &str) -> Option<String> {
    let code = "import sys; assert sys.version_info >= (3, 9); print(sys.version.split()[0])";
    let output = Command::new(program).args(["-c", code]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| version.trim().to_owned())
}

/// Copies the library to the name that `import` expects, in a folder of this process.
fn module_folder() -> anyhow::Result<PathBuf> {
    let exe = env::current_exe()?;
    let built = exe.parent().context("a test is in a folder")?;
    let library = built.join("libwindlass_asyncio.so");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "{}-module",
        exe.file_name()
            .context("a test has a name")?
            .to_string_lossy()
    ));
    fs::create_dir_all(&folder)?;
    // A rename, because another process may have loaded the old file.
    let (new, module) = (folder.join("new"), folder.join("windlass_asyncio.abi3.so"));
    fs::copy(&library, &new).with_context(|| library.display().to_string())?;
    fs::rename(new, module)?;
    Ok(folder)
}
