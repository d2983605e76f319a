//! Runs a thousand children, one after the other, and measures the cost of each and the resources
//! left behind.
//!
//! ```text
//! cargo run --release -p windlass-benches --bin children        # half a minute
//! ```
//!
//! windlass and tokio beside std, each in its own process. They alternate, round by round, and the
//! ratios are medians over rounds.

use std::env;
use std::fs;
use std::process::{self, Command};

use anyhow::{Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const ROUNDS: usize = 7;
const CHILDREN: usize = 1000;
const PROGRAM: &str = "/bin/true";
const CONTENDERS: [&str; 3] = ["std", "tokio", "windlass"];

/// Measured values: CPU time of a child and of its parent together (µs), CPU time of the parent
/// alone (µs), threads of the parent, and children that are left.
type Figures = [f64; 4];

fn main() -> Result<()> {
    if let Some(contender) = env::args().nth(1) {
        let figures = start_all(&contender)?;
        println!("{}", figures.map(|figure| figure.to_string()).join(" "));
        return Ok(());
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut figures = [Figures::default(); CONTENDERS.len()];
        for (figures, contender) in figures.iter_mut().zip(CONTENDERS) {
            *figures = measure(contender)?;
        }
        rounds.push(figures);
    }
    println!("| | CPU per child (µs) | | CPU of the parent (µs) | | threads | children left |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (who, contender) in CONTENDERS.iter().enumerate() {
        let figure = |what: usize| median(rounds.iter().map(|round| round[who][what]));
        let ratio =
            |what: usize| median(rounds.iter().map(|round| round[who][what] / round[0][what]));
        println!(
            "| {contender} | {:.0} | {:.2} × | {:.0} | {:.2} × | {} | {} |",
            figure(0),
            ratio(0),
            figure(1),
            ratio(1),
            figure(2),
            figure(3),
        );
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// In its own process.
fn measure(contender: &str) -> Result<Figures> {
    let output = Command::new(env::current_exe()?).arg(contender).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut figures = Figures::default();
    for (figure, word) in figures.iter_mut().zip(text.split_whitespace()) {
        *figure = word.parse()?;
    }
    Ok(figures)
}

fn start_all(contender: &str) -> Result<Figures> {
    let threads = match contender {
        "std" => {
            for _ in 0..CHILDREN {
                Command::new(PROGRAM).status()?;
            }
            threads()?
        }
        "tokio" => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build()?.block_on(async {
                for _ in 0..CHILDREN {
                    tokio::process::Command::new(PROGRAM).status().await?;
                }
                threads()
            })?
        }
        "windlass" => windlass::block_on(async {
            for _ in 0..CHILDREN {
                windlass::process::Command::new(PROGRAM).status().await?;
            }
            threads()
        })?,
        other => bail!("{other} is none of {CONTENDERS:?}"),
    };
    let pid = process::id();
    let left = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let own = cpu(UsageWho::RUSAGE_SELF)?;
    Ok([
        own + cpu(UsageWho::RUSAGE_CHILDREN)?,
        own,
        threads as f64,
        left.split_whitespace().count() as f64,
    ])
}

/// CPU time per child (µs).
fn cpu(who: UsageWho) -> Result<f64> {
    let usage = getrusage(who)?;
    let all = usage.user_time() + usage.system_time();
    Ok(all.num_microseconds() as f64 / CHILDREN as f64)
}

fn threads() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}
