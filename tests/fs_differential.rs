//! Random programs of file operations run on io_uring, on threads and on std. Their results,
//! errors, positions and contents must be equal.
//!
//! Some hundreds of programs run by default. `WINDLASS_FS_PROGRAMS` sets the number of programs,
//! and `WINDLASS_FS_SEED` the seed of the first one.

#![cfg(target_os = "linux")]

#[path = "../reactor/tests/common/mod.rs"]
mod common;
#[path = "common/files.rs"]
mod files;

use std::env;
use std::fmt::Debug;
use std::fs as std_fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;

use common::run;
use files::polled;
use futures::future::{FutureExt, join_all};
use futures::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use windlass::fs::{self, File, use_io_uring};
use windlass_reactor::Reactor;

const HANDLES: usize = 3;
const NAMES: [&str; 9] = [
    "a",
    "b",
    "c",
    "folder",
    "folder/d",
    "missing/e",
    "pipe",
    "/dev/null",
    "/dev/full",
];

#[derive(Clone, Debug)]
enum Step {
    Open {
        handle: usize,
        name: usize,
        options: Options,
    },
    Duplicate {
        from: usize,
        to: usize,
    },
    On {
        handle: usize,
        action: Action,
    },
    Names {
        action: NameAction,
        one: usize,
        other: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Options {
    /// From the lowest bit up, read, write, append, truncate, create and create new.
    bits: u32,
    flags: i32,
}

#[derive(Clone, Debug)]
enum Action {
    Read(usize),
    ReadVectored(usize, usize),
    ReadAt(usize, u64),
    ReadBufAt(usize, u64),
    Write(usize, u8),
    WriteVectored(usize, usize, u8),
    WriteAt(usize, u64, u8),
    WriteBufAt(usize, u64, u8),
    Seek(SeekFrom),
    SetLen(u64),
    Flush,
    SyncAll,
    SyncData,
    Metadata,
    /// A read and a seek that are dropped after some polls.
    Dropped(usize, usize),
    /// Operations at offsets. Each is polled once before the first one is awaited.
    AtOnce(Vec<(u8, u64, usize)>),
    Close,
    Drop,
    IntoStd,
}

#[derive(Clone, Copy, Debug)]
enum NameAction {
    Read,
    Write,
    Copy,
    Rename,
    Remove,
    RemoveFolder,
    CreateFolder,
    Link,
    Symlink,
    Metadata,
    List,
}

/// Small pseudorandom numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn size(&mut self) -> usize {
        match self.below(8) {
            0 => 0,
            1 => 4096,
            2 => 1 + self.below(20_000) as usize,
            _ => 1 + self.below(100) as usize,
        }
    }

    fn offset(&mut self) -> u64 {
        match self.below(20) {
            0 => u64::MAX - self.below(3),
            1 => 1 << 63,
            2..=4 => self.below(20_000),
            _ => self.below(150),
        }
    }

    fn seek(&mut self) -> SeekFrom {
        match self.below(8) {
            0 => SeekFrom::Start(u64::MAX),
            1..=3 => SeekFrom::Start(self.below(200)),
            4 | 5 => SeekFrom::Current(self.below(300) as i64 - 150),
            _ => SeekFrom::End(self.below(300) as i64 - 150),
        }
    }

    fn options(&mut self, name: usize) -> Options {
        let bits = match self.below(8) {
            0 => self.below(64) as u32,
            1 => 1,
            2 => 0b10101, // read, append, create
            3 => 0b11010, // write, truncate, create
            4 => 0b11011,
            _ => 0b10011,
        };
        let mut flags = match self.below(12) {
            0 => OFlags::NONBLOCK,
            1 => OFlags::APPEND,
            2 => OFlags::DIRECTORY,
            3 => OFlags::NOFOLLOW,
            _ => OFlags::empty(),
        };
        if NAMES[name] == "pipe" {
            flags |= OFlags::NONBLOCK; // the pipe has no peer
        }
        Options {
            bits,
            flags: flags.bits() as i32,
        }
    }

    fn action(&mut self) -> Action {
        let byte = self.below(256) as u8;
        match self.below(32) {
            0..=2 => Action::Read(self.size()),
            3 => Action::ReadVectored(self.size(), self.size()),
            4..=5 => Action::ReadAt(self.size(), self.offset()),
            6 => Action::ReadBufAt(self.size(), self.offset()),
            7..=10 => Action::Write(self.size(), byte),
            11..=12 => Action::WriteVectored(self.size(), self.size(), byte),
            13..=14 => Action::WriteAt(self.size(), self.offset(), byte),
            15 => Action::WriteBufAt(self.size(), self.offset(), byte),
            16..=18 => Action::Seek(self.seek()),
            19 => Action::SetLen(self.offset()),
            20 => Action::Flush,
            21 => Action::SyncAll,
            22 => Action::SyncData,
            23..=24 => Action::Metadata,
            25 => Action::Dropped(self.size(), 1 + self.below(2) as usize),
            26..=27 => {
                let one =
                    |random: &mut Random| (random.below(8) as u8, random.next(), random.size());
                Action::AtOnce((0..1 + self.below(8)).map(|_| one(self)).collect())
            }
            28 => Action::Close,
            29 => Action::Drop,
            _ => Action::IntoStd,
        }
    }

    fn program(&mut self) -> Vec<Step> {
        let name = |random: &mut Random| match random.below(3) {
            0 => random.below(NAMES.len() as u64) as usize,
            _ => random.below(2) as usize,
        };
        let handle = |random: &mut Random| random.below(HANDLES as u64) as usize;
        let mut steps = Vec::new();
        let mut now = 0;
        for number in 0..4 + self.below(20) {
            let step = match self.below(20) {
                kind if kind < 3 || number == 0 => {
                    let name = name(self);
                    now = handle(self);
                    Step::Open {
                        handle: now,
                        name,
                        options: self.options(name),
                    }
                }
                3 => Step::Duplicate {
                    from: now,
                    to: handle(self),
                },
                4 => Step::Names {
                    action: self.name_action(),
                    one: name(self),
                    other: name(self),
                },
                5 => {
                    now = handle(self);
                    Step::On {
                        handle: now,
                        action: self.action(),
                    }
                }
                _ => Step::On {
                    handle: now,
                    action: self.action(),
                },
            };
            steps.push(step);
        }
        steps
    }

    fn name_action(&mut self) -> NameAction {
        use NameAction::*;
        let all = [
            Read,
            Write,
            Copy,
            Rename,
            Remove,
            RemoveFolder,
            CreateFolder,
            Link,
            Symlink,
            Metadata,
            List,
        ];
        all[self.below(all.len() as u64) as usize]
    }
}

/// Formats the parts of a result that must be equal.
fn describe<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => {
            let source = std::error::Error::source(&error);
            let source = source.and_then(|it| it.downcast_ref::<io::Error>());
            let raw = source.unwrap_or(&error).raw_os_error();
            // std checks some arguments itself and then omits the error number 22 (`EINVAL`).
            format!("{:?} {:?}", error.kind(), raw.filter(|&raw| raw != 22))
        }
    }
}

/// Shortens contents, so that a difference is readable.
fn digest(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(7_u64, |hash, &byte| {
        hash.wrapping_mul(1_000_003).wrapping_add(byte.into())
    });
    format!("{} bytes, {hash:x}", bytes.len())
}

fn bytes(len: usize, byte: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_add(byte)).collect()
}

/// A folder that is emptied before each program.
struct Place(PathBuf);

impl Place {
    fn path(&self, name: usize) -> PathBuf {
        self.0.join(NAMES[name])
    }

    fn prepare(&self, program: &[Step]) {
        let _ = std_fs::remove_dir_all(&self.0);
        std_fs::create_dir(&self.0).unwrap();
        std_fs::create_dir(self.0.join("folder")).unwrap();
        std_fs::write(self.path(0), bytes(100, 1)).unwrap();
        let text = format!("{program:?}");
        if text.contains("name: 6") || text.contains("one: 6") || text.contains("other: 6") {
            let mode = Mode::from_raw_mode(0o600);
            mknodat(CWD, self.path(6), FileType::Fifo, mode, 0).unwrap();
        }
    }

    /// Excludes pipes, which would wait for a peer, and devices, which belong to the system.
    fn may(&self, action: NameAction, one: usize, other: usize) -> bool {
        use NameAction::*;
        let is_special = |name: usize| {
            name >= 7 || std_fs::metadata(self.path(name)).is_ok_and(|it| it.file_type().is_fifo())
        };
        match action {
            Metadata | List | CreateFolder | RemoveFolder => true,
            Read | Write => one == 7 || !is_special(one),
            _ => !is_special(one) && !is_special(other),
        }
    }

    fn contents(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in [&self.0, &self.0.join("folder")] {
            for entry in std_fs::read_dir(folder).into_iter().flatten().flatten() {
                let kind = entry.file_type().unwrap();
                let contents = kind.is_file().then(|| std_fs::read(entry.path()).unwrap());
                let contents = contents.map(|it| digest(&it));
                found.push(format!("{:?} {kind:?} {contents:?}", entry.file_name()));
            }
        }
        found.sort();
        found
    }
}

fn is_plain(file: &std_fs::File) -> bool {
    file.metadata().is_ok_and(|it| it.is_file())
}

fn by_std(place: &Place, program: &[Step]) -> Vec<String> {
    let mut files: [Option<std_fs::File>; HANDLES] = Default::default();
    let mut results = Vec::new();
    for step in program {
        results.push(match step {
            Step::Open {
                handle,
                name,
                options,
            } => {
                files[*handle] = None;
                let is = |bit: u32| options.bits & 1 << bit != 0;
                let mut std = std_fs::OpenOptions::new();
                std.read(is(0)).write(is(1)).append(is(2)).truncate(is(3));
                std.create(is(4))
                    .create_new(is(5))
                    .custom_flags(options.flags);
                let opened = std.open(place.path(*name));
                describe(opened.map(|file| files[*handle] = Some(file)))
            }
            Step::Duplicate { from, to } => {
                let copy = files[*from].as_ref().map(|file| file.try_clone().unwrap());
                if from != to {
                    files[*to] = copy;
                }
                String::new()
            }
            Step::On { handle, action } => std_does(&mut files[*handle], action),
            Step::Names { action, one, other } if place.may(*action, *one, *other) => {
                let (one, other) = (place.path(*one), place.path(*other));
                std_names(*action, &one, &other)
            }
            Step::Names { .. } => String::new(),
        });
    }
    results.extend(
        files
            .iter_mut()
            .flatten()
            .map(|it| describe(it.stream_position())),
    );
    results
}

fn std_does(slot: &mut Option<std_fs::File>, action: &Action) -> String {
    let Some(file) = slot else {
        return String::new();
    };
    match *action {
        Action::Read(n) => {
            let mut room = vec![0; n];
            describe(file.read(&mut room).map(|n| digest(&room[..n])))
        }
        Action::ReadVectored(one, other) => {
            let (mut one, mut other) = (vec![0; one], vec![0; other]);
            let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
            let read = file.read_vectored(bufs);
            describe(read.map(|n| digest(&[one, other].concat()[..n])))
        }
        Action::ReadAt(n, offset) | Action::ReadBufAt(n, offset) => {
            let mut room = vec![0; n];
            describe(file.read_at(&mut room, offset).map(|n| digest(&room[..n])))
        }
        Action::Write(n, byte) => describe(file.write(&bytes(n, byte))),
        Action::WriteVectored(one, other, byte) => {
            let (one, other) = (bytes(one, byte), bytes(other, !byte));
            describe(file.write_vectored(&[IoSlice::new(&one), IoSlice::new(&other)]))
        }
        Action::WriteAt(n, offset, byte) | Action::WriteBufAt(n, offset, byte) => {
            describe(file.write_at(&bytes(n, byte), offset))
        }
        Action::Seek(to) => describe(file.seek(to)),
        Action::SetLen(len) => describe(file.set_len(len)),
        Action::Flush => describe(file.flush()),
        Action::SyncAll => describe(file.sync_all()),
        Action::SyncData => describe(file.sync_data()),
        Action::Metadata => describe(file.metadata().map(|it| (it.len(), it.file_type()))),
        Action::Dropped(..) => match is_plain(file) {
            true => describe(file.stream_position()),
            false => String::new(),
        },
        Action::AtOnce(ref all) => {
            let len = file.metadata().map_or(0, |it| it.len());
            if len == 0 || !is_plain(file) {
                return String::new();
            }
            let one = |&(kind, place, n): &(u8, u64, usize)| {
                let offset = place % len;
                let n = n.min((len - offset) as usize);
                match kind {
                    0..=2 => {
                        let mut room = vec![0; n];
                        describe(file.read_at(&mut room, offset).map(|n| digest(&room[..n])))
                    }
                    3..=5 => describe(file.write_at(&bytes(n, place as u8), offset)),
                    6 => describe(file.metadata().map(|it| it.len())),
                    _ => describe(file.sync_data()),
                }
            };
            format!("{:?}", all.iter().map(one).collect::<Vec<_>>())
        }
        Action::Close | Action::Drop => {
            *slot = None;
            String::new()
        }
        Action::IntoStd => String::new(),
    }
}

fn std_names(action: NameAction, one: &Path, other: &Path) -> String {
    match action {
        NameAction::Read => describe(std_fs::read(one).map(|it| digest(&it))),
        NameAction::Write => describe(std_fs::write(one, bytes(50, 3))),
        NameAction::Copy => describe(std_fs::copy(one, other)),
        NameAction::Rename => describe(std_fs::rename(one, other)),
        NameAction::Remove => describe(std_fs::remove_file(one)),
        NameAction::RemoveFolder => describe(std_fs::remove_dir(one)),
        NameAction::CreateFolder => describe(std_fs::create_dir(one)),
        NameAction::Link => describe(std_fs::hard_link(one, other)),
        NameAction::Symlink => describe(std::os::unix::fs::symlink(one, other)),
        NameAction::Metadata => describe(std_fs::metadata(one).map(|it| it.file_type())),
        NameAction::List => describe(std_fs::read_dir(one).map(|list| {
            let names = list.map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        })),
    }
}

/// Flushes all files, because the operations of different handles are unordered.
async fn flush(files: &mut [Option<File>; HANDLES]) {
    for file in files.iter_mut().flatten() {
        file.flush().await.unwrap();
    }
}

async fn by_windlass(place: &Place, program: &[Step]) -> Vec<String> {
    let mut files: [Option<File>; HANDLES] = Default::default();
    let mut results = Vec::new();
    let mut last = 0;
    for step in program {
        match step {
            Step::On { handle, action } if *handle == last && !matches!(action, Action::Drop) => {}
            _ => flush(&mut files).await,
        }
        results.push(match step {
            Step::Open {
                handle,
                name,
                options,
            } => {
                files[*handle] = None;
                let is = |bit: u32| options.bits & 1 << bit != 0;
                let mut ours = File::options();
                ours.read(is(0)).write(is(1)).append(is(2)).truncate(is(3));
                ours.create(is(4))
                    .create_new(is(5))
                    .custom_flags(options.flags);
                let opened = ours.open(place.path(*name)).await;
                last = *handle;
                describe(opened.map(|file| files[*handle] = Some(file)))
            }
            Step::Duplicate { from, to } => {
                let copy = files[*from].as_ref().map(|file| {
                    let copy = file.as_fd().try_clone_to_owned().unwrap();
                    File::from(std_fs::File::from(copy))
                });
                if from != to {
                    files[*to] = copy;
                }
                String::new()
            }
            Step::On { handle, action } => {
                last = *handle;
                we_do(&mut files[*handle], action).await
            }
            Step::Names { action, one, other } if place.may(*action, *one, *other) => {
                let (one, other) = (place.path(*one), place.path(*other));
                our_names(*action, &one, &other).await
            }
            Step::Names { .. } => String::new(),
        });
    }
    flush(&mut files).await;
    for file in files.iter_mut().flatten() {
        results.push(describe(file.seek(SeekFrom::Current(0)).await));
    }
    results
}

/// Returns the outcome of a write. Only the flush reports a full disk.
async fn wrote(file: &mut File, result: io::Result<usize>) -> String {
    if file.metadata().await.is_ok_and(|it| it.is_file()) {
        return describe(result);
    }
    match (result, file.flush().await) {
        (Ok(n), flushed) => describe(flushed.map(|()| n)),
        (Err(error), flushed) => {
            flushed.unwrap();
            describe(Err::<(), _>(error))
        }
    }
}

async fn we_do(slot: &mut Option<File>, action: &Action) -> String {
    let Some(file) = slot else {
        return String::new();
    };
    match *action {
        Action::Read(n) => {
            let mut room = vec![0; n];
            let read = file.read(&mut room).await;
            describe(read.map(|n| digest(&room[..n])))
        }
        Action::ReadVectored(one, other) => {
            let (mut one, mut other) = (vec![0; one], vec![0; other]);
            let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
            let read = file.read_vectored(bufs).await;
            let all = [one, other].concat();
            describe(read.map(|n| digest(&all[..n])))
        }
        Action::ReadAt(n, offset) => {
            let mut room = vec![0; n];
            describe(
                file.read_at(&mut room, offset)
                    .await
                    .map(|n| digest(&room[..n])),
            )
        }
        Action::ReadBufAt(n, offset) => {
            let (read, room) = file.read_buf_at(Vec::with_capacity(n), offset).await;
            describe(read.map(|n| digest(&room[..n])))
        }
        Action::Write(n, byte) => {
            let result = file.write(&bytes(n, byte)).await;
            wrote(file, result).await
        }
        Action::WriteVectored(one, other, byte) => {
            let (one, other) = (bytes(one, byte), bytes(other, !byte));
            let bufs = [IoSlice::new(&one), IoSlice::new(&other)];
            let result = file.write_vectored(&bufs).await;
            wrote(file, result).await
        }
        Action::WriteAt(n, offset, byte) => describe(file.write_at(&bytes(n, byte), offset).await),
        Action::WriteBufAt(n, offset, byte) => {
            describe(file.write_buf_at(bytes(n, byte), offset).await.0)
        }
        Action::Seek(to) => describe(file.seek(to).await),
        Action::SetLen(len) => describe(file.set_len(len).await),
        Action::Flush => describe(file.flush().await),
        Action::SyncAll => describe(file.sync_all().await),
        Action::SyncData => describe(file.sync_data().await),
        Action::Metadata => describe(file.metadata().await.map(|it| (it.len(), it.file_type()))),
        Action::Dropped(n, polls) => dropped(file, n, polls).await,
        Action::AtOnce(ref all) => at_once(file, all).await,
        Action::Close => {
            let closed = file.close().await;
            *slot = None;
            closed.map_or_else(|error| error.to_string(), |()| String::new())
        }
        Action::Drop => {
            *slot = None;
            String::new()
        }
        Action::IntoStd => {
            let file = slot.take().unwrap().into_std().await.unwrap();
            *slot = Some(File::from(file));
            String::new()
        }
    }
}

async fn dropped(file: &mut File, n: usize, polls: usize) -> String {
    if !file.metadata().await.unwrap().is_file() {
        return String::new();
    }
    let mut room = vec![0; n];
    if let Some(Ok(n)) = polled(polls, file.read(&mut room)).await {
        file.seek(SeekFrom::Current(-(n as i64))).await.unwrap();
    }
    let _ = polled(polls, file.sync_all()).await;
    let _ = polled(polls, file.metadata()).await;
    let _ = polled(polls, file.read_at(&mut room, 3)).await;
    let _ = polled(polls, file.seek(SeekFrom::Current(0))).await;
    describe(file.seek(SeekFrom::Current(0)).await)
}

async fn at_once(file: &File, all: &[(u8, u64, usize)]) -> String {
    let metadata = file.metadata().await.unwrap();
    let len = metadata.len();
    if len == 0 || !metadata.is_file() {
        return String::new();
    }
    let one = |&(kind, place, n): &(u8, u64, usize)| {
        let offset = place % len;
        let n = n.min((len - offset) as usize);
        async move {
            match kind {
                0..=2 => {
                    let mut room = vec![0; n];
                    describe(
                        file.read_at(&mut room, offset)
                            .await
                            .map(|n| digest(&room[..n])),
                    )
                }
                3..=5 => describe(file.write_at(&bytes(n, place as u8), offset).await),
                6 => describe(file.metadata().await.map(|it| it.len())),
                _ => describe(file.sync_data().await),
            }
        }
        .boxed_local()
    };
    format!("{:?}", join_all(all.iter().map(one)).await)
}

async fn our_names(action: NameAction, one: &Path, other: &Path) -> String {
    match action {
        NameAction::Read => describe(fs::read(one).await.map(|it| digest(&it))),
        NameAction::Write => describe(fs::write(one, bytes(50, 3)).await),
        NameAction::Copy => describe(fs::copy(one, other).await),
        NameAction::Rename => describe(fs::rename(one, other).await),
        NameAction::Remove => describe(fs::remove_file(one).await),
        NameAction::RemoveFolder => describe(fs::remove_dir(one).await),
        NameAction::CreateFolder => describe(fs::create_dir(one).await),
        NameAction::Link => describe(fs::hard_link(one, other).await),
        NameAction::Symlink => describe(fs::symlink(one, other).await),
        NameAction::Metadata => describe(fs::metadata(one).await.map(|it| it.file_type())),
        NameAction::List => match fs::read_dir(one).await {
            Ok(mut list) => {
                let mut names = Vec::new();
                while let Some(entry) = list.next_entry().await.unwrap() {
                    names.push(entry.file_name());
                }
                names.sort();
                describe(Ok(names))
            }
            Err(error) => describe(Err::<(), _>(error)),
        },
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Std,
    Ring,
    Threads,
}

fn outcome(way: Way, base: &Path, seed: u64) -> Vec<String> {
    let program = Random(seed).program();
    let place = Place(base.join(format!("{way:?}")));
    place.prepare(&program);
    let mut results = match way {
        Way::Std => by_std(&place, &program),
        Way::Ring | Way::Threads => run(by_windlass(&place, &program)),
    };
    results.extend(place.contents());
    results
}

/// Runs the programs with these seeds and returns their outcomes.
fn outcomes(way: Way, base: &Path, first: u64, count: u64) -> Vec<Vec<String>> {
    thread::scope(|scope| {
        let outcomes = scope.spawn(|| {
            let _reactor = Reactor::current().unwrap();
            if let Way::Threads = way {
                assert!(use_io_uring(false).unwrap());
            }
            let seeds = first..first + count;
            seeds.map(|seed| outcome(way, base, seed)).collect()
        });
        outcomes.join().unwrap()
    })
}

/// Runs the programs in a folder, and returns the number of differences.
fn compare(base: &Path, first: u64, count: u64) -> usize {
    const CHUNK: u64 = 250;
    let mut differences = 0;
    for start in (first..first + count).step_by(CHUNK as usize) {
        let count = CHUNK.min(first + count - start);
        let [std, ring, threads] = thread::scope(|scope| {
            let ways = [Way::Std, Way::Ring, Way::Threads];
            let running = ways.map(|way| scope.spawn(move || outcomes(way, base, start, count)));
            running.map(|it| it.join().unwrap())
        });
        for (number, std) in std.iter().enumerate() {
            for (way, other) in [("io_uring", &ring), ("threads", &threads)] {
                if *std != other[number] {
                    differences += 1;
                    let seed = start + number as u64;
                    let program = Random(seed).program();
                    report(seed, &program, way, std, &other[number]);
                }
            }
        }
    }
    differences
}

fn report(seed: u64, program: &[Step], way: &str, std: &[String], other: &[String]) {
    eprintln!("program {seed} differs by {way}:");
    for (number, (std, other)) in std.iter().zip(other).enumerate() {
        let differs = if std == other { " " } else { "!" };
        eprintln!(
            "{differs} {:?}\n    std: {std}\n    {way}: {other}",
            program.get(number)
        );
    }
}

/// Returns a folder in memory, if there is one.
fn memory() -> &'static Path {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory,
        false => Path::new("/tmp"),
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn programs_in(folder: &Path, part: u64) {
    let base = folder.join(format!("windlass-differential-{}-{part}", process::id()));
    std_fs::create_dir(&base).unwrap();
    let count = number("WINDLASS_FS_PROGRAMS", 400) / 2;
    let differences = compare(&base, number("WINDLASS_FS_SEED", 1) + part * count, count);
    std_fs::remove_dir_all(base).unwrap();
    assert_eq!(differences, 0);
}

#[test]
fn random_programs_do_the_same_on_disk() {
    programs_in(&env::temp_dir(), 0);
}

#[test]
fn random_programs_do_the_same_in_memory() {
    programs_in(memory(), 1);
}

/// Programs on a simulated disk.
#[cfg(all(feature = "sim", not(windlass_portable)))]
mod simulated {
    use super::*;
    use windlass::sim;

    /// The names of files and directories. A simulated disk has neither pipes nor devices.
    const PLAIN_NAMES: usize = 6;

    /// Replaces the steps that need a pipe, a device or a descriptor of the system.
    fn plain(program: Vec<Step>) -> Vec<Step> {
        let plain = |step| match step {
            Step::Open {
                handle,
                name,
                options,
            } => Step::Open {
                handle,
                name: name % PLAIN_NAMES,
                options,
            },
            Step::Names { action, one, other } => Step::Names {
                action,
                one: one % PLAIN_NAMES,
                other: other % PLAIN_NAMES,
            },
            Step::Duplicate { to: handle, .. }
            | Step::On {
                handle,
                action: Action::IntoStd,
            } => Step::On {
                handle,
                action: Action::Flush,
            },
            step => step,
        };
        program.into_iter().map(plain).collect()
    }

    async fn contents(place: &Place) -> Vec<String> {
        let mut found = Vec::new();
        for folder in [&place.0, &place.0.join("folder")] {
            let Ok(mut entries) = fs::read_dir(folder).await else {
                continue;
            };
            while let Some(entry) = entries.next_entry().await.unwrap() {
                let kind = entry.file_type().await.unwrap();
                let contents = match kind.is_file() {
                    true => Some(digest(&fs::read(entry.path()).await.unwrap())),
                    false => None,
                };
                found.push(format!("{:?} {kind:?} {contents:?}", entry.file_name()));
            }
        }
        found.sort();
        found
    }

    fn outcome(place: &Place, program: &[Step]) -> Vec<String> {
        sim::block_on(async {
            fs::create_dir_all(place.0.join("folder")).await.unwrap();
            fs::write(place.path(0), bytes(100, 1)).await.unwrap();
            let mut results = by_windlass(place, program).await;
            results.extend(contents(place).await);
            results
        })
    }

    #[test]
    fn random_programs_do_the_same_on_a_simulated_disk() {
        // The simulated disk follows tmpfs where file systems differ.
        let base = memory().join(format!("windlass-differential-{}-sim", process::id()));
        std_fs::create_dir(&base).unwrap();
        let place = Place(base.join("place"));
        let first = number("WINDLASS_FS_SEED", 1);
        let mut differences = 0;
        for seed in first..first + number("WINDLASS_FS_PROGRAMS", 400) {
            let program = plain(Random(seed).program());
            place.prepare(&program);
            let mut real = by_std(&place, &program);
            real.extend(place.contents());
            let simulated = outcome(&place, &program);
            if real != simulated {
                differences += 1;
                report(seed, &program, "the simulation", &real, &simulated);
            }
        }
        std_fs::remove_dir_all(base).unwrap();
        assert_eq!(differences, 0);
    }
}
