//! The memory that waiting tasks take, counted by an allocator.

mod common;
#[path = "../../executor/tests/common/counting.rs"]
mod counting;

use std::io::Write;
use std::time::Duration;

use common::*;
use counting::{LEFT, count};
use windlass_reactor::{Async, Reactor};

#[test]
fn a_few_waiters_take_no_index() {
    let _reactor = Reactor::current().unwrap();
    let (io, _peer) = socket_pair();
    let io = Async::new(io).unwrap();
    let mut waits: Vec<_> = (0..16).map(|_| (io.readable(), Counter::new())).collect();
    let (allocations, bytes, ()) = count(|| {
        for (readable, (_, waker)) in &mut waits {
            assert!(poll(readable, waker).is_pending());
        }
    });
    // The lists of each interest, and one that grows by doubling.
    assert!(allocations <= 4, "{allocations} allocations");
    assert!(bytes < 1024, "{bytes} bytes");
}

#[test]
fn a_crowd_of_waiters_that_leaves_frees_its_memory() {
    let _reactor = Reactor::current().unwrap();
    let (io, _peer) = socket_pair();
    let io = Async::new(io).unwrap();
    let (_, bytes, _waits) = count(|| {
        let mut waits: Vec<_> = (0..10_000).map(|_| Box::pin(io.readable())).collect();
        for readable in &mut waits {
            assert!(poll(readable, &Counter::new().1).is_pending());
        }
        waits.truncate(20);
        waits.shrink_to_fit();
        waits
    });
    assert!(bytes < LEFT, "{bytes} bytes for 20 waiters");
}

#[test]
fn the_lists_of_a_turn_shrink_after_a_burst() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = socket_pair();
    let io = Async::new(io).unwrap();
    let (_, bytes, woken) = count(|| {
        let mut waits: Vec<_> = (0..10_000).map(|_| Box::pin(io.readable())).collect();
        for readable in &mut waits {
            assert!(poll(readable, &Counter::new().1).is_pending());
        }
        peer.write_all(b"x").unwrap();
        let turned = reactor.turn(None).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        turned.woken
    });
    assert_eq!(woken, 10_000);
    assert!(bytes < 2 * LEFT, "{bytes} bytes in an idle reactor");
}
