//! A process that forks without `exec`. The child works, and the parent is unaffected.
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, Waker};
use std::time::Duration;
use std::{env, fs, process, thread};

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, join};
use windlass::Pool;
use windlass::fs::File;
use windlass::io::copy;
use windlass::process::Command;
use windlass::signal::{Signal, Signals};
use windlass_reactor::net::unix::UnixStream;
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Reactor, block_on};

static POOL: Pool = Pool::new("fork", 4, PATIENCE);

/// Time limit of a child in seconds, after which `SIGALRM` ends it.
const LIMIT: u32 = 30;

/// A forked child. Its drop waits for the child and asserts that it succeeded.
struct Forked(libc::pid_t);

/// Runs `body` in a forked child.
fn fork(body: impl FnOnce()) -> Forked {
    // SAFETY: the child has a copy of this thread only. These tests cover its use of state from
    // other threads. glibc keeps its allocator usable across a fork.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: `alarm` has no precondition.
        unsafe { libc::alarm(LIMIT) };
        let result = catch_unwind(AssertUnwindSafe(body));
        // SAFETY: `_exit` has no precondition, and runs no destructors of the test.
        unsafe { libc::_exit(i32::from(result.is_err())) }
    }
    Forked(pid)
}

impl Drop for Forked {
    fn drop(&mut self) {
        let mut status = -1;
        // SAFETY: `status` is valid for a write.
        assert_eq!(unsafe { libc::waitpid(self.0, &mut status, 0) }, self.0);
        if !thread::panicking() {
            assert_eq!(
                status, 0,
                "the forked child failed, or was ended by a signal"
            );
        }
    }
}

/// Creates a file for this test with the given content.
fn file_of(name: &str, bytes: &[u8]) -> PathBuf {
    let path = env::temp_dir().join(format!("windlass-fork-{}-{name}", process::id()));
    fs::write(&path, bytes).unwrap();
    path
}

/// Uses sockets, timers, files, a thread pool, child processes and signals.
async fn use_all() {
    let (mut here, mut there) = tcp_pair().await;
    there.write_all(b"ahoy").await.unwrap();
    let mut text = [0; 4];
    here.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"ahoy");

    sleep(Duration::from_millis(1)).await;

    let path = file_of("all", b"");
    windlass::fs::write(&path, "ahoy").await.unwrap();
    assert_eq!(windlass::fs::read(&path).await.unwrap(), b"ahoy");
    windlass::fs::remove_file(&path).await.unwrap();

    assert_eq!(POOL.run(|| 7).unwrap().await, 7);

    assert!(Command::new("true").status().await.unwrap().success());
    drop(Command::new("true").spawn().unwrap()); // to be reaped without a handle

    let mut signals = Signals::new([Signal::USR1]).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1)
        .unwrap();
    assert_eq!(signals.recv().await.unwrap(), Signal::USR1);
}

/// Whether the error message names fork as the cause.
fn is_about_fork(text: impl ToString) -> bool {
    text.to_string().contains("before fork()")
}

#[test]
fn a_new_block_on_works_in_a_forked_child() {
    in_child("a_new_block_on_works_in_a_forked_child", || {
        run(use_all());
        drop(fork(|| {
            run(use_all());
            drop(fork(|| run(use_all()))); // the child's child has its own as well
            thread::spawn(|| run(use_all())).join().unwrap();
            run(use_all());
        }));
        run(use_all());
    });
}

#[test]
fn a_block_on_works_in_a_child_forked_inside_of_another() {
    in_child(
        "a_block_on_works_in_a_child_forked_inside_of_another",
        || {
            run(async {
                use_all().await;
                drop(fork(|| run(use_all())));
                use_all().await;
            });
        },
    );
}

#[test]
fn pools_restart_in_a_forked_child() {
    in_child("pools_restart_in_a_forked_child", || {
        run(async { POOL.run(|| ()).unwrap().await }); // from here on a thread is idle
        drop(fork(|| {
            assert_eq!(run(async { POOL.run(|| 7).unwrap().await }), 7);
            run(windlass::fs::metadata("/")).unwrap();
        }));
    });
}

#[test]
fn pools_work_in_a_child_forked_while_their_lock_is_held() {
    in_child(
        "pools_work_in_a_child_forked_while_their_lock_is_held",
        || {
            static DONE: AtomicBool = AtomicBool::new(false);
            let busy = [(); 2].map(|()| {
                thread::spawn(|| {
                    while !DONE.load(SeqCst) {
                        drop(POOL.run(|| ()).unwrap());
                    }
                })
            });
            for _ in 0..300 {
                drop(fork(|| {
                    assert_eq!(run(async { POOL.run(|| 7).unwrap().await }), 7);
                }));
            }
            DONE.store(true, SeqCst);
            busy.into_iter().for_each(|thread| thread.join().unwrap());
        },
    );
}

#[test]
fn a_closure_given_to_a_pool_before_a_fork_panics_in_the_child() {
    in_child(
        "a_closure_given_to_a_pool_before_a_fork_panics_in_the_child",
        || {
            let (key, locked) = std::sync::mpsc::channel::<()>();
            let task = POOL.run(move || locked.recv().is_err()).unwrap();
            let mut task = Some(task);
            drop(fork(|| {
                let task = task.take().unwrap();
                let panic = catch_unwind(AssertUnwindSafe(|| block_on(task))).unwrap_err();
                assert!(is_about_fork(panic.downcast_ref::<&str>().unwrap()));
            }));
            drop(key);
            assert!(run(task.unwrap()));
        },
    );
}

#[test]
fn a_forked_childs_file_read_leaves_the_parents_memory_alone() {
    in_child(
        "a_forked_childs_file_read_leaves_the_parents_memory_alone",
        || {
            const BYTES: usize = 100_000;
            let path = file_of("read", &[b'!'; BYTES]);
            let reactor = Reactor::current().unwrap();
            if !windlass::fs::use_io_uring(true).unwrap() {
                return; // threads read files, and those are not shared
            }
            let file = reactor.block_on(File::open(&path)).unwrap();
            // Starts the ring. At the fork, a later operation waits to be submitted.
            reactor.block_on(file.sync_all()).unwrap();
            // Reads of cached data complete at once, without the ring.
            let cold = fs::File::open(&path).unwrap();
            rustix::fs::fadvise(&cold, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let mut before = Box::pin(file.read_buf_at(Vec::with_capacity(BYTES), 0));
            if poll(&mut before, Waker::noop()).is_ready() {
                return; // the file system has no disk
            }
            drop(fork(|| {
                let mut read = Box::pin(file.read_buf_at(Vec::with_capacity(BYTES), 0));
                let begun = poll(&mut read, Waker::noop());
                let error = reactor.turn(Some(Duration::ZERO)).unwrap_err();
                assert!(is_about_fork(error));
                drop(reactor.awake());
                drop(reactor.clone());
                // A thread of the child does this read, and it may have completed already.
                let (_, bytes) = match begun {
                    Poll::Ready(ended) => ended,
                    Poll::Pending => run(read),
                };
                assert_eq!(bytes.len(), BYTES);
                assert!(is_about_fork(run(before.as_mut()).0.unwrap_err()));
            }));
            let mine = vec![0_u8; BYTES];
            let (read, bytes) = reactor.block_on(before);
            assert_eq!((read.unwrap(), bytes.len()), (BYTES, BYTES));
            reactor.turn(Some(Duration::ZERO)).unwrap();
            assert!(mine.iter().all(|&byte| byte == 0));
            fs::remove_file(path).unwrap();
        },
    );
}

#[test]
fn a_stream_dropped_after_a_fork_stays_registered_in_the_parent() {
    in_child(
        "a_stream_dropped_after_a_fork_stays_registered_in_the_parent",
        || {
            run(async {
                let (here, mut there) = tcp_pair().await;
                let mut here = Some(here);
                let mut readable = Box::pin(here.as_ref().unwrap().readable());
                // The first wait registers the socket.
                let mut first = true;
                std::future::poll_fn(|cx| {
                    if !std::mem::replace(&mut first, false) {
                        return Poll::Ready(());
                    }
                    assert!(poll(&mut readable, cx.waker()).is_pending());
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
                drop(readable);
                drop(fork(|| drop(here.take())));
                there.write_all(b"ahoy").await.unwrap();
                let mut text = [0; 4];
                here.as_mut().unwrap().read_exact(&mut text).await.unwrap();
                assert_eq!(&text, b"ahoy");
            });
        },
    );
}

#[test]
fn an_inherited_stream_works_until_it_has_to_wait() {
    in_child("an_inherited_stream_works_until_it_has_to_wait", || {
        let reactor = Reactor::current().unwrap(); // so that the inherited one is driven
        let (here, mut there) = run(async { UnixStream::pair().unwrap() });
        let waits = || poll(&mut here.readable(), Waker::noop()).is_pending();
        assert!(run(async { waits() }));
        run(there.write_all(&[7; 1000])).unwrap();
        drop(fork(|| {
            let mut here = here;
            let mut byte = [0];
            for _ in 0..1000 {
                run(here.read_exact(&mut byte)).unwrap(); // with no budget of any turn
            }
            assert!(is_about_fork(run(here.read_exact(&mut byte)).unwrap_err()));
            assert!(is_about_fork(run(here.readable()).unwrap_err()));
        }));
        drop(reactor);
    });
}

#[test]
fn an_inherited_stream_that_never_waited_works_in_a_child() {
    let name = "an_inherited_stream_that_never_waited_works_in_a_child";
    in_child(name, || {
        let reactor = Reactor::current().unwrap(); // so that the inherited one is driven
        let (here, there) = run(async { UnixStream::pair().unwrap() });
        drop(fork(|| {
            let (mut here, mut there) = (here, there);
            run(async {
                let mut byte = [0];
                let (read, written) = join!(here.read_exact(&mut byte), async {
                    sleep(Duration::from_millis(1)).await;
                    there.write_all(&[7]).await
                });
                read.and(written).unwrap();
            });
        }));
        drop(reactor);
    });
}

#[test]
fn an_inherited_reactor_gives_an_error_in_a_forked_child() {
    in_child(
        "an_inherited_reactor_gives_an_error_in_a_forked_child",
        || {
            let reactor = Reactor::current().unwrap();
            reactor.block_on(sleep(Duration::from_millis(1)));
            settle(&reactor);
            let waker = reactor.waker();
            let nap = sleep(Duration::from_millis(1));
            drop(fork(|| {
                assert!(is_about_fork(reactor.turn(None).unwrap_err()));
                let blocks = || reactor.block_on(async {});
                let panic = catch_unwind(AssertUnwindSafe(blocks)).unwrap_err();
                assert!(is_about_fork(panic.downcast_ref::<String>().unwrap()));
                waker.wake_by_ref();
                run(nap); // moves to the child's reactor, as one that is sent to another thread
            }));
            assert_eq!(reactor.turn(Some(Duration::ZERO)).unwrap().woken, 0);
            assert!(
                !descriptor_is_ready(&reactor, false),
                "the child has woken the parent"
            );
            reactor.block_on(use_all());
            // Inside the parent's loop, no loop drives futures of the child.
            drop(reactor.block_on(async {
                fork(|| {
                    let mut nap = Box::pin(sleep(Duration::from_millis(1)));
                    let polls = || poll(&mut nap, Waker::noop());
                    let panic = catch_unwind(AssertUnwindSafe(polls)).unwrap_err();
                    assert!(is_about_fork(panic.downcast_ref::<String>().unwrap()));
                })
            }));
        },
    );
}

#[test]
fn a_forked_child_neither_kills_nor_reaps_its_parents_children() {
    in_child(
        "a_forked_child_neither_kills_nor_reaps_its_parents_children",
        || {
            let mut command = Command::new("cat");
            command.stdin(windlass::process::Stdio::piped());
            let mut cat = Some(command.kill_on_drop(true).spawn().unwrap());
            drop(fork(|| {
                let mut cat = cat.take().unwrap();
                assert!(is_about_fork(cat.kill().unwrap_err()));
                assert!(is_about_fork(cat.try_wait().unwrap_err()));
                assert!(is_about_fork(run(cat.wait()).unwrap_err()));
                drop(cat);
                run(use_all()); // reaps its own
            }));
            let mut cat = cat.unwrap();
            assert!(cat.try_wait().unwrap().is_none(), "the child was killed");
            assert!(run(cat.wait()).unwrap().success());
        },
    );
}

#[test]
fn a_signal_in_a_forked_child_reaches_only_the_childs_listeners() {
    in_child(
        "a_signal_in_a_forked_child_reaches_only_the_childs_listeners",
        || {
            let reactor = Reactor::current().unwrap();
            let mut inherited = Some(Signals::new([Signal::USR1]).unwrap());
            let listener = inherited.as_mut().unwrap();
            let mut received = Box::pin(listener.recv());
            let (counter, waker) = Counter::new();
            assert!(poll(&mut received, &waker).is_pending());
            drop(received);
            drop(fork(|| {
                run(use_all()); // sends itself the signal, and receives it
                let mut inherited = inherited.take().unwrap();
                assert!(is_about_fork(run(inherited.recv()).unwrap_err()));
            }));
            reactor.turn(Some(Duration::ZERO)).unwrap();
            assert_eq!(
                counter.wakes(),
                0,
                "the child has written to the parent's pipe"
            );
            // The child reports the fork error even while the parent's pipe holds a byte.
            let mut listener = inherited.take().unwrap();
            let this = rustix::process::getpid();
            rustix::process::kill_process(this, rustix::process::Signal::USR1).unwrap();
            let mut inherited = Some(listener);
            drop(fork(|| {
                let mut inherited = inherited.take().unwrap();
                assert!(is_about_fork(run(inherited.recv()).unwrap_err()));
            }));
            listener = inherited.unwrap();
            assert_eq!(reactor.block_on(listener.recv()).unwrap(), Signal::USR1);
        },
    );
}

/// What `hold` has to do: nothing, keep its thread in the handler, or let it go.
static HELD: AtomicUsize = AtomicUsize::new(0);

extern "C" fn hold(_: libc::c_int) {
    if HELD.compare_exchange(0, 1, SeqCst, SeqCst).is_ok() {
        while HELD.load(SeqCst) == 1 {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn a_child_forked_during_a_signal_handler_listens_to_signals() {
    in_child(
        "a_child_forked_during_a_signal_handler_listens_to_signals",
        || {
            // SAFETY: `hold` reads and writes an atomic only.
            let hold = unsafe { libc::signal(libc::SIGUSR1, hold as *const () as usize) };
            assert_eq!(hold, libc::SIG_DFL);
            let mut inherited = Some(Signals::new([Signal::USR1]).unwrap());
            let raising = thread::spawn(|| {
                // SAFETY: `raise` has no precondition.
                assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
            });
            wait_until(|| HELD.load(SeqCst) == 1);
            let child = fork(|| {
                HELD.store(2, SeqCst);
                drop(inherited.take());
                run(use_all());
            });
            HELD.store(2, SeqCst);
            raising.join().unwrap();
            drop(child);
            let mut listener = inherited.unwrap();
            assert_eq!(run(listener.recv()).unwrap(), Signal::USR1);
        },
    );
}

#[test]
fn the_end_of_a_forked_childs_thread_leaves_the_parents_poller() {
    in_child(
        "the_end_of_a_forked_childs_thread_leaves_the_parents_poller",
        || {
            // Runs on a thread that ends, so that the child drops its thread-locals.
            thread::spawn(|| {
                run(use_all());
                let reactor = Reactor::current().unwrap();
                // SAFETY: as in `fork`.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    drop(reactor);
                    run(sleep(Duration::from_millis(1)));
                    return; // the last thread of the child, and so its end
                }
                drop(Forked(pid));
                run(use_all());
                // A wake from another thread ends the sleep.
                let (waker, woken) = (reactor.waker(), AtomicBool::new(false));
                let start = std::time::Instant::now();
                thread::scope(|scope| {
                    scope.spawn(|| {
                        thread::sleep(Duration::from_millis(20)); // mostly the other one sleeps
                        woken.store(true, SeqCst);
                        waker.wake();
                    });
                    while !woken.load(SeqCst) {
                        reactor.turn(Some(PATIENCE)).unwrap();
                    }
                });
                assert!(start.elapsed() < PATIENCE, "no wake ends a sleep");
            })
            .join()
            .unwrap();
        },
    );
}

#[test]
fn copies_in_a_forked_child_do_not_mix_with_the_parents() {
    in_child(
        "copies_in_a_forked_child_do_not_mix_with_the_parents",
        || {
            const BYTES: usize = 128 * 1024; // enough for a copy to take a pipe
            let copy_through = |byte: u8| {
                let (mut source, from) = StdStream::pair().unwrap();
                let (to, mut target) = StdStream::pair().unwrap();
                let writes = thread::spawn(move || source.write_all(&vec![byte; BYTES]).unwrap());
                let reads = thread::spawn(move || {
                    let mut bytes = Vec::new();
                    target.read_to_end(&mut bytes).unwrap();
                    bytes
                });
                let (from, to) = (UnixStream::try_from(from), UnixStream::try_from(to));
                run(copy(from.unwrap(), to.unwrap())).unwrap();
                writes.join().unwrap();
                assert!(
                    reads.join().unwrap() == vec![byte; BYTES],
                    "bytes of another process"
                );
            };
            copy_through(1); // leaves a pipe for the next
            let child = fork(|| (0..200).for_each(|_| copy_through(2)));
            (0..200).for_each(|_| copy_through(3));
            drop(child);
        },
    );
}

#[test]
fn a_file_with_an_operation_in_flight_works_after_a_fork() {
    in_child(
        "a_file_with_an_operation_in_flight_works_after_a_fork",
        || {
            let path = file_of("in-flight", b"ahoy");
            for by_ring in [true, false] {
                let tries = || {
                    let _reactor = Reactor::current().unwrap();
                    let _ = windlass::fs::use_io_uring(by_ring).unwrap();
                    let mut options = File::options();
                    let mut file = run(options.read(true).write(true).open(&path)).unwrap();
                    let mut sync = Box::pin(file.sync_all());
                    let _ = poll(&mut sync, Waker::noop());
                    std::mem::forget(sync);
                    // In the child this operation never completes, and the next operations don't
                    // wait for it.
                    drop(fork(|| {
                        run(file.set_len(3)).unwrap();
                        run(file.write_all(b"AH")).unwrap();
                        run(file.flush()).unwrap();
                        run(file.close()).unwrap();
                    }));
                    assert_eq!(fs::read(&path).unwrap(), b"AHo");
                    run(file.set_len(4)).unwrap();
                };
                thread::scope(|scope| scope.spawn(tries).join().unwrap());
            }
            fs::remove_file(path).unwrap();
        },
    );
}

#[test]
fn a_forked_child_leaves_the_position_of_an_inherited_file() {
    in_child(
        "a_forked_child_leaves_the_position_of_an_inherited_file",
        || {
            let path = file_of("position", b"ahoy there");
            // The read is dropped while pending, so the next reads receive its data.
            let mut file = loop {
                let mut file = run(File::open(&path)).unwrap();
                if poll(&mut file.read(&mut [0; 8]), Waker::noop()).is_pending() {
                    break file;
                }
            };
            run(file.read_exact(&mut [0; 2])).unwrap();
            let mut file = Some(file);
            drop(fork(|| drop(file.take())));
            let mut rest = Vec::new();
            run(file.unwrap().read_to_end(&mut rest)).unwrap();
            assert_eq!(rest, b"oy there");
            fs::remove_file(path).unwrap();
        },
    );
}

#[test]
fn a_forked_child_leaves_the_parents_shared_listener_registered() {
    use windlass_reactor::net::TcpListener;
    in_child(
        "a_forked_child_leaves_the_parents_shared_listener_registered",
        || {
            let reactor = Reactor::current().unwrap();
            reactor.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                listener.share();
                let addr = listener.local_addr().unwrap();
                let mut accept = Some(Box::pin(listener.accept()));
                // This poll registers the listener.
                assert!(poll(accept.as_mut().unwrap(), Waker::noop()).is_pending());
                drop(fork(|| drop(accept.take())));
                let client = std::net::TcpStream::connect(addr).unwrap();
                let accepted = timeout(PATIENCE, accept.unwrap()).await;
                accepted.expect("the child has deregistered it").unwrap();
                drop(client);
            });
        },
    );
}
