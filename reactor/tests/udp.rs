//! UDP over loopback.

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use common::*;
use futures::join;
#[cfg(all(target_os = "linux", not(windlass_portable)))]
use windlass_reactor::Reactor;
use windlass_reactor::net::UdpSocket;
use windlass_reactor::time::sleep;

async fn pair() -> (UdpSocket, UdpSocket) {
    let (a, b) = (
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    );
    (a, b)
}

#[test]
fn datagrams_are_sent_and_answered() {
    run(async {
        let (a, b) = pair().await;
        let (mut here, mut there) = ([0; 16], [0; 16]);
        let (asked, answered) = join!(
            async {
                sleep(Duration::ZERO).await;
                a.send_to(b"ahoy", b.local_addr().unwrap()).await.unwrap();
                a.recv_from(&mut here).await.unwrap()
            },
            async {
                let (n, sender) = b.recv_from(&mut there).await.unwrap();
                b.send_to(&there[..n], sender).await.unwrap()
            }
        );
        assert_eq!((asked, answered), ((4, b.local_addr().unwrap()), 4));
        assert_eq!(&here[..4], b"ahoy");
    });
}

/// Only on Linux, because other pollers may report the event.
#[cfg(all(target_os = "linux", not(windlass_portable)))]
#[test]
fn sent_datagram_wakes_no_waiting_reader() {
    let reactor = Reactor::current().unwrap();
    let (a, b) = run(pair());
    let (_, waker) = Counter::new();
    assert!(poll(&mut a.readable(), &waker).is_pending());
    settle(&reactor);
    a.try_send_to(b"ahoy", b.local_addr().unwrap()).unwrap();
    // The kernel has freed the datagram, so there is more room to send than before.
    assert_eq!(b.try_recv(&mut [0; 16]).unwrap(), 4);
    assert!(!descriptor_is_ready(&reactor, false));
}

#[test]
fn connected_socket_receives_from_its_peer_only() {
    run(async {
        let (a, b) = pair().await;
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = b.local_addr().unwrap();
        b.connect(a.local_addr().unwrap()).await.unwrap();
        assert_eq!(b.peer_addr().unwrap(), a.local_addr().unwrap());
        stranger.send_to(b"psst", addr).await.unwrap();
        a.send_to(b"ahoy", addr).await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(b.recv(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"ahoy");
        assert_eq!(b.send(b"x").await.unwrap(), 1);
        assert_eq!(a.recv(&mut buffer).await.unwrap(), 1);
    });
}

#[test]
fn queued_datagrams_are_received_even_if_empty() {
    run(async {
        let (a, b) = pair().await;
        let addr = b.local_addr().unwrap();
        let mut buffer = [0; 64];
        assert_eq!(
            b.try_recv(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let (first, ()) = join!(b.recv(&mut buffer), async {
            sleep(Duration::ZERO).await;
            for text in ["one", "", "three", "x"] {
                a.send_to(text.as_bytes(), addr).await.unwrap();
            }
        });
        assert_eq!(first.unwrap(), 3);
        for len in [0, 5, 1] {
            assert_eq!(b.recv(&mut buffer).await.unwrap(), len);
        }
        assert_eq!(
            b.try_recv_from(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    });
}

#[test]
fn peek_leaves_the_datagram() {
    run(async {
        let (a, b) = pair().await;
        let mut buffer = [0; 16];
        a.send_to(b"ahoy", b.local_addr().unwrap()).await.unwrap();
        let peeked = b.peek_from(&mut buffer).await.unwrap();
        assert_eq!(peeked, b.recv_from(&mut buffer).await.unwrap());
    });
}

#[test]
fn try_methods_do_not_wait() {
    run(async {
        let (a, b) = pair().await;
        let addr = b.local_addr().unwrap();
        let mut buffer = [0; 16];
        assert_eq!(a.try_send_to(b"ahoy", addr).unwrap(), 4);
        b.readable().await.unwrap();
        assert_eq!(
            b.try_recv_from(&mut buffer).unwrap(),
            (4, a.local_addr().unwrap())
        );
        a.connect(addr).await.unwrap();
        a.writable().await.unwrap();
        assert_eq!(a.try_send(b"x").unwrap(), 1);
        b.readable().await.unwrap();
        assert_eq!(b.try_recv(&mut buffer).unwrap(), 1);
    });
}

#[test]
fn long_datagram_is_truncated() {
    run(async {
        let (a, b) = pair().await;
        a.send_to(b"ahoy there", b.local_addr().unwrap())
            .await
            .unwrap();
        a.send_to(b"x", b.local_addr().unwrap()).await.unwrap();
        let mut buffer = [0; 4];
        let cut = b.recv(&mut buffer).await;
        // On Windows a truncated datagram is an error, and the rest of it is discarded too.
        assert_eq!(cut.ok(), (!cfg!(windows)).then_some(4));
        assert_eq!(&buffer, b"ahoy");
        assert_eq!(b.recv(&mut buffer).await.unwrap(), 1);
    });
}

#[test]
fn clones_share_the_socket() {
    run(async {
        let (a, b) = pair().await;
        let (sender, receiver) = (b.clone(), b.clone());
        b.send_to(b"x", b.local_addr().unwrap()).await.unwrap();
        let mut buffer = [0; 4];
        receiver.recv(&mut buffer).await.unwrap();
        sender.send_to(b"y", a.local_addr().unwrap()).await.unwrap();
        assert_eq!(
            a.recv_from(&mut buffer).await.unwrap().1,
            b.local_addr().unwrap()
        );
        assert!(b.into_std().is_err());
        drop(receiver);
        let inner = sender.into_std().unwrap();
        thread::spawn(move || run(async { UdpSocket::try_from(inner).unwrap().local_addr() }))
            .join()
            .unwrap()
            .unwrap();
    });
}

#[test]
#[cfg_attr(
    windows,
    ignore = "wine 8 tells of it by `SO_ERROR` alone, std's sockets as well"
)]
fn a_refused_datagram_is_an_error_of_a_later_call() {
    run(async {
        let (a, b) = pair().await;
        a.connect(b.local_addr().unwrap()).await.unwrap();
        drop(b);
        a.send(b"x").await.unwrap();
        let error = a.recv(&mut [0; 4]).await.unwrap_err();
        let kind = match cfg!(windows) {
            true => ErrorKind::ConnectionReset,
            false => ErrorKind::ConnectionRefused,
        };
        assert_eq!(error.kind(), kind);
    });
}

#[test]
fn socket_options_are_set_and_returned() {
    run(async {
        let (a, _) = pair().await;
        for on in [true, false] {
            a.set_broadcast(on).unwrap();
            assert_eq!(a.broadcast().unwrap(), on);
        }
        a.set_ttl(7).unwrap();
        assert_eq!(a.ttl().unwrap(), 7);
        assert!(a.take_error().unwrap().is_none());
        assert!(format!("{a:?}").contains("UdpSocket"));
    });
}

#[test]
fn multicast_groups_are_joined_and_left_once() {
    run(async {
        let (a, _) = pair().await;
        let (group, here) = (Ipv4Addr::new(239, 1, 2, 3), Ipv4Addr::LOCALHOST);
        a.join_multicast_v4(group, here).unwrap();
        a.leave_multicast_v4(group, here).unwrap();
        assert!(a.leave_multicast_v4(group, here).is_err());
        let Ok(six) = UdpSocket::bind("[::1]:0").await else {
            return;
        };
        let group = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x77);
        if six.join_multicast_v6(group, 1).is_ok() {
            six.leave_multicast_v6(group, 1).unwrap();
        }
        assert!(six.leave_multicast_v6(group, 1).is_err());
    });
}

#[test]
fn errors_name_the_address() {
    run(async {
        let (a, b) = pair().await;
        let addr = b.local_addr().unwrap();
        let error = UdpSocket::bind(addr).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
        // The system refuses broadcasts until `set_broadcast` allows them.
        let error = a.send_to(b"x", "255.255.255.255:9").await.unwrap_err();
        assert!(error.to_string().contains("255.255.255.255:9"), "{error}");
        let error = a.connect("ahoy").await.unwrap_err();
        assert!(error.to_string().contains("ahoy"), "{error}");
    });
}
