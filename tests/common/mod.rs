//! Helpers shared by the tests.

// Each test file uses only some of these.
#![allow(dead_code)]

use std::any::Any;
use std::cell::Cell;
#[cfg(unix)]
use std::fs;
use std::future::{Future, poll_fn};
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd};
#[cfg(windows)]
use std::os::windows::io::{AsSocket, BorrowedSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use windlass::net::{TcpListener, TcpStream};

/// Aborts the process if it is not dropped within a minute, so that a lost wake is a failure
/// instead of a hang.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

pub(crate) fn watchdog() -> Watchdog {
    let (alive, watched) = mpsc::channel();
    let test = thread::current().name().unwrap_or("a test").to_owned();
    thread::spawn(move || {
        if let Err(RecvTimeoutError::Timeout) = watched.recv_timeout(Duration::from_secs(60)) {
            eprintln!("{test} hangs");
            process::abort();
        }
    });
    Watchdog { _alive: alive }
}

/// `windlass::block_on` with a time limit.
#[track_caller]
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let _watchdog = watchdog();
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    if is_simulated() {
        return windlass::sim::block_on(future);
    }
    windlass::block_on(future)
}

/// Tests that need the system. They read the real clock, block a real thread in a client, count
/// polls until something real happens, identify sockets by their descriptors, or need a port that
/// another program has.
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
const NEED_THE_SYSTEM: &[&str] = &[
    "cancellation::an_elapsed_timeout_drops_its_future",
    "cancellation::cancel_has_dropped_the_socket_when_it_returns",
    "cancellation::dropping_a_task_that_accepts_closes_the_listener",
    "cancellation::dropping_a_task_that_waits_for_a_socket_closes_the_socket",
    "cancellation::dropping_tasks_that_connect_closes_the_connections",
    "cancellation::the_last_clone_of_a_stream_closes_it",
    "coroutine::dropping_a_waiting_coroutine_closes_its_socket",
    "fairness::a_self_waking_task_delays_no_accept",
    "fairness::a_self_waking_task_delays_no_socket",
    "stop::a_deadline_stops_waiters",
    "stop::a_server_past_its_deadline_cancels_the_rest",
    "stop::a_stopped_server_finishes_requests_in_flight",
];

/// Whether this test runs in a simulated world (see `tests/sim_worlds`).
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
fn is_simulated() -> bool {
    let thread = thread::current();
    let name = thread
        .name()
        .and_then(|name| name.strip_prefix("simulated::"));
    name.is_some_and(|name| !NEED_THE_SYSTEM.contains(&name))
}

/// Two ends of a connection.
pub(crate) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let connect = TcpStream::connect(listener.local_addr()?);
    let (near, far) = futures::try_join!(connect, listener.accept())?;
    Ok((near, far.0))
}

/// Returns the target of a descriptor, such as `socket:[12345]`. No two sockets have the same.
#[cfg(unix)]
pub(crate) fn name_of(descriptor: &impl AsFd) -> String {
    let number = descriptor.as_fd().as_raw_fd();
    let link = fs::read_link(format!("/proc/self/fd/{number}")).expect("it is open");
    link.to_string_lossy().into_owned()
}

/// Returns true if some descriptor of this process has that target. A count of descriptors would be
/// unreliable, because other tests of the file run at the same time.
#[cfg(unix)]
pub(crate) fn is_open(name: &str) -> bool {
    let descriptors = fs::read_dir("/proc/self/fd").expect("there is a /proc");
    let names = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    names.into_iter().any(|link| link.to_string_lossy() == name)
}

/// The number and address of a socket. No two open sockets have the same.
#[cfg(windows)]
pub(crate) fn name_of(socket: &impl AsSocket) -> String {
    named(socket.as_socket()).expect("it is open")
}

/// Returns true if the descriptor still is the socket with that address.
#[cfg(windows)]
pub(crate) fn is_open(name: &str) -> bool {
    let number = name
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    // SAFETY: the descriptor is only passed to getsockname, which returns an error if it is closed.
    let socket = unsafe { BorrowedSocket::borrow_raw(number.expect("a name")) };
    named(socket).is_ok_and(|current| current == name)
}

#[cfg(windows)]
fn named(socket: BorrowedSocket<'_>) -> io::Result<String> {
    use std::os::windows::io::AsRawSocket;
    let addr = rustix::net::getsockname(socket)?;
    let peer = rustix::net::getpeername(socket).ok();
    Ok(format!("{} {addr:?} {peer:?}", socket.as_raw_socket()))
}

/// Returns the message of the panic that ends the closure.
#[track_caller]
pub(crate) fn panic_of<T>(code: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => text(&*payload).to_owned(),
    }
}

pub(crate) fn text(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&'static str>().copied();
    literal
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(not a text)")
}

#[track_caller]
pub(crate) fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

/// Calls a closure when it is dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A counter shared by tasks.
#[derive(Clone, Default)]
pub(crate) struct Count(Rc<Cell<usize>>);

impl Count {
    pub(crate) fn add(&self) {
        self.0.set(self.0.get() + 1);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }
}

/// Polls the future once per poll of the surrounding task, and counts the polls.
pub(crate) async fn counted<F: Future>(count: &Count, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        count.add();
        future.as_mut().poll(cx)
    })
    .await
}

/// Returns `Pending` once, without a wake, so that only another wake polls it again.
pub(crate) async fn once_pending() {
    let mut polled = false;
    poll_fn(|_| match std::mem::replace(&mut polled, true) {
        false => Poll::Pending,
        true => Poll::Ready(()),
    })
    .await
}
