//! Child processes.
//!
//! The types mirror [`std::process`], with an `.await` where std blocks. The end of a child is an
//! event. On Linux a file descriptor of the child (a pidfd) becomes readable. This takes no thread
//! and no `SIGCHLD` handler, so the children of other parts of the program are unaffected.
//!
//! On other Unix systems, and before Linux 5.3, a thread waits for each child that is awaited, or
//! that still runs when its handle is dropped. On Windows the completion port reports the end of a
//! process, and a thread performs each read or write of a pipe that is in flight.
//!
//! # A child that dies with its parent
//!
//! Linux's `PR_SET_PDEATHSIG`, set for example by
//! [`pre_exec`](std::os::unix::process::CommandExt::pre_exec), signals the child when the *thread*
//! that started it exits, before the process does. [`Command::spawn`] starts the child on the
//! calling thread. Start such a child on a thread that lives as long as the child should, for
//! example the thread of the event loop. A thread of a [`Pool`](crate::Pool) or of
//! [`spawn_blocking`](crate::spawn_blocking) exits after some idle time and kills the child.
//!
//! # No zombies
//!
//! A child that has ended stays in the process table until its parent reaps it. [`Child::wait`]
//! does that. If a [`Child`] is dropped instead, the process keeps running, or is killed if
//! [`kill_on_drop`](Command::kill_on_drop) is set. This thread's reactor reaps it in the turn in
//! which it ends. If the reactor no longer turns, the next [`Command::spawn`] on any thread reaps
//! it, and at the end of the program the system does.
//!
//! # Examples
//!
//! ```ignore-windows
//! use windlass::{block_on, process::Command};
//!
//! let output = block_on(Command::new("echo").arg("ahoy").output())?;
//! assert!(output.status.success());
//! assert_eq!(output.stdout, b"ahoy\n");
//! # Ok::<(), std::io::Error>(())
//! ```

mod child_end;
#[cfg(unix)]
pub(crate) mod orphans;

use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::task::{Context, Poll, ready};

use windlass_reactor::Reactor;
use windlass_reactor::fork::Origin;
use windlass_reactor::shortage::cannot_start_process;

use crate::io::{PipeReader, PipeWriter};
#[cfg(unix)]
use crate::signal::Signal;
use child_end::{ChildEnd, ChildHandle};

pub use std::process::{ExitStatus, Output, Stdio};

/// A builder for a child process, which is std's [`Command`](std::process::Command) with
/// asynchronous children.
///
/// [`as_std_mut`](Command::as_std_mut) gives access to all other options of the std type.
///
/// # Examples
///
/// ```ignore-windows
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use windlass::{block_on, process::{Command, Stdio}};
///
/// block_on(async {
///     let mut child = Command::new("tr")
///         .args(["a-z", "A-Z"])
///         .stdin(Stdio::piped())
///         .stdout(Stdio::piped())
///         .spawn()?;
///     let mut stdin = child.stdin.take().expect("stdin is piped");
///     stdin.write_all(b"ahoy").await?;
///     stdin.close().await?;
///     let mut text = String::new();
///     child.stdout.take().expect("stdout is piped").read_to_string(&mut text).await?;
///     assert_eq!(text, "AHOY");
///     assert!(child.wait().await?.success());
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Command {
    std: std::process::Command,
    /// Whether stdin, stdout and stderr were set. `output` sets the others.
    is_set: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// Creates a command that starts `program`, searched in `PATH`, without arguments. The child
    /// inherits the environment, the working directory and the standard streams of this process.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        std::process::Command::new(program).into()
    }

    /// Adds an argument, which is passed as it is, without a shell.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item: AsRef<OsStr>>) -> &mut Command {
        self.std.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.std.env(key, value);
        self
    }

    /// Sets environment variables.
    pub fn envs<K, V>(&mut self, vars: impl IntoIterator<Item = (K, V)>) -> &mut Command
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(vars);
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Removes all environment variables, including those set on this command before.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// Sets the working directory of the child.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Command {
        self.std.current_dir(dir);
        self
    }

    /// Sets the child's standard input. By default the child inherits the standard input of this
    /// process, and [`output`](Command::output) gives it an empty one.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Command {
        self.std.stdin(stdin);
        self.is_set[0] = true;
        self
    }

    /// Sets the child's standard output. By default the child inherits the standard output of this
    /// process, and [`output`](Command::output) gives it a pipe.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Command {
        self.std.stdout(stdout);
        self.is_set[1] = true;
        self
    }

    /// Sets the child's standard error, as [`stdout`](Command::stdout) does.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Command {
        self.std.stderr(stderr);
        self.is_set[2] = true;
        self
    }

    /// Sets whether the child is killed (`SIGKILL`) when its [`Child`] is dropped, or a future that
    /// owns it. Such futures are returned by [`status`](Command::status),
    /// [`output`](Command::output) and [`Child::wait_with_output`]. The default is `false`.
    ///
    /// The child's own children keep running.
    ///
    /// # Examples
    ///
    /// Limits a program to one second:
    ///
    /// ```ignore-windows
    /// use std::time::Duration;
    /// use windlass::{block_on, process::Command, time::timeout};
    ///
    /// block_on(async {
    ///     let mut command = Command::new("sleep");
    ///     command.arg("60").kill_on_drop(true);
    /// #   const SECOND: Duration = Duration::from_millis(10);
    /// #   /*
    ///     const SECOND: Duration = Duration::from_secs(1);
    /// #   */
    ///     assert!(timeout(SECOND, command.status()).await.is_err());
    /// });
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Starts the child. This blocks the loop until the system has started the program, which takes
    /// about half a millisecond.
    ///
    /// # Errors
    ///
    /// Fails as [`std::process::Command::spawn`] does, for example if the program does not exist.
    /// Also fails if this thread has no reactor and none can be created. At the limit of processes
    /// the kind is `QuotaExceeded`.
    pub fn spawn(&mut self) -> io::Result<Child> {
        #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
        crate::sim::current::refuse("processes")?;
        Reactor::current()?; // before the start: without a reactor the child's pipes are lost
        #[cfg(unix)]
        orphans::sweep();
        let mut child = self.std.spawn().map_err(cannot_start_process)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take();
        let process = Process {
            child: Some(ChildHandle::new(child)),
            end: None,
            kill_on_drop: self.kill_on_drop,
            origin: Origin::here(),
        };
        Ok(Child {
            stdin: stdin.map(PipeWriter::try_from).transpose()?,
            stdout: stdout.map(PipeReader::try_from).transpose()?,
            stderr: stderr.map(PipeReader::try_from).transpose()?,
            process,
        })
    }

    /// Starts the child and waits for its end. Piped streams are closed at once.
    ///
    /// # Errors
    ///
    /// Fails as [`spawn`](Command::spawn) and [`Child::wait`] do.
    ///
    /// # Cancel safety
    ///
    /// The first poll starts the child. If the future is dropped later, the child keeps running or
    /// [is killed](Command::kill_on_drop).
    ///
    /// # Examples
    ///
    /// ```ignore-windows
    /// use windlass::{block_on, process::Command};
    ///
    /// assert_eq!(block_on(Command::new("false").status())?.code(), Some(1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn status(&mut self) -> io::Result<ExitStatus> {
        let Child { mut process, .. } = self.spawn()?; // drops the other fields: closes the pipes
        poll_fn(|cx| process.poll_wait(cx)).await
    }

    /// Starts the child, waits for its end and collects its output. By default standard output and
    /// standard error are piped, and standard input is empty.
    ///
    /// # Errors
    ///
    /// Fails as [`spawn`](Command::spawn) and [`Child::wait_with_output`] do.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`status`](Command::status). The output read so far is lost.
    ///
    /// # Examples
    ///
    /// ```ignore-windows
    /// use windlass::{block_on, process::Command};
    ///
    /// let output = block_on(Command::new("sh").args(["-c", "echo ahoy; exit 7"]).output())?;
    /// assert_eq!((output.stdout, output.status.code()), (b"ahoy\n".to_vec(), Some(7)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn output(&mut self) -> io::Result<Output> {
        self.set_unset_streams([Stdio::null(), Stdio::piped(), Stdio::piped()]);
        let child = self.spawn();
        self.set_unset_streams([Stdio::inherit(), Stdio::inherit(), Stdio::inherit()]);
        child?.wait_with_output().await
    }

    /// Sets the standard streams that the user has left unset.
    fn set_unset_streams(&mut self, [stdin, stdout, stderr]: [Stdio; 3]) {
        let [has_stdin, has_stdout, has_stderr] = self.is_set;
        if !has_stdin {
            self.std.stdin(stdin);
        }
        if !has_stdout {
            self.std.stdout(stdout);
        }
        if !has_stderr {
            self.std.stderr(stderr);
        }
    }

    /// Returns the std command.
    pub fn as_std(&self) -> &std::process::Command {
        &self.std
    }

    /// Returns the std command for options that only it has: [user, group, code that runs before
    /// the program](std::os::unix::process::CommandExt).
    ///
    /// [`output`](Command::output) overrides standard streams that were set on the std command.
    ///
    /// # Examples
    ///
    /// ```ignore-windows
    /// use std::os::unix::process::CommandExt;
    /// use windlass::{block_on, process::Command};
    ///
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "echo $0"]);
    /// command.as_std_mut().arg0("shell");
    /// assert_eq!(block_on(command.output())?.stdout, b"shell\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.std
    }
}

/// [`Command::output`] overrides standard streams that were set on the std command.
impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Command {
        Command {
            std,
            is_set: [false; 3],
            kill_on_drop: false,
        }
    }
}

/// A child process.
///
/// When this is dropped, the process keeps running, unless [`kill_on_drop`](Command::kill_on_drop)
/// was set. It is [reaped](self#no-zombies) either way. In a forked process a drop has no effect on
/// the children of the parent.
///
/// # Examples
///
/// ```ignore-windows
/// use windlass::{block_on, process::Command};
/// use std::os::unix::process::ExitStatusExt;
///
/// block_on(async {
///     let mut child = Command::new("sleep").arg("60").spawn()?;
///     assert_eq!(child.try_wait()?, None);
///     child.kill()?;
///     assert_eq!(child.wait().await?.signal(), Some(9));
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Child {
    /// The child's standard input, if it is [piped](Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// The child's standard output, if it is piped.
    pub stdout: Option<ChildStdout>,
    /// The child's standard error, if it is piped.
    pub stderr: Option<ChildStderr>,
    process: Process,
}

impl Child {
    /// Returns the PID. Once the child is reaped, the system may reuse its PID for another process.
    pub fn id(&self) -> u32 {
        self.process.get().id()
    }

    /// Closes the child's standard input, which could otherwise deadlock, and waits for its end.
    /// Further calls return the same status.
    ///
    /// Nothing reads piped output meanwhile, and a full pipe can keep the child from ending. Read
    /// concurrently, or use [`wait_with_output`](Child::wait_with_output).
    ///
    /// # Errors
    ///
    /// Fails if the status is lost, because other code has reaped the child or `SIGCHLD` is
    /// ignored, and in a process that was forked after the child was started. Also fails if no
    /// reactor turns on this thread, or if the process is out of file descriptors. The child then
    /// keeps running and can be awaited later.
    ///
    /// # Cancel safety
    ///
    /// Safe. The child keeps running, and a later call returns its status.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        poll_fn(|cx| self.process.poll_wait(cx)).await
    }

    /// Returns the status if the child has ended, without waiting. Its standard input stays open.
    ///
    /// # Errors
    ///
    /// Fails if the status is lost, as for [`wait`](Child::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.process.get_mut()?.try_wait()?;
        if status.is_some() {
            self.process.end = None; // deregisters
        }
        Ok(status)
    }

    /// Kills the child (`SIGKILL`) and returns at once. [`wait`](Child::wait) waits for the end.
    /// Has no effect if the child has ended or other code has reaped it.
    ///
    /// On Linux the signal goes through a pidfd, so it never hits another process that has reused
    /// the PID. Without a pidfd, the PID is used only while the system reports that this process
    /// still has to reap the child.
    ///
    /// # Errors
    ///
    /// Fails if the signal is forbidden, because the child has changed its user, and in a process
    /// that was forked after the child was started.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.get_mut()?.kill()
    }

    /// Sends a signal to the child, on Unix only. Has no effect if the child has ended or other
    /// code has reaped it. As for [`kill`](Child::kill), the signal never hits another process.
    ///
    /// # Errors
    ///
    /// Fails if the signal is forbidden, because the child has changed its user, if there is no
    /// signal with this number, and in a process that was forked after the child was started.
    ///
    /// # Examples
    ///
    /// Gives a child one second to shut down:
    ///
    /// ```ignore-windows
    /// use std::time::Duration;
    /// use windlass::{block_on, process::Command, signal::Signal, time::timeout};
    /// use std::os::unix::process::ExitStatusExt;
    ///
    /// block_on(async {
    ///     let mut child = Command::new("sleep").arg("60").spawn()?;
    ///     child.signal(Signal::TERM)?;
    ///     if timeout(Duration::from_secs(1), child.wait()).await.is_err() {
    ///         child.kill()?;
    ///     }
    ///     assert_eq!(child.wait().await?.signal(), Some(Signal::TERM.as_raw()));
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let signal = signal.to_posix()?;
        self.process.get_mut()?.signal(signal)
    }

    /// Closes the child's standard input and collects its piped standard output and standard error
    /// until both end and the child has ended.
    ///
    /// A pipe ends when its last writer is closed. If processes that the child has started inherit
    /// the pipe, this waits for them, too.
    ///
    /// # Errors
    ///
    /// Fails as [`wait`](Child::wait) does, and with errors of reading.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the `Child` and the output read so far.
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        self.stdin = None;
        let mut stdout = Collected::new(self.stdout.take());
        let mut stderr = Collected::new(self.stderr.take());
        let status = poll_fn(|cx| {
            // Each poll checks all three. A full pipe can't block a child that writes to the other,
            // and the child is reaped even while its own children hold the pipes open.
            let ends = (stdout.poll(cx)?, stderr.poll(cx)?);
            let status = ready!(self.process.poll_wait(cx))?;
            match ends {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(io::Result::Ok(status)),
                _ => Poll::Pending,
            }
        });
        Ok(Output {
            status: status.await?,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
        })
    }
}

/// A child that this process has to reap.
#[derive(Debug)]
struct Process {
    /// Present until drop.
    child: Option<ChildHandle>,
    /// The end as an event. `None` until a task first waits for it.
    end: Option<ChildEnd>,
    kill_on_drop: bool,
    /// The parent of the child. A fork of the parent must leave the child alone.
    origin: Origin,
}

impl Process {
    fn get(&self) -> &ChildHandle {
        self.child.as_ref().expect("child is present until drop")
    }

    fn get_mut(&mut self) -> io::Result<&mut ChildHandle> {
        self.origin.check("this child process handle")?;
        Ok(self.child.as_mut().expect("child is present until drop"))
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        self.origin.check("this child process handle")?;
        let child = self.child.as_mut().expect("child is present until drop");
        let end = match &mut self.end {
            Some(end) => end,
            none => {
                if let Some(status) = child.try_wait()? {
                    return Poll::Ready(Ok(status));
                }
                // The child is still unreaped, so no other process has its PID.
                none.insert(child.end()?)
            }
        };
        let status = ready!(end.poll(cx, child))?;
        self.end = None;
        Poll::Ready(Ok(status))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.take().filter(|_| self.origin.is_here());
        if let Some(mut child) = child {
            if self.kill_on_drop {
                let _ = child.kill(); // if this is forbidden, the child keeps running
            }
            #[cfg(unix)]
            orphans::adopt(child, self.end.take());
        }
    }
}

/// A child's standard input.
///
/// Writing fails with `BrokenPipe` once the child has closed the other end. The system also sends
/// `SIGPIPE`, which Rust programs ignore. A host in another language has to ignore it, too.
///
/// Both [`close`](futures_io::AsyncWrite::poll_close) and dropping close the pipe. The child then
/// reads an end of file.
pub type ChildStdin = PipeWriter;

/// A child's standard output.
///
/// It ends when the last writer is closed, including writers that the child's own children have
/// inherited.
///
/// # Examples
///
/// Pipes the output of one child into another, as `echo ahoy | wc -c` does. No byte passes through
/// this program:
///
/// ```ignore-windows
/// use windlass::{block_on, process::{Command, Stdio}};
///
/// block_on(async {
///     let mut echo = Command::new("echo").arg("ahoy").stdout(Stdio::piped()).spawn()?;
///     let words = echo.stdout.take().expect("stdout is piped");
///     let count = Command::new("wc").arg("-c").stdin(words).output().await?;
///     assert_eq!(count.stdout.trim_ascii(), b"5");
///     assert!(echo.wait().await?.success());
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// The same through this program, for example to count the bytes:
///
/// ```ignore-windows
/// use windlass::{block_on, io::copy, process::{Command, Stdio}};
///
/// block_on(async {
///     let mut echo = Command::new("echo").arg("ahoy").stdout(Stdio::piped()).spawn()?;
///     let mut wc = Command::new("wc");
///     wc.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped());
///     let mut wc = wc.spawn()?;
///     let words = echo.stdout.take().expect("stdout is piped");
///     let counter = wc.stdin.take().expect("stdin is piped");
///     assert_eq!(copy(words, counter).await?, 5); // drops both ends
///     assert_eq!(wc.wait_with_output().await?.stdout.trim_ascii(), b"5");
///     assert!(echo.wait().await?.success());
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub type ChildStdout = PipeReader;

/// A child's standard error. It behaves as [`ChildStdout`].
pub type ChildStderr = PipeReader;

/// The bytes read from a pipe of the child.
struct Collected {
    /// `None` if there is no pipe, or it has ended.
    pipe: Option<PipeReader>,
    bytes: Vec<u8>,
}

impl Collected {
    fn new(pipe: Option<PipeReader>) -> Collected {
        let bytes = Vec::new();
        Collected { pipe, bytes }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(pipe) = &mut self.pipe {
            if ready!(pipe.poll_append(cx, &mut self.bytes))? == 0 {
                self.pipe = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}
