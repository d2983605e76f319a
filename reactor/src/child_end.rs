//! The end of a child process, as an event.

use std::io;
use std::process::{Child, ExitStatus};
use std::task::{Context, Poll};

pub(crate) use platform::ChildEnd;

#[cfg(unix)]
mod platform {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use rustix::io::Errno;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    use super::*;
    use crate::io::Async;

    /// A descriptor that becomes readable when the child has ended and can be reaped.
    #[derive(Debug)]
    pub(crate) struct ChildEnd(Async<OwnedFd>);

    impl ChildEnd {
        /// The child must not have been reaped yet: then it may be about another one.
        pub(crate) fn of(child: &Child) -> io::Result<ChildEnd> {
            let pid = Pid::from_child(child);
            let end = match pidfd(pid)? {
                Some(end) => end,
                None => end_by_thread(pid)?,
            };
            Ok(ChildEnd(Async::new_nonblocking(end)?))
        }

        /// The child's status, once it has ended: then it is reaped.
        pub(crate) fn poll(
            &self,
            cx: &mut Context<'_>,
            child: &mut Child,
        ) -> Poll<io::Result<ExitStatus>> {
            self.poll_with(cx, || child.try_wait())
        }

        /// `look` is tried now and when the child has ended, until it finds something.
        pub(crate) fn poll_with<T>(
            &self,
            cx: &mut Context<'_>,
            mut look: impl FnMut() -> io::Result<Option<T>>,
        ) -> Poll<io::Result<T>> {
            self.0.poll_read_with(cx, |_| {
                look()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            })
        }
    }

    /// None before Linux 5.3, and in a sandbox that doesn't know the call.
    #[cfg(all(target_os = "linux", not(windlass_portable)))]
    fn pidfd(pid: Pid) -> io::Result<Option<OwnedFd>> {
        use rustix::process::{PidfdFlags, pidfd_open};
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOSYS | Errno::PERM) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(all(target_os = "linux", not(windlass_portable))))]
    fn pidfd(_: Pid) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }

    /// Where there is no such descriptor a thread waits for the child and hangs up one. It leaves
    /// the child to be reaped by whoever has its handle, since only they know when its number is
    /// free.
    fn end_by_thread(pid: Pid) -> io::Result<OwnedFd> {
        let (end, threads_end) = UnixStream::pair()?;
        thread::Builder::new()
            .name("windlass-child".into())
            .spawn(move || {
                let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), ended) {}
                drop(threads_end);
            })?;
        Ok(end.into())
    }
}

#[cfg(windows)]
mod platform {
    use std::fmt;
    use std::os::windows::io::{AsHandle, OwnedHandle};

    use super::*;
    use crate::source::Source;

    /// A handle of the process, for which the poller has the system's thread pool wait.
    pub(crate) struct ChildEnd {
        source: Source,
        process: OwnedHandle,
    }

    impl ChildEnd {
        pub(crate) fn of(child: &Child) -> io::Result<ChildEnd> {
            let process = child.as_handle().try_clone_to_owned()?;
            let source = Source::new()?; // to be closed from here on
            Ok(ChildEnd { source, process })
        }

        /// The child's status, once it has ended.
        pub(crate) fn poll(
            &self,
            cx: &mut Context<'_>,
            child: &mut Child,
        ) -> Poll<io::Result<ExitStatus>> {
            self.source.wait_for_process(cx, self.process.as_handle())?;
            // If it ends from here on, the event finds the waker.
            child
                .try_wait()
                .transpose()
                .map_or(Poll::Pending, Poll::Ready)
        }
    }

    impl Drop for ChildEnd {
        fn drop(&mut self) {
            self.source.close_process(self.process.as_handle());
        }
    }

    impl fmt::Debug for ChildEnd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("ChildEnd").field(&self.process).finish()
        }
    }
}
