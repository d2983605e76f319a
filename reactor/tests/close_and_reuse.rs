//! Reuse of a closed descriptor's number and slot, and events that arrive after the close.

mod common;

use std::cell::Cell;
#[cfg(unix)]
use std::cell::RefCell;
use std::io::{Read, Write};
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
#[cfg(unix)]
use std::time::Duration;

use common::*;
use windlass_reactor::{Async, Reactor};

fn pair() -> (Async<Socket>, Socket) {
    let (here, there) = socket_pair();
    (Async::new(here).unwrap(), there)
}

fn poll_read(io: &Async<Socket>, waker: &Waker) -> Poll<std::io::Result<usize>> {
    io.poll_read_with(&mut Context::from_waker(waker), |mut io| {
        io.read(&mut [0; 8])
    })
}

#[test]
#[cfg(unix)] // Windows doesn't give the lowest number that is free
fn event_of_a_closed_socket_is_ignored_after_fd_reuse() {
    // Runs in its own process, so that other tests cannot take the number.
    in_child("event_of_a_closed_socket_is_ignored_after_fd_reuse", || {
        let reactor = Reactor::current().unwrap();
        let (old, mut old_peer) = pair();
        let number = old.as_raw_fd();
        assert!(poll_read(&old, Waker::noop()).is_pending());
        settle(&reactor);
        old_peer.write_all(b"old").unwrap(); // the event is on its way
        drop(old);
        let (new, mut new_peer) = pair();
        assert_eq!(new.as_raw_fd(), number, "the number was not taken again");
        let (counter, waker) = Counter::new();
        assert!(poll_read(&new, &waker).is_pending());
        settle(&reactor);
        assert_eq!(counter.wakes(), 0);
        new_peer.write_all(b"new").unwrap();
        turn_until(&reactor, || counter.wakes() == 1);
        assert!(matches!(poll_read(&new, &waker), Poll::Ready(Ok(3))));
    });
}

/// Returns a different descriptor at the end, so that the first one cannot be removed from the
/// poller.
#[cfg(unix)]
struct Fickle {
    sockets: [Socket; 2],
    which: Rc<Cell<usize>>,
}

#[cfg(unix)]
impl AsFd for Fickle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sockets[self.which.get()].as_fd()
    }
}

#[test]
#[cfg(unix)] // it deregisters by the socket, and not by its number
fn event_with_an_old_generation_is_ignored() {
    let reactor = Reactor::current().unwrap();
    let ((first, mut peer), (second, _second_peer)) = (socket_pair(), socket_pair());
    let still_open = first.try_clone().unwrap();
    let which = Rc::new(Cell::new(0));
    let sockets = [first, second];
    let old = Async::new(Fickle {
        sockets,
        which: which.clone(),
    })
    .unwrap();
    settle(&reactor);
    which.set(1);
    drop(old);
    let (new, _new_peer) = pair();
    let (counter, waker) = Counter::new();
    assert!(poll_read(&new, &waker).is_pending());
    settle(&reactor);
    for _ in 0..5 {
        peer.write_all(b"old").unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(counter.wakes(), 0);
    drop(still_open);
}

#[test]
#[cfg(unix)] // Windows doesn't give the lowest number that is free
fn waker_can_replace_a_socket_within_a_batch() {
    // Runs in its own process, so that other tests cannot take the number.
    in_child("waker_can_replace_a_socket_within_a_batch", || {
        let reactor = Reactor::current().unwrap();
        let sockets: Vec<_> = (0..10).map(|_| pair()).collect();
        let (mut sockets, mut peers): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
        let waker = hooked();
        for socket in &sockets {
            assert!(poll_read(socket, &waker).is_pending());
        }
        settle(&reactor);
        let numbers: Vec<_> = sockets.iter().map(|it| it.as_raw_fd()).collect();
        sockets.reverse();
        let (old, new) = (
            Rc::new(RefCell::new(sockets)),
            Rc::new(RefCell::new(Vec::new())),
        );
        let (counter, fresh_waker) = Counter::new();
        let (closing, opening) = (old.clone(), new.clone());
        let inside = reactor.clone();
        hook(move |what| {
            if what == "wake" {
                for socket in closing.take() {
                    let number = socket.as_raw_fd();
                    drop(socket);
                    let (fresh, fresh_peer) = pair();
                    assert_eq!(fresh.as_raw_fd(), number);
                    assert!(poll_read(&fresh, &fresh_waker).is_pending());
                    opening.borrow_mut().push((fresh, fresh_peer));
                }
                inside.turn(Some(Duration::ZERO)).unwrap();
            }
        });
        for peer in &mut peers {
            peer.write_all(b"old").unwrap();
        }
        turn_until(&reactor, || old.borrow().is_empty());
        unhook();
        settle(&reactor);
        assert_eq!(
            counter.wakes(),
            0,
            "an old socket's event reached the new one"
        );
        let mut taken: Vec<_> = new.borrow().iter().map(|(it, _)| it.as_raw_fd()).collect();
        taken.sort();
        assert_eq!(taken, numbers);
        for (socket, peer) in new.borrow_mut().iter_mut() {
            peer.write_all(b"x").unwrap();
            let before = counter.wakes();
            turn_until(&reactor, || counter.wakes() > before);
            assert!(matches!(
                poll_read(socket, Waker::noop()),
                Poll::Ready(Ok(1))
            ));
        }
    });
}

#[test]
fn waker_can_close_another_socket_of_its_batch() {
    let reactor = Reactor::current().unwrap();
    let ((one, mut one_peer), (two, mut two_peer)) = (pair(), pair());
    let (counter, plain) = Counter::new();
    let waker = hooked();
    assert!(poll_read(&one, &waker).is_pending());
    assert!(poll_read(&two, &plain).is_pending());
    settle(&reactor);
    let victim = Rc::new(Cell::new(Some(two)));
    let inner = victim.clone();
    hook(move |what| {
        if what == "wake" {
            inner.take();
        }
    });
    one_peer.write_all(b"x").unwrap();
    two_peer.write_all(b"x").unwrap();
    turn_until(&reactor, || counter.wakes() == 1); // it was ready, whatever came of it
    unhook();
    assert!(victim.take().is_none());
}

#[test]
fn thousands_of_generations_of_a_slot_are_distinct() {
    // On Windows each pair occupies a port for minutes.
    let generations = if cfg!(windows) { 1_000 } else { 10_000 };
    let reactor = Reactor::current().unwrap();
    for _ in 0..generations {
        let (old, mut peer) = pair();
        assert!(poll_read(&old, Waker::noop()).is_pending());
        peer.write_all(b"x").unwrap();
        drop(old);
    }
    let (new, _peer) = pair();
    let (counter, waker) = Counter::new();
    assert!(poll_read(&new, &waker).is_pending());
    settle(&reactor);
    assert_eq!(counter.wakes(), 0);
}
