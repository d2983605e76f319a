//! Child processes.
//!
//! They are used as those of std, with an `.await` where std blocks. The end of a child is an event
//! like any other: on Linux its descriptor (a pidfd) becomes readable. No thread waits for it, and
//! no handler of `SIGCHLD` is installed, so children of other parts of the program are left alone.
//! (On other Unix systems, and before Linux 5.3, a thread waits for each child that is awaited or
//! let go of while it runs. On Windows the system tells of the end of a process, and has no
//! zombies; but threads read and write the pipes, one for each operation that is under way.)
//!
//! # A child that dies with its parent
//!
//! Linux's `PR_SET_PDEATHSIG`, set by
//! [`pre_exec`](std::os::unix::process::CommandExt::pre_exec) for example, signals the child when
//! the *thread* that has started it ends, not when the process does. [`Command::spawn`] starts a
//! child on the thread that calls it. So such a child must be started on a thread that lives as
//! long as the child should, the loop's own thread for example. A thread of a
//! [`Pool`](crate::Pool), and so the closure of a `spawn_blocking`, is the wrong place, because
//! such a thread ends when it has been idle for a while, and takes the child with it.
//!
//! # No zombies
//!
//! A child that has ended stays in the system's table until its parent has asked for its status.
//! [`Child::wait`] does that. If a [`Child`] is dropped instead, it runs on, or is killed if
//! [`kill_on_drop`](Command::kill_on_drop) says so; and when it has ended, this thread's reactor
//! reaps it, in that same turn. Where none turns any more it's the next [`Command::spawn`] on any
//! thread that does, and at the end of the program the system.
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
mod orphans;

use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::task::{Context, Poll, ready};

use windlass_reactor::Reactor;
use windlass_reactor::fork::Origin;
use windlass_reactor::shortage::cannot_start_process;

use crate::io::{PipeReader, PipeWriter};
use child_end::{ChildEnd, ChildHandle};

pub use std::process::{ExitStatus, Output, Stdio};

/// How to start a child: std's [`Command`](std::process::Command), whose children are awaited.
///
/// What isn't here is on the std one: [`as_std_mut`](Command::as_std_mut).
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
///     let mut stdin = child.stdin.take().expect("it is piped");
///     stdin.write_all(b"ahoy").await?;
///     stdin.close().await?;
///     let mut text = String::new();
///     child.stdout.take().expect("it is piped").read_to_string(&mut text).await?;
///     assert_eq!(text, "AHOY");
///     assert!(child.wait().await?.success());
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Command {
    std: std::process::Command,
    /// Whether stdin, stdout and stderr were set. If not, `output` has defaults of its own.
    is_set: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// A command that starts `program`, which is looked for in `PATH`, without arguments, with the
    /// environment, the directory and the standard streams of this process.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        std::process::Command::new(program).into()
    }

    /// Adds an argument. No shell looks at it.
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

    /// Takes an environment variable away.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Takes all environment variables away, those set so far included.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// Sets the directory that the child starts in.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Command {
        self.std.current_dir(dir);
        self
    }

    /// Sets the child's standard input. Otherwise it's that of this process, and empty for
    /// [`output`](Command::output).
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Command {
        self.std.stdin(stdin);
        self.is_set[0] = true;
        self
    }

    /// Sets the child's standard output. Otherwise it's that of this process, and a pipe for
    /// [`output`](Command::output).
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

    /// Whether to kill the child (`SIGKILL`) if its [`Child`] is dropped, or a future that owns
    /// that: those of [`status`](Command::status), [`output`](Command::output) and
    /// [`Child::wait_with_output`]. At first not.
    ///
    /// Children of the child are not killed.
    ///
    /// # Examples
    ///
    /// A program that may take a second and no more:
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

    /// Starts the child. That holds up the loop until the system has started the program, half a
    /// millisecond say.
    ///
    /// # Errors
    ///
    /// Those of std, if the program isn't found for example. Or if the reactor can't be had.
    pub fn spawn(&mut self) -> io::Result<Child> {
        Reactor::current()?; // so that the pipes of a child that runs can be handed out
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

    /// Starts the child and waits for its end. Streams that were piped are closed at once.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Command::spawn) and [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// Once polled, the child is started; if the future is dropped, it runs on, or
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
        let Child { mut process, .. } = self.spawn()?; // drops the rest, which closes the pipes
        poll_fn(|cx| process.poll_wait(cx)).await
    }

    /// Starts the child, and collects what it writes until its end. If nothing else was set, its
    /// standard output and error are read, and its input is empty.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Command::spawn) and [`Child::wait_with_output`].
    ///
    /// # Cancel safety
    ///
    /// As [`status`](Command::status); what it has written is lost.
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
        self.set_rest([Stdio::null(), Stdio::piped(), Stdio::piped()]);
        let child = self.spawn();
        self.set_rest([Stdio::inherit(), Stdio::inherit(), Stdio::inherit()]);
        child?.wait_with_output().await
    }

    /// Sets those of the standard streams that were not set.
    fn set_rest(&mut self, [stdin, stdout, stderr]: [Stdio; 3]) {
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

    /// The std command, to look at what is set.
    pub fn as_std(&self) -> &std::process::Command {
        &self.std
    }

    /// The std command, to set what only that can: [user, group, what runs before the
    /// program](std::os::unix::process::CommandExt).
    ///
    /// Of standard streams that are set there [`output`](Command::output) doesn't know, and sets
    /// its own.
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

/// As for [`Command::as_std_mut`]: of standard streams that were set before, [`Command::output`]
/// doesn't know.
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
/// Dropped, it runs on, unless [`kill_on_drop`](Command::kill_on_drop) was set. It's reaped in any
/// case: [how](self#no-zombies). A forked process leaves the children of its parent alone.
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
    /// What the child reads, if it was [piped](Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// What the child writes, if it was piped.
    pub stdout: Option<ChildStdout>,
    /// What the child writes as errors, if it was piped.
    pub stderr: Option<ChildStderr>,
    process: Process,
}

impl Child {
    /// Its number in the system. Once it has been waited for, the number may be that of another
    /// process.
    pub fn id(&self) -> u32 {
        self.process.get().id()
    }

    /// Closes its standard input, so that it doesn't wait for us in turn, and waits for its end.
    /// Can be called again.
    ///
    /// Piped output isn't read meanwhile, and may keep the child from ending: read at the same
    /// time, or use [`wait_with_output`](Child::wait_with_output).
    ///
    /// # Errors
    ///
    /// If its status can't be had, since somebody else has reaped the child or `SIGCHLD` is
    /// ignored, or since this process was forked after the child was started. If no reactor turns
    /// on this thread, or no descriptor is left to wait by; then the child runs on and can be
    /// waited for later.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time. The child runs on, and its status can be asked for again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        poll_fn(|cx| self.process.poll_wait(cx)).await
    }

    /// Its status if it has ended, without waiting. Its standard input stays open.
    ///
    /// # Errors
    ///
    /// If the status can't be had, as for [`wait`](Child::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.process.get_mut()?.try_wait()?;
        if status.is_some() {
            self.process.end = None; // `wait` need not be told any more
        }
        Ok(status)
    }

    /// Kills the child (`SIGKILL`) without waiting for its end, for which there is
    /// [`wait`](Child::wait). Does nothing if the child has ended, or if other code has reaped it.
    ///
    /// On Linux the signal goes through a pidfd, so it never hits another process that was given
    /// the same PID. Where there is no pidfd, the PID is used only while the system says that the
    /// child is still to be reaped by this process.
    ///
    /// # Errors
    ///
    /// If it isn't permitted: the child may have changed its user. Or in a process that was forked
    /// after the child was started.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.get_mut()?.kill()
    }

    /// Closes its standard input, and collects what comes from its standard output and error, as
    /// far as these are piped, until both have ended and the child has.
    ///
    /// A pipe ends when nobody can write any more. So if the child leaves children behind that
    /// have inherited it, this waits for them as well.
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait), and those of reading.
    ///
    /// # Cancel safety
    ///
    /// Drops the `Child`, and what it has written.
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        self.stdin = None;
        let mut stdout = Collected::new(self.stdout.take());
        let mut stderr = Collected::new(self.stderr.take());
        let status = poll_fn(|cx| {
            // All three each time: a child that writes to one pipe must not wait for the other,
            // and one that has ended is reaped though others may hold its pipes.
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

/// What is to be reaped.
#[derive(Debug)]
struct Process {
    /// None only in `drop`.
    child: Option<ChildHandle>,
    /// None while nobody waits for it.
    end: Option<ChildEnd>,
    kill_on_drop: bool,
    /// The process whose child it is. A forked process of that must not kill or reap it.
    origin: Origin,
}

impl Process {
    fn get(&self) -> &ChildHandle {
        self.child.as_ref().expect("it is there until the drop")
    }

    fn get_mut(&mut self) -> io::Result<&mut ChildHandle> {
        self.origin.check("this handle of a child process")?;
        Ok(self.child.as_mut().expect("it is there until the drop"))
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        self.origin.check("this handle of a child process")?;
        let child = self.child.as_mut().expect("it is there until the drop");
        let end = match &mut self.end {
            Some(end) => end,
            none => {
                if let Some(status) = child.try_wait()? {
                    return Poll::Ready(Ok(status));
                }
                // It isn't reaped yet, so its PID is still its own.
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
                let _ = child.kill(); // if it isn't permitted, it runs on
            }
            #[cfg(unix)]
            orphans::adopt(child, self.end.take());
        }
    }
}

/// A child's standard input.
///
/// To write when the child reads no more is an error (`BrokenPipe`). The system also sends
/// `SIGPIPE`, which Rust programs ignore; in a host that isn't one, ignore it there.
///
/// [`close`](futures_io::AsyncWrite::poll_close) closes it, as dropping does, and the child reads
/// an end.
pub type ChildStdin = PipeWriter;

/// A child's standard output.
///
/// It ends when nobody can write to it any more: neither the child, nor those of its own children
/// that have inherited it.
///
/// # Examples
///
/// What one child writes, another reads:
///
/// ```ignore-windows
/// use windlass::{block_on, process::{Command, Stdio}};
///
/// block_on(async {
///     let mut echo = Command::new("echo").arg("ahoy").stdout(Stdio::piped()).spawn()?;
///     let words = echo.stdout.take().expect("it is piped").into_blocking_fd()?;
///     let count = Command::new("wc").arg("-c").stdin(words).output().await?;
///     assert_eq!(count.stdout.trim_ascii(), b"5");
///     assert!(echo.wait().await?.success());
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub type ChildStdout = PipeReader;

/// A child's standard error, as [`ChildStdout`].
pub type ChildStderr = PipeReader;

/// All that comes from a pipe.
struct Collected {
    /// None once it has ended, or if there is none.
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
