//! A child process as long as it has to be reaped, and its end as an event.

use std::io;
use std::process::{Child, ExitStatus};
use std::task::{Context, Poll};

pub(crate) use platform::{ChildEnd, ChildHandle};

#[cfg(unix)]
mod platform {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::thread;

    use rustix::io::Errno;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    use windlass_reactor::Async;
    use windlass_reactor::shortage::cannot_start_thread;

    use super::*;

    /// A child that this process has to reap.
    ///
    /// A PID can name another process as soon as the child was reaped, also by other code or,
    /// where `SIGCHLD` is ignored, by the system. So everything goes through the pidfd where there
    /// is one, and the PID is never used again once the child is known to be gone.
    #[derive(Debug)]
    pub(crate) struct ChildHandle {
        child: Child,
        /// `None` where the system refuses one, and once the child is gone.
        pidfd: Option<Arc<OwnedFd>>,
        state: State,
    }

    #[derive(Clone, Copy, Debug)]
    enum State {
        /// It runs, or has ended and was not reaped, as far as is known.
        Unreaped,
        Reaped(ExitStatus),
        /// Other code has reaped it, or the system has, and its status is lost.
        Lost,
    }

    impl ChildHandle {
        /// For a child that was just started.
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

        /// The child's status if it has ended: then it is reaped. `ECHILD` if its status is lost.
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

        /// Kills the child unless it is known to be gone.
        pub(crate) fn kill(&mut self) -> io::Result<()> {
            if !matches!(self.state, State::Unreaped) {
                return Ok(());
            }
            match self.pidfd.as_deref().map(pidfd::kill) {
                Some(Ok(())) => return Ok(()),
                Some(Err(Errno::SRCH)) => {
                    self.set_gone(State::Lost);
                    return Ok(());
                }
                // Not permitted, or a sandbox refuses the call. `kill` knows which.
                Some(Err(_)) | None => {}
            }
            match self.try_wait() {
                Ok(None) => self.child.kill(),
                Ok(Some(_)) => Ok(()),
                Err(_) if matches!(self.state, State::Lost) => Ok(()),
                Err(error) => Err(error),
            }
        }

        fn set_gone(&mut self, state: State) {
            self.state = state;
            self.pidfd = None;
        }

        /// The end of the child, which was found running just now.
        pub(crate) fn end(&mut self) -> io::Result<ChildEnd> {
            let pid = Pid::from_child(&self.child);
            if self.pidfd.is_none() {
                // There may have been no descriptor left when the child was started.
                self.pidfd = pidfd::open(pid);
            }
            let by_pidfd = self.pidfd.clone().map(ChildEnd::watch);
            match by_pidfd {
                Some(Ok(end)) => Ok(end),
                // No pidfd, or none that the poller can watch.
                Some(Err(_)) | None => ChildEnd::watch(Arc::new(end_by_thread(pid)?)),
            }
        }
    }

    /// A descriptor that becomes readable when the child has ended and can be reaped.
    #[derive(Debug)]
    pub(crate) struct ChildEnd(Async<Arc<OwnedFd>>);

    impl ChildEnd {
        fn watch(end: Arc<OwnedFd>) -> io::Result<ChildEnd> {
            let end = Async::new_nonlingering(end)?;
            end.register()?;
            Ok(ChildEnd(end))
        }

        /// The child's status, once it has ended: then it is reaped.
        pub(crate) fn poll(
            &self,
            cx: &mut Context<'_>,
            child: &mut ChildHandle,
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

    #[cfg(all(target_os = "linux", not(windlass_portable)))]
    mod pidfd {
        use std::os::unix::process::ExitStatusExt;

        use std::os::fd::AsFd;

        use rustix::process::{PidfdFlags, Signal, WaitIdStatus, pidfd_open, pidfd_send_signal};

        use super::*;

        /// `None` before Linux 5.3, without a descriptor left, and where a sandbox refuses the
        /// call, by whatever error: the portable way needs none.
        pub(super) fn open(pid: Pid) -> Option<Arc<OwnedFd>> {
            pidfd_open(pid, PidfdFlags::empty()).ok().map(Arc::new)
        }

        /// Never a stranger's status. `None` where the system refuses to wait by pidfd, as before
        /// Linux 5.4.
        pub(super) fn try_wait(pidfd: &OwnedFd) -> Option<io::Result<Option<ExitStatus>>> {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(pidfd.as_fd()), ended) {
                Ok(ended) => Some(Ok(ended.map(|ended| exit_status(&ended)))),
                Err(Errno::CHILD) => Some(Err(Errno::CHILD.into())),
                Err(_) => None,
            }
        }

        /// Never hits a stranger: the error of a child that was reaped is `ESRCH`.
        pub(super) fn kill(pidfd: &OwnedFd) -> Result<(), Errno> {
            pidfd_send_signal(pidfd, Signal::KILL)
        }

        /// As `waitpid` encodes it.
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

        pub(super) fn kill(_: &OwnedFd) -> Result<(), Errno> {
            Err(Errno::NOSYS)
        }
    }

    /// Where there is no pidfd, a thread waits for the child and closes its end of a socket pair.
    /// It doesn't reap the child. The owner of the handle does, so that only the owner knows when
    /// the PID is free.
    fn end_by_thread(pid: Pid) -> io::Result<OwnedFd> {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // A thread that may not wait would end at once, and nothing would tell of the child's end.
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

    /// A child. The handle that std has of it never names another process.
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
        /// The child's status, once it has ended.
        pub(crate) fn poll(
            &self,
            cx: &mut Context<'_>,
            child: &mut ChildHandle,
        ) -> Poll<io::Result<ExitStatus>> {
            self.0.register(cx)?;
            // If it ends from here on, the event finds the waker.
            child
                .try_wait()
                .transpose()
                .map_or(Poll::Pending, Poll::Ready)
        }
    }
}
