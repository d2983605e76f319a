//! The program that workers run.

use std::env;
use std::io;
use std::path::PathBuf;

/// The executable, held open where the system can start it by a descriptor. So a worker that is
/// started after a crash is of the same program as the others, also if the file has been replaced
/// or deleted since: another program takes a reload.
pub(super) struct Program {
    /// Where it was found, and a newer one will be.
    path: PathBuf,
    #[cfg(target_os = "linux")]
    file: std::os::fd::OwnedFd,
}

impl Program {
    /// The one that runs.
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

    /// The one that the same path leads to now.
    pub(super) fn open_again(&self) -> io::Result<Program> {
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

    /// What to start.
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

/// By the name that it was called by, if that leads to it: a symbolic link in there may lead to
/// another release later. The system's own answer has none left.
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
    // To start it takes no permission to read it.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
