//! Pools with closures that wait for one another, while the system is short of threads.

#![cfg(target_os = "linux")]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::fs as std_fs;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::mpsc::channel;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use common::{in_child, poll, run};
use windlass::Pool;
use windlass::fs::{File, OpenOptions};
use windlass::time::sleep;

/// From here on, this process and the kernel on its behalf fail to start threads.
fn allow_no_thread() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // The superuser is exempt from the limit.
    // SAFETY: `none` is a valid limit, and the other calls have no precondition.
    let limited = unsafe {
        libc::setrlimit(libc::RLIMIT_NPROC, &none) == 0
            && (libc::geteuid() != 0 || libc::setuid(65534) == 0)
    };
    assert!(limited);
    let refused = thread::Builder::new().spawn(|| ()).is_err();
    assert!(refused, "the limit has no effect");
}

/// Returns the number of threads of this process with that name.
fn threads(name: &str) -> usize {
    let tasks = std_fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std_fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim() == name).count()
}

#[test]
fn a_pool_without_limit_fails_rather_than_queue_behind_a_peer() {
    in_child(
        "a_pool_without_limit_fails_rather_than_queue_behind_a_peer",
        || {
            static ALL: Pool = Pool::new("all", usize::MAX, Duration::ZERO);
            static TWO: Pool = Pool::new("two", 2, Duration::ZERO);
            let (peer, of_all) = channel();
            let waits = ALL.run(move || of_all.recv()).unwrap();
            let (key, of_two) = channel();
            let holds = TWO.run(move || of_two.recv()).unwrap();
            allow_no_thread();
            assert!(ALL.run(|| ()).is_err(), "queued behind its peer");
            let queued = TWO.run(|| 7).unwrap(); // runs once the thread is free
            peer.send(()).unwrap();
            key.send(()).unwrap();
            run(async {
                waits.await.unwrap();
                holds.await.unwrap();
                assert_eq!(queued.await, 7);
            });
        },
    );
}

#[test]
fn an_open_of_a_pipe_fails_if_its_peer_has_the_last_thread() {
    let pipe = Pipe::new();
    let path = &pipe.0;
    in_child(
        "an_open_of_a_pipe_fails_if_its_peer_has_the_last_thread",
        || {
            run(async {
                let mut reads = Box::pin(File::open(path));
                while threads("windlass-peers") == 0 {
                    assert!(poll(&mut reads, Waker::noop()).is_pending());
                    sleep(Duration::from_millis(1)).await;
                }
                allow_no_thread();
                let mut options = OpenOptions::new();
                let opened = options.write(true).open(path).await;
                assert!(opened.is_err());
            });
        },
    );
}

/// A named pipe. The parent of the process that uses it creates and removes it.
struct Pipe(PathBuf);

impl Pipe {
    fn new() -> Pipe {
        let is_child = std::env::var_os("WINDLASS_CHILD").is_some();
        let owner = if is_child { parent_id() } else { process::id() };
        let path = std::env::temp_dir().join(format!("windlass-peers-{owner}"));
        if !is_child {
            let made = Command::new("mkfifo")
                .args(["-m", "666"])
                .arg(&path)
                .status();
            assert!(made.unwrap().success());
        }
        Pipe(path)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = std_fs::remove_file(&self.0); // fails in a child that has changed its user
    }
}
