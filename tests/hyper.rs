//! Behaviour of the adapters for hyper that the docs promise and the examples don't show.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::poll_fn;
use futures::io::{AsyncRead, Cursor};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use hyper::rt::{Read, ReadBuf, Sleep, Timer as _};
use windlass::block_on;
use windlass::hyper::{Io, Timer};

const HOUR: Duration = Duration::from_secs(3600);

fn poll(sleep: &mut Pin<Box<dyn Sleep>>) -> Poll<()> {
    sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_sleep_can_be_dropped_on_another_thread() {
    block_on(async {
        let mut sleep = Timer.sleep(HOUR);
        assert!(poll(&mut sleep).is_pending());
        thread::spawn(move || drop(sleep)).join().unwrap();
    });
}

#[test]
fn a_sleep_polled_on_another_thread_restarts_there() {
    let mut sleep = Timer.sleep(Duration::from_millis(1));
    block_on(async { assert!(poll(&mut sleep).is_pending()) });
    let slept = thread::spawn(|| block_on(sleep)).join();
    assert!(slept.is_ok());
}

#[test]
fn a_sleep_polled_without_a_reactor_panics() {
    let mut sleep = Timer.sleep(HOUR);
    block_on(async { assert!(poll(&mut sleep).is_pending()) });
    let panic = thread::spawn(move || poll(&mut sleep)).join().unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("can't sleep: "), "{message}");
}

#[test]
fn a_reset_sleep_has_its_new_deadline() {
    block_on(async {
        let mut sleep = Timer.sleep(HOUR);
        assert!(poll(&mut sleep).is_pending());
        let place = std::ptr::from_ref(&*sleep).addr();
        Timer.reset(&mut sleep, Instant::now());
        assert_eq!(
            std::ptr::from_ref(&*sleep).addr(),
            place,
            "the sleep is reused"
        );
        sleep.await;
    });
}

#[test]
fn resetting_a_sleep_wakes_its_task() {
    block_on(async {
        let sleep = RefCell::new(Timer.sleep(HOUR));
        let waits = poll_fn(|cx| sleep.borrow_mut().as_mut().poll(cx));
        // The waiting task has its own waker, so no other event polls it.
        let mut waits = FuturesUnordered::from_iter([waits]);
        let mut wait = waits.next();
        assert!(poll_fn(|cx| Poll::Ready(wait.poll_unpin(cx).is_pending())).await);
        Timer.reset(&mut sleep.borrow_mut(), Instant::now());
        let patience = windlass::time::timeout(Duration::from_secs(30), wait);
        assert!(patience.await.is_ok(), "timeout");
    });
}

/// Reads from another stream first, and returns its bytes in capitals.
struct Shout<T>(Io<T>);

impl<T: AsyncRead + Unpin> AsyncRead for Shout<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut own = [0; 8];
        let mut own = ReadBuf::new(&mut own);
        buf.fill(b'?');
        let read = Pin::new(&mut self.0).poll_read(cx, own.unfilled())?;
        let text = own.filled().to_ascii_uppercase();
        buf[..text.len()].copy_from_slice(&text);
        read.map(|()| Ok(text.len()))
    }
}

#[test]
fn a_stream_can_read_from_another_stream_in_its_read() {
    let mut outer = Io::new(Shout(Io::new(Cursor::new(b"ahoy, crew"))));
    let mut bytes = [0; 100];
    let mut buf = ReadBuf::new(&mut bytes);
    block_on(poll_fn(|cx| {
        Pin::new(&mut outer).poll_read(cx, buf.unfilled())
    }))
    .unwrap();
    assert_eq!(buf.filled(), b"AHOY, CR");
    block_on(poll_fn(|cx| {
        Pin::new(&mut outer).poll_read(cx, buf.unfilled())
    }))
    .unwrap();
    assert_eq!(buf.filled(), b"AHOY, CREW");
}

#[test]
fn a_read_is_limited_to_the_space_of_the_buffer() {
    let mut io = Io::new(Cursor::new(vec![7; 1_000_000]));
    let mut bytes = vec![0; 300_000];
    let mut buf = ReadBuf::new(&mut bytes);
    while buf.filled().len() < 300_000 {
        block_on(poll_fn(|cx| {
            Pin::new(&mut io).poll_read(cx, buf.unfilled())
        }))
        .unwrap();
    }
    assert_eq!(io.into_inner().position(), 300_000);
}
