//! `task::Local`, a value of one thread that others may own.

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "hyper")]
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::io::{BufReader, Cursor};
use futures::{
    AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, Stream, StreamExt, stream,
};
use windlass::task::Local;
use windlass::time::sleep;
use windlass::{Runtime, block_on};

/// Reports the thread on which it is dropped.
struct OnDrop(mpsc::Sender<thread::ThreadId>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.send(thread::current().id()).unwrap();
    }
}

fn here() -> thread::ThreadId {
    thread::current().id()
}

fn elsewhere<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
fn a_value_dropped_elsewhere_is_dropped_on_its_thread() {
    let (sender, dropped) = mpsc::channel();
    let local = Local::new((OnDrop(sender), Rc::new(1)));
    let shared = local.1.clone();
    let runtime = Runtime::new().unwrap();
    elsewhere(move || drop(local));
    assert!(dropped.try_recv().is_err(), "its thread has not turned");
    runtime.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(dropped.try_recv(), Ok(here()));
    assert_eq!(Rc::strong_count(&shared), 1);
}

#[test]
fn the_loop_of_the_thread_wakes_up_for_the_drop() {
    let (sender, dropped) = mpsc::channel();
    let local = Local::new(OnDrop(sender));
    let thread = thread::spawn(move || drop(local));
    let runtime = Runtime::new().unwrap();
    while dropped.try_recv() != Ok(here()) {
        runtime.turn(Some(Duration::from_secs(10))).unwrap();
    }
    thread.join().unwrap();
}

#[test]
fn the_end_of_the_thread_drops_a_value_that_comes_back() {
    let (sender, dropped) = mpsc::channel();
    let home = thread::spawn(move || {
        let local = Local::new(OnDrop(sender));
        elsewhere(move || drop(local));
        here()
    });
    let home = home.join().unwrap();
    assert_eq!(dropped.try_recv(), Ok(home));
}

#[test]
fn a_value_of_a_thread_that_has_ended_is_leaked() {
    let (sender, dropped) = mpsc::channel();
    let local = thread::spawn(move || Local::new(OnDrop(sender)))
        .join()
        .unwrap();
    drop(local);
    assert_eq!(
        dropped.try_recv(),
        Err(mpsc::TryRecvError::Empty),
        "the sender is leaked"
    );
}

#[test]
fn a_panic_in_the_drop_ends_nothing_else() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let local = Local::new(Panics);
    let runtime = Runtime::new().unwrap();
    elsewhere(move || drop(local));
    runtime.turn(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_use_on_another_thread_panics_with_its_reason() {
    let mut local = Local::new(Cell::new(1));
    let text = elsewhere(|| {
        assert!(local.get().is_none() && local.get_mut().is_none() && !local.is_here());
        assert!(format!("{local:?}").starts_with("Local(of ThreadId("));
        let panic = catch_unwind(AssertUnwindSafe(|| local.set(2))).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    });
    assert!(
        text.starts_with("a `Local<core::cell::Cell<i32>>` was used on ThreadId("),
        "{text}"
    );
    assert!(text.contains("move it back"), "{text}");
    assert_eq!(local.get_mut().map(|it| it.get()), Some(1));
    let local = elsewhere(|| local.into_inner().unwrap_err());
    assert_eq!(local.into_inner().unwrap().get(), 1);
}

#[test]
fn a_future_and_a_stream_are_send() {
    fn is_send<T: Send + Sync>(value: T) -> T {
        value
    }
    block_on(async {
        let shared = Rc::new(RefCell::new(Vec::new()));
        let theirs = shared.clone();
        let future = async move {
            sleep(Duration::from_millis(1)).await;
            theirs.borrow_mut().push(1);
            theirs
        };
        let same = is_send(Local::new(Box::pin(future))).await;
        let ones = is_send(Local::new(stream::repeat(same).take(2)));
        assert_eq!(ones.size_hint(), (2, Some(2)));
        assert_eq!(ones.collect::<Vec<_>>().await, [shared.clone(), shared]);
    });
}

#[test]
fn the_io_traits_pass_through() {
    block_on(async {
        let mut local = Local::new(Cursor::new(Vec::new()));
        local.write_all(b"one\ntwo\n").await.unwrap();
        local.flush().await.unwrap();
        local.seek(io::SeekFrom::Start(1)).await.unwrap();
        let mut byte = [0];
        local.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"n");
        let mut lines = Local::new(BufReader::new(local));
        let mut line = String::new();
        lines.read_line(&mut line).await.unwrap();
        lines.read_line(&mut line).await.unwrap();
        assert_eq!(line, "e\ntwo\n");
        lines.close().await.unwrap();
    });
}

#[test]
fn a_poll_on_another_thread_panics() {
    let mut local = Local::new(stream::pending::<()>());
    elsewhere(move || {
        let mut poll = || {
            let polled: Poll<_> = local.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
            polled.is_pending()
        };
        assert!(catch_unwind(AssertUnwindSafe(&mut poll)).is_err());
    });
}

#[test]
fn a_value_without_a_destructor_needs_no_reactor() {
    let value = Arc::new(());
    let local = elsewhere(|| Local::new(&*Box::leak(Box::new(1))));
    drop(local);
    drop(value);
}

#[cfg(feature = "hyper")]
#[test]
fn hypers_traits_pass_through() {
    use hyper::rt::{Read, ReadBuf, Write};
    use windlass::hyper::Io;
    let mut io = Local::new(Io::new(Cursor::new(Vec::new())));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut io).poll_write(cx, b"ahoy").is_ready());
    assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
    assert!(io.is_write_vectored());
    let mut buffer = [0; 4];
    let mut buffer = ReadBuf::new(&mut buffer);
    assert!(
        Pin::new(&mut io)
            .poll_read(cx, buffer.unfilled())
            .is_ready()
    );
    assert!(Pin::new(&mut io).poll_shutdown(cx).is_ready());
}
