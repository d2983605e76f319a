//! The command line.

use std::{
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use lexopt::{Arg, Parser, ValueExt};

use crate::trial::Trial;

pub(crate) const HELP: &str = "\
A server with a thread a connection against one with a windlass task a connection.

usage: cargo run --release --example threads_vs_tasks -- [flags]

  --connections N,N,..  how many connections, rung by rung  [10,100,1000,5000]
  --seconds S           how long each rung is measured      [4]
  --think MS            a client's mean pause between two requests
                        [0.1 ms for each connection: 10,000 requests/s in all]
  --size BYTES          size of a request and of its reply  [64]
  --only threads|tasks  measure one side alone
  --svg PATH            where the chart goes                [threads_vs_tasks.svg]
  --help                show this
";

/// The range of local ports limits the clients' ends of loopback connections, to some 28,000 on
/// Linux and 16,000 on other systems.
const MAX_CONNECTIONS: f64 = 20_000.0;

/// The default think time per connection. Together, all clients send 10,000 requests/s, which
/// leaves two cores partly idle, so that latencies measure the servers instead of a queue.
const THINK_PER_CONNECTION: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub(crate) enum Command {
    Help,
    /// The command line of the child process.
    Serve {
        side: Side,
        size: usize,
    },
    Compare(Options),
}

#[derive(Debug)]
pub(crate) struct Options {
    /// In rising order, without duplicates.
    pub(crate) connections: Vec<usize>,
    pub(crate) measured: Duration,
    /// `None`: see [`THINK_PER_CONNECTION`].
    pub(crate) think: Option<Duration>,
    pub(crate) size: usize,
    pub(crate) only: Option<Side>,
    pub(crate) svg: PathBuf,
}

/// The two kinds of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Threads,
    Tasks,
}

impl Options {
    /// Ordered by step, so that both servers run a step under similar conditions of the machine.
    pub(crate) fn trials(&self) -> Vec<Trial> {
        let sides = self.sides();
        let rungs = self.connections.iter();
        rungs
            .flat_map(|&n| sides.iter().map(move |&side| self.trial(side, n)))
            .collect()
    }

    pub(crate) fn sides(&self) -> Vec<Side> {
        self.only
            .map_or_else(|| vec![Side::Threads, Side::Tasks], |side| vec![side])
    }

    fn trial(&self, side: Side, connections: usize) -> Trial {
        let think = self
            .think
            .unwrap_or(THINK_PER_CONNECTION.mul_f64(connections as f64));
        Trial {
            side,
            connections,
            think,
            measured: self.measured,
            size: self.size,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            connections: vec![10, 100, 1000, 5000],
            measured: Duration::from_secs(4),
            think: None,
            size: 64,
            only: None,
            svg: "threads_vs_tasks.svg".into(),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Threads => "threads",
            Side::Tasks => "tasks",
        })
    }
}

pub(crate) fn parse() -> Result<Command> {
    let mut options = Options::default();
    let mut served = None;
    let mut flags = Parser::from_env();
    while let Some(flag) = flags.next()? {
        match flag {
            Arg::Long("connections") => options.connections = connections(&value(&mut flags)?)?,
            Arg::Long("seconds") => {
                let seconds = number("--seconds", &value(&mut flags)?, 0.1..=3600.0)?;
                options.measured = Duration::from_secs_f64(seconds);
            }
            Arg::Long("think") => {
                let milliseconds = number("--think", &value(&mut flags)?, 0.0..=60_000.0)?;
                options.think = Some(Duration::from_secs_f64(milliseconds / 1e3));
            }
            Arg::Long("size") => options.size = whole("--size", &value(&mut flags)?, 65_536.0)?,
            Arg::Long("only") => options.only = Some(side("--only", &value(&mut flags)?)?),
            Arg::Long("svg") => options.svg = svg(flags.value()?.into())?,
            Arg::Long("server") => served = Some(side("--server", &value(&mut flags)?)?),
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            _ => return Err(flag.unexpected().into()),
        }
    }
    Ok(match served {
        Some(side) => Command::Serve {
            side,
            size: options.size,
        },
        None => Command::Compare(options),
    })
}

fn value(flags: &mut Parser) -> Result<String> {
    Ok(flags.value()?.string()?)
}

fn connections(list: &str) -> Result<Vec<usize>> {
    let mut rungs = list
        .split(',')
        .map(|rung| whole("--connections", rung, MAX_CONNECTIONS))
        .collect::<Result<Vec<_>>>()?;
    rungs.sort_unstable();
    rungs.dedup();
    Ok(rungs)
}

fn whole(flag: &str, text: &str, most: f64) -> Result<usize> {
    let number = number(flag, text, 1.0..=most)?;
    ensure!(
        number.fract() == 0.0,
        "{flag}: `{text}` is not a whole number"
    );
    Ok(number as usize)
}

fn number(flag: &str, text: &str, range: RangeInclusive<f64>) -> Result<f64> {
    let number: f64 = text
        .trim()
        .parse()
        .ok()
        .with_context(|| format!("{flag}: `{text}` is not a number"))?;
    let (least, most) = (range.start(), range.end());
    ensure!(
        range.contains(&number),
        "{flag}: `{text}` is not between {least} and {most}"
    );
    Ok(number)
}

fn side(flag: &str, text: &str) -> Result<Side> {
    match text {
        "threads" => Ok(Side::Threads),
        "tasks" => Ok(Side::Tasks),
        _ => Err(anyhow!("{flag}: `{text}` is neither `threads` nor `tasks`")),
    }
}

/// Checks at the start whether the chart can be written later.
fn svg(path: PathBuf) -> Result<PathBuf> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    ensure!(
        folder.is_dir(),
        "--svg: there is no folder `{}`",
        folder.display()
    );
    ensure!(!path.is_dir(), "--svg: `{}` is a folder", path.display());
    Ok(path)
}
