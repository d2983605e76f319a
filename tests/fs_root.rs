//! `Root`, and the files that `send_file` sends.

#![cfg(unix)]
#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, unused_imports, reason = "only Linux reads from the cache")
)]

#[path = "common/mod.rs"]
mod common;
#[path = "common/files.rs"]
mod files;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs as std_fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use common::{pair, run};
use files::{Folder, folder};
use futures::AsyncReadExt;
use futures::future::Either;
use windlass::fs::{self, File, Root, use_io_uring};
use windlass::io::send_file;
use windlass::net::TcpStream;
use windlass::signal::{Signal, Signals};

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

/// A directory `public`, with a file in it and a file beside it.
fn site() -> (Folder, std::path::PathBuf) {
    let folder = folder();
    let public = folder.path("public");
    std_fs::create_dir_all(public.join("pages")).unwrap();
    std_fs::write(folder.path("key"), "secret").unwrap();
    std_fs::write(public.join("rope"), "ahoy").unwrap();
    (folder, public)
}

/// Polls once.
fn once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

async fn text_of(root: &Root, path: &str) -> io::Result<String> {
    let mut text = String::new();
    let mut file = root.open_file(path).await?;
    file.read_to_string(&mut text).await?;
    Ok(text)
}

/// Runs a test with cached lookups, and with threads alone, since no reactor turns.
fn cached_or_by_threads<F: Future<Output = ()>>(test: impl Fn() -> F) {
    run(test());
    futures::executor::block_on(test());
}

#[test]
fn no_path_leaves_the_root() {
    let (folder, public) = site();
    symlink("../key", public.join("out")).unwrap();
    symlink("..", public.join("up")).unwrap();
    symlink("rope", public.join("link")).unwrap();
    symlink(public.join("rope"), public.join("absolute")).unwrap();
    symlink("loop", public.join("loop")).unwrap();
    let inside = [
        "rope",
        "pages/../rope",
        "link",
        "absolute",
        "up/public/rope",
    ];
    let key = folder.path("key");
    let key = key.to_str().unwrap();
    let outside = ["../key", "pages/../../key", "out", "up/key", key, "none"];
    cached_or_by_threads(|| async {
        let root = Root::open(&public).await.unwrap();
        assert_eq!(root.path(), std_fs::canonicalize(&public).unwrap());
        for path in inside {
            assert_eq!(text_of(&root, path).await.unwrap(), "ahoy", "{path}");
            assert_eq!(root.metadata(path).await.unwrap().len(), 4, "{path}");
        }
        for path in outside {
            let error = root.open_file(path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
            assert!(error.to_string().contains(path), "{error}");
            let error = root.metadata(path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
        }
        assert!(root.open_file("loop").await.is_err());
        let dir = root.open_file("pages").await.unwrap();
        assert!(dir.metadata().await.unwrap().is_dir());
        let itself = root.open_file(".").await.unwrap();
        assert!(itself.metadata().await.unwrap().is_dir());
        let error = Root::open(public.join("rope")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADirectory);
    });
}

/// An error other than `NotFound` would reveal which files exist outside.
#[test]
fn every_path_that_leaves_the_root_is_not_found() {
    let (folder, public) = site();
    symlink("..", public.join("up")).unwrap();
    let rope = public.join("rope");
    let paths = [
        "",
        rope.to_str().unwrap(),
        "/etc/passwd/x",
        "../key/x",
        "pages/../../key/x",
        "up/key/x",
        "../loop",
    ];
    symlink("loop", folder.path("loop")).unwrap();
    cached_or_by_threads(|| async {
        let root = Root::open(&public).await.unwrap();
        for path in paths {
            let error = root.open_file(path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path:?}");
            let error = root.metadata(path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path:?}");
        }
        for path in ["rope/", "rope/.", "rope/x", "pages/../rope/x"] {
            let error = root.open_file(path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotADirectory, "{path}");
        }
    });
}

/// Swaps a directory and a symbolic link that leaves the root, while threads look up a file.
#[test]
#[cfg(target_os = "linux")]
fn a_symbolic_link_that_is_put_into_a_path_leads_nowhere() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let (folder, public) = site();
    std_fs::create_dir(folder.path("outside")).unwrap();
    std_fs::write(folder.path("outside/rope"), "secret").unwrap();
    std_fs::write(public.join("pages/rope"), "ahoy").unwrap();
    symlink("../outside", public.join("out")).unwrap();
    let (pages, out) = (public.join("pages"), public.join("out"));
    let swap = || renameat_with(CWD, &pages, CWD, &out, RenameFlags::EXCHANGE);
    if swap().is_err() {
        return; // the file system can't exchange names
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                swap().unwrap();
            }
        });
        let found = futures::executor::block_on(async {
            let root = Root::open(&public).await.unwrap();
            let mut lengths = BTreeSet::new();
            for _ in 0..20_000 {
                let metadata = root.metadata("pages/rope").await;
                lengths.extend(metadata.map(|it| it.len()));
                if let Ok(file) = root.open_file("pages/rope").await {
                    lengths.insert(file.metadata().await.unwrap().len());
                }
            }
            lengths
        });
        is_over.store(true, Ordering::Relaxed);
        assert!(!found.contains(&6), "the file outside was found");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_root_waits_for_the_end_of_a_lease() {
    use std::os::fd::AsRawFd;
    let (_folder, public) = site();
    let rope = public.join("rope");
    let holder = std_fs::OpenOptions::new().write(true).open(&rope).unwrap();
    run(async {
        // The system sends it to the holder when the file is opened.
        let mut signals = Signals::new([Signal::from_raw(libc::SIGIO)]).unwrap();
        // SAFETY: the call takes no pointer.
        let lease = unsafe { libc::fcntl(holder.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        if lease != 0 {
            return; // the file system has no leases
        }
        let root = Root::open(&public).await.unwrap();
        let release = async {
            signals.recv().await.unwrap();
            // The first attempt has failed. A thread makes the next one.
            windlass::time::sleep(std::time::Duration::from_millis(50)).await;
            drop(holder);
        };
        let (opened, ()) = futures::join!(root.open_file("rope"), release);
        opened.unwrap();
    });
}

#[test]
fn a_root_refuses_pipes_and_sockets_and_waits_for_none() {
    let (folder, public) = site();
    folder.pipe("public/pipe");
    let _socket = std::os::unix::net::UnixListener::bind(public.join("socket")).unwrap();
    cached_or_by_threads(|| async {
        let root = Root::open(&public).await.unwrap();
        for name in ["pipe", "socket"] {
            let error = root.open_file(name).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
            assert!(!root.metadata(name).await.unwrap().is_file(), "{name}");
        }
    });
}

/// A thread would answer after the first poll.
#[test]
#[cfg(target_os = "linux")]
fn cached_files_are_used_without_a_thread() {
    let (_folder, public) = site();
    let rope = public.join("rope");
    if !is_cached(&rope) || !is_on_ext(&rope) {
        return;
    }
    // A missing name is cached once it was looked up.
    assert!(!std_fs::exists(public.join("none")).unwrap());
    for by_ring in [true, false] {
        let (public, rope) = (public.clone(), rope.clone());
        let test = move || {
            let _ = use_io_uring(by_ring);
            run(async {
                let root = Root::open(&public).await.unwrap();
                let file = once(root.open_file("rope"))
                    .expect("opened at once")
                    .unwrap();
                let flags = rustix::fs::fcntl_getfl(&file).unwrap();
                assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
                let metadata = once(file.metadata()).expect("read at once").unwrap();
                assert_eq!(metadata.len(), 4);
                assert!(once(root.metadata("rope")).is_some());
                assert!(once(root.open_file("none")).unwrap().is_err());
                assert!(once(fs::metadata(&rope)).is_some());
                assert!(once(fs::symlink_metadata(&rope)).is_some());
                assert!(once(fs::try_exists(&rope)).unwrap().unwrap());
                assert!(!once(fs::try_exists(public.join("none"))).unwrap().unwrap());
                assert_eq!(
                    once(fs::read(&rope)).expect("read at once").unwrap(),
                    b"ahoy"
                );
            });
        };
        std::thread::spawn(test).join().unwrap();
    }
}

#[cfg(target_os = "linux")]
fn is_cached(path: &std::path::Path) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let file = std_fs::File::open(path).unwrap();
    let mut room = [0];
    let bufs = &mut [io::IoSliceMut::new(&mut room)];
    preadv2(file, bufs, 0, ReadWriteFlags::NOWAIT).is_ok()
}

#[cfg(target_os = "linux")]
fn is_on_ext(path: &std::path::Path) -> bool {
    let found = rustix::fs::statfs(path).unwrap();
    found.f_type as u32 == 0xEF53
}

/// Bytes beyond the buffers of both sockets.
const MUCH: usize = 32 << 20;

/// Reads to the end. Unlike `read_to_end`, it clears its room once.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut room) = (Vec::new(), vec![0; 1 << 18]);
    loop {
        match stream.read(&mut room).await.unwrap() {
            0 => return all,
            read => all.extend_from_slice(&room[..read]),
        }
    }
}

async fn sends(size: usize, start: usize, end: usize, head: &[u8], path: &std::path::Path) {
    let data = pattern(size);
    std_fs::write(path, &data).unwrap();
    let (near, mut far) = pair().await.unwrap();
    let file = File::open(path).await.unwrap();
    let send = async {
        let range = start as u64..end as u64;
        let sent = send_file(&near, head, &file, range).await.unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        sent
    };
    let (sent, received) = futures::join!(send, read_all(&mut far));
    let expected: Vec<_> = data.into_iter().take(end).skip(start).collect();
    assert_eq!(sent, expected.len() as u64);
    assert!(received[..head.len()] == *head && received[head.len()..] == *expected);
}

#[test]
fn send_file_sends_any_range_behind_its_head() {
    let folder = folder();
    let path = folder.path("data");
    by_ring_and_by_threads(|| async {
        for size in [0, 1, 4096, 40_000, 300_000] {
            for (start, end) in [
                (0, size),
                (1, size),
                (size / 3, size / 2),
                (0, size + 100_000),
            ] {
                sends(size, start, end, b"head", &path).await;
                sends(size, start, end, b"", &path).await;
            }
        }
        sends(MUCH, 5, MUCH, &pattern(100_000), &path).await;
    });
}

/// Runs a test on threads of its own, with io_uring and without.
fn by_ring_and_by_threads<F: Future<Output = ()>>(test: impl Fn() -> F + Sync) {
    std::thread::scope(|scope| {
        for by_ring in [true, false] {
            let test = &test;
            scope
                .spawn(move || {
                    let _ = use_io_uring(by_ring);
                    run(test());
                })
                .join()
                .unwrap();
        }
    });
}

/// The files of `/proc` are read page by page.
#[test]
#[cfg(target_os = "linux")]
fn send_file_continues_after_a_short_read() {
    by_ring_and_by_threads(|| async {
        let (near, mut far) = pair().await.unwrap();
        let file = File::open("/proc/self/smaps").await.unwrap();
        let least = std_fs::read("/proc/self/smaps").unwrap().len() / 2;
        let send = async {
            let sent = send_file(&near, b"", &file, 0..1 << 20).await.unwrap();
            near.shutdown(std::net::Shutdown::Write).unwrap();
            sent as usize
        };
        let (sent, received) = futures::join!(send, read_all(&mut far));
        assert!(sent == received.len() && sent > least, "{sent} of {least}");
    });
}

/// Tasks read 256 KiB or 4 KiB again and again, beyond the limit of a turn.
#[test]
#[cfg(target_os = "linux")]
fn reads_beyond_the_limit_of_a_turn_are_served_in_order() {
    let folder = folder();
    let path = folder.file(pattern(1 << 18));
    if !is_cached(&path) {
        return;
    }
    by_ring_and_by_threads(|| async {
        let file = Rc::new(File::open(&path).await.unwrap());
        let least = 20;
        let counts: Vec<_> = (0..12).map(|_| Rc::new(Cell::new(0))).collect();
        let tasks: Vec<_> = counts
            .iter()
            .enumerate()
            .map(|(index, count)| {
                let (file, count) = (file.clone(), count.clone());
                let mut room = vec![0; [1 << 18, 4096][index % 2]];
                windlass::spawn(async move {
                    loop {
                        file.read_at(&mut room, 0).await.unwrap();
                        count.set(count.get() + 1);
                    }
                })
            })
            .collect();
        // Within this number of turns each task is served several times.
        for _ in 0..1000 {
            windlass::time::sleep(std::time::Duration::ZERO).await;
        }
        drop(tasks);
        assert!(counts.iter().all(|it| it.get() >= least), "{counts:?}");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_dropped_read_that_waits_for_a_turn_blocks_nothing() {
    let folder = folder();
    let path = folder.file(pattern(1 << 18));
    if !is_cached(&path) {
        return;
    }
    by_ring_and_by_threads(|| async {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).open(&path).await.unwrap();
        let mut room = vec![0; 1 << 18];
        // Each waits for the next turn once the limit of this one is used up, and is dropped.
        let attempts = (0..100).map(|_| once(file.read_at(&mut room, 0)));
        assert!(attempts.filter(Option::is_none).count() > 50);
        assert_eq!(file.write_at(b"ahoy", 0).await.unwrap(), 4);
        assert!(file.read_at(&mut room, 0).await.unwrap() > 0);
        assert!(room.starts_with(b"ahoy"));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn uncached_data_is_never_sent_by_the_loop() {
    let folder = folder();
    let path = folder.file(pattern(1 << 20));
    by_ring_and_by_threads(|| async {
        let cold = std_fs::File::open(&path).unwrap();
        cold.sync_all().unwrap();
        let _ = rustix::fs::fadvise(&cold, 0, None, rustix::fs::Advice::DontNeed);
        if is_cached(&path) {
            return; // the file system has no disk, or keeps its data
        }
        rustix::fs::fadvise(&cold, 0, None, rustix::fs::Advice::Random).unwrap();
        let file = File::open(&path).await.unwrap();
        // Pages that the system is reading at the moment stay in the cache. Then the data is sent.
        for attempt in 1.. {
            let (near, mut far) = pair().await.unwrap();
            let _ = rustix::fs::fadvise(&cold, 0, None, rustix::fs::Advice::DontNeed);
            let mut sending = Box::pin(send_file(&near, b"", &file, 0..1 << 20));
            let cx = &mut Context::from_waker(Waker::noop());
            let is_pending = sending.as_mut().poll(cx).is_pending();
            let received = far.try_read(&mut [0]).map_err(|error| error.kind());
            if !is_pending || received != Err(ErrorKind::WouldBlock) {
                assert!(attempt < 100, "the loop sends data that is not cached");
                continue;
            }
            let mut received = vec![0; 1 << 20];
            let (sent, read) = futures::join!(sending, far.read_exact(&mut received));
            assert_eq!(sent.unwrap(), 1 << 20);
            read.unwrap();
            assert!(received == pattern(1 << 20));
            return;
        }
    });
}

/// Polls a send until the peer has received a part. The send waits then, because the peer reads
/// nothing.
async fn start(sending: &mut (impl Future + Unpin), peer: &TcpStream) {
    let received = pin!(peer.readable());
    match futures::future::select(received, sending).await {
        Either::Left((readable, _)) => readable.unwrap(),
        Either::Right(_) => panic!("the buffers of the sockets take the whole file"),
    }
}

/// A connection, and a file that is larger than the buffers of the sockets.
async fn large(path: &std::path::Path) -> (TcpStream, TcpStream, File) {
    std_fs::write(path, pattern(MUCH)).unwrap();
    let (near, far) = pair().await.unwrap();
    (near, far, File::open(path).await.unwrap())
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_early() {
    let folder = folder();
    let path = folder.path("data");
    run(async {
        let (near, mut far, file) = large(&path).await;
        let mut sending = Box::pin(send_file(&near, b"", &file, 0..MUCH as u64));
        start(&mut sending, &far).await;
        let cut = std_fs::File::options().write(true).open(&path).unwrap();
        cut.set_len(0).unwrap();
        let send = async {
            let sent = sending.await.unwrap();
            near.shutdown(std::net::Shutdown::Write).unwrap();
            sent
        };
        let (sent, received) = futures::join!(send, read_all(&mut far));
        assert!(sent > 0 && sent < MUCH as u64);
        assert_eq!(received.len() as u64, sent);
    });
}

#[test]
fn a_dropped_send_has_sent_a_first_part() {
    let folder = folder();
    let path = folder.path("data");
    run(async {
        let (near, mut far, file) = large(&path).await;
        let mut sending = Box::pin(send_file(&near, b"", &file, 0..MUCH as u64));
        start(&mut sending, &far).await;
        drop(sending);
        near.shutdown(std::net::Shutdown::Write).unwrap();
        let received = read_all(&mut far).await;
        assert!(!received.is_empty() && received.len() < MUCH);
        assert!(pattern(MUCH).starts_with(&received));
        let mut room = [0; 4];
        assert_eq!(
            file.read_at(&mut room, 0).await.unwrap(),
            4,
            "the file still works"
        );
    });
}

#[test]
fn a_peer_that_disconnects_is_an_error() {
    let folder = folder();
    let path = folder.path("data");
    run(async {
        let (near, far, file) = large(&path).await;
        let mut sending = Box::pin(send_file(&near, b"", &file, 0..MUCH as u64));
        start(&mut sending, &far).await;
        drop(far);
        let kind = sending.await.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "{kind:?}"
        );
    });
}
