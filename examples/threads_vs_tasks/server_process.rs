//! The server process, from the side of its parent.

use std::{
    env, fmt,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow, bail};

use crate::{options::Side, usage::Usage};

/// Time limit for a reply of the server. It usually takes a millisecond. On a machine that is short
/// of memory it takes longer, but must not delay the next steps forever.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Time for a message of the server to arrive after a connection broke.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Killed and reaped on drop. If this process is killed, the server reads the end of its standard
/// input and exits too.
pub(crate) struct ServerProcess {
    pub(crate) address: SocketAddr,
    process: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

/// This server cannot do this step on this machine, for the given reason.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl ServerProcess {
    pub(crate) fn start(side: Side, size: usize) -> Result<Self> {
        let program = env::current_exe().context("where is this program?")?;
        let mut process = Command::new(program)
            .args(["--server", &side.to_string(), "--size", &size.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start the server")?;
        let orders = process
            .stdin
            .take()
            .context("the server has no standard input")?;
        let answers = process
            .stdout
            .take()
            .context("the server has no standard output")?;
        let mut server = ServerProcess {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            process,
            orders,
            answers: read_lines(answers)?,
        };
        server.address = server.answer("listening")?.parse()?;
        Ok(server)
    }

    /// Returns the resources that the server has used so far. Blocks the calling thread, clients
    /// included, so it must not be called while requests are measured.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        // If the write fails, the server's output has a better explanation.
        let _ = writeln!(self.orders, "usage");
        self.answer("usage")?.parse()
    }

    /// Replaces an error seen by the clients by the server's own message, if there is one.
    pub(crate) fn explain(&mut self, seen: Error) -> Error {
        match self.answers.recv_timeout(LAST_WORDS) {
            Ok(line) => complaint(&line),
            Err(RecvTimeoutError::Timeout) => seen,
            Err(RecvTimeoutError::Disconnected) => self.obituary(),
        }
    }

    fn answer(&mut self, expected: &str) -> Result<String> {
        match self.answers.recv_timeout(TIME_LIMIT) {
            Ok(line) => match line.split_once(' ') {
                Some((word, rest)) if word == expected => Ok(rest.to_owned()),
                _ => Err(complaint(&line)),
            },
            Err(RecvTimeoutError::Timeout) => {
                bail!("the server has not replied for {TIME_LIMIT:?}")
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.obituary()),
        }
    }

    fn obituary(&mut self) -> Error {
        match self.process.wait() {
            Ok(status) if killed(status) => Error::new(Refusal(
                "the OS killed the server, as it does when memory is short".into(),
            )),
            Ok(status) => anyhow!("the server ended: {status}"),
            Err(error) => Error::new(error).context("the server ended"),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only if the process has exited.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// A thread does the reads, because a pipe has no read with a time limit.
fn read_lines(pipe: ChildStdout) -> Result<Receiver<String>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .spawn(move || {
            let lines = BufReader::new(pipe).lines().map_while(Result::ok);
            lines
                .take_while(|line| sender.send(line.clone()).is_ok())
                .for_each(drop);
        })
        .context("can't listen to the server")?;
    Ok(receiver)
}

fn complaint(line: &str) -> Error {
    match line.split_once(' ') {
        Some(("refused", why)) => Error::new(Refusal(format!("refused {why}"))),
        _ => anyhow!("the server says: {line}"),
    }
}

#[cfg(unix)]
fn killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const SIGKILL: i32 = 9;
    status.signal() == Some(SIGKILL)
}

#[cfg(not(unix))]
fn killed(_: ExitStatus) -> bool {
    false
}
