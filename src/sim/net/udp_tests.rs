//! Scripts of UDP sockets. The results were compared with Linux 6.18.

use std::io::IoSliceMut;
use std::net::Shutdown;

use rustix::io::Errno;

use super::tests::*;
use super::*;

#[test]
fn fresh_socket_has_no_peer() {
    let mut script = Script::new();
    let socket = script.udp(script.a);
    assert_eq!(script.flags(socket), "w");
    assert_eq!(errno(script.send(socket, b"x")), Errno::DESTADDRREQ);
    assert_eq!(errno(script.receive(socket, 1)), Errno::AGAIN);
    assert_eq!(errno(script.net.peer_addr(socket)), Errno::NOTCONN);
    assert_eq!(errno(script.net.listen(socket, 1)), Errno::OPNOTSUPP);
    assert_eq!(errno(script.net.accept(socket)), Errno::OPNOTSUPP);
    assert_eq!(
        errno(script.send_to(socket, b"x", &inet("10.0.0.2:0"))),
        Errno::INVAL
    );
    assert_eq!(
        errno(script.send_to(socket, b"x", &inet("8.8.8.8:1"))),
        Errno::NETUNREACH
    );
    assert_eq!(
        errno(script.send_to(socket, b"x", &path("/x"))),
        Errno::INVAL
    );
    // No host has this address, so the datagram is lost.
    assert_eq!(
        script.send_to(socket, b"x", &inet("10.0.0.9:1")).unwrap(),
        1
    );
    assert_eq!(
        errno(script.net.shutdown(socket, Shutdown::Write)),
        Errno::NOTCONN
    );
    assert_eq!(errno(script.send_to(socket, b"x", &inet(B))), Errno::PIPE);
}

#[test]
fn datagrams_arrive_with_their_sender() {
    let mut script = Script::new();
    let (sender, receiver) = (script.udp(script.a), script.bound(script.b, "0.0.0.0:7000"));
    script.send_to(sender, b"one", &inet(B)).unwrap();
    script.send_to(sender, b"", &inet(B)).unwrap();
    assert_eq!(script.flags(receiver), "w");
    script.run(MILLISECOND);
    assert_eq!(script.flags(receiver), "rw");
    let mut buf = [0; 2];
    for (peek, n, is_truncated) in [(true, 2, true), (false, 2, true), (false, 0, false)] {
        let bufs = &mut [IoSliceMut::new(&mut buf)];
        let received = script.net.receive(receiver, bufs, peek).unwrap();
        let port = match script.net.local_addr(sender).unwrap() {
            Address::Inet(addr) => addr.port(),
            Address::Unix(_) => unreachable!("the socket is one of UDP"),
        };
        let from = inet(&format!("10.0.0.1:{port}"));
        assert_eq!(received, (n, Some(from), is_truncated));
    }
    assert_eq!(errno(script.receive(receiver, 1)), Errno::AGAIN);
}

#[test]
fn a_slow_link_to_one_host_delays_no_datagram_to_another() {
    let mut script = Script::new();
    let (c, _) = script.net.add_host("c");
    let far = script.bound(script.b, "0.0.0.0:7000");
    let near = script.bound(c, "0.0.0.0:7000");
    let slow = SECOND..=SECOND;
    script.net.link_mut(script.a, script.b).set_latency(slow);
    let sender = script.udp(script.a);
    script.send_to(sender, b"far", &inet(B)).unwrap();
    let to_near = inet("10.0.0.3:7000");
    script.send_to(sender, b"near", &to_near).unwrap();
    script.run(10 * MILLISECOND);
    assert_eq!(script.receive(near, 9).unwrap(), b"near");
    assert_eq!(errno(script.receive(far, 9)), Errno::AGAIN);
    script.run(SECOND);
    assert_eq!(script.receive(far, 9).unwrap(), b"far");
}

#[test]
fn sizes_are_limited() {
    let mut script = Script::new();
    let socket = script.udp(script.a);
    let data = vec![0; 65_528];
    assert_eq!(
        script
            .send_to(socket, &data[..65_507], &inet("10.0.0.2:9"))
            .unwrap(),
        65_507
    );
    assert_eq!(
        errno(script.send_to(socket, &data[..65_508], &inet("10.0.0.2:9"))),
        Errno::MSGSIZE
    );
    let v6 = script
        .net
        .socket(script.a, Family::V6, Kind::Datagram)
        .unwrap();
    let to = inet("[fd00::2]:9");
    assert_eq!(script.send_to(v6, &data[..65_527], &to).unwrap(), 65_527);
    assert_eq!(errno(script.send_to(v6, &data, &to)), Errno::MSGSIZE);
    let mapped = inet("[::ffff:10.0.0.2]:7000");
    let receiver = script.bound(script.b, B);
    script.send_to(v6, b"mapped", &mapped).unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.receive(receiver, 9).unwrap(), b"mapped");
}

#[test]
fn connected_sockets_learn_of_closed_ports() {
    let mut script = Script::new();
    let socket = script.udp(script.a);
    script.send_to(socket, b"x", &inet(B)).unwrap();
    script.run(10 * MILLISECOND);
    assert_eq!(
        script.flags(socket),
        "w",
        "a socket without a peer has no error"
    );
    assert!(!script.net.connect(socket, &inet(B)).unwrap());
    assert_eq!(script.net.peer_addr(socket).unwrap(), inet(B));
    script.send(socket, b"x").unwrap();
    script.run(10 * MILLISECOND);
    assert_eq!(script.flags(socket), "rwde");
    assert_eq!(errno(script.send(socket, b"x")), Errno::CONNREFUSED);
    script.send(socket, b"x").unwrap();
    script.run(10 * MILLISECOND);
    assert_eq!(errno(script.receive(socket, 1)), Errno::CONNREFUSED);
    assert_eq!(errno(script.receive(socket, 1)), Errno::AGAIN);
    script.net.crash(script.b);
    script.send(socket, b"x").unwrap();
    script.run(10 * MILLISECOND);
    assert_eq!(
        script.flags(socket),
        "w",
        "a host that is down does not answer"
    );
}

#[test]
fn connected_sockets_receive_from_their_peer_only() {
    let mut script = Script::new();
    let (one, two) = (script.bound(script.a, A), script.bound(script.b, B));
    let other = script.udp(script.a);
    script.net.connect(two, &inet(A)).unwrap();
    script.send_to(other, b"other", &inet(B)).unwrap();
    script.send_to(one, b"peer", &inet(B)).unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.receive(two, 9).unwrap(), b"peer");
    assert_eq!(errno(script.receive(two, 9)), Errno::AGAIN);
    script.send(two, b"back").unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.receive(one, 9).unwrap(), b"back");
    script.net.shutdown(two, Shutdown::Write).unwrap();
    assert_eq!(errno(script.send(two, b"x")), Errno::PIPE);
    script.net.shutdown(two, Shutdown::Read).unwrap();
    assert_eq!(script.flags(two), "rwdh");
    assert_eq!(errno(script.receive(two, 9)), Errno::AGAIN);
}

#[test]
fn bound_addresses_conflict_without_reuse() {
    let mut script = Script::new();
    script.bound(script.a, "127.0.0.1:53");
    let other = script.udp(script.a);
    assert_eq!(
        errno(script.net.bind(other, &inet("127.0.0.1:53"))),
        Errno::ADDRINUSE
    );
    assert_eq!(
        errno(script.net.bind(other, &inet("0.0.0.0:53"))),
        Errno::ADDRINUSE
    );
    script.net.bind(other, &inet("127.0.0.2:53")).unwrap();
    script.listener(script.a, "127.0.0.1:53", 1); // TCP has ports of its own
}

#[test]
fn full_receive_buffer_drops() {
    let mut script = Script::new();
    let (sender, receiver) = (script.udp(script.a), script.bound(script.b, B));
    for _ in 0..5000 {
        script.send_to(sender, b"x", &inet(B)).unwrap();
    }
    script.run(MILLISECOND);
    let kept = script.drain(receiver).len();
    assert!((200..400).contains(&kept), "{kept}");
    script.send_to(sender, b"x", &inet(B)).unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.drain(receiver).len(), 1);
}

#[test]
fn broadcasts_need_the_option_and_reach_all_hosts() {
    let mut script = Script::new();
    let receivers = [
        script.bound(script.a, "0.0.0.0:67"),
        script.bound(script.b, "0.0.0.0:67"),
    ];
    script.bound(script.b, "0.0.0.0:68");
    let sender = script.udp(script.a);
    let to = inet("255.255.255.255:67");
    assert_eq!(errno(script.send_to(sender, b"x", &to)), Errno::ACCESS);
    script.set(sender, |options| options.broadcast = true);
    script.send_to(sender, b"x", &to).unwrap();
    script.run(MILLISECOND);
    for receiver in receivers {
        assert_eq!(script.receive(receiver, 9).unwrap(), b"x");
    }
}

#[test]
fn datagrams_are_lost_doubled_and_reordered_by_choice() {
    let mut script = Script::with_seed(1);
    let mut faults = Faults::none();
    faults.datagram_loss = Rate::one_in(10);
    faults.datagram_duplicate = Rate::one_in(10);
    faults.datagram_reorder = Rate::one_in(10);
    script.net.set_faults(faults);
    let (sender, receiver) = (script.udp(script.a), script.bound(script.b, B));
    let mut counts = [0; 200];
    let mut arrived = Vec::new();
    for number in 0..200_u8 {
        script.send_to(sender, &[number], &inet(B)).unwrap();
        script.run(MILLISECOND);
        arrived.extend(script.drain(receiver));
    }
    script.run(SECOND);
    arrived.extend(script.drain(receiver));
    arrived
        .iter()
        .for_each(|number| counts[usize::from(*number)] += 1);
    let with = |count| counts.iter().filter(|found| **found == count).count();
    assert!((8..40).contains(&with(0)), "{} lost", with(0));
    assert!((8..40).contains(&with(2)), "{} doubled", with(2));
    assert!(arrived.windows(2).any(|pair| pair[0] > pair[1]));
    // Within a host, no datagram is lost.
    let local = script.bound(script.a, "127.0.0.1:9");
    for number in 0..200_u8 {
        script
            .send_to(sender, &[number], &inet("127.0.0.1:9"))
            .unwrap();
    }
    script.run(SECOND);
    assert_eq!(script.drain(local), (0..200).collect::<Vec<u8>>());
}
