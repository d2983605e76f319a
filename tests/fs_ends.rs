//! The end of file operations when their loop ends, when a waker panics, and when the system is
//! short of threads.

// Reads descriptors from `/proc`.
#![cfg(target_os = "linux")]

#[path = "../reactor/tests/common/mod.rs"]
mod common;
#[path = "common/files.rs"]
mod files;

use std::cell::Cell;
use std::fs as std_fs;
use std::io::{self, ErrorKind, Read};
use std::mem::ManuallyDrop;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;
use std::rc::Rc;
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, hook, hooked, in_child, poll, run, unhook, wait_until};
use files::{both_ways, by_io_uring, descriptors, folder};
use futures::{AsyncReadExt, AsyncWriteExt};
use rustix::fs::OFlags;
use rustix::process::{Resource, Rlimit, setrlimit};
use windlass::Pool;
use windlass::fs::{self, File, OpenOptions, use_io_uring};
use windlass_reactor::Reactor;
use windlass_reactor::time::{sleep, timeout};

both_ways! {
    background_writes_complete_before_block_on_returns
    block_on_leaves_no_descriptor_of_dropped_operations
    block_on_ends_although_a_pipe_has_no_reader
    a_waker_that_panics_when_dropped_harms_no_other_file
}

/// Opens both ends of a named pipe. Opening it again then finds a peer and returns at once.
fn both_ends(path: &Path) -> std_fs::File {
    let mut options = std_fs::OpenOptions::new();
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    options.read(true).write(true).custom_flags(nonblocking);
    options.open(path).unwrap()
}

fn background_writes_complete_before_block_on_returns() {
    let folder = folder();
    let bytes = vec![7; 200_000];
    run(async {
        for number in 0..200 {
            let mut file = File::create(folder.path(number)).await.unwrap();
            file.write_all(&bytes).await.unwrap();
        }
    });
    assert_eq!(descriptors(&folder.0), 0);
    for number in 0..200 {
        assert!(std_fs::read(folder.path(number)).unwrap() == bytes);
    }
}

fn block_on_leaves_no_descriptor_of_dropped_operations() {
    let folder = folder();
    run(async {
        let create = |number: i32| std_fs::File::create(folder.path(number)).unwrap();
        let files: Vec<File> = (0..300).map(|number| create(number).into()).collect();
        let mut syncs: Vec<_> = files.iter().map(|file| Box::pin(file.sync_all())).collect();
        for sync in &mut syncs {
            let _ = poll(sync, Waker::noop());
        }
        sleep(Duration::ZERO).await; // starts them
    });
    if use_io_uring(true).unwrap() {
        assert_eq!(descriptors(&folder.0), 0);
    }
    wait_until(|| descriptors(&folder.0) == 0); // threads finish running operations
}

fn block_on_ends_although_a_pipe_has_no_reader() {
    let folder = folder();
    let path = folder.pipe("pipe");
    let mut peer = both_ends(&path);
    const BYTES: usize = 200_000; // more than a pipe holds
    run(async {
        let mut file = OpenOptions::new().write(true).open(&path).await.unwrap();
        file.write_all(&[7; BYTES]).await.unwrap();
    });
    let (mut left, mut bytes) = (BYTES, vec![0; BYTES]);
    let reads = async {
        while left > 0 {
            match Read::read(&mut peer, &mut bytes) {
                Ok(n) => left -= n,
                Err(_) => sleep(Duration::from_micros(50)).await,
            }
        }
    };
    run(reads);
    wait_until(|| {
        run(async {}); // its end releases completed operations
        descriptors(&folder.0) == 1 // the peer
    });
}

fn a_waker_that_panics_when_dropped_harms_no_other_file() {
    let folder = folder();
    let pipe = folder.pipe("pipe");
    let _peer = both_ends(&pipe);
    let path = folder.named_file("other", "other's");
    let reactor = Reactor::current().unwrap();
    let open = async { (File::open(&pipe).await, File::open(&path).await) };
    let (waits, other) = reactor.block_on(open);
    let (mut waits, other) = (waits.unwrap(), other.unwrap());
    let waker = ManuallyDrop::new(hooked());
    let mut room = [0; 4];
    let mut read = waits.read(&mut room);
    assert!(poll(&mut read, &waker).is_pending());
    hook(panic_on_drop);
    let replaces = || poll(&mut read, Waker::noop()).is_pending();
    let _ = catch_unwind(AssertUnwindSafe(replaces)); // a panic concerns this task alone
    unhook();
    assert!(poll(&mut read, &waker).is_pending());
    hook(panic_on_drop);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(waits)));
    unhook();
    assert!(dropped.is_ok(), "the drop catches the panic");
    let read = other.read_buf_at(Vec::with_capacity(16), 0);
    let (read, bytes) = reactor.block_on(timeout(PATIENCE, read)).expect("timeout");
    assert_eq!((read.unwrap(), &bytes[..]), (7, &b"other's"[..]));
}

fn panic_on_drop(what: &str) {
    assert_ne!(what, "drop", "a planned panic");
}

/// The waker turns the reactor in `clone` until the operation is over, and panics in `drop`.
#[test]
fn a_panicking_waker_loses_neither_result_nor_slot() {
    by_io_uring(|| {
        let folder = folder();
        let (mine, other) = (
            folder.named_file("mine", "mine"),
            folder.named_file("other", "other's"),
        );
        let reactor = Reactor::current().unwrap();
        let options = File::options().write(true).clone();
        let mine = reactor.block_on(options.open(mine)).unwrap();
        let other = reactor.block_on(options.open(other)).unwrap();
        let waker = ManuallyDrop::new(hooked());
        let mut write = Box::pin(mine.write_buf_at(b"mine".into(), 0));
        let turner = reactor.clone();
        let panics = Rc::new(Cell::new(0));
        let count = panics.clone();
        hook(move |what| match what {
            "clone" => (0..100).for_each(|_| {
                turner.turn(Some(Duration::from_millis(1))).unwrap();
            }),
            _ => {
                count.set(count.get() + 1);
                panic!("a planned panic");
            }
        });
        let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut write, &waker)));
        unhook();
        assert_eq!(panics.get(), 1, "the waker was not dropped");
        // Occupies the slot if it is free.
        let mut theirs = Box::pin(other.write_buf_at(b"other's".into(), 0));
        assert!(poll(&mut theirs, Waker::noop()).is_pending());
        drop(write);
        let Ok(Poll::Ready((wrote, bytes))) = polled else {
            panic!("the result is lost");
        };
        assert_eq!((wrote.unwrap(), &bytes[..]), (4, &b"mine"[..]));
        let (wrote, bytes) = reactor
            .block_on(timeout(PATIENCE, theirs))
            .expect("timeout");
        assert_eq!((wrote.unwrap(), &bytes[..]), (7, &b"other's"[..]));
    });
}

thread_local!(static PANICS: Cell<bool> = const { Cell::new(false) });

/// A waker that is equal to its clones and panics in `drop` while `PANICS` is set.
static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &VTABLE),
    |_| (),
    |_| (),
    |_| assert!(!PANICS.get(), "a planned panic"),
);

/// The reactor is gone, so the operation is abandoned.
#[test]
fn a_panicking_waker_without_a_loop_frees_its_slot_once() {
    thread::spawn(|| {
        let folder = folder();
        let pipe = folder.pipe("pipe");
        let _peer = both_ends(&pipe);
        let path = folder.named_file("other", "other's");
        let reactor = Reactor::current().unwrap();
        if !use_io_uring(true).unwrap() {
            return eprintln!("there's no io_uring here");
        }
        let mut waits = reactor.block_on(File::open(&pipe)).unwrap();
        let other = reactor
            .block_on(File::options().write(true).open(&path))
            .unwrap();
        // SAFETY: the functions don't use the pointer.
        let waker = unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &VTABLE)) };
        let waker = ManuallyDrop::new(waker);
        let mut room = [0; 4];
        let mut read = waits.read(&mut room);
        assert!(poll(&mut read, &waker).is_pending());
        drop(reactor);
        PANICS.set(true);
        let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut read, &waker)));
        PANICS.set(false);
        let reactor = Reactor::current().unwrap();
        // Occupies the slot once the kernel has cancelled the previous operation.
        reactor.turn(None).unwrap();
        let mut theirs = Box::pin(other.write_buf_at(b"other's".into(), 0));
        assert!(poll(&mut theirs, Waker::noop()).is_pending());
        drop(waits);
        let theirs = timeout(PATIENCE, theirs);
        let (wrote, bytes) = reactor.block_on(theirs).expect("timeout");
        assert_eq!((wrote.unwrap(), &bytes[..]), (7, &b"other's"[..]));
        assert!(matches!(polled, Ok(Poll::Ready(Err(_)))), "{polled:?}");
    })
    .join()
    .unwrap();
}

/// From here on, this process and the kernel on its behalf fail to start threads.
fn allow_no_thread() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Nproc, none).unwrap();
    // The superuser is exempt from the limit.
    // SAFETY: both calls have no precondition.
    let changed = unsafe { libc::geteuid() != 0 || libc::setuid(65534) == 0 };
    assert!(changed);
    assert!(
        thread::Builder::new().spawn(|| ()).is_err(),
        "the limit has no effect"
    );
}

/// An open file without a name. std opens it, so the kernel has started no thread for it.
fn open_file() -> File {
    let folder = folder();
    std_fs::File::create(folder.path("file")).unwrap().into()
}

fn names_what_ran_out<T>(result: io::Result<T>) -> bool {
    let Err(error) = result else {
        panic!("succeeded without a thread")
    };
    let text = error.to_string();
    let is_named = text.contains("cannot start a thread") && text.contains("ulimit -u");
    assert!(is_named, "{text}");
    error.kind() != ErrorKind::WouldBlock
}

#[test]
fn a_pool_without_threads_names_the_limit() {
    in_child("a_pool_without_threads_names_the_limit", || {
        static POOL: Pool = Pool::new("test", 4, Duration::ZERO);
        let reactor = Reactor::current().unwrap();
        assert!(use_io_uring(false).unwrap());
        allow_no_thread();
        assert!(names_what_ran_out(POOL.run(|| ())));
        reactor.block_on(async {
            assert!(names_what_ran_out(File::create("/rope").await));
            assert!(names_what_ran_out(fs::read("/").await));
            assert!(names_what_ran_out(fs::canonicalize("/").await));
        });
    });
}

#[test]
fn a_file_without_kernel_threads_names_the_limit() {
    in_child("a_file_without_kernel_threads_names_the_limit", || {
        by_io_uring(|| {
            let reactor = Reactor::current().unwrap();
            let file = open_file();
            allow_no_thread();
            reactor.block_on(async {
                assert!(names_what_ran_out(file.sync_all().await));
            });
        });
    });
}

#[test]
fn files_without_kernel_threads_use_the_pool() {
    in_child("files_without_kernel_threads_use_the_pool", || {
        by_io_uring(|| {
            let reactor = Reactor::current().unwrap();
            let mut file = open_file();
            reactor.block_on(fs::canonicalize("/")).unwrap(); // by a pool thread, which then idles
            allow_no_thread();
            reactor.block_on(async {
                file.write_all(b"ahoy").await.unwrap();
                file.sync_all().await.unwrap();
                file.close().await.unwrap();
            });
        });
    });
}
