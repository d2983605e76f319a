//! Runs commands, a few at a time, each with a time limit, and prints their output as it arrives.
//!
//! ```text
//! cargo run --example run_children   # or with commands of yours, each one argument:
//! cargo run --example run_children -- 'ping -c 3 localhost' 'ls /' 'sleep 60'
//! ```

use std::env;
use std::io;
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, stream};
use windlass::process::{Command, ExitStatus, Stdio};
use windlass::task::TaskGroup;
use windlass::time::timeout;

/// Maximum number of concurrent commands.
const MAX_CONCURRENT: usize = 3;

/// Time limit of a command.
const TIME_LIMIT: Duration = Duration::from_secs(2);

const COMMANDS: &[&str] = &[
    "for n in 1 2 3; do echo $n; sleep 0.3; done",
    "for n in a b c; do echo $n >&2; sleep 0.2; done; exit 7",
    "echo this one takes too long; exec sleep 60",
    "echo this one was queued",
];

fn main() {
    let mut commands: Vec<String> = env::args().skip(1).collect();
    if commands.is_empty() {
        commands = COMMANDS.iter().map(|&command| command.into()).collect();
    }
    windlass::block_on(async {
        let mut group = TaskGroup::infallible().limit(MAX_CONCURRENT);
        for (number, command) in (1..).zip(commands) {
            group.spawn(async move {
                println!("{number}  $ {command}");
                match timeout(TIME_LIMIT, run(number, &command)).await {
                    Ok(Ok(status)) => println!("{number}  {status}"),
                    Ok(Err(error)) => println!("{number}  {error}"),
                    Err(_) => println!("{number}  killed, after {TIME_LIMIT:?}"),
                }
            });
        }
        while group.join_next().await.is_some() {}
    });
}

/// If the time limit drops this future, the child is killed, and the reactor reaps it.
async fn run(number: usize, command: &str) -> io::Result<ExitStatus> {
    let (shell, option) = if cfg!(windows) {
        ("cmd", "/c")
    } else {
        ("sh", "-c")
    };
    let mut child = Command::new(shell)
        .args([option, command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = BufReader::new(stdout.expect("the stream is piped")).lines();
    let stderr = BufReader::new(stderr.expect("the stream is piped")).lines();
    // Reads both at the same time, because a child blocks on a pipe that is full while the other
    // one is read.
    let mut lines = stream::select(
        stdout.map_ok(|line| format!(" | {line}")),
        stderr.map_ok(|line| format!(" ! {line}")),
    );
    while let Some(line) = lines.next().await {
        println!("{number} {}", line?);
    }
    child.wait().await
}
