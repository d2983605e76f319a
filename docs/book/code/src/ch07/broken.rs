//! The bug is that the loop checks for wakes before it notes that it waits.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use polling::Events;

use super::program::Reactor;
use crate::ch05::program::line;

const LIMIT: Option<Duration> = Some(Duration::from_millis(500));

// ANCHOR: turn
fn turn(reactor: &Reactor, gap: impl FnOnce()) -> io::Result<()> {
    let is_woken = reactor.park.is_woken.load(SeqCst);
    gap();
    reactor.park.is_parked.store(true, SeqCst);
    let limit = if is_woken {
        Some(Duration::ZERO)
    } else {
        LIMIT
    };
    reactor.park.poller.wait(&mut Events::new(), limit)?;
    reactor.park.is_parked.store(false, SeqCst);
    Ok(())
}
// ANCHOR_END: turn

/// The order of the chapter, with the same gap between the check and the wait.
fn mended(reactor: &Reactor, gap: impl FnOnce()) -> io::Result<()> {
    reactor.park.is_parked.store(true, SeqCst);
    let is_woken = reactor.park.is_woken.load(SeqCst);
    gap();
    let limit = if is_woken {
        Some(Duration::ZERO)
    } else {
        LIMIT
    };
    reactor.park.poller.wait(&mut Events::new(), limit)?;
    reactor.park.is_parked.store(false, SeqCst);
    Ok(())
}

/// Waits for a line that another thread sends in the gap. Returns the line, and the time after
/// which it was seen.
fn receive(is_mended: bool) -> io::Result<(String, Duration)> {
    let reactor = Reactor::new()?;
    let (sender, line) = line();
    let (request, requested) = mpsc::channel::<()>();
    let (report, sent) = mpsc::channel();
    let sending = thread::spawn(move || {
        requested.recv().ok();
        sender.send("5".to_owned());
        report.send(Instant::now()).ok();
    });
    let mut line = pin!(line);
    let waker = Waker::from(reactor.park.clone());
    let mut context = Context::from_waker(&waker);
    assert!(line.as_mut().poll(&mut context).is_pending());
    let mut at = Instant::now();
    // The loop waits in the gap until the line was sent, so that the race is lost each time.
    let gap = || {
        request.send(()).ok();
        at = sent.recv().unwrap_or(at);
    };
    if is_mended {
        mended(&reactor, gap)?;
    } else {
        turn(&reactor, gap)?;
    }
    let Poll::Ready(line) = line.poll(&mut context) else {
        return Err(io::Error::other("the line was not sent"));
    };
    let late = at.elapsed();
    sending.join().expect("the sender does not panic");
    Ok((line, late))
}

/// Loses a wake, and then keeps it.
pub fn run() -> io::Result<()> {
    for (name, is_mended) in [("check, then note", false), ("note, then check", true)] {
        let (line, late) = receive(is_mended)?;
        let late = late.as_secs_f64() * 1e3;
        println!("{name}: the task sees {line} after {late:.2} ms");
    }
    Ok(())
}
