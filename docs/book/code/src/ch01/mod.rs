//! Chapter 1: how long the steps of a server take, and how much of its life it waits.

pub mod broken;
pub mod program;

use std::{
    fs::{self, File, OpenOptions},
    hint::black_box,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::{FileExt, OpenOptionsExt},
    thread,
    time::{Duration, Instant},
};

use rustix::{fs::OFlags, thread::CpuSet};

use crate::{
    chapter::Chapter,
    chart,
    figures::{
        Figures,
        Unit::{Nanoseconds, Share},
    },
    measure::{Progress, Sample, effort, per_call, rounds, thread_cpu},
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 1,
    title: "Your processor waits",
    measure,
    picture: |yours, ours| {
        chart::bars(
            "How long one step takes (log scale)",
            yours,
            ours,
            Nanoseconds,
        )
    },
    broken: broken::run,
    serve: None,
};

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(10);

    progress.step("arithmetic");
    figures.add("arithmetic", "multiply and add", Nanoseconds, arithmetic());
    progress.step("memory");
    figures.add("memory", "read distant memory", Nanoseconds, memory());
    progress.step("system call");
    let call = per_call(400_000, || {
        black_box(rustix::process::getppid());
    });
    figures.add("syscall", "system call", Nanoseconds, call);
    progress.step("cached file");
    figures.add(
        "cached",
        "read a page of a cached file",
        Nanoseconds,
        cached_file()?,
    );
    progress.step("thread switch");
    figures.add(
        "switch",
        "switch to another thread",
        Nanoseconds,
        thread_switch()?,
    );
    progress.step("round trip");
    figures.add(
        "loopback",
        "TCP round trip, loopback",
        Nanoseconds,
        loopback()?,
    );
    progress.step("disk");
    match disk() {
        Ok(disk) => figures.add("disk", "read a page from the disk", Nanoseconds, disk),
        Err(error) => figures.missing.push(format!("the disk ({error})")),
    }
    for millis in [0, 1, 10] {
        progress.step("a session");
        let label = match millis {
            0 => "waiting, client on this machine",
            1 => "waiting, client a millisecond away",
            _ => "waiting, client ten milliseconds away",
        };
        figures.add(format!("waiting_{millis}"), label, Share, waiting(millis)?);
    }
    Ok(figures)
}

/// Each step needs the result of the one before, so that no two of them overlap.
fn arithmetic() -> Sample {
    let mut x: u64 = 1;
    let sample = per_call(20_000_000, || {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
    });
    black_box(x);
    sample
}

/// Follows a random cycle through 64 MiB, so that the address of a read is the result of the last.
fn memory() -> Sample {
    let mut next: Vec<u32> = (0..16 << 20).collect();
    let mut random: u64 = 1;
    for i in (1..next.len()).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        next.swap(i, (random >> 33) as usize % i);
    }
    let mut at = 0;
    let sample = per_call(1_000_000, || at = next[at as usize]);
    black_box(at);
    sample
}

fn cached_file() -> io::Result<Sample> {
    let path = std::env::temp_dir().join(format!("windlass-book-{}", std::process::id()));
    fs::write(&path, [7; 4096])?;
    let file = File::open(&path)?;
    fs::remove_file(&path)?;
    let mut block = [0; 4096];
    Ok(per_call(40_000, || {
        file.read_exact_at(&mut block, 0).expect("the file is open")
    }))
}

/// Reads blocks of a new file, past the system's cache.
fn disk() -> io::Result<Sample> {
    const BLOCKS: u64 = 4096;
    let path = std::env::current_exe()?.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&path, vec![7; (BLOCKS * 4096) as usize])?;
    File::open(&path)?.sync_all()?;
    let direct = OFlags::DIRECT.bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(direct)
        .open(&path);
    fs::remove_file(&path)?;
    let file = file?;
    // The system demands a buffer at a multiple of the block size.
    let mut memory = vec![0; 8192];
    let start = memory.as_ptr().align_offset(4096);
    let block = &mut memory[start..start + 4096];
    let (reads, mut at) = (effort(200, 50), 1);
    rounds(|| {
        let start = Instant::now();
        for _ in 0..reads {
            at = (at * 2_654_435_761 + 1) % BLOCKS;
            file.read_exact_at(block, at * 4096)?;
        }
        Ok(start.elapsed().as_nanos() as f64 / reads as f64)
    })
}

/// Two threads on one core pass a byte to and fro. Each pass makes the core switch threads.
pub(crate) fn thread_switch() -> io::Result<Sample> {
    let (there, there_end) = pipe()?;
    let (back, back_end) = pipe()?;
    let partner = thread::spawn(move || {
        stay_on_this_core();
        pass(there, back_end).ok();
    });
    let measuring = thread::spawn(move || {
        stay_on_this_core();
        let (mut back, mut there_end, passes) = (back, there_end, effort(10_000, 2_000));
        rounds(|| {
            let start = Instant::now();
            for _ in 0..passes {
                there_end.write_all(&[1])?;
                back.read_exact(&mut [0])?;
            }
            Ok(start.elapsed().as_nanos() as f64 / passes as f64 / 2.0)
        })
    });
    let sample = measuring
        .join()
        .expect("no thread of the measurement panics");
    partner.join().expect("no thread of the measurement panics");
    sample
}

/// Passes bytes on until the other end is closed.
fn pass(mut from: File, mut to: File) -> io::Result<()> {
    loop {
        from.read_exact(&mut [0])?;
        to.write_all(&[1])?;
    }
}

fn pipe() -> io::Result<(File, File)> {
    let (reader, writer) = rustix::pipe::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// Ties the thread to the first core that it may use.
fn stay_on_this_core() {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else {
        return;
    };
    let mut one = CpuSet::new();
    if let Some(first) = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)) {
        one.set(first);
        rustix::thread::sched_setaffinity(None, &one).ok();
    }
}

fn loopback() -> io::Result<Sample> {
    let (mut client, server) = pair()?;
    thread::spawn(move || program::session(server));
    let mut replies = BufReader::new(client.try_clone()?);
    let mut reply = String::new();
    let mut exchange = || -> io::Result<()> {
        client.write_all(b"1\n")?;
        reply.clear();
        replies.read_line(&mut reply).map(drop)
    };
    exchange()?;
    Ok(per_call(8_000, || exchange().expect("the server runs")))
}

/// The share of a session in which its thread does not run. The client waits before each
/// request, as long as a request and a reply would be on their way.
fn waiting(millis: u64) -> io::Result<Sample> {
    let requests = match millis {
        0 => effort(4_000, 500),
        _ => effort(400, 60) / millis as usize,
    };
    rounds(|| {
        let (mut client, server) = pair()?;
        let start = Instant::now();
        let session = thread::spawn(move || program::session(server).map(|()| thread_cpu()));
        let mut replies = BufReader::new(client.try_clone()?);
        let mut reply = String::new();
        for _ in 0..requests {
            if millis > 0 {
                thread::sleep(Duration::from_millis(millis));
            }
            client.write_all(b"1\n")?;
            reply.clear();
            replies.read_line(&mut reply)?;
        }
        let alive = start.elapsed();
        drop((client, replies));
        let busy = session.join().expect("the session does not panic")?;
        Ok(1.0 - busy.as_secs_f64() / alive.as_secs_f64())
    })
}

/// Two connected sockets.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}
