//! A process that is forked without `exec` while its other threads are busy.
#![cfg(target_os = "linux")]

use std::env;
use std::panic::catch_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use windlass::{Runtime, block_on, spawn, spawn_blocking};

/// Runs the body of the test `name` in a process of its own.
fn in_child(name: &str, body: impl FnOnce()) {
    if env::var_os("WINDLASS_CHILD").is_some() {
        return body();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CHILD", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "it did not run: {said}");
}

/// Runs `body` in a forked child, and waits for its end.
fn fork(body: fn()) {
    // SAFETY: the child runs on a copy of this thread alone. What it uses of other threads is what
    // this is about; glibc keeps its allocator usable across a fork.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: it has no precondition. `SIGALRM` ends a child that hangs.
        unsafe { libc::alarm(30) };
        let result = catch_unwind(body);
        // SAFETY: it has no precondition, and runs no destructor of what the test has.
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
fn files_written_in_a_block_on_are_complete_though_the_runtime_lives_on() {
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
