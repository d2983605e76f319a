//! `fork` without `exec` while other threads are busy.
#![cfg(target_os = "linux")]

use std::cell::RefCell;
use std::env;
use std::panic::catch_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use windlass::{Runtime, block_on, spawn, spawn_blocking};

/// Runs the test `name` in its own process.
fn in_child(name: &str, body: impl FnOnce()) {
    if env::var_os("WINDLASS_CHILD").is_some() {
        return body();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CHILD", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "it did not run: {text}");
}

/// Runs `body` in a forked child, and waits for it to exit.
fn fork(body: fn()) {
    // SAFETY: the child continues with a copy of this thread alone. The test checks that the
    // child needs only that thread. glibc keeps its allocator usable across a fork.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: no preconditions. `SIGALRM` ends a child that hangs.
        unsafe { libc::alarm(30) };
        let result = catch_unwind(body);
        // SAFETY: no preconditions. Runs no destructors of the test.
        unsafe { libc::_exit(i32::from(result.is_err())) }
    }
    let mut status = -1;
    // SAFETY: `status` is valid for a write.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "the child failed, or hung");
}

#[test]
fn runtimes_start_in_a_child_forked_while_others_start() {
    in_child(
        "runtimes_start_in_a_child_forked_while_others_start",
        || {
            static DONE: AtomicBool = AtomicBool::new(false);
            let busy = [(); 2].map(|()| {
                thread::spawn(|| {
                    while !DONE.load(SeqCst) {
                        drop(Runtime::new().unwrap());
                    }
                })
            });
            for _ in 0..300 {
                fork(|| {
                    assert_eq!(block_on(async { spawn(async { 7 }).await }), 7);
                    assert_eq!(block_on(spawn_blocking(|| 7)), 7);
                });
            }
            DONE.store(true, SeqCst);
            busy.into_iter().for_each(|thread| thread.join().unwrap());
        },
    );
}

#[test]
fn a_child_drops_an_inherited_runtime_that_others_were_reading() {
    thread_local!(static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) });
    let name = "a_child_drops_an_inherited_runtime_that_others_were_reading";
    in_child(name, || {
        static DONE: AtomicBool = AtomicBool::new(false);
        let runtime = Runtime::new().unwrap();
        let task = runtime.spawn(std::future::pending::<()>()).named("task");
        RUNTIME.set(Some(runtime));
        let readers = [(); 2].map(|()| {
            thread::spawn(|| {
                while !DONE.load(SeqCst) {
                    windlass::inspect::metrics();
                }
            })
        });
        for _ in 0..300 {
            fork(|| drop(RUNTIME.take()));
        }
        DONE.store(true, SeqCst);
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        drop(task);
    });
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_child_shows_its_own_runtimes_alone() {
    use windlass::inspect::outside::Snapshot;
    in_child("a_child_shows_its_own_runtimes_alone", || {
        let runtime = Runtime::new().unwrap();
        runtime.spawn(std::future::pending::<()>()).detach();
        fork(|| {
            assert!(Snapshot::of_self().unwrap().runtimes.is_empty());
            let runtime = Runtime::new().unwrap();
            let runtimes = Snapshot::of_self().unwrap().runtimes;
            assert_eq!((runtimes.len(), runtimes[0].tasks.len()), (1, 0));
            drop(runtime);
            assert!(Snapshot::of_self().unwrap().runtimes.is_empty());
        });
        let runtimes = Snapshot::of_self().unwrap().runtimes;
        assert_eq!((runtimes.len(), runtimes[0].tasks.len()), (1, 1));
    });
}

#[test]
fn files_written_in_a_block_on_are_complete_when_it_returns() {
    use futures::AsyncWriteExt;
    let path = env::temp_dir().join(format!("windlass-lives-on-{}", std::process::id()));
    let bytes = vec![7; 200_000];
    let runtime = Runtime::new().unwrap();
    for _ in 0..50 {
        runtime.block_on(async {
            let mut file = windlass::fs::File::create(&path).await.unwrap();
            file.write_all(&bytes).await.unwrap();
        });
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
    std::fs::remove_file(path).unwrap();
}
