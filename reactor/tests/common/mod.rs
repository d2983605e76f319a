//! Wakers that tell, and turns that end.

#![allow(dead_code)] // each test file uses some of it

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

/// What takes longer has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a future that must come to an end.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    block_on(timeout(PATIENCE, future)).expect("it hangs")
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

/// A waker that runs a function, on wake and when it's dropped.
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

/// A waker that runs what `hook` was given, for everything that is done with it.
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
    // SAFETY: the functions don't look at the pointer, and each thread has its own hook.
    unsafe { Waker::new(std::ptr::null(), &VTABLE) }
}

type Hook = Box<dyn FnMut(&'static str)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// What `hooked` wakers run. Not while they run it already.
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

/// One poll.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

/// Turns until `done`. The limits of the turns are only for the sake of a test that fails.
pub(crate) fn turn_until(reactor: &Reactor, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it hangs");
        reactor.turn(Some(Duration::from_secs(1))).unwrap();
    }
}

/// Waits for other threads, without a turn.
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it hangs");
        std::thread::yield_now();
    }
}

/// Turns until there's nothing left to do.
pub(crate) fn settle(reactor: &Reactor) {
    while reactor.turn(Some(Duration::ZERO)).unwrap().woken > 0 {}
}

/// A TCP connection over loopback: the accepted side, and the connecting one.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (accepted, connected) = join!(listener.accept(), TcpStream::connect(addr));
    (accepted.unwrap().0, connected.unwrap())
}

/// A blocking socket of the kind that is made in pairs.
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

/// Runs the body of the test `name` in a process of its own, on its main thread.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) {
    in_child_with(&[], name, body);
}

/// The same, with these variables in its environment.
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
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "it did not run: {said}");
}

/// How many descriptors this process has.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Bytes that differ from their neighbours.
pub(crate) fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect()
}

/// Whether a loop that watches the reactor's descriptor would call `turn` now. (On Windows there's
/// none to watch.)
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
    assert!(descriptor_is_ready(reactor, true), "it hangs");
}
