//! The tests of the exercises of chapter 7.

use std::net::UdpSocket;
use std::sync::{Arc, mpsc};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use windlass_book::ch07::{program::Reactor, server::Source};

use super::{Parker, Waiters, answer};

struct Named;

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        panic!("the waiters call no waker");
    }
}

#[test]
fn exercise_1_an_event_takes_its_own_wakers() {
    let [reader, writer] = [(); 2].map(|()| Waker::from(Arc::new(Named)));
    let mut waiters = Waiters::default();
    assert!(waiters.take(true, true).is_empty());
    waiters.reader = Some(reader.clone());
    waiters.writer = Some(writer.clone());
    assert!(waiters.take(false, false).is_empty());
    let taken = waiters.take(false, true);
    assert!(taken.len() == 1 && taken[0].will_wake(&writer));
    assert!(waiters.take(false, true).is_empty(), "it waits no more");
    let taken = waiters.take(true, true);
    assert!(taken.len() == 1 && taken[0].will_wake(&reader));
    waiters.writer = Some(writer);
    assert!(waiters.take(true, false).is_empty());
    assert!(waiters.writer.is_some(), "it still waits");
}

#[test]
fn exercise_2_no_token_is_lost() {
    let parkers = Arc::new([Parker::default(), Parker::default()]);
    // A token that comes first is kept.
    parkers[0].unpark();
    parkers[0].park();
    let (ended, end) = mpsc::channel();
    for side in 0..2 {
        let (parkers, ended) = (parkers.clone(), ended.clone());
        thread::spawn(move || {
            // The token goes to and fro.
            for _ in 0..20_000 {
                if side == 0 {
                    parkers[1].unpark();
                }
                parkers[side].park();
                if side == 1 {
                    parkers[0].unpark();
                }
            }
            ended.send(()).ok();
        });
    }
    for _ in 0..2 {
        let result = end.recv_timeout(Duration::from_secs(60));
        assert_eq!(result, Ok(()), "a thread was parked forever");
    }
}

#[test]
fn exercise_3_packets_are_added_up() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let client = thread::spawn(move || {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        let limit = Some(Duration::from_secs(10));
        client.set_read_timeout(limit).unwrap();
        let mut replies = Vec::new();
        for number in ["5", "2", "-10"] {
            client.send(number.as_bytes()).unwrap();
            let mut reply = [0; 64];
            let length = client.recv(&mut reply).unwrap();
            replies.push(String::from_utf8_lossy(&reply[..length]).into_owned());
        }
        replies
    });
    let reactor = Reactor::new().unwrap();
    let source = Source::new(&reactor, socket).unwrap();
    reactor.block_on(answer(&source, 3)).unwrap().unwrap();
    assert_eq!(client.join().unwrap(), ["5", "7", "-3"]);
}
