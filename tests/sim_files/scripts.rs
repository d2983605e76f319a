//! Scripts of operations on files, whose results must be the same on each disk.

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use futures::future::join_all;
use futures::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, StreamExt};
use windlass::fs::{self, File, OpenOptions};

pub(crate) type Results = Vec<String>;
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Results> + 'a>>;

/// A script. It has an empty directory.
pub(crate) type Script = for<'a> fn(&'a Path) -> Running<'a>;

/// The scripts, by name.
pub(crate) const SCRIPTS: &[(&str, Script)] = &[
    ("open options", |it| Box::pin(open_options(it))),
    ("open directories", |it| Box::pin(open_directories(it))),
    ("flags of open", |it| Box::pin(flags_of_open(it))),
    ("access modes", |it| Box::pin(access_modes(it))),
    ("positions", |it| Box::pin(positions(it))),
    ("seeks", |it| Box::pin(seeks(it))),
    ("offsets", |it| Box::pin(offsets(it))),
    ("append", |it| Box::pin(append(it))),
    ("append by two handles", |it| Box::pin(append_by_two(it))),
    ("gaps and lengths", |it| Box::pin(gaps_and_lengths(it))),
    ("large offsets", |it| Box::pin(large_offsets(it))),
    ("pages", |it| Box::pin(pages(it))),
    ("vectored", |it| Box::pin(vectored(it))),
    ("empty transfers", |it| Box::pin(empty_transfers(it))),
    ("buffers", |it| Box::pin(buffers(it))),
    ("background writes", |it| Box::pin(background_writes(it))),
    ("concurrent writes", |it| Box::pin(concurrent_writes(it))),
    ("truncation", |it| Box::pin(truncation(it))),
    ("syncs", |it| Box::pin(syncs(it))),
    ("close", |it| Box::pin(close(it))),
    ("whole files", |it| Box::pin(whole_files(it))),
    ("copies", |it| Box::pin(copies(it))),
    ("create directories", |it| Box::pin(create_directories(it))),
    ("build directories", |it| Box::pin(build_directories(it))),
    ("remove", |it| Box::pin(remove(it))),
    ("remove trees", |it| Box::pin(remove_trees(it))),
    ("rename files", |it| Box::pin(rename_files(it))),
    ("rename directories", |it| Box::pin(rename_directories(it))),
    ("rename open files", |it| Box::pin(rename_open_files(it))),
    ("hard links", |it| Box::pin(hard_links(it))),
    ("symbolic links", |it| Box::pin(symbolic_links(it))),
    ("loops of links", |it| Box::pin(loops_of_links(it))),
    ("paths", |it| Box::pin(paths(it))),
    ("slashes", |it| Box::pin(slashes(it))),
    ("long names", |it| Box::pin(long_names(it))),
    ("canonical paths", |it| Box::pin(canonical_paths(it))),
    ("permissions", |it| Box::pin(permissions(it))),
    ("metadata", |it| Box::pin(metadata(it))),
    ("times", |it| Box::pin(times(it))),
    ("lists", |it| Box::pin(lists(it))),
    ("a file that is removed while open", |it| {
        Box::pin(removed_while_open(it))
    }),
    ("a directory that is removed while open", |it| {
        Box::pin(removed_directory(it))
    }),
    ("invalid arguments", |it| Box::pin(invalid_arguments(it))),
    ("cancelled operations", |it| Box::pin(cancelled(it))),
    ("a log with a checkpoint", |it| {
        Box::pin(log_with_checkpoint(it))
    }),
];

/// Returns the value, or the kind and the code of the error.
fn described<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => {
            let source = error.get_ref().and_then(|it| it.source());
            let source = source.and_then(|it| it.downcast_ref::<io::Error>());
            let code = error
                .raw_os_error()
                .or(source.and_then(io::Error::raw_os_error));
            format!("{:?} {code:?}", error.kind())
        }
    }
}

/// Returns the success alone.
fn done<T>(result: io::Result<T>) -> String {
    described(result.map(drop))
}

async fn text(path: impl AsRef<Path>) -> String {
    described(fs::read_to_string(path).await)
}

/// Returns the names below a directory, with the contents of files and the targets of links.
async fn tree(directory: &Path) -> Results {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(next) = left.pop() {
        let mut entries = fs::read_dir(&next).await.unwrap();
        while let Some(entry) = entries.next_entry().await.unwrap() {
            let path = entry.path();
            let name = path.strip_prefix(directory).unwrap().to_owned();
            let kind = entry.file_type().await.unwrap();
            let contents = match (kind.is_file(), kind.is_symlink()) {
                (true, _) => text(&path).await,
                (_, true) => described(fs::read_link(&path).await),
                _ => "directory".to_owned(),
            };
            found.push(format!("{name:?} {contents}"));
            if kind.is_dir() {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

async fn open_options(at: &Path) -> Results {
    let mut results = Vec::new();
    for bits in 0..64_u32 {
        for (name, exists) in [("present", true), ("absent", false)] {
            let path = at.join(name);
            let _ = fs::remove_file(&path).await;
            if exists {
                fs::write(&path, "some text").await.unwrap();
            }
            let is = |bit: u32| bits & (1 << bit) != 0;
            let mut options = OpenOptions::new();
            options
                .read(is(0))
                .write(is(1))
                .append(is(2))
                .truncate(is(3));
            options.create(is(4)).create_new(is(5));
            let opened = done(options.open(&path).await);
            results.push(format!(
                "{bits:06b} {exists} {opened} {}",
                text(&path).await
            ));
        }
    }
    results
}

async fn open_directories(at: &Path) -> Results {
    let mut results = Vec::new();
    for options in [
        OpenOptions::new().read(true),
        OpenOptions::new().write(true),
        OpenOptions::new().read(true).write(true),
        OpenOptions::new().append(true),
        OpenOptions::new().write(true).create(true),
        OpenOptions::new().write(true).create_new(true),
        OpenOptions::new().write(true).truncate(true),
    ] {
        results.push(done(options.open(at).await));
    }
    let mut directory = File::open(at).await.unwrap();
    results.push(described(directory.read(&mut [0; 4]).await));
    results.push(described(directory.read_at(&mut [0; 4], 0).await));
    results.push(described(directory.write(b"x").await));
    results.push(described(directory.write_at(b"x", 0).await));
    results.push(done(directory.set_len(0).await));
    results.push(done(directory.sync_all().await));
    results.push(done(directory.sync_data().await));
    results.push(described(directory.metadata().await.map(|it| it.is_dir())));
    results
}

async fn flags_of_open(at: &Path) -> Results {
    let (file, link) = (at.join("file"), at.join("link"));
    fs::write(&file, "text").await.unwrap();
    fs::symlink("file", &link).await.unwrap();
    let mut results = Vec::new();
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let directory = rustix::fs::OFlags::DIRECTORY.bits() as i32;
    let append = rustix::fs::OFlags::APPEND.bits() as i32;
    for path in [&file, &link, &at.to_owned()] {
        for flags in [flags, directory, append] {
            let mut options = OpenOptions::new();
            results.push(done(
                options.read(true).custom_flags(flags).open(path).await,
            ));
        }
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .custom_flags(append)
        .open(&file)
        .await
        .unwrap();
    results.push(described(file.write(b" more").await));
    results.push(done(file.flush().await));
    results.push(text(at.join("file")).await);
    results
}

async fn access_modes(at: &Path) -> Results {
    let path = at.join("file");
    fs::write(&path, "text").await.unwrap();
    let mut results = Vec::new();
    let mut reader = File::open(&path).await.unwrap();
    results.push(described(reader.write(b"x").await));
    results.push(described(reader.write(b"").await));
    results.push(described(reader.write_at(b"x", 0).await));
    results.push(described(reader.write_at(b"", 0).await));
    results.push(done(reader.set_len(1).await));
    results.push(done(reader.sync_all().await));
    let mut writer = OpenOptions::new().write(true).open(&path).await.unwrap();
    results.push(described(writer.read(&mut [0; 4]).await));
    results.push(described(writer.read(&mut []).await));
    results.push(described(writer.read_at(&mut [0; 4], 0).await));
    results.push(described(writer.read_at(&mut [], 0).await));
    results.push(text(&path).await);
    results
}

async fn positions(at: &Path) -> Results {
    let path = at.join("file");
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let mut results = Vec::new();
    results.push(described(file.write(b"0123456789").await));
    results.push(described(file.read(&mut [0; 4]).await));
    results.push(described(file.seek(SeekFrom::Start(3)).await));
    let mut room = [0; 4];
    results.push(described(file.read(&mut room).await));
    results.push(format!("{room:?}"));
    results.push(described(file.write(b"X").await));
    results.push(described(file.stream_position().await));
    results.push(described(file.read_at(&mut room, 6).await));
    results.push(format!("{room:?}"));
    results.push(described(file.stream_position().await));
    let mut rest = String::new();
    results.push(described(file.read_to_string(&mut rest).await));
    results.push(rest);
    results
}

async fn seeks(at: &Path) -> Results {
    let path = at.join("file");
    fs::write(&path, "0123456789").await.unwrap();
    let mut file = File::open(&path).await.unwrap();
    let mut results = Vec::new();
    for to in [
        SeekFrom::End(-3),
        SeekFrom::Current(-100),
        SeekFrom::Current(1),
        SeekFrom::End(0),
        SeekFrom::End(5),
        SeekFrom::End(-11),
        SeekFrom::Start(1 << 40),
        SeekFrom::Start(u64::MAX),
        SeekFrom::Current(i64::MIN),
        SeekFrom::Start(2),
        SeekFrom::Current(0),
    ] {
        results.push(described(file.seek(to).await));
        results.push(described(file.read(&mut [0; 2]).await));
    }
    results
}

async fn offsets(at: &Path) -> Results {
    let path = at.join("file");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let mut results = Vec::new();
    for (data, offset) in [(&b"abc"[..], 0), (b"de", 10), (b"Z", 1), (b"", 99)] {
        results.push(described(file.write_at(data, offset).await));
        results.push(described(file.metadata().await.map(|it| it.len())));
    }
    for offset in [0, 1, 5, 11, 12, 13, 1 << 50] {
        let mut room = [9; 4];
        results.push(described(file.read_at(&mut room, offset).await));
        results.push(format!("{room:?}"));
    }
    results.push(text(&path).await);
    results
}

async fn append(at: &Path) -> Results {
    let path = at.join("log");
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .append(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let mut results = Vec::new();
    results.push(described(file.write(b"one ").await));
    results.push(described(file.seek(SeekFrom::Start(0)).await));
    results.push(described(file.write(b"two ").await));
    results.push(described(file.stream_position().await));
    results.push(described(file.write_at(b"three", 1).await));
    results.push(described(file.stream_position().await));
    results.push(done(file.set_len(2).await));
    results.push(described(file.write(b"!").await));
    results.push(done(file.flush().await));
    results.push(text(&path).await);
    results
}

async fn append_by_two(at: &Path) -> Results {
    let path = at.join("log");
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    let mut one = options.open(&path).await.unwrap();
    let mut other = options.open(&path).await.unwrap();
    for (file, line) in [(1, "a"), (2, "b"), (1, "c"), (2, "d"), (2, "e")] {
        let file = if file == 1 { &mut one } else { &mut other };
        file.write_all(line.as_bytes()).await.unwrap();
        file.flush().await.unwrap();
    }
    vec![text(&path).await]
}

async fn gaps_and_lengths(at: &Path) -> Results {
    let path = at.join("file");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let mut results = Vec::new();
    file.write_at(&[1; 5000], 0).await.unwrap();
    for len in [10, 5000, 4096, 4097, 100_000, 0, 3] {
        results.push(done(file.set_len(len).await));
        let all = fs::read(&path).await.unwrap();
        let ones = all.iter().filter(|byte| **byte == 1).count();
        results.push(format!("{} {ones}", all.len()));
        results.push(described(file.write_at(&[1; 2], len / 2).await));
    }
    results.push(described(file.write_at(b"far", 1_000_000).await));
    results.push(described(file.metadata().await.map(|it| it.len())));
    results
}

async fn large_offsets(at: &Path) -> Results {
    let file = File::create(at.join("file")).await.unwrap();
    let reader = File::open(at.join("file")).await.unwrap();
    let mut results = Vec::new();
    for offset in [1 << 63, u64::MAX, u64::MAX - 1] {
        results.push(described(file.write_at(b"x", offset).await));
        results.push(described(file.write_at(b"", offset).await));
        results.push(described(reader.read_at(&mut [0; 2], offset).await));
        results.push(described(reader.read_at(&mut [], offset).await));
        results.push(done(file.set_len(offset).await));
    }
    results.push(described(file.write_at(b"end", 1 << 41).await));
    results.push(described(reader.metadata().await.map(|it| it.len())));
    let mut room = [9; 5];
    results.push(described(reader.read_at(&mut room, (1 << 41) - 2).await));
    results.push(format!("{room:?}"));
    results
}

async fn pages(at: &Path) -> Results {
    let path = at.join("file");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let mut results = Vec::new();
    for (n, (len, offset)) in [
        (1, 4095),
        (2, 4095),
        (8192, 4000),
        (4096, 4096),
        (300_000, 10),
        (513, 511),
    ]
    .into_iter()
    .enumerate()
    {
        results.push(described(
            file.write_at(&vec![n as u8 + 1; len], offset).await,
        ));
        let all = fs::read(&path).await.unwrap();
        let sum: usize = all
            .iter()
            .enumerate()
            .map(|(n, byte)| n * usize::from(*byte))
            .sum();
        results.push(format!("{} {sum}", all.len()));
    }
    results
}

async fn vectored(at: &Path) -> Results {
    let path = at.join("file");
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let mut results = Vec::new();
    let bufs = [
        IoSlice::new(b"abc"),
        IoSlice::new(b""),
        IoSlice::new(b"defg"),
    ];
    results.push(described(file.write_vectored(&bufs).await));
    results.push(described(file.write_vectored(&[]).await));
    results.push(described(
        file.write_vectored(&[IoSlice::new(b""), IoSlice::new(b"")])
            .await,
    ));
    results.push(described(file.seek(SeekFrom::Start(1)).await));
    let (mut one, mut other) = ([0; 2], [0; 9]);
    let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
    results.push(described(file.read_vectored(bufs).await));
    results.push(format!("{one:?} {other:?}"));
    results.push(described(file.read_vectored(&mut []).await));
    results
}

async fn empty_transfers(at: &Path) -> Results {
    let path = at.join("file");
    let mut file = File::create(&path).await.unwrap();
    let mut results = Vec::new();
    results.push(described(file.write(b"").await));
    results.push(described(file.write_at(b"", 1000).await));
    results.push(described(file.metadata().await.map(|it| it.len())));
    let mut reader = File::open(&path).await.unwrap();
    results.push(described(reader.read(&mut []).await));
    results.push(described(reader.read(&mut [0]).await));
    results.push(described(reader.read_at(&mut [0], 0).await));
    let (read, buffer) = reader.read_buf_at(Vec::new(), 0).await;
    results.push(described(read.map(|n| (n, buffer.len()))));
    results
}

async fn buffers(at: &Path) -> Results {
    let path = at.join("file");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let (wrote, buffer) = file.write_buf_at(b"0123456789".to_vec(), 5).await;
    let mut results = vec![described(wrote), format!("{buffer:?}")];
    let mut buffer = b"kept".to_vec();
    buffer.reserve_exact(4);
    let (read, buffer) = file.read_buf_at(buffer, 7).await;
    results.push(described(read));
    results.push(format!("{:?}", &buffer[..8.min(buffer.len())]));
    let (wrote, _) = file.write_buf_at(vec![7; 300_000], 0).await;
    results.push(described(wrote));
    results.push(described(file.read_at(&mut vec![0; 300_000], 0).await));
    results
}

async fn background_writes(at: &Path) -> Results {
    let path = at.join("file");
    let mut file = File::create(&path).await.unwrap();
    let mut results = Vec::new();
    for n in 0..20_u8 {
        results.push(described(file.write(&vec![n; 10_000]).await));
    }
    results.push(described(file.metadata().await.map(|it| it.len())));
    drop(file);
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).open(&path).await.unwrap();
    file.write_all(b"first").await.unwrap();
    let mut next = [0; 5];
    results.push(described(file.read_exact(&mut next).await));
    results.push(format!("{next:?}"));
    results.push(described(file.write(&vec![3; 1_000_000]).await));
    results.push(done(file.close().await));
    results.push(described(fs::metadata(&path).await.map(|it| it.len())));
    results
}

async fn concurrent_writes(at: &Path) -> Results {
    let path = at.join("file");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let write = |n: u64| {
        let file = &file;
        async move { described(file.write_at(&[n as u8; 100], n * 50).await) }
    };
    let mut results = join_all((0..30).map(write)).await;
    let read = |n: u64| {
        let file = &file;
        async move {
            let mut room = [0; 50];
            let read = described(file.read_at(&mut room, n * 50).await);
            format!("{read} {} {}", room[0], room[49])
        }
    };
    results.extend(join_all((0..32).map(read)).await);
    results
}

async fn truncation(at: &Path) -> Results {
    let path = at.join("file");
    fs::write(&path, "a long text").await.unwrap();
    let mut reader = File::open(&path).await.unwrap();
    let mut two = [0; 2];
    reader.read_exact(&mut two).await.unwrap();
    let mut results = Vec::new();
    let writer = File::create(&path).await.unwrap();
    results.push(described(reader.read(&mut [0; 4]).await));
    results.push(described(writer.write_at(b"new", 1).await));
    let mut rest = Vec::new();
    results.push(described(reader.read_to_end(&mut rest).await));
    results.push(format!("{rest:?}"));
    results.push(text(&path).await);
    results
}

async fn syncs(at: &Path) -> Results {
    let path = at.join("file");
    let mut file = File::create(&path).await.unwrap();
    let mut results = Vec::new();
    for _ in 0..3 {
        results.push(described(file.write(b"text").await));
        results.push(done(file.sync_data().await));
        results.push(done(file.sync_all().await));
    }
    results.push(done(File::open(&path).await.unwrap().sync_all().await));
    results.push(text(&path).await);
    results
}

async fn close(at: &Path) -> Results {
    let path = at.join("file");
    let mut file = File::create(&path).await.unwrap();
    file.write_all(b"text").await.unwrap();
    let mut results = vec![done(file.close().await), done(file.close().await)];
    results.push(described(file.write(b"x").await));
    results.push(described(file.write_at(b"x", 0).await));
    results.push(described(file.read(&mut [0]).await));
    results.push(done(file.sync_all().await));
    results.push(done(file.metadata().await));
    results.push(done(file.set_len(0).await));
    results.push(text(&path).await);
    results
}

async fn whole_files(at: &Path) -> Results {
    let path = at.join("file");
    let mut results = vec![text(&path).await];
    for contents in ["a first text", "", "short"] {
        results.push(done(fs::write(&path, contents).await));
        results.push(text(&path).await);
    }
    results.push(done(fs::write(&path, vec![0xff; 700_000]).await));
    results.push(described(fs::read(&path).await.map(|it| it.len())));
    results.push(text(&path).await);
    results.push(described(fs::read(at).await));
    results.push(done(fs::write(at, "x").await));
    results.push(done(fs::write(at.join("no/file"), "x").await));
    results.push(described(fs::try_exists(&path).await));
    results.push(described(fs::try_exists(at.join("absent")).await));
    results.push(described(fs::try_exists(path.join("below")).await));
    results
}

async fn copies(at: &Path) -> Results {
    let [a, b, link] = ["a", "b", "link"].map(|name| at.join(name));
    fs::write(&a, "contents").await.unwrap();
    fs::set_permissions(&a, PermissionsExt::from_mode(0o640))
        .await
        .unwrap();
    fs::symlink("a", &link).await.unwrap();
    let mut results = vec![described(fs::copy(&a, &b).await), text(&b).await];
    results.push(described(fs::metadata(&b).await.map(|it| it.mode())));
    fs::write(&a, "new").await.unwrap();
    results.push(described(fs::copy(&link, &b).await));
    results.push(text(&b).await);
    results.push(described(fs::copy(&b, &link).await));
    results.push(described(fs::copy(at.join("absent"), &b).await));
    results.push(described(fs::copy(at, &b).await));
    results.push(described(fs::copy(&a, at).await));
    results.push(described(fs::copy(&a, at.join("no/b")).await));
    results.extend(tree(at).await);
    results
}

async fn create_directories(at: &Path) -> Results {
    let a = at.join("a");
    fs::write(at.join("file"), "x").await.unwrap();
    fs::symlink("nowhere", at.join("dangling")).await.unwrap();
    let mut results = Vec::new();
    results.push(done(fs::create_dir(a.join("b")).await));
    results.push(done(fs::create_dir(&a).await));
    results.push(done(fs::create_dir(&a).await));
    results.push(done(fs::create_dir(at.join("file")).await));
    results.push(done(fs::create_dir(at.join("file/below")).await));
    results.push(done(fs::create_dir(at.join("dangling")).await));
    results.push(done(fs::create_dir_all(a.join("b/c/d")).await));
    results.push(done(fs::create_dir_all(a.join("b/c/d")).await));
    results.push(done(fs::create_dir_all(at.join("file")).await));
    results.push(done(fs::create_dir_all(at.join("file/below")).await));
    results.push(done(fs::create_dir_all("/").await));
    results.extend(tree(at).await);
    results
}

async fn build_directories(at: &Path) -> Results {
    fs::write(at.join("file"), "x").await.unwrap();
    let mut results = Vec::new();
    let mut builder = fs::DirBuilder::new();
    for recursive in [false, true] {
        builder.recursive(recursive).mode(0o750);
        for name in ["a", "b/c", "b/c", "file", "file/below", "a/../d", "a"] {
            results.push(done(builder.create(at.join(name)).await));
        }
    }
    for name in ["a", "b", "b/c"] {
        let found = fs::metadata(at.join(name)).await;
        results.push(described(found.map(|it| it.mode())));
    }
    results.extend(tree(at).await);
    results
}

async fn remove(at: &Path) -> Results {
    fs::create_dir_all(at.join("full/below")).await.unwrap();
    fs::create_dir(at.join("empty")).await.unwrap();
    fs::write(at.join("file"), "x").await.unwrap();
    fs::symlink("empty", at.join("link")).await.unwrap();
    let mut results = Vec::new();
    for name in [
        "absent",
        "full",
        "empty",
        "file",
        "link",
        "file/below",
        "no/file",
    ] {
        results.push(done(fs::remove_dir(at.join(name)).await));
        results.push(done(fs::remove_file(at.join(name)).await));
    }
    results.push(done(fs::remove_file(at.join("full/below/..")).await));
    results.extend(tree(at).await);
    results
}

async fn remove_trees(at: &Path) -> Results {
    fs::create_dir_all(at.join("a/b/c")).await.unwrap();
    fs::write(at.join("a/file"), "x").await.unwrap();
    fs::write(at.join("a/b/file"), "x").await.unwrap();
    fs::write(at.join("outside"), "kept").await.unwrap();
    fs::symlink("../outside", at.join("a/link")).await.unwrap();
    fs::symlink("a", at.join("link")).await.unwrap();
    let mut results = Vec::new();
    results.push(done(fs::remove_dir_all(at.join("outside")).await));
    results.push(done(fs::remove_dir_all(at.join("absent")).await));
    results.push(done(fs::remove_dir_all(at.join("link")).await));
    results.extend(tree(at).await);
    results.push(done(fs::remove_dir_all(at.join("a")).await));
    results.extend(tree(at).await);
    results
}

async fn rename_files(at: &Path) -> Results {
    fs::create_dir_all(at.join("directory/below"))
        .await
        .unwrap();
    for name in ["a", "b"] {
        fs::write(at.join(name), name).await.unwrap();
    }
    fs::hard_link(at.join("a"), at.join("same")).await.unwrap();
    fs::symlink("b", at.join("link")).await.unwrap();
    let mut results = Vec::new();
    for (from, to) in [
        ("absent", "x"),
        ("a", "no/x"),
        ("a", "directory"),
        ("a", "a"),
        ("a", "same"),
        ("a", "b/below"),
        ("a", "directory/a"),
        ("directory/a", "b"),
        ("link", "c"),
        ("c", "same"),
        ("b", "new/"),
        ("b/", "new"),
    ] {
        results.push(done(fs::rename(at.join(from), at.join(to)).await));
        results.extend(tree(at).await);
    }
    results
}

async fn rename_directories(at: &Path) -> Results {
    fs::create_dir_all(at.join("a/below/deep")).await.unwrap();
    fs::create_dir(at.join("empty")).await.unwrap();
    fs::write(at.join("file"), "x").await.unwrap();
    fs::write(at.join("a/file"), "y").await.unwrap();
    let mut results = Vec::new();
    for (from, to) in [
        ("a", "file"),
        ("file", "a"),
        ("a", "a/below/deep/a"),
        ("a", "a/b"),
        ("a/below/deep", "a"),
        ("empty", "a"),
        ("a", "empty"),
        ("empty/below", "new/"),
        ("new", "empty/."),
        ("new", "empty/.."),
        ("new/..", "other"),
        ("new", "empty/moved"),
    ] {
        results.push(done(fs::rename(at.join(from), at.join(to)).await));
        results.extend(tree(at).await);
    }
    results.push(described(
        fs::canonicalize(at.join("empty/moved/deep/.."))
            .await
            .map(|path| path.file_name().map(|name| name.to_owned())),
    ));
    results
}

async fn rename_open_files(at: &Path) -> Results {
    let [new, old] = ["new", "old"].map(|name| at.join(name));
    fs::write(&old, "old").await.unwrap();
    let mut before = File::open(&old).await.unwrap();
    let mut file = File::create(&new).await.unwrap();
    file.write_all(b"new").await.unwrap();
    file.flush().await.unwrap();
    let mut results = vec![done(fs::rename(&new, &old).await)];
    file.write_all(b" and more").await.unwrap();
    file.flush().await.unwrap();
    let mut still = String::new();
    results.push(described(before.read_to_string(&mut still).await));
    results.push(still);
    results.push(described(before.metadata().await.map(|it| it.nlink())));
    results.extend(tree(at).await);
    results
}

async fn hard_links(at: &Path) -> Results {
    let [a, b] = ["a", "b"].map(|name| at.join(name));
    fs::write(&a, "text").await.unwrap();
    fs::create_dir(at.join("directory")).await.unwrap();
    fs::symlink("a", at.join("link")).await.unwrap();
    let mut results = vec![done(fs::hard_link(&a, &b).await)];
    results.push(described(fs::metadata(&a).await.map(|it| it.nlink())));
    fs::write(&b, "changed").await.unwrap();
    results.push(text(&a).await);
    let inode = |path: PathBuf| async { fs::metadata(path).await.unwrap().ino() };
    results.push(format!(
        "{}",
        inode(a.clone()).await == inode(b.clone()).await
    ));
    for (from, to) in [
        ("a", "b"),
        ("absent", "c"),
        ("directory", "c"),
        ("a", "no/c"),
        ("a", "c/"),
        ("a/", "c"),
        ("link", "other"),
        ("a", "link"),
    ] {
        results.push(done(fs::hard_link(at.join(from), at.join(to)).await));
    }
    results.push(done(fs::remove_file(&a).await));
    results.push(described(fs::metadata(&b).await.map(|it| it.nlink())));
    results.extend(tree(at).await);
    results
}

async fn symbolic_links(at: &Path) -> Results {
    fs::create_dir_all(at.join("folder/deep")).await.unwrap();
    fs::write(at.join("folder/file"), "text").await.unwrap();
    let mut results = Vec::new();
    for (target, name) in [
        ("folder", "to folder"),
        ("folder/file", "to file"),
        ("nowhere", "dangling"),
        ("../folder/file", "folder/up"),
        ("to file", "chain"),
        ("folder/", "slash"),
        ("folder/file/", "file slash"),
        ("", "empty"),
        ("folder", "folder"),
        ("x", "no/x"),
    ] {
        results.push(done(fs::symlink(target, at.join(name)).await));
    }
    let absolute = at.join("folder/file");
    results.push(done(fs::symlink(&absolute, at.join("absolute")).await));
    for name in [
        "to folder",
        "to folder/file",
        "to file",
        "dangling",
        "folder/up",
        "to folder/up",
        "chain",
        "slash",
        "slash/file",
        "file slash",
        "absolute",
        "to folder/deep/../file",
        "chain/x",
    ] {
        let path = at.join(name);
        results.push(format!("{name} {}", text(&path).await));
        results.push(described(
            fs::metadata(&path).await.map(|it| it.file_type()),
        ));
        results.push(described(
            fs::symlink_metadata(&path).await.map(|it| it.file_type()),
        ));
    }
    results.push(described(fs::read_link(at.join("chain")).await));
    results.push(described(fs::read_link(at.join("folder")).await));
    results.push(described(fs::read_link(at.join("absent")).await));
    results.push(done(fs::write(at.join("dangling"), "made").await));
    results.push(text(at.join("nowhere")).await);
    let mut options = OpenOptions::new();
    results.push(done(
        options
            .write(true)
            .create_new(true)
            .open(at.join("chain"))
            .await,
    ));
    results
}

async fn loops_of_links(at: &Path) -> Results {
    fs::symlink("b", at.join("a")).await.unwrap();
    fs::symlink("a", at.join("b")).await.unwrap();
    fs::symlink(".", at.join("here")).await.unwrap();
    fs::write(at.join("file"), "x").await.unwrap();
    let mut results = vec![
        text(at.join("a")).await,
        done(fs::metadata(at.join("b")).await),
    ];
    results.push(done(fs::symlink_metadata(at.join("a")).await));
    results.push(done(fs::create_dir(at.join("a/x")).await));
    results.push(done(File::create(at.join("a")).await));
    for times in [1, 39, 40, 41, 60] {
        let path = at.join("here/".repeat(times)).join("file");
        results.push(text(path).await);
    }
    results
}

async fn paths(at: &Path) -> Results {
    fs::create_dir_all(at.join("a/b")).await.unwrap();
    fs::write(at.join("a/file"), "text").await.unwrap();
    let mut results = Vec::new();
    for path in [
        "a/b/../file",
        "a/./file",
        "a//file",
        "a/absent/../file",
        "a/file/../file",
        "./a/file",
        "a/b/../../a/file",
        "a/b/..",
        "a/.",
        "",
    ] {
        results.push(format!("{path} {}", text(at.join(path)).await));
        results.push(described(
            fs::metadata(at.join(path)).await.map(|it| it.is_dir()),
        ));
    }
    results.push(text("").await);
    results.push(done(fs::create_dir("").await));
    results.push(done(fs::create_dir_all("").await));
    results.push(done(fs::remove_file("").await));
    results.push(done(File::open("zero\0byte").await));
    results.push(done(fs::metadata("zero\0byte").await));
    results.push(described(fs::metadata("/..").await.map(|it| it.is_dir())));
    results
}

async fn slashes(at: &Path) -> Results {
    fs::create_dir(at.join("folder")).await.unwrap();
    fs::write(at.join("file"), "x").await.unwrap();
    fs::symlink("folder", at.join("link")).await.unwrap();
    let mut results = Vec::new();
    for name in ["folder/", "file/", "link/", "absent/", "folder/.", "file/."] {
        let path = at.join(name);
        results.push(name.to_owned());
        results.push(done(fs::metadata(&path).await));
        results.push(described(
            fs::symlink_metadata(&path).await.map(|it| it.file_type()),
        ));
        results.push(done(File::open(&path).await));
        results.push(done(File::create(&path).await));
        results.push(done(fs::read_link(&path).await));
        results.push(done(fs::create_dir(&path).await));
        results.push(done(fs::symlink("x", at.join("new/")).await));
        results.push(done(fs::remove_file(&path).await));
        results.push(done(fs::rename(&path, at.join("moved")).await));
        results.push(done(fs::rename(at.join("moved"), &path).await));
    }
    results.extend(tree(at).await);
    results
}

async fn long_names(at: &Path) -> Results {
    let mut results = Vec::new();
    for len in [255, 256, 1000] {
        let path = at.join("n".repeat(len));
        results.push(done(fs::write(&path, "x").await));
        results.push(text(&path).await);
        results.push(done(fs::rename(at.join("absent"), &path).await));
    }
    let long = at.join("x/".repeat(2100));
    results.push(done(fs::metadata(&long).await));
    results.push(done(fs::create_dir(&long).await));
    results
}

async fn canonical_paths(at: &Path) -> Results {
    fs::create_dir_all(at.join("a/b")).await.unwrap();
    fs::write(at.join("a/file"), "x").await.unwrap();
    fs::symlink("a/b", at.join("link")).await.unwrap();
    let root = fs::canonicalize(at).await.unwrap();
    let mut results = Vec::new();
    for name in [
        "a",
        "a/b/..",
        "link",
        "link/../file",
        "a/./b",
        "absent",
        "a/file/x",
        "a/file/",
    ] {
        let found = fs::canonicalize(at.join(name)).await;
        results.push(described(
            found.map(|it| it.strip_prefix(&root).unwrap().to_owned()),
        ));
    }
    results.push(described(fs::canonicalize("/").await));
    results.push(described(fs::canonicalize("/../..").await));
    results
}

async fn permissions(at: &Path) -> Results {
    let path = at.join("file");
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o751);
    let file = options.open(&path).await.unwrap();
    let mode = |path: PathBuf| async {
        described(
            fs::metadata(path)
                .await
                .map(|it| (it.mode(), it.permissions().mode())),
        )
    };
    let mut results = vec![mode(path.clone()).await];
    for bits in [0o600, 0o4755, 0o107777, 0] {
        results.push(done(
            file.set_permissions(PermissionsExt::from_mode(bits)).await,
        ));
        results.push(mode(path.clone()).await);
        results.push(done(
            fs::set_permissions(&path, PermissionsExt::from_mode(bits | 1)).await,
        ));
        let metadata = file.metadata().await.unwrap();
        results.push(format!(
            "{:o} {}",
            metadata.mode(),
            metadata.permissions().readonly()
        ));
    }
    fs::create_dir(at.join("folder")).await.unwrap();
    results.push(mode(at.join("folder")).await);
    fs::symlink("file", at.join("link")).await.unwrap();
    results.push(done(
        fs::set_permissions(at.join("link"), PermissionsExt::from_mode(0o642)).await,
    ));
    results.push(mode(path).await);
    let absent = fs::set_permissions(at.join("absent"), PermissionsExt::from_mode(0o600));
    results.push(done(absent.await));
    results
}

async fn metadata(at: &Path) -> Results {
    fs::create_dir(at.join("folder")).await.unwrap();
    fs::write(at.join("file"), "12345").await.unwrap();
    fs::symlink("file", at.join("link")).await.unwrap();
    let mut results = Vec::new();
    for name in ["folder", "file", "link", "absent", "file/x"] {
        for metadata in [
            fs::metadata(at.join(name)).await,
            fs::symlink_metadata(at.join(name)).await,
        ] {
            results.push(described(metadata.map(|it| {
                let kind = it.file_type();
                let kinds = (it.is_file(), it.is_dir(), it.is_symlink());
                let special = (kind.is_fifo(), kind.is_socket(), kind.is_char_device());
                assert_eq!(kinds, (kind.is_file(), kind.is_dir(), kind.is_symlink()));
                let len = if it.is_dir() { 0 } else { it.len() };
                let names = if it.is_dir() { 0 } else { it.nlink() };
                (
                    kinds,
                    special,
                    kind.is_block_device(),
                    len,
                    names,
                    it.rdev(),
                    it.mode(),
                )
            })));
        }
    }
    results
}

async fn times(at: &Path) -> Results {
    let path = at.join("file");
    let file = File::create(&path).await.unwrap();
    let before = file.metadata().await.unwrap();
    windlass::time::sleep(std::time::Duration::from_millis(30)).await;
    file.write_at(b"x", 0).await.unwrap();
    let after = file.metadata().await.unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600))
        .await
        .unwrap();
    let last = file.metadata().await.unwrap();
    let is_later = before.modified().unwrap() < after.modified().unwrap();
    let is_kept = after.modified().unwrap() == last.modified().unwrap();
    let times = (last.ctime(), last.ctime_nsec()) >= (last.mtime(), last.mtime_nsec());
    vec![format!("{is_later} {is_kept} {times}")]
}

async fn lists(at: &Path) -> Results {
    for n in 0..300 {
        fs::write(at.join(format!("file {n}")), "x").await.unwrap();
    }
    fs::create_dir(at.join("folder")).await.unwrap();
    fs::symlink("absent", at.join("link")).await.unwrap();
    let mut results = Vec::new();
    let mut entries = fs::read_dir(at).await.unwrap();
    while let Some(entry) = entries.next().await {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(at).unwrap() == Path::new(&entry.file_name());
        let kind = entry.file_type().await.unwrap();
        let metadata = entry.metadata().await.unwrap();
        assert_eq!(kind.is_symlink(), metadata.is_symlink());
        results.push(format!(
            "{:?} {name} {kind:?} {}",
            entry.file_name(),
            metadata.is_file()
        ));
    }
    results.sort();
    results.push(done(fs::read_dir(at.join("file 1")).await));
    results.push(done(fs::read_dir(at.join("absent")).await));
    let mut empty = fs::read_dir(at.join("folder")).await.unwrap();
    results.push(described(empty.next_entry().await.map(|it| it.is_none())));
    results
}

async fn removed_while_open(at: &Path) -> Results {
    let path = at.join("file");
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    let mut results = vec![described(file.write_at(b"text", 0).await)];
    results.push(done(fs::remove_file(&path).await));
    results.push(described(file.write_at(b"more", 4).await));
    results.push(described(file.read_at(&mut [0; 9], 0).await));
    results.push(described(
        file.metadata().await.map(|it| (it.len(), it.nlink())),
    ));
    results.push(done(file.sync_all().await));
    fs::write(&path, "another").await.unwrap();
    results.push(described(file.metadata().await.map(|it| it.len())));
    results.push(text(&path).await);
    results
}

async fn removed_directory(at: &Path) -> Results {
    let path = at.join("folder");
    fs::create_dir(&path).await.unwrap();
    let directory = File::open(&path).await.unwrap();
    let mut results = vec![done(fs::remove_dir(&path).await)];
    results.push(described(directory.metadata().await.map(|it| it.is_dir())));
    results.push(done(fs::write(path.join("x"), "x").await));
    results.push(done(directory.sync_all().await));
    results
}

async fn invalid_arguments(at: &Path) -> Results {
    let path = at.join("file");
    fs::write(&path, "x").await.unwrap();
    let mut results = Vec::new();
    results.push(done(OpenOptions::new().open(&path).await));
    results.push(done(
        OpenOptions::new()
            .read(true)
            .truncate(true)
            .open(&path)
            .await,
    ));
    results.push(done(
        OpenOptions::new().read(true).create(true).open(&path).await,
    ));
    results.push(done(
        OpenOptions::new()
            .append(true)
            .truncate(true)
            .open(&path)
            .await,
    ));
    let file = File::options().write(true).open(&path).await.unwrap();
    results.push(done(file.set_len(u64::MAX).await));
    results.push(text(&path).await);
    results
}

async fn cancelled(at: &Path) -> Results {
    let path = at.join("file");
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .open(&path)
        .await
        .unwrap();
    file.write_all(b"0123456789").await.unwrap();
    file.flush().await.unwrap();
    let mut results = Vec::new();
    for _ in 0..20 {
        let _ = futures::poll!(Box::pin(file.sync_all()));
        let _ = futures::poll!(Box::pin(file.metadata()));
        let _ = futures::poll!(Box::pin(file.read_at(&mut [0; 4], 2)));
        let _ = futures::poll!(Box::pin(file.write_at(b"3", 3)));
        let _ = futures::poll!(Box::pin(fs::read_dir(at)));
        let mut room = [0; 10];
        results.push(described(file.read_at(&mut room, 0).await));
        results.push(format!("{room:?}"));
    }
    results.push(described(file.seek(SeekFrom::End(0)).await));
    results.push(done(file.close().await));
    results
}

async fn log_with_checkpoint(at: &Path) -> Results {
    let (log, new, checkpoint) = (at.join("log"), at.join("new"), at.join("checkpoint"));
    let mut results = Vec::new();
    for round in 0..3 {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&log)
            .await
            .unwrap();
        for n in 0..5 {
            file.write_all(format!("{round}.{n};").as_bytes())
                .await
                .unwrap();
            results.push(done(file.sync_data().await));
        }
        let all = fs::read_to_string(&log).await.unwrap();
        fs::write(&new, &all).await.unwrap();
        results.push(done(File::open(&new).await.unwrap().sync_all().await));
        results.push(done(fs::rename(&new, &checkpoint).await));
        results.push(done(File::open(at).await.unwrap().sync_all().await));
        if round == 1 {
            results.push(done(file.set_len(0).await));
        }
        results.extend(tree(at).await);
    }
    results
}
