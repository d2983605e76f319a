//! Helpers shared by the tests of files.

#![allow(dead_code, unused_imports, unused_macros)] // each test file uses some of it

use std::fs;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use windlass::fs::use_io_uring;
use windlass::time::{sleep, timeout};
use windlass_reactor::Reactor;

/// Runs each test on io_uring, if it is available, and on threads.
macro_rules! both_ways {
    ($($name:ident)*) => {
        mod by_io_uring {
            $( #[test] fn $name() { $crate::files::by_io_uring(super::$name); } )*
        }
        mod by_threads {
            $( #[test] fn $name() { $crate::files::by_threads(super::$name); } )*
        }
    };
}
pub(crate) use both_ways;

pub(crate) fn by_io_uring(test: fn()) {
    // It lives until the end of the test, so the end of a `block_on` inside is not the last one.
    let _reactor = Reactor::current().unwrap();
    if use_io_uring(true).unwrap() {
        test();
    } else {
        eprintln!("io_uring is not available");
    }
}

pub(crate) fn by_threads(test: fn()) {
    assert!(use_io_uring(false).unwrap());
    test();
}

/// A directory that is removed when this value is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

pub(crate) fn folder() -> Folder {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, SeqCst);
    let name = format!("windlass-files-{}-{number}", process::id());
    let path = std::env::temp_dir().join(name);
    fs::create_dir(&path).unwrap();
    Folder(path)
}

impl Folder {
    pub(crate) fn path(&self, name: impl ToString) -> PathBuf {
        self.0.join(name.to_string())
    }

    pub(crate) fn file(&self, contents: impl AsRef<[u8]>) -> PathBuf {
        self.named_file("file", contents)
    }

    pub(crate) fn named_file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// Creates a named pipe.
    pub(crate) fn pipe(&self, name: impl ToString) -> PathBuf {
        let path = self.path(name);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the number of descriptors of this process for the path, or for a path below it.
pub(crate) fn descriptors(path: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.starts_with(path)).count()
}

/// Turns until `done` returns true.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let waits = async {
        while !done() {
            sleep(Duration::from_micros(50)).await;
        }
    };
    let waited = timeout(Duration::from_secs(30), waits).await;
    waited.expect("the condition becomes true");
}

/// Polls the future up to this many times, each time when it is woken. Returns its output if it
/// completes by then.
pub(crate) async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if polls == times => Poll::Ready(None),
            polled => polled.map(Some),
        }
    })
    .await
}
