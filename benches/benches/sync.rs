//! `windlass::sync` beside channels and locks of other crates, all on one executor of windlass.
//!
//! ```sh
//! cargo bench -p windlass-benches --bench sync                      # nanoseconds
//! cargo bench -p windlass-benches --bench sync -- --once "oneshot/tokio" 1000
//! ```
//!
//! The second form runs one operation a number of times and exits, for callgrind. The instructions
//! of 2 N operations minus those of N, divided by N, are those of one operation.

use std::cell::RefCell;
use std::env;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::Criterion;
use futures::{FutureExt, SinkExt, StreamExt};
use windlass::sync as ours;
use windlass_executor::{Executor, block_on, spawn, yield_now};

struct Work {
    /// The operation.
    what: &'static str,
    /// The crate.
    who: &'static str,
    /// Runs the operation that many times.
    run: fn(u64),
}

fn main() {
    let args: Vec<_> = env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--once") {
        let [name, times] = &args[at + 1..] else {
            panic!("--once \"what/who\" TIMES")
        };
        let found = works()
            .into_iter()
            .find(|work| *name == format!("{}/{}", work.what, work.who));
        (found.expect("there is such a work").run)(times.parse().expect("a number"));
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for work in works() {
        // One group per operation, with one entry per crate.
        let mut group = criterion.benchmark_group(work.what);
        group.bench_function(work.who, |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                (work.run)(times);
                start.elapsed().max(Duration::from_nanos(1))
            });
        });
        group.finish();
    }
    criterion.final_summary();
}

/// Tasks per contended operation.
const TASKS: u64 = 8;

/// Runs a future, with tasks beside it.
fn on_executor(main: impl Future) {
    block_on(Executor::new().run(async { drop(main.await) }));
}

/// Polls a future that is ready immediately.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// One task sends a value and receives it, n times, without waiting.
macro_rules! alone {
    ($n:ident, $sender:ident, $receiver:ident = $channel:expr, $send:expr, $receive:expr) => {
        |n| {
            #[allow(unused_mut)]
            let (mut $sender, mut $receiver) = $channel;
            for $n in 0..n {
                let _ = black_box($send);
                let _ = black_box($receive);
            }
        }
    };
}

/// Eight tasks send n values in total to one that receives. The channel has space for four.
macro_rules! crowd {
    ($n:ident, $sender:ident, $receiver:ident = $channel:expr, $send:expr, $receive:expr) => {
        |n| {
            on_executor(async {
                #[allow(unused_mut)]
                let ($sender, mut $receiver) = $channel;
                for _ in 0..TASKS {
                    #[allow(unused_mut)]
                    let mut $sender = $sender.clone();
                    spawn(async move {
                        for $n in 0..n.div_ceil(TASKS) {
                            let _ = $send.await;
                        }
                    })
                    .detach();
                }
                drop($sender);
                while let Some(value) = $receive.await {
                    black_box(value);
                }
            })
        }
    };
}

/// Two tasks send a value back and forth. Each waits each time.
macro_rules! ping_pong {
    ($n:ident, $sender:ident, $receiver:ident = $channel:expr, $send:expr, $receive:expr) => {
        |n| {
            on_executor(async {
                let (there, here) = ($channel, $channel);
                #[allow(unused_mut)]
                let (mut mine, (mut theirs, mut $receiver)) = (there.0, (here.0, there.1));
                let echo = spawn(async move {
                    while let Some($n) = $receive.await {
                        let $sender = &mut theirs;
                        let _ = $send.await;
                    }
                });
                #[allow(unused_mut)]
                let mut $receiver = here.1;
                for $n in 0..n {
                    let $sender = &mut mine;
                    let _ = $send.await;
                    let _ = black_box($receive.await);
                }
                drop(mine);
                echo.await;
            })
        }
    };
}

/// One value through a new channel with a waiting receiver.
macro_rules! reply {
    ($n:ident = $channel:expr) => {
        |n| {
            for $n in 0..n {
                let (sender, receiver) = $channel;
                let mut receiver = pin!(receiver);
                let mut cx = Context::from_waker(Waker::noop());
                assert!(receiver.as_mut().poll(&mut cx).is_pending());
                let _ = sender.send($n);
                let _ = black_box(receiver.as_mut().poll(&mut cx));
            }
        }
    };
}

/// Locks and unlocks, n times, without waiting.
macro_rules! free_lock {
    ($lock:ident = $new:expr, $take:expr) => {
        |n| {
            let $lock = $new;
            for _ in 0..n {
                let _ = black_box($take);
            }
        }
    };
}

/// Eight tasks lock n times in total, and each holds the lock while all others run.
macro_rules! held_lock {
    ($lock:ident = $new:expr, $take:expr) => {
        |n| {
            on_executor(async {
                let $lock = Rc::new($new);
                let tasks: Vec<_> = (0..TASKS)
                    .map(|_| {
                        let $lock = $lock.clone();
                        spawn(async move {
                            for _ in 0..n.div_ceil(TASKS) {
                                let held = $take.await;
                                yield_now().await;
                                drop(black_box(held));
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await;
                }
            })
        }
    };
}

/// Sets a value, and one watcher receives it.
macro_rules! watched {
    ($n:ident, $sender:ident, $receiver:ident = $channel:expr, $send:expr) => {
        |n| {
            let ($sender, mut $receiver) = $channel;
            let mut cx = Context::from_waker(Waker::noop());
            for $n in 0..n {
                let mut changed = pin!($receiver.changed());
                assert!(changed.as_mut().poll(&mut cx).is_pending());
                let _ = $send;
                let _ = black_box(changed.as_mut().poll(&mut cx));
            }
        }
    };
}

fn works() -> Vec<Work> {
    let all = [
        bounded(),
        waiting(),
        unbounded(),
        oneshot(),
        locks(),
        semaphores(),
        watch(),
    ];
    all.into_iter().flatten().collect()
}

/// The crate, and its function.
type Contender = (&'static str, fn(u64));

fn named(what: &'static str, all: Vec<Contender>) -> Vec<Work> {
    all.into_iter()
        .map(|(who, run)| Work { what, who, run })
        .collect()
}

#[rustfmt::skip] // one line per crate
fn bounded() -> Vec<Work> {
    let mut works = named("bounded alone", vec![
        ("windlass", alone!(n, tx, rx = ours::mpsc::channel(64), ready(tx.send(n)), ready(rx.recv()))),
        ("tokio", alone!(n, tx, rx = tokio::sync::mpsc::channel(64), ready(tx.send(n)), ready(rx.recv()))),
        ("async-channel", alone!(n, tx, rx = async_channel::bounded(64), ready(tx.send(n)), ready(rx.recv()))),
        ("futures", alone!(n, tx, rx = futures::channel::mpsc::channel(64), ready(tx.send(n)), ready(rx.next()))),
        ("local-sync", alone!(n, tx, rx = local_sync::mpsc::bounded::channel(64), ready(tx.send(n)), ready(rx.recv()))),
        ("async-unsync", alone!(n, tx, rx = async_unsync::bounded::channel(64).into_split(), ready(tx.send(n)), ready(rx.recv()))),
    ]);
    works.extend(named("bounded, 8 senders", vec![
        ("windlass", crowd!(n, tx, rx = ours::mpsc::channel(4), tx.send(n), rx.recv())),
        ("tokio", crowd!(n, tx, rx = tokio::sync::mpsc::channel(4), tx.send(n), rx.recv())),
        ("async-channel", crowd!(n, tx, rx = async_channel::bounded(4), tx.send(n), rx.recv().map(Result::ok))),
        ("futures", crowd!(n, tx, rx = futures::channel::mpsc::channel(4), tx.send(n), rx.next())),
        ("local-sync", crowd!(n, tx, rx = local_sync::mpsc::bounded::channel(4), tx.send(n), rx.recv())),
        ("async-unsync", crowd!(n, tx, rx = async_unsync::bounded::channel(4).into_split(), tx.send(n), rx.recv())),
    ]));
    works
}

#[rustfmt::skip]
fn waiting() -> Vec<Work> {
    named("ping-pong", vec![
        ("windlass", ping_pong!(n, tx, rx = ours::mpsc::channel(1), tx.send(n), rx.recv())),
        ("tokio", ping_pong!(n, tx, rx = tokio::sync::mpsc::channel(1), tx.send(n), rx.recv())),
        ("async-channel", ping_pong!(n, tx, rx = async_channel::bounded(1), tx.send(n), rx.recv().map(Result::ok))),
        ("futures", ping_pong!(n, tx, rx = futures::channel::mpsc::channel(1), tx.send(n), rx.next())),
        ("local-sync", ping_pong!(n, tx, rx = local_sync::mpsc::bounded::channel(1), tx.send(n), rx.recv())),
        ("async-unsync", ping_pong!(n, tx, rx = async_unsync::bounded::channel(1).into_split(), tx.send(n), rx.recv())),
    ])
}

#[rustfmt::skip]
fn unbounded() -> Vec<Work> {
    named("unbounded alone", vec![
        ("windlass", alone!(n, tx, rx = ours::mpsc::unbounded_channel(), tx.send(n), ready(rx.recv()))),
        ("tokio", alone!(n, tx, rx = tokio::sync::mpsc::unbounded_channel(), tx.send(n), ready(rx.recv()))),
        ("async-channel", alone!(n, tx, rx = async_channel::unbounded(), tx.try_send(n), ready(rx.recv()))),
        ("futures", alone!(n, tx, rx = futures::channel::mpsc::unbounded(), tx.unbounded_send(n), ready(rx.next()))),
        ("local-sync", alone!(n, tx, rx = local_sync::mpsc::unbounded::channel(), tx.send(n), ready(rx.recv()))),
        ("async-unsync", alone!(n, tx, rx = async_unsync::unbounded::channel().into_split(), tx.send(n), ready(rx.recv()))),
    ])
}

fn oneshot() -> Vec<Work> {
    named(
        "oneshot",
        vec![
            ("windlass", reply!(n = ours::oneshot::channel())),
            ("tokio", reply!(n = tokio::sync::oneshot::channel())),
            ("futures", reply!(n = futures::channel::oneshot::channel())),
            ("local-sync", reply!(n = local_sync::oneshot::channel())),
            ("unsync", reply!(n = unsync::oneshot::channel())),
        ],
    )
}

fn locks() -> Vec<Work> {
    let mut works = named(
        "mutex alone",
        vec![
            (
                "RefCell",
                free_lock!(lock = RefCell::new(0), *lock.borrow_mut() += 1),
            ),
            (
                "windlass",
                free_lock!(lock = ours::Mutex::new(0), *ready(lock.lock()) += 1),
            ),
            (
                "tokio",
                free_lock!(lock = tokio::sync::Mutex::new(0), *ready(lock.lock()) += 1),
            ),
            (
                "async-lock",
                free_lock!(lock = async_lock::Mutex::new(0), *ready(lock.lock()) += 1),
            ),
            (
                "futures",
                free_lock!(
                    lock = futures::lock::Mutex::new(0),
                    *ready(lock.lock()) += 1
                ),
            ),
        ],
    );
    works.extend(named(
        "mutex, 8 tasks",
        vec![
            (
                "windlass",
                held_lock!(lock = ours::Mutex::new(0), lock.lock()),
            ),
            (
                "tokio",
                held_lock!(lock = tokio::sync::Mutex::new(0), lock.lock()),
            ),
            (
                "async-lock",
                held_lock!(lock = async_lock::Mutex::new(0), lock.lock()),
            ),
            (
                "futures",
                held_lock!(lock = futures::lock::Mutex::new(0), lock.lock()),
            ),
        ],
    ));
    works
}

#[rustfmt::skip]
fn semaphores() -> Vec<Work> {
    let mut works = named("semaphore alone", vec![
        ("windlass", free_lock!(lock = ours::Semaphore::new(2), ready(lock.acquire(1)).is_ok())),
        ("tokio", free_lock!(lock = tokio::sync::Semaphore::new(2), ready(lock.acquire()).is_ok())),
        ("async-lock", free_lock!(lock = async_lock::Semaphore::new(2), drop(ready(lock.acquire())))),
        ("local-sync", free_lock!(lock = local_sync::semaphore::Semaphore::new(2), ready(lock.acquire()).is_ok())),
        ("async-unsync", free_lock!(lock = async_unsync::semaphore::Semaphore::new(2), ready(lock.acquire()).is_ok())),
        ("unsync", free_lock!(lock = unsync::semaphore::Semaphore::new(2), drop(ready(lock.acquire(1))))),
    ]);
    works.extend(named("semaphore, 8 tasks", vec![
        ("windlass", held_lock!(lock = ours::Semaphore::new(2), lock.acquire(1))),
        ("tokio", held_lock!(lock = tokio::sync::Semaphore::new(2), lock.acquire())),
        ("async-lock", held_lock!(lock = async_lock::Semaphore::new(2), lock.acquire())),
        ("local-sync", held_lock!(lock = local_sync::semaphore::Semaphore::new(2), lock.acquire())),
        ("async-unsync", held_lock!(lock = async_unsync::semaphore::Semaphore::new(2), lock.acquire())),
        ("unsync", held_lock!(lock = unsync::semaphore::Semaphore::new(2), lock.acquire(1))),
    ]));
    works
}

fn watch() -> Vec<Work> {
    named(
        "watch",
        vec![
            (
                "windlass",
                watched!(n, tx, rx = ours::watch::channel(0), tx.send(n)),
            ),
            (
                "tokio",
                watched!(n, tx, rx = tokio::sync::watch::channel(0), tx.send(n)),
            ),
        ],
    )
}
