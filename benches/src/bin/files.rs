//! Compares files of windlass, with io_uring and with threads, with tokio and blocking std.
//!
//! ```text
//! cargo run --release -p windlass-benches --bin files            # some minutes, 2 GiB of disk
//! cargo run --release -p windlass-benches --bin files -- --mib 64 --rounds 1    # in haste
//! ```
//!
//! Each measurement is a separate process, and the contenders alternate, round by round. Before
//! each cold measurement, the file is evicted from the page cache. Meanwhile a timer of 1 ms ticks
//! on the same loop, and its delay is recorded. System calls are counted by perf, if it is
//! installed.

use std::{
    env,
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{
    FutureExt, StreamExt,
    future::LocalBoxFuture,
    stream::{self, FuturesUnordered},
};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::fs::{Advice, fadvise};

const BLOCK: usize = 4096;
const DEPTH: usize = 64;
const READS: usize = 20_000;
const CHUNK: usize = 256 * 1024;

const CONTENDERS: [&str; 4] = [
    "windlass, io_uring",
    "windlass, threads",
    "tokio::fs",
    "std, blocking",
];

/// The work, whether the cache is evicted before, and the number of operations.
const WORKS: [(&str, bool); 5] = [
    ("read 4 KiB at random, cold", true),
    ("read 4 KiB at random, cached", false),
    ("read all in chunks of 256 KiB, cached", false),
    ("copy in chunks of 256 KiB, cold", true),
    ("copy by `fs::copy`, cold", true),
];

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|word| word == "child") {
        let [_, who, work, path] = &args[..] else {
            anyhow::bail!("child CONTENDER WORK FILE");
        };
        return child(who.parse()?, work.parse()?, Path::new(path));
    }
    let option = |name: &str, default: usize| -> Result<usize> {
        let at = args.iter().position(|word| word == name);
        let value = at.and_then(|at| args.get(at + 1));
        value.map_or(Ok(default), |value| value.parse().context("a number"))
    };
    suite(option("--mib", 1024)?, option("--rounds", 5)?)
}

/// Runs all rounds, and prints the table.
fn suite(mib: usize, rounds: usize) -> Result<()> {
    let path = env::temp_dir().join(format!("windlass-files-{}", std::process::id()));
    fill(&path, mib)?;
    let mut found = vec![vec![Vec::new(); CONTENDERS.len()]; WORKS.len()];
    for round in 0..rounds {
        for (work, (name, is_cold)) in WORKS.iter().enumerate() {
            for turn in 0..CONTENDERS.len() {
                // The first process touches memory that no other has touched for a while.
                let who = (turn + round) % CONTENDERS.len();
                eprintln!(
                    "round {} of {rounds}: {name}, {}",
                    round + 1,
                    CONTENDERS[who]
                );
                prepare(&path, *is_cold)?;
                found[work][who].push(run(who, work, &path)?);
            }
        }
    }
    println!(
        "| work | contender | time, ratio to the best | CPU, ratio to the best | system calls an operation | timer late, p50 / p99 |"
    );
    println!("|---|---|---:|---:|---:|---:|");
    for (work, found) in found.iter().enumerate() {
        let medians: Vec<Run> = found.iter().map(|runs| median(runs)).collect();
        let best = |of: fn(&Run) -> f64| medians.iter().map(of).fold(f64::INFINITY, f64::min);
        let (time, cpu) = (best(|run| run.seconds), best(|run| run.cpu));
        for (who, run) in medians.iter().enumerate() {
            prepare(&path, WORKS[work].1)?;
            let calls = calls(who, work, &path, run.operations)?;
            let late = match CONTENDERS[who].starts_with("std") {
                true => "no timer".to_owned(),
                false => format!("{:.0} / {:.0} µs", run.late[0], run.late[1]),
            };
            println!(
                "| {} | {} | {:.2} s, {:.2} | {:.2} s, {:.2} | {calls} | {late} |",
                WORKS[work].0,
                CONTENDERS[who],
                run.seconds,
                run.seconds / time,
                run.cpu,
                run.cpu / cpu,
            );
        }
    }
    let _ = std::fs::remove_file(copy_of(&path));
    Ok(std::fs::remove_file(path)?)
}

/// The output of a child, one line.
#[derive(Clone, Debug)]
struct Run {
    seconds: f64,
    cpu: f64,
    operations: f64,
    /// Delay of the timer (µs), p50 and p99.
    late: [f64; 2],
}

fn median(runs: &[Run]) -> Run {
    let middle = |of: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Run {
        seconds: middle(|run| run.seconds),
        cpu: middle(|run| run.cpu),
        operations: middle(|run| run.operations),
        late: [middle(|run| run.late[0]), middle(|run| run.late[1])],
    }
}

fn run(who: usize, work: usize, path: &Path) -> Result<Run> {
    let output = command(who, work, path)?.output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let numbers: Vec<f64> = said
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [seconds, cpu, operations, p50, p99] = numbers[..] else {
        anyhow::bail!("the child said {said:?}");
    };
    Ok(Run {
        seconds,
        cpu,
        operations,
        late: [p50, p99],
    })
}

fn command(who: usize, work: usize, path: &Path) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["child", &who.to_string(), &work.to_string()])
        .arg(path);
    Ok(command)
}

/// Of all threads, including the system calls of the start.
fn calls(who: usize, work: usize, path: &Path, operations: f64) -> Result<String> {
    let child = command(who, work, path)?;
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "--"]);
    perf.arg(child.get_program()).args(child.get_args());
    let Ok(output) = perf.output() else {
        return Ok("not counted".to_owned());
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find(|line| line.contains("sys_enter"));
    let count = count.and_then(|line| line.split(',').next()?.parse::<f64>().ok());
    Ok(count.map_or("not counted".to_owned(), |count| {
        format!("{:.2}", count / operations)
    }))
}

/// Creates a file and syncs it to the disk.
fn fill(path: &Path, mib: usize) -> Result<()> {
    let mut file = File::create(path)?;
    let piece: Vec<u8> = (0..1 << 20)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for _ in 0..mib {
        file.write_all(&piece)?;
    }
    Ok(file.sync_all()?)
}

fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("copy")
}

/// Evicts the file from the page cache, or loads it.
fn prepare(path: &Path, is_cold: bool) -> Result<()> {
    let _ = std::fs::remove_file(copy_of(path));
    let file = File::open(path)?;
    if is_cold {
        fadvise(&file, 0, None, Advice::DontNeed)?;
    } else {
        std::io::copy(&mut &file, &mut std::io::sink())?;
    }
    Ok(())
}

/// Runs one work of one contender, and prints its results.
fn child(who: usize, work: usize, path: &Path) -> Result<()> {
    let len = std::fs::metadata(path)?.len();
    let start = Instant::now();
    let late = match who {
        0 | 1 => windlass::block_on(async {
            ensure!(windlass::fs::use_io_uring(who == 0)?, "no io_uring here");
            Ok(beside_timer(
                |at| windlass::time::sleep_until(at).boxed_local(),
                windlass_does(work, path, len),
            )
            .await)
        })?,
        2 => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()?;
            let sleep = |at: Instant| tokio::time::sleep_until(at.into()).boxed_local();
            runtime.block_on(async { beside_timer(sleep, tokio_does(work, path, len)).await })
        }
        _ => {
            std_does(work, path, len)?;
            Vec::new()
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time =
        |value: nix::sys::time::TimeVal| value.tv_sec() as f64 + value.tv_usec() as f64 / 1e6;
    let cpu = time(usage.user_time()) + time(usage.system_time());
    let operations = match work {
        0 | 1 => READS,
        2 => len as usize / CHUNK,
        3 => 2 * len as usize / CHUNK,
        _ => 1,
    };
    let (p50, p99) = percentiles(late);
    println!("{seconds} {cpu} {operations} {p50} {p99}");
    Ok(())
}

fn percentiles(mut late: Vec<Duration>) -> (f64, f64) {
    late.sort();
    let at = |part: usize| {
        late.get(late.len() * part / 100)
            .map_or(0.0, |late| late.as_secs_f64() * 1e6)
    };
    (at(50), at(99))
}

/// Runs the work, and records the delays of a timer of 1 ms.
async fn beside_timer(
    sleep_until: impl Fn(Instant) -> LocalBoxFuture<'static, ()>,
    work: impl Future<Output = Result<()>>,
) -> Vec<Duration> {
    let mut late = Vec::new();
    let mut work = std::pin::pin!(work.fuse());
    loop {
        let deadline = Instant::now() + Duration::from_millis(1);
        futures::select! {
            result = work => {
                result.expect("the work succeeds");
                return late;
            }
            () = sleep_until(deadline).fuse() => late.push(deadline.elapsed()),
        }
    }
}

/// The offsets of the reads, the same for all.
fn offsets(len: u64) -> impl Iterator<Item = u64> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..READS).map(move |_| random.u64(0..len / BLOCK as u64) * BLOCK as u64)
}

async fn windlass_does(work: usize, path: &Path, len: u64) -> Result<()> {
    use windlass::fs;
    match work {
        0 | 1 => {
            let file = fs::File::open(path).await?;
            let reads = offsets(len).map(|offset| {
                let file = &file;
                async move { file.read_buf_at(Vec::with_capacity(BLOCK), offset).await.0 }
            });
            let mut reads = stream::iter(reads).buffer_unordered(DEPTH);
            while let Some(read) = reads.next().await {
                ensure!(read? == BLOCK);
            }
        }
        2 => {
            let file = fs::File::open(path).await?;
            let mut buffer = Vec::with_capacity(CHUNK);
            for offset in (0..len).step_by(CHUNK) {
                buffer.clear();
                let read;
                (read, buffer) = file.read_buf_at(buffer, offset).await;
                read?;
            }
        }
        3 => {
            let (from, to) = (
                fs::File::open(path).await?,
                fs::File::create(copy_of(path)).await?,
            );
            let mut buffer = Vec::with_capacity(CHUNK);
            for offset in (0..len).step_by(CHUNK) {
                buffer.clear();
                let (read, wrote);
                (read, buffer) = from.read_buf_at(buffer, offset).await;
                (wrote, buffer) = to.write_buf_at(buffer, offset).await;
                ensure!(read? == wrote?);
            }
        }
        _ => ensure!(fs::copy(path, copy_of(path)).await? == len),
    }
    Ok(())
}

/// tokio has no reads at an offset. Closures on its pool do them, as in its own files.
async fn tokio_does(work: usize, path: &Path, len: u64) -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    match work {
        0 | 1 => {
            let file = std::sync::Arc::new(File::open(path)?);
            let mut reads = FuturesUnordered::new();
            for offset in offsets(len) {
                if reads.len() == DEPTH {
                    let read: Result<std::io::Result<usize>, _> =
                        reads.next().await.context("64")?;
                    ensure!(read?? == BLOCK);
                }
                let file = file.clone();
                reads.push(tokio::task::spawn_blocking(move || {
                    let mut buffer = vec![0; BLOCK];
                    file.read_at(&mut buffer, offset)
                }));
            }
            while let Some(read) = reads.next().await {
                ensure!(read?? == BLOCK);
            }
        }
        2 => {
            let mut file = tokio::fs::File::open(path).await?;
            let mut buffer = vec![0; CHUNK];
            while file.read(&mut buffer).await? > 0 {}
        }
        3 => {
            let mut from = tokio::fs::File::open(path).await?;
            let mut to = tokio::fs::File::create(copy_of(path)).await?;
            let mut buffer = vec![0; CHUNK];
            loop {
                let n = from.read(&mut buffer).await?;
                if n == 0 {
                    break;
                }
                to.write_all(&buffer[..n]).await?;
            }
            to.flush().await?;
        }
        _ => ensure!(tokio::fs::copy(path, copy_of(path)).await? == len),
    }
    Ok(())
}

fn std_does(work: usize, path: &Path, len: u64) -> Result<()> {
    let file = Rc::new(File::open(path)?);
    let mut buffer = vec![0; if work < 2 { BLOCK } else { CHUNK }];
    match work {
        0 | 1 => {
            for offset in offsets(len) {
                ensure!(file.read_at(&mut buffer, offset)? == BLOCK);
            }
        }
        2 => {
            for offset in (0..len).step_by(CHUNK) {
                file.read_at(&mut buffer, offset)?;
            }
        }
        3 => {
            let to = File::create(copy_of(path))?;
            for offset in (0..len).step_by(CHUNK) {
                let n = file.read_at(&mut buffer, offset)?;
                to.write_all_at(&buffer[..n], offset)?;
            }
        }
        _ => ensure!(std::fs::copy(path, copy_of(path))? == len),
    }
    Ok(())
}
