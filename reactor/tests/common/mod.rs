//! Helpers of the tests, such as wakers that count or call hooks, and turns with a time limit.

#![allow(dead_code, unused_imports)] // each test file uses some of it

use std::cell::RefCell;
use std::env;
use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::{Duration, Instant};

use futures::join;
#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, Timespec};
use windlass_reactor::net::{TcpListener, TcpStream};
use windlass_reactor::{Reactor, block_on, time::timeout};

#[cfg(unix)]
mod pairs;
#[cfg(unix)]
pub(crate) use pairs::*;

/// Time limit of a test, after which it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a future that must complete within the time limit.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    block_on(timeout(PATIENCE, future)).expect("timed out")
}

/// Counts its wakes.
#[derive(Default)]
pub(crate) struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Counter {
    pub(crate) fn new() -> (Arc<Counter>, Waker) {
        let counter = Arc::new(Counter::default());
        (counter.clone(), Waker::from(counter))
    }

    pub(crate) fn wakes(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A waker that runs a function on wake and on drop.
pub(crate) struct OnWake<F: Fn(&'static str) + Send + Sync>(pub(crate) F);

impl<F: Fn(&'static str) + Send + Sync> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        self.0("wake");
    }
}

impl<F: Fn(&'static str) + Send + Sync> Drop for OnWake<F> {
    fn drop(&mut self) {
        self.0("drop");
    }
}

/// A waker that runs the function passed to `hook` on every clone, wake and drop.
pub(crate) fn hooked() -> Waker {
    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |_| {
            hook_runs("clone");
            RawWaker::new(std::ptr::null(), &VTABLE)
        },
        |_| hook_runs("wake"),
        |_| hook_runs("wake"),
        |_| hook_runs("drop"),
    );
    // SAFETY: the functions ignore the pointer, and each thread has its own hook.
    unsafe { Waker::new(std::ptr::null(), &VTABLE) }
}

type Hook = Box<dyn FnMut(&'static str)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Sets the function that `hooked` wakers run. It is skipped while it is already running.
pub(crate) fn hook(new: impl FnMut(&'static str) + 'static) {
    HOOK.set(Some(Box::new(new)));
}

pub(crate) fn unhook() {
    HOOK.set(None);
}

fn hook_runs(what: &'static str) {
    if let Some(mut hook) = HOOK.take() {
        hook(what);
        if HOOK.with_borrow(Option::is_none) {
            HOOK.set(Some(hook));
        }
    }
}

pub(crate) fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

/// Turns until `done` returns true. The time limit of a turn matters only to failing tests.
pub(crate) fn turn_until(reactor: &Reactor, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "timed out");
        reactor.turn(Some(Duration::from_secs(1))).unwrap();
    }
}

/// Waits for other threads, without turning the reactor.
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "timed out");
        std::thread::yield_now();
    }
}

/// Turns until all pending events are processed.
pub(crate) fn settle(reactor: &Reactor) {
    while reactor.turn(Some(Duration::ZERO)).unwrap().woken > 0 {}
}

/// A TCP connection over loopback, as the accepted side and the connecting side.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (accepted, connected) = join!(listener.accept(), TcpStream::connect(addr));
    (accepted.unwrap().0, connected.unwrap())
}

/// The type of the blocking sockets of a pair.
#[cfg(unix)]
pub(crate) type Socket = std::os::unix::net::UnixStream;
#[cfg(windows)]
pub(crate) type Socket = std::net::TcpStream;

#[cfg(unix)]
pub(crate) fn socket_pair() -> (Socket, Socket) {
    Socket::pair().unwrap()
}

#[cfg(windows)]
pub(crate) fn socket_pair() -> (Socket, Socket) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = Socket::connect(listener.local_addr().unwrap()).unwrap();
    there.set_nodelay(true).unwrap();
    (listener.accept().unwrap().0, there)
}

/// Runs the body of the test `name` on the main thread of a child process.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) {
    in_child_with(&[], name, body);
}

/// The same, with additional environment variables.
pub(crate) fn in_child_with(variables: &[(&str, &str)], name: &str, body: impl FnOnce()) {
    if env::var_os("WINDLASS_CHILD").is_some() {
        return body();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CHILD", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "it did not run: {text}");
}

/// The number of descriptors of this process.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Bytes that differ from their neighbours.
pub(crate) fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect()
}

/// Whether a host that watches the reactor's descriptor would call `turn` now. Windows has no such
/// descriptor.
#[cfg(unix)]
pub(crate) fn descriptor_is_ready(reactor: &Reactor, wait: bool) -> bool {
    let mut watched = [PollFd::new(reactor, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: if wait { PATIENCE.as_secs() as i64 } else { 0 },
        tv_nsec: 0,
    };
    rustix::event::poll(&mut watched, Some(&limit)).unwrap() == 1
}

#[cfg(unix)]
pub(crate) fn wait_for_descriptor(reactor: &Reactor) {
    assert!(descriptor_is_ready(reactor, true), "timed out");
}
