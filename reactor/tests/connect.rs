//! Connecting to one of several addresses, some of which never answer. The order and the times of
//! the attempts are tested in `net/race.rs`, with simulated addresses and a simulated clock.

// Needs a full accept queue that leaves new connections pending. Windows refuses them.
#![cfg(unix)]

mod common;

use std::net::{self, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};

use common::{descriptors, in_child, run};
use futures::future::{Either, join_all, select};
use futures::{FutureExt, StreamExt, poll};
use windlass_reactor::net::{TcpListener, TcpStream};
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Reactor, block_on};

/// An address that never answers. Its short accept queue is full, so further connections stay
/// pending.
struct Silent {
    listener: net::TcpListener,
    _queue: Pin<Box<dyn Future<Output = ()>>>,
}

impl Silent {
    async fn bind(addr: &str) -> Silent {
        let listener = net::TcpListener::bind(addr).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let addr = listener.local_addr().unwrap();
        let queue = join_all((0..10).map(|_| TcpStream::connect(addr)));
        let mut _queue = Box::pin(queue.map(drop));
        assert!(timeout(Duration::ZERO, &mut _queue).await.is_err());
        Silent { listener, _queue }
    }

    fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

fn closed() -> SocketAddr {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Polls until the process has `count` descriptors.
async fn until_descriptors(count: usize, future: &mut (impl Future + Unpin)) {
    while descriptors() != count {
        assert!(poll!(&mut *future).is_pending());
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn unanswered_attempt_is_closed_when_another_wins() {
    let name = "unanswered_attempt_is_closed_when_another_wins";
    in_child(name, || {
        run(async {
            let silent = Silent::bind("127.0.0.1:0").await;
            let open = net::TcpListener::bind("127.0.0.1:0").unwrap();
            let addrs = [silent.addr(), open.local_addr().unwrap()];
            let before = descriptors();
            let stream = TcpStream::connect(&addrs[..]).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), addrs[1]);
            assert_eq!(descriptors(), before + 1);
        });
    });
}

#[test]
fn dead_address_family_delays_by_one_attempt() {
    if net::TcpListener::bind("[::1]:0").is_err() {
        return; // a machine without IPv6
    }
    run(async {
        let silent = Silent::bind("[::1]:0").await;
        let open = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut addrs = vec![silent.addr(); 1000]; // minutes, one after the other
        addrs.push(open.local_addr().unwrap());
        let stream = TcpStream::connect(&addrs[..]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addrs[1000]);
    });
}

#[test]
fn late_answer_still_wins() {
    in_child("late_answer_still_wins", || {
        run(async {
            let silent = [
                Silent::bind("127.0.0.1:0").await,
                Silent::bind("127.0.0.1:0").await,
            ];
            let addrs = [silent[0].addr(), silent[1].addr()];
            let before = descriptors();
            let mut connect = Box::pin(TcpStream::connect(&addrs[..]));
            until_descriptors(before + 2, &mut connect).await;

            let [late, _silent] = silent;
            late.listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::try_from(late.listener).unwrap();
            let accepting = Box::pin(listener.incoming().for_each(|_| async {}));
            match select(connect, accepting).await {
                Either::Left((stream, _)) => {
                    assert_eq!(stream.unwrap().peer_addr().unwrap(), addrs[0]);
                }
                Either::Right(..) => panic!("a listener never ends"),
            }
        });
    });
}

#[test]
fn dropped_connect_leaves_no_sockets_and_no_timer() {
    in_child("dropped_connect_leaves_no_sockets_and_no_timer", || {
        let reactor = Reactor::current().unwrap();
        block_on(async {
            let silent = Silent::bind("127.0.0.1:0").await;
            let before = descriptors();
            for attempts in 1..=2 {
                let addrs = [silent.addr(); 3];
                let mut connect = Box::pin(TcpStream::connect(&addrs[..]));
                until_descriptors(before + attempts, &mut connect).await;
                assert!(reactor.next_deadline().is_some());
                drop(connect);
                assert_eq!(descriptors(), before);
                assert_eq!(reactor.next_deadline(), None);
            }
        });
    });
}

#[test]
fn only_connects_with_several_addresses_use_a_timer() {
    let reactor = Reactor::current().unwrap();
    block_on(async {
        let silent = Silent::bind("127.0.0.1:0").await;
        let mut connect = Box::pin(TcpStream::connect(silent.addr()));
        assert!(poll!(&mut connect).is_pending());
        assert_eq!(reactor.next_deadline(), None);

        let (addrs, delay) = ([silent.addr(); 2], Duration::from_millis(250));
        let earliest = Instant::now() + delay;
        let mut connect = Box::pin(TcpStream::connect(&addrs[..]));
        assert!(poll!(&mut connect).is_pending());
        let deadline = reactor.next_deadline().unwrap();
        assert!((earliest..=Instant::now() + delay).contains(&deadline));
    });
}

#[test]
fn error_names_each_unreachable_address() {
    run(async {
        let addrs = [closed(), "255.255.255.255:9".parse().unwrap(), closed()];
        let error = TcpStream::connect(&addrs[..])
            .await
            .unwrap_err()
            .to_string();
        for addr in addrs {
            assert!(
                error.contains(&addr.to_string()),
                "{addr} is not in {error}"
            );
        }
        assert_eq!(error.matches("can't connect to").count(), 1, "{error}");
    });
}
