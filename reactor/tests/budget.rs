//! Without an executor, the reactor identifies tasks by their wakers and gives each a budget per
//! turn.
#![cfg(unix)]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures::AsyncRead;
use windlass_reactor::Reactor;
use windlass_reactor::net::unix;

struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// Reads byte by byte until a read is pending.
fn read_until_pending(stream: &unix::UnixStream, waker: &Waker) -> usize {
    let mut cx = Context::from_waker(waker);
    let mut count = 0;
    while Pin::new(&mut &*stream)
        .poll_read(&mut cx, &mut [0])
        .is_ready()
    {
        count += 1;
    }
    count
}

#[test]
fn streams_read_in_order_by_one_task_all_progress() {
    let streams = [(); 4].map(|()| {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(&[7; 4096]).unwrap();
        (unix::UnixStream::try_from(ours).unwrap(), peer)
    });
    let reactor = Reactor::current().unwrap();
    let task = Waker::from(Arc::new(Task));
    let mut reads = [0; 4];
    for _ in 0..20 {
        for (count, (stream, _)) in reads.iter_mut().zip(&streams) {
            *count += read_until_pending(stream, &task);
        }
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(reads.iter().all(|&count| count >= 32), "{reads:?}");
}

#[test]
fn each_task_has_a_budget_per_turn() {
    let reactor = Reactor::current().unwrap();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    peer.write_all(&[7; 4096]).unwrap();
    let stream = unix::UnixStream::try_from(ours).unwrap();
    let tasks = [(); 2].map(|()| Waker::from(Arc::new(Task)));
    for _ in 0..3 {
        let first = read_until_pending(&stream, &tasks[0]);
        assert!((32..=64).contains(&first), "{first}");
        assert_eq!(read_until_pending(&stream, &tasks[0]), 0);
        let second = read_until_pending(&stream, &tasks[1]);
        assert!((32..=64).contains(&second), "{second}");
        // Three polls exceeded their budget and wait for the next turn.
        assert_eq!(reactor.turn(Some(Duration::ZERO)).unwrap().woken, 3);
    }
}
