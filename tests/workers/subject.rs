//! The program under test, and its clients.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time limit for events that must happen. A hang is a failure.
const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Subject {
    child: Child,
    lines: Receiver<String>,
    /// All lines read so far.
    pub(crate) output: Vec<String>,
}

impl Subject {
    pub(crate) fn start(args: &[&str]) -> Subject {
        Subject::start_as(&mut command(args))
    }

    pub(crate) fn start_as(command: &mut Command) -> Subject {
        Subject::start_into(command, Stdio::piped())
    }

    /// Reads standard error only if it is piped.
    pub(crate) fn start_into(command: &mut Command, stderr: impl Into<Stdio>) -> Subject {
        let piped = command.stdout(Stdio::piped()).stderr(stderr);
        let mut child = piped.spawn().expect("the program can be started");
        // otherwise this process would keep the pipe's writing end open
        command.stderr(Stdio::null());
        let (sender, lines) = channel();
        let mut streams: Vec<Box<dyn Read + Send>> = Vec::new();
        streams.extend(child.stdout.take().map(|it| Box::new(it) as Box<_>));
        streams.extend(child.stderr.take().map(|it| Box::new(it) as Box<_>));
        for stream in streams {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Subject {
            child,
            lines,
            output: Vec::new(),
        }
    }

    /// Waits for a line that contains the text.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.output.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => {
                    let ended = error == RecvTimeoutError::Disconnected;
                    panic!("no {text:?}, ended: {ended}; output: {:#?}", self.output);
                }
            }
        }
    }

    /// Returns the address after that many workers serve.
    pub(crate) fn addr(&mut self, workers: usize) -> SocketAddr {
        let mut line = String::new();
        for _ in 0..workers {
            line = self.wait_for("serving ");
        }
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.output.extend(self.lines.iter());
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it doesn't end: {:#?}",
                self.output
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn has_logged(&self, text: &str) -> bool {
        self.output.iter().any(|line| line.contains(text))
    }

    /// Stops the program, which must exit successfully.
    pub(crate) fn end(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {:#?}", self.output);
    }

    pub(crate) fn workers(&self) -> Vec<u32> {
        children_of(self.id())
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg("--program")
        .args(args)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    command
}

pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

pub(crate) fn lives(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until the condition is true.
pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_true() {
        assert!(Instant::now() < deadline, "never true: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A keep-alive connection.
pub(crate) struct Client {
    stream: TcpStream,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Client { stream })
    }

    /// Like [`get`](Client::get), with a time limit.
    pub(crate) fn get_within(&mut self, path: &str, limit: Duration) -> io::Result<(String, bool)> {
        self.stream.set_read_timeout(Some(limit))?;
        self.get(path)
    }

    /// Returns the body of the answer, and whether the connection stays open.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<(String, bool)> {
        self.stream
            .write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split("Content-Length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    return Ok((body.to_owned(), head.contains("keep-alive")));
                }
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend(&buffer[..n]),
            }
        }
    }
}

/// Sends one request on its own connection. Returns the index and the PID of the worker.
pub(crate) fn get(addr: SocketAddr, path: &str) -> io::Result<(usize, u32)> {
    let (body, _) = Client::connect(addr)?.get(path)?;
    let (worker, process) = body.split_once(' ').unwrap();
    Ok((worker.parse().unwrap(), process.parse().unwrap()))
}
