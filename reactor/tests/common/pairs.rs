//! Pairs of descriptors that children do not inherit.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A pipe, as the reading and the writing end.
pub(crate) fn pipe_pair() -> (OwnedFd, OwnedFd) {
    #[cfg(not(target_vendor = "apple"))]
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    #[cfg(target_vendor = "apple")]
    let ends = rustix::pipe::pipe().unwrap();
    fcntl_setfd(&ends.0, FdFlags::CLOEXEC).unwrap();
    fcntl_setfd(&ends.1, FdFlags::CLOEXEC).unwrap();
    ends
}

/// A terminal and the side of its emulator.
pub(crate) fn terminal_pair() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    let flags = flags | OpenptFlags::CLOEXEC;
    let main = openpt(flags).unwrap();
    fcntl_setfd(&main, FdFlags::CLOEXEC).unwrap();
    grantpt(&main).unwrap();
    unlockpt(&main).unwrap();
    let name = ptsname(&main, Vec::new()).unwrap();
    let mut options = File::options();
    let no_control = OFlags::NOCTTY.bits() as i32;
    let options = options.read(true).write(true).custom_flags(no_control);
    let terminal = options.open(OsStr::from_bytes(name.as_bytes())).unwrap();
    (terminal, main)
}
