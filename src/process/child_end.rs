//! A child process until it is reaped, and its end as an event.

use std::io;
use std::process::{Child, ExitStatus};
use std::task::{Context, Poll};

pub(crate) use platform::{ChildEnd, ChildHandle};

#[cfg(unix)]
mod platform {
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::thread;

    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

    use windlass_reactor::Async;
    use windlass_reactor::shortage::cannot_start_thread;

    use crate::waits::{SourceKind, SourceLabel};

    use super::*;

    /// A child that this process has to reap.
    ///
    /// The system may reuse a PID as soon as this handle, other code, or (where `SIGCHLD` is
    /// ignored) the system has reaped the child. So all operations prefer the pidfd, and stop using
    /// the PID once the child is known to be gone.
    #[derive(Debug)]
    pub(crate) struct ChildHandle {
        child: Child,
        /// `None` where the system refuses one, and once the child is gone.
        pidfd: Option<Arc<OwnedFd>>,
        state: State,
    }

    #[derive(Clone, Copy, Debug)]
    enum State {
        /// The child runs, or has ended and waits to be reaped, as far as this handle knows.
        Unreaped,
        Reaped(ExitStatus),
        /// Other code or the system has reaped the child. Its status is lost.
        Lost,
    }

    impl ChildHandle {
        /// Takes a child that was just started.
        pub(crate) fn new(child: Child) -> ChildHandle {
            let pidfd = pidfd::open(Pid::from_child(&child));
            ChildHandle {
                child,
                pidfd,
                state: State::Unreaped,
            }
        }

        pub(crate) fn id(&self) -> u32 {
            self.child.id()
        }

        /// Reaps the child and returns its status if it has ended. `ECHILD` if the status is lost.
        pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
            match self.state {
                State::Reaped(status) => return Ok(Some(status)),
                State::Lost => return Err(Errno::CHILD.into()),
                State::Unreaped => {}
            }
            let by_pidfd = self.pidfd.as_deref().and_then(pidfd::try_wait);
            let waited = by_pidfd.unwrap_or_else(|| self.child.try_wait());
            match &waited {
                Ok(Some(status)) => self.set_gone(State::Reaped(*status)),
                Err(error) if is(error, Errno::CHILD) => self.set_gone(State::Lost),
                _ => {}
            }
            waited
        }

        /// Signals the child unless it is known to have been reaped.
        pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
            if !matches!(self.state, State::Unreaped) {
                return Ok(());
            }
            let by_pidfd = self.pidfd.as_deref();
            match by_pidfd.map(|pidfd| pidfd::signal(pidfd, signal)) {
                Some(Ok(())) => return Ok(()),
                Some(Err(Errno::SRCH)) => {
                    self.set_gone(State::Lost);
                    return Ok(());
                }
                // The signal is forbidden, or a sandbox refuses the call. `kill_process` finds out
                // which.
                Some(Err(_)) | None => {}
            }
            match self.try_wait() {
                Ok(None) => Ok(kill_process(Pid::from_child(&self.child), signal)?),
                Ok(Some(_)) => Ok(()),
                Err(_) if matches!(self.state, State::Lost) => Ok(()),
                Err(error) => Err(error),
            }
        }

        pub(crate) fn kill(&mut self) -> io::Result<()> {
            self.signal(Signal::KILL)
        }

        fn set_gone(&mut self, state: State) {
            self.state = state;
            self.pidfd = None;
        }

        /// Returns the end of a child that was found running just before.
        pub(crate) fn end(&mut self) -> io::Result<ChildEnd> {
            let pid = Pid::from_child(&self.child);
            if self.pidfd.is_none() {
                // The process may have been out of file descriptors when the child was started.
                self.pidfd = pidfd::open(pid);
            }
            let by_pidfd = self
                .pidfd
                .clone()
                .map(|end| ChildEnd::watch(end, self.id()));
            match by_pidfd {
                Some(Ok(end)) => Ok(end),
                // The pidfd is missing, or the poller can't watch it.
                Some(Err(_)) | None => ChildEnd::watch(Arc::new(end_by_thread(pid)?), self.id()),
            }
        }
    }

    /// A file descriptor that becomes readable when the child has ended and can be reaped.
    #[derive(Debug)]
    pub(crate) struct ChildEnd {
        _label: SourceLabel,
        end: Async<Arc<OwnedFd>>,
    }

    impl ChildEnd {
        fn watch(end: Arc<OwnedFd>, pid: u32) -> io::Result<ChildEnd> {
            let _label = SourceLabel::new(end.as_raw_fd(), SourceKind::Child { pid });
            let end = Async::new_nonlingering(end)?;
            end.register()?;
            Ok(ChildEnd { _label, end })
        }

        /// Reaps the child once it has ended.
        pub(crate) fn poll(
            &self,
            cx: &mut Context<'_>,
            child: &mut ChildHandle,
        ) -> Poll<io::Result<ExitStatus>> {
            self.poll_with(cx, || child.try_wait())
        }

        /// Calls `check` now and after each event, until it returns a value.
        pub(crate) fn poll_with<T>(
            &self,
            cx: &mut Context<'_>,
            mut check: impl FnMut() -> io::Result<Option<T>>,
        ) -> Poll<io::Result<T>> {
            self.end.poll_read_with(cx, |_| {
                check()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            })
        }
    }

    #[cfg(all(target_os = "linux", not(windlass_portable)))]
    mod pidfd {
        use std::os::unix::process::ExitStatusExt;

        use std::os::fd::AsFd;

        use rustix::process::{PidfdFlags, WaitIdStatus, pidfd_open, pidfd_send_signal};

        use super::*;

        /// Returns `None` before Linux 5.3, when the process is out of file descriptors, and where
        /// a sandbox refuses the call with any error. The portable code then takes over.
        pub(super) fn open(pid: Pid) -> Option<Arc<OwnedFd>> {
            pidfd_open(pid, PidfdFlags::empty()).ok().map(Arc::new)
        }

        /// Waits for this process only, even if its PID was reused. Returns `None` where the system
        /// can't wait by pidfd, as before Linux 5.4.
        pub(super) fn try_wait(pidfd: &OwnedFd) -> Option<io::Result<Option<ExitStatus>>> {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(pidfd.as_fd()), ended) {
                Ok(ended) => Some(Ok(ended.map(|ended| exit_status(&ended)))),
                Err(Errno::CHILD) => Some(Err(Errno::CHILD.into())),
                Err(_) => None,
            }
        }

        /// Signals this process only. If it was reaped, the error is `ESRCH`.
        pub(super) fn signal(pidfd: &OwnedFd, signal: Signal) -> Result<(), Errno> {
            pidfd_send_signal(pidfd, signal)
        }

        /// Encodes the status as `waitpid` does.
        fn exit_status(ended: &WaitIdStatus) -> ExitStatus {
            let code = ended.exit_status().unwrap_or(0);
            let signal = ended.terminating_signal().unwrap_or(0);
            let dumped = if ended.dumped() { 0x80 } else { 0 };
            ExitStatus::from_raw((code & 0xff) << 8 | signal | dumped)
        }
    }

    #[cfg(not(all(target_os = "linux", not(windlass_portable))))]
    mod pidfd {
        use super::*;

        pub(super) fn open(_: Pid) -> Option<Arc<OwnedFd>> {
            None
        }

        pub(super) fn try_wait(_: &OwnedFd) -> Option<io::Result<Option<ExitStatus>>> {
            None
        }

        pub(super) fn signal(_: &OwnedFd, _: Signal) -> Result<(), Errno> {
            Err(Errno::NOSYS)
        }
    }

    /// Starts a thread that waits for the child and closes its end of a socket pair. The owner of
    /// the handle reaps the child, so that the owner always knows whether the PID is still valid.
    fn end_by_thread(pid: Pid) -> io::Result<OwnedFd> {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // Otherwise a thread that is forbidden to wait would report the end of a running child.
        match waitid(WaitId::Pid(pid), ended | WaitIdOptions::NOHANG) {
            Ok(_) | Err(Errno::CHILD) => {}
            Err(error) => return Err(error.into()),
        }
        let (end, threads_end) = UnixStream::pair()?;
        let thread = thread::Builder::new().name("windlass-child".into());
        let waiting = thread.spawn(move || {
            while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), ended) {}
            drop(threads_end);
        });
        waiting.map_err(cannot_start_thread)?;
        Ok(end.into())
    }

    fn is(error: &io::Error, errno: Errno) -> bool {
        error.raw_os_error() == Some(errno.raw_os_error())
    }
}

#[cfg(windows)]
mod platform {
    use std::os::windows::io::AsHandle;

    use windlass_reactor::Waitable;

    use super::*;

    /// A child. The process handle in std's `Child` always refers to the same process.
    #[derive(Debug)]
    pub(crate) struct ChildHandle(Child);

    impl ChildHandle {
        pub(crate) fn new(child: Child) -> ChildHandle {
            ChildHandle(child)
        }

        pub(crate) fn id(&self) -> u32 {
            self.0.id()
        }

        pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
            self.0.try_wait()
        }

        pub(crate) fn kill(&mut self) -> io::Result<()> {
            self.0.kill()
        }

        pub(crate) fn end(&mut self) -> io::Result<ChildEnd> {
            let process = self.0.as_handle().try_clone_to_owned()?;
            Ok(ChildEnd(Waitable::new(process)?))
        }
    }

    #[derive(Debug)]
    pub(crate) struct ChildEnd(Waitable);

    impl ChildEnd {
        /// Returns the status once the child has ended.
        pub(crate) fn poll(
            &self,
            cx: &mut Context<'_>,
            child: &mut ChildHandle,
        ) -> Poll<io::Result<ExitStatus>> {
            self.0.register(cx)?;
            // If the child ends from here on, the event wakes this waker.
            child
                .try_wait()
                .transpose()
                .map_or(Poll::Pending, Poll::Ready)
        }
    }
}
