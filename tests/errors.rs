//! Errors and panics state what to do.

mod common;

use std::error::Error;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use common::{assert_contains, pair, panic_of, run, text};
use futures::AsyncReadExt;
use futures::executor::block_on as foreign_block_on;
use windlass::net::{TcpListener, TcpStream};
use windlass::time::{interval, sleep, timeout};
use windlass::{Async, Runtime, spawn};

#[test]
fn spawn_outside_of_a_runtime_names_the_ways_to_spawn() {
    let text = panic_of(|| spawn(async {}).detach());
    assert_contains(&text, "`spawn` was called outside of a windlass runtime");
    assert_contains(&text, "windlass::block_on");
    assert_contains(&text, "Runtime::spawn");
}

#[test]
fn timers_without_a_reactor_name_the_calls_that_help() {
    for text in [
        panic_of(|| foreign_block_on(sleep(Duration::ZERO))),
        panic_of(|| foreign_block_on(timeout(Duration::from_secs(1), pending::<()>()))),
        panic_of(|| foreign_block_on(async { interval(Duration::from_secs(1)).tick().await })),
    ] {
        assert_contains(&text, "no reactor turns on this thread");
        assert_contains(&text, "windlass::block_on");
    }
}

#[test]
fn a_timer_moved_to_a_thread_needs_a_reactor_there() {
    let mut started = sleep(Duration::from_millis(1));
    run(async { assert!(futures::poll!(&mut started).is_pending()) });
    let thread = thread::spawn(move || {
        let text = panic_of(|| foreign_block_on(&mut started));
        assert_contains(&text, "no reactor turns on this thread");
        run(started);
    });
    thread.join().unwrap();
}

#[test]
fn sockets_without_a_reactor_name_the_calls_that_help() -> io::Result<()> {
    let (listener, (mut near, _far)) = run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        io::Result::Ok((listener, pair().await?))
    })?;
    let bare = Async::new(std::net::TcpListener::bind("127.0.0.1:0")?)?;
    for error in [
        foreign_block_on(listener.accept()).unwrap_err(),
        foreign_block_on(near.read(&mut [0])).unwrap_err(),
        foreign_block_on(near.readable()).unwrap_err(),
        foreign_block_on(bare.read_with(|_| Err::<(), _>(ErrorKind::WouldBlock.into())))
            .unwrap_err(),
    ] {
        assert_contains(&error.to_string(), "no reactor turns on this thread");
        assert_contains(&error.to_string(), "windlass::block_on");
    }
    Ok(())
}

#[test]
fn block_on_inside_a_task_suggests_await() -> io::Result<()> {
    let runtime = std::rc::Rc::new(Runtime::new()?);
    let same = runtime.clone();
    let spawned = runtime.clone();
    runtime.block_on(async {
        let texts = [
            panic_of(|| same.block_on(async {})),
            panic_of(|| windlass::block_on(async {})),
            panic_of(|| windlass_executor::block_on(async {})),
            spawn(async move { panic_of(|| spawned.block_on(async {})) }).await,
            spawn(async { panic_of(|| windlass::block_on(async {})) }).await,
        ];
        for text in texts {
            assert_contains(&text, "inside a task");
            assert_contains(&text, "`.await`");
        }
        // An explicit second runtime is allowed.
        assert_eq!(Runtime::new()?.block_on(async { 7 }), 7);
        Ok(())
    })
}

#[test]
fn a_panic_of_a_task_propagates_or_is_caught() {
    run(async {
        let panic = spawn(async { panic!("{} ropes", 3) })
            .catch()
            .await
            .unwrap_err();
        assert_eq!(panic.message(), Some("3 ropes"));
        let text = panic.to_string();
        assert!(text.starts_with("a task spawned at tests/errors.rs:"));
        assert!(text.ends_with(" panicked: 3 ropes"));
    });
    assert_eq!(
        panic_of(|| run(async { spawn(async { panic!("no rope") }).await })),
        "no rope"
    );
    let payload = run(async {
        let task = spawn(async { std::panic::panic_any(7_u8) });
        task.catch().await.unwrap_err().into_inner()
    });
    assert_eq!(payload.downcast_ref(), Some(&7_u8));
    assert_eq!(text(&*payload), "(not a text)");
}

#[test]
fn a_refused_connection_names_the_address() -> io::Result<()> {
    let addr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?; // closed again
    let error = run(TcpStream::connect(addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_contains(&error.to_string(), &addr.to_string());
    Ok(())
}

#[test]
fn an_unreachable_address_is_named() {
    let addr = "255.255.255.255:9"; // a route to the broadcast address is not permitted
    let error = run(TcpStream::connect(addr)).unwrap_err();
    assert_contains(&error.to_string(), addr);
}

#[test]
fn a_port_that_is_in_use_is_named() -> io::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let addr = taken.local_addr()?;
    let error = run(TcpListener::bind(addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_contains(&error.to_string(), &addr.to_string());
    Ok(())
}

#[test]
fn an_invalid_address_is_quoted_in_the_error() {
    for nonsense in ["nonsense", "127.0.0.1", "127.0.0.1:70000", ":", ""] {
        let error = run(TcpListener::bind(nonsense)).unwrap_err();
        assert_contains(&error.to_string(), nonsense);
        let error = run(TcpStream::connect(nonsense)).unwrap_err();
        assert_contains(&error.to_string(), nonsense);
    }
}

#[test]
fn an_elapsed_timeout_converts_to_an_io_error() {
    let limited = async {
        timeout(Duration::ZERO, pending::<()>()).await?;
        io::Result::Ok(())
    };
    let error = run(limited).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "the time limit was up");
    assert!(error.source().is_none());
}

#[test]
fn a_cloned_stream_cannot_be_converted_to_std() -> io::Result<()> {
    let (near, _far) = run(pair())?;
    let clone = near.clone();
    assert_contains(&near.into_std().unwrap_err().to_string(), "clones");
    clone.into_std().map(drop)
}
