//! What the tests share.

// Each test file uses its own part of this.
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

/// Ends the process if it is not dropped within a minute: a lost wake shall be a failure, not a
/// hang.
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

/// `windlass::block_on`, guarded against hanging.
#[track_caller]
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let _watchdog = watchdog();
    windlass::block_on(future)
}

/// Two ends of a connection.
pub(crate) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let connect = TcpStream::connect(listener.local_addr()?);
    let (near, far) = futures::try_join!(connect, listener.accept())?;
    Ok((near, far.0))
}

/// What a descriptor stands for, such as `socket:[12345]`. No two sockets have the same name.
#[cfg(unix)]
pub(crate) fn name_of(descriptor: &impl AsFd) -> String {
    let number = descriptor.as_fd().as_raw_fd();
    let link = fs::read_link(format!("/proc/self/fd/{number}")).expect("it is open");
    link.to_string_lossy().into_owned()
}

/// True if some descriptor of this process stands for it. (To count descriptors would be wrong:
/// the other tests of the file run meanwhile.)
#[cfg(unix)]
pub(crate) fn is_open(name: &str) -> bool {
    let descriptors = fs::read_dir("/proc/self/fd").expect("there is a /proc");
    let names = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    names.into_iter().any(|link| link.to_string_lossy() == name)
}

/// A socket's number and address. No two of the sockets that are open have the same.
#[cfg(windows)]
pub(crate) fn name_of(socket: &impl AsSocket) -> String {
    named(socket.as_socket()).expect("it is open")
}

/// True if the socket of that number is still the one of that address.
#[cfg(windows)]
pub(crate) fn is_open(name: &str) -> bool {
    let number = name
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    // SAFETY: it's only asked for its name, which is an error if it's closed.
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

/// The text of the panic that the code ends with.
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

/// A number that tasks count up together.
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

/// Polls the future once in each poll of the task around it, and counts the polls.
pub(crate) async fn counted<F: Future>(count: &Count, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        count.add();
        future.as_mut().poll(cx)
    })
    .await
}

/// Pending for one poll of its task, without a wake: polled again only if something else wakes it.
pub(crate) async fn once_pending() {
    let mut polled = false;
    poll_fn(|_| match std::mem::replace(&mut polled, true) {
        false => Poll::Pending,
        true => Poll::Ready(()),
    })
    .await
}
