//! The child processes, which run this program.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child as Process, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{interrupt, machine::Cores, results::Outcome};

/// Maximum delay of the reaction to Ctrl-C.
const SLICE: Duration = Duration::from_millis(100);

/// Length to which an error message of a child is cut.
const COMPLAINT: usize = 300;

/// Killed and reaped on drop, together with its own children.
pub(crate) struct Child {
    process: Process,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    complaints: Receiver<String>,
    deadline: Instant,
}

impl Child {
    /// Starts `tool <this program> args`, on a core.
    pub(crate) fn start(
        tool: &[OsString],
        args: &[String],
        core: Option<usize>,
        limit: Duration,
    ) -> Result<Child> {
        let program = env::current_exe()
            .context("where is this program?")?
            .into_os_string();
        let mut line = tool.iter().cloned().chain([program]);
        let mut command = Command::new(line.next().context("no program")?);
        command
            .args(line)
            .args(args)
            .process_group(0)
            // Reduces an error message to one line without paths.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = Cores::on(core, || command.spawn());
        let mut process = process.with_context(|| format!("can't start {command:?}"))?;
        let lines = lines_of(process.stdout.take());
        let complaints = lines_of(process.stderr.take());
        let input = process.stdin.take();
        Ok(Child {
            process,
            input,
            lines,
            complaints,
            deadline: Instant::now() + limit,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the next line of output, or `None` at the end.
    pub(crate) fn line(&self) -> Result<Option<String>> {
        loop {
            ensure!(!interrupt::happened(), "interrupted");
            let left = self.deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "out of time");
            match self.lines.recv_timeout(left.min(SLICE)) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// A server exits when its standard input ends.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Returns the rest of the output.
    pub(crate) fn finish(mut self) -> Result<Outcome> {
        let mut figures = BTreeMap::new();
        let mut unsupported = None;
        while let Some(line) = self.line()? {
            let (name, value) = line.split_once(' ').unwrap_or((&line, ""));
            if name == "unsupported" {
                unsupported = Some(value.to_owned());
            } else {
                let number = value.trim().parse::<f64>();
                let number = number.with_context(|| format!("not a figure: `{line}`"))?;
                ensure!(number.is_finite(), "not a figure: `{line}`");
                figures.insert(name.to_owned(), number);
            }
        }
        self.close_input();
        let status = self.wait()?;
        ensure!(status.success(), "{}", self.complaint(status));
        Ok(unsupported.map_or(Outcome::Figures(figures), Outcome::Unsupported))
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < self.deadline,
                "out of time: it doesn't end"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The reason for its exit.
    fn complaint(&self, status: ExitStatus) -> String {
        // Its standard error is closed, unless a grandchild keeps it open.
        let mut words: Vec<String> = Vec::new();
        while let Ok(line) = self.complaints.recv_timeout(SLICE) {
            words.push(without_places(&line));
        }
        let note = "note: run with `RUST_BACKTRACE";
        words.retain(|line| !line.is_empty() && !line.starts_with(note));
        let words = words.join(" ");
        let end = words
            .char_indices()
            .nth(COMPLAINT)
            .map_or(words.len(), |(at, _)| at);
        format!("{status}: {}", &words[..end])
    }

    /// Returns the error of a server that exited early, or about which its client complains.
    pub(crate) fn blame(mut self, error: anyhow::Error) -> anyhow::Error {
        // A server that still runs has no error.
        thread::sleep(Duration::from_millis(50));
        match self.process.try_wait() {
            Ok(Some(status)) => anyhow!("the server ended: {}", self.complaint(status)),
            _ => error,
        }
    }

    /// Returns the address of the server. The inner `Err` means that the contender doesn't support
    /// the work.
    pub(crate) fn listening(&mut self) -> Result<Result<String, String>> {
        let line = self.line()?;
        match line.as_deref().and_then(|line| line.split_once(' ')) {
            Some(("listening", address)) => Ok(Ok(address.trim().to_owned())),
            Some(("unsupported", why)) => Ok(Err(why.to_owned())),
            Some(_) => bail!("a server says: {}", line.unwrap_or_default()),
            None => {
                let status = self.wait()?;
                bail!("{}", self.complaint(status))
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Its own process group, so that children of perf and valgrind are killed with it.
        let _ = killpg(Pid::from_raw(self.process.id() as i32), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

/// Shortens paths to their last part, so that reports contain no paths of this machine.
fn without_places(line: &str) -> String {
    let last = |word| {
        if let Some((_, last)) = str::rsplit_once(word, '/') {
            last
        } else {
            word
        }
    };
    line.split_whitespace()
        .map(last)
        .collect::<Vec<_>>()
        .join(" ")
}

fn lines_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = pipe {
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_name_no_places() {
        let line = "thread 'main' panicked at /some/where/crate-1.0/src/lib.rs:7:9:";
        assert_eq!(
            without_places(line),
            "thread 'main' panicked at lib.rs:7:9:"
        );
    }
}
