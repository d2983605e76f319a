//! The server of a chapter in a child process, so that its costs are measured without the client's.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::chapter::Chapter;

/// A server in a child process. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The address that it listens on.
    pub address: SocketAddr,
}

/// What a server has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time, in the program and in the system.
    pub cpu: Duration,
    /// How often the system has switched from one of its threads to another.
    pub switches: f64,
    /// Resident memory in bytes.
    pub memory: f64,
    /// System calls that the program has counted by [`count_call`].
    pub calls: f64,
}

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Counts a system call. The programs of the book call it before each of theirs.
pub fn count_call() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

impl Server {
    /// Starts the server of the chapter.
    ///
    /// # Errors
    ///
    /// Returns an error if the child cannot be started or its reply is not understood.
    pub fn start(chapter: u32) -> io::Result<Server> {
        let mut child = Command::new(env::current_exe()?)
            .args([&chapter.to_string(), "serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take().expect("stdin is piped");
        let mut answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Server {
            child,
            questions,
            answers,
            address,
        })
    }

    /// Returns what the server has used so far.
    ///
    /// # Errors
    ///
    /// Returns an error if the server has ended.
    pub fn usage(&mut self) -> io::Result<Usage> {
        self.questions.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers: Vec<f64> = line.split_whitespace().flat_map(str::parse).collect();
        match numbers[..] {
            [cpu, switches, memory, calls] => {
                let cpu = Duration::from_secs_f64(cpu);
                Ok(Usage {
                    cpu,
                    switches,
                    memory,
                    calls,
                })
            }
            _ => Err(io::Error::other("the server has ended")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Serves in this process, and prints its usage for each line of the standard input.
///
/// # Errors
///
/// Returns an error if no port can be bound, or the first error of the server.
pub fn child(chapter: &Chapter) -> io::Result<()> {
    raise_descriptor_limit();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    thread::spawn(|| {
        for _ in io::stdin().lines() {
            let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may read its usage");
            let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            let switches =
                usage.voluntary_context_switches() + usage.involuntary_context_switches();
            let calls = CALLS.load(Ordering::Relaxed);
            println!("{} {switches} {} {calls}", cpu as f64 / 1e6, resident());
        }
        // The parent has ended.
        std::process::exit(0);
    });
    let serve = chapter
        .serve
        .ok_or_else(|| io::Error::other("this chapter has no server"))?;
    serve(listener)
}

/// The resident memory of this process in bytes.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Allows this process as many descriptors as the system permits, and returns their number.
pub fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )
        .ok();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
