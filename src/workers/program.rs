//! The executable of the workers.

use std::env;
use std::io;
use std::path::PathBuf;

/// The executable, held open so that it can be started through its descriptor. A worker that is
/// restarted after a crash then runs the same program as the others, even if the file was replaced
/// or deleted. A reload opens the file again.
pub(super) struct Program {
    /// The path at which the next version is expected.
    path: PathBuf,
    #[cfg(target_os = "linux")]
    file: std::os::fd::OwnedFd,
}

impl Program {
    /// Opens the running program.
    pub(super) fn open() -> io::Result<Program> {
        let path = found_at()?;
        #[cfg(target_os = "linux")]
        let file = open("/proc/self/exe".as_ref())?;
        Ok(Program {
            path,
            #[cfg(target_os = "linux")]
            file,
        })
    }

    /// Opens the file that the path leads to now.
    pub(super) fn reopen(&self) -> io::Result<Program> {
        let path = self.path.clone();
        let unreadable =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        #[cfg(target_os = "linux")]
        let file = open(&path).map_err(unreadable)?;
        #[cfg(not(target_os = "linux"))]
        path.metadata().map_err(unreadable)?;
        Ok(Program {
            #[cfg(target_os = "linux")]
            file,
            path,
        })
    }

    /// Returns the path to execute.
    #[cfg(target_os = "linux")]
    pub(super) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

/// Returns the path by which the program was started, if it leads to this program. It may contain a
/// symbolic link that leads to another version later; `current_exe` returns the path with links
/// resolved.
fn found_at() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let called = env::args_os()
        .next()
        .and_then(|name| std::path::absolute(name).ok());
    let is_it = |called: &PathBuf| match (called.canonicalize(), program.canonicalize()) {
        (Ok(called), Ok(program)) => called == program,
        _ => false,
    };
    Ok(called.filter(is_it).unwrap_or(program))
}

#[cfg(target_os = "linux")]
fn open(path: &std::path::Path) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    // `O_PATH` works without permission to read the file.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
