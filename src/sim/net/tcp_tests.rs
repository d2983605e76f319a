//! Scripts of TCP sockets. The results were compared with Linux 6.18.

use std::net::Shutdown;

use rustix::io::Errno;

use super::tests::*;
use super::*;

// Sockets that are not connected.

#[test]
fn fresh_socket_is_not_connected() {
    let mut script = Script::new();
    let socket = script.tcp(script.a);
    assert_eq!(script.flags(socket), "rwdh"); // OUT and HUP
    assert_eq!(errno(script.send(socket, b"x")), Errno::PIPE);
    assert_eq!(errno(script.receive(socket, 1)), Errno::NOTCONN);
    assert_eq!(
        errno(script.net.shutdown(socket, Shutdown::Write)),
        Errno::NOTCONN
    );
    assert_eq!(errno(script.net.peer_addr(socket)), Errno::NOTCONN);
    assert_eq!(errno(script.net.accept(socket)), Errno::INVAL);
    assert_eq!(script.net.local_addr(socket).unwrap(), inet("0.0.0.0:0"));
    assert!(script.net.take_error(socket).unwrap().is_none());
}

#[test]
fn listener_does_nothing_else() {
    let mut script = Script::new();
    let socket = script.tcp(script.a);
    script.net.listen(socket, 8).unwrap();
    assert_ne!(script.net.local_addr(socket).unwrap(), inet("0.0.0.0:0"));
    assert_eq!(script.flags(socket), "");
    assert_eq!(errno(script.send(socket, b"x")), Errno::PIPE);
    assert_eq!(errno(script.receive(socket, 1)), Errno::NOTCONN);
    assert_eq!(errno(script.net.accept(socket)), Errno::AGAIN);
    assert_eq!(errno(script.net.connect(socket, &inet(B))), Errno::ISCONN);
    assert_eq!(errno(script.net.bind(socket, &inet(A))), Errno::INVAL);
    script.net.listen(socket, 9).unwrap();
    script.net.shutdown(socket, Shutdown::Write).unwrap();
    assert_eq!(script.flags(socket), "");
    script.net.shutdown(socket, Shutdown::Read).unwrap();
    assert_eq!(script.flags(socket), "rwdh");
    assert_eq!(errno(script.net.accept(socket)), Errno::INVAL);
}

#[test]
fn bind_checks_the_address() {
    let mut script = Script::new();
    let socket = script.tcp(script.a);
    assert_eq!(
        errno(script.net.bind(socket, &inet(B))),
        Errno::ADDRNOTAVAIL
    );
    assert_eq!(
        errno(script.net.bind(socket, &inet("8.8.8.8:1"))),
        Errno::ADDRNOTAVAIL
    );
    assert_eq!(
        errno(script.net.bind(socket, &inet("[::1]:1"))),
        Errno::AFNOSUPPORT
    );
    assert_eq!(errno(script.net.bind(socket, &path("/x"))), Errno::INVAL);
    script.net.bind(socket, &inet("127.0.0.2:81")).unwrap();
    assert_eq!(script.net.local_addr(socket).unwrap(), inet("127.0.0.2:81"));
    assert_eq!(errno(script.net.bind(socket, &inet(A))), Errno::INVAL);
    let v6 = script
        .net
        .socket(script.a, Family::V6, Kind::Stream)
        .unwrap();
    assert_eq!(
        errno(script.net.bind(v6, &inet("127.0.0.1:1"))),
        Errno::INVAL
    );
    script.net.bind(v6, &inet("[fd00::1]:81")).unwrap();
}

#[test]
fn ports_conflict_without_reuse() {
    let mut script = Script::new();
    let try_bind = |script: &mut Script, addr: &str, reuse: bool| {
        let socket = script.tcp(script.a);
        script.set(socket, |options| options.reuse_address = reuse);
        script.net.bind(socket, &inet(addr)).map(|()| socket)
    };
    let first = try_bind(&mut script, "127.0.0.1:80", true).unwrap();
    assert_eq!(
        errno(try_bind(&mut script, "127.0.0.1:80", false)),
        Errno::ADDRINUSE
    );
    assert_eq!(
        errno(try_bind(&mut script, "0.0.0.0:80", false)),
        Errno::ADDRINUSE
    );
    try_bind(&mut script, "127.0.0.2:80", false).unwrap();
    // Two sockets may be bound to one address, but only one listens.
    let second = try_bind(&mut script, "127.0.0.1:80", true).unwrap();
    script.net.listen(first, 1).unwrap();
    assert_eq!(errno(script.net.listen(second, 1)), Errno::ADDRINUSE);
    assert_eq!(
        errno(try_bind(&mut script, "0.0.0.0:80", true)),
        Errno::ADDRINUSE
    );
    script.net.close(first).unwrap();
    script.net.listen(second, 1).unwrap();
    // Another host has ports of its own.
    script.listener(script.b, "127.0.0.1:80", 1);
}

#[test]
fn port_of_accepted_connections_needs_reuse() {
    for reuse in [false, true] {
        let mut script = Script::new();
        let listener = script.tcp(script.b);
        script.set(listener, |options| options.reuse_address = reuse);
        script.net.bind(listener, &inet(B)).unwrap();
        script.net.listen(listener, 8).unwrap();
        script.connect(script.a, B);
        script.run(10 * MILLISECOND);
        let (server, _) = script.net.accept(listener).unwrap();
        script.net.close(listener).unwrap();
        let again = script.tcp(script.b);
        script.set(again, |options| options.reuse_address = true);
        let bound = script.net.bind(again, &inet(B)).is_ok();
        assert_eq!(bound, reuse);
        script.net.close(server).unwrap();
    }
}

#[test]
fn free_ports_are_found_until_none_is_left() {
    let mut script = Script::new();
    let mut ports = std::collections::BTreeSet::new();
    for _ in 32_768..=60_999 {
        let socket = script.tcp(script.a);
        script.net.bind(socket, &inet("127.0.0.1:0")).unwrap();
        let Address::Inet(addr) = script.net.local_addr(socket).unwrap() else {
            panic!("the address is one of IP");
        };
        assert!(ports.insert(addr.port()));
    }
    let socket = script.tcp(script.a);
    assert_eq!(
        errno(script.net.bind(socket, &inet("127.0.0.1:0"))),
        Errno::ADDRINUSE
    );
    assert_eq!(
        errno(script.net.connect(socket, &inet(B))),
        Errno::ADDRNOTAVAIL
    );
}

// Connecting.

#[test]
fn closed_port_refuses() {
    let mut script = Script::new();
    for (target, round_trip) in [(B, MILLISECOND), ("127.0.0.1:9", 20 * MICROSECOND)] {
        let socket = script.connect(script.a, target);
        script.run(round_trip - 1);
        assert_eq!(script.flags(socket), "");
        script.run(1);
        assert_eq!(script.flags(socket), "rwdhe");
        let error = script.net.take_error(socket).unwrap();
        assert_eq!(
            error.unwrap().raw_os_error(),
            Some(Errno::CONNREFUSED.raw_os_error())
        );
        assert!(script.net.take_error(socket).unwrap().is_none());
        assert_eq!(script.flags(socket), "rwdh");
        assert_eq!(errno(script.send(socket, b"x")), Errno::PIPE);
        assert_eq!(script.receive(socket, 1).unwrap(), b"");
        assert_eq!(
            errno(script.net.shutdown(socket, Shutdown::Both)),
            Errno::NOTCONN
        );
    }
}

#[test]
fn connect_reports_the_outcome_of_the_attempt() {
    let mut script = Script::new();
    let refused = script.connect(script.a, B);
    assert_eq!(errno(script.net.connect(refused, &inet(B))), Errno::ALREADY);
    script.run(MILLISECOND);
    assert_eq!(
        errno(script.net.connect(refused, &inet(B))),
        Errno::CONNREFUSED
    );
    script.listener(script.b, B, 8);
    assert!(script.net.connect(refused, &inet(B)).unwrap());
    script.run(MILLISECOND);
    assert!(!script.net.connect(refused, &inet(B)).unwrap());
    assert_eq!(errno(script.net.connect(refused, &inet(B))), Errno::ISCONN);
    assert_eq!(script.net.peer_addr(refused).unwrap(), inet(B));
}

#[test]
fn socket_waits_while_it_connects() {
    let mut script = Script::new();
    script.listener(script.b, B, 8);
    let socket = script.connect(script.a, B);
    assert_eq!(errno(script.send(socket, b"x")), Errno::AGAIN);
    assert_eq!(errno(script.receive(socket, 1)), Errno::AGAIN);
    assert_eq!(errno(script.net.peer_addr(socket)), Errno::NOTCONN);
    script.net.shutdown(socket, Shutdown::Write).unwrap();
    assert_eq!(script.flags(socket), "rwdhe");
    let error = script.net.take_error(socket).unwrap().unwrap();
    assert_eq!(error.raw_os_error(), Some(Errno::CONNRESET.raw_os_error()));
    assert_eq!(errno(script.receive(socket, 1)), Errno::NOTCONN);
}

#[test]
fn connect_needs_a_route() {
    let mut script = Script::new();
    let socket = script.tcp(script.a);
    assert_eq!(
        errno(script.net.connect(socket, &inet("8.8.8.8:1"))),
        Errno::NETUNREACH
    );
    assert_eq!(
        errno(script.net.connect(socket, &inet("224.0.0.1:1"))),
        Errno::NETUNREACH
    );
    assert_eq!(
        errno(script.net.connect(socket, &inet("[::1]:1"))),
        Errno::AFNOSUPPORT
    );
    assert_eq!(errno(script.net.connect(socket, &path("/x"))), Errno::INVAL);
    assert!(script.net.connect(socket, &inet("10.0.0.99:1")).unwrap());
    script.run(3 * SECOND - 1);
    assert_eq!(script.flags(socket), "");
    script.run(1);
    assert_eq!(errno(script.receive(socket, 1)), Errno::HOSTUNREACH);
    let bound = script.tcp(script.a);
    script.net.bind(bound, &inet("127.0.0.1:0")).unwrap();
    assert_eq!(errno(script.net.connect(bound, &inet(B))), Errno::INVAL);
}

#[test]
fn unspecified_address_is_the_host_itself() {
    let mut script = Script::new();
    let listener = script.listener(script.a, "0.0.0.0:80", 8);
    for target in ["0.0.0.0:80", "127.0.0.1:80", "10.0.0.1:80"] {
        let client = script.connect(script.a, target);
        script.run(MILLISECOND);
        let (server, peer) = script.net.accept(listener).unwrap();
        assert_eq!(peer.as_ref(), Some(&script.net.local_addr(client).unwrap()));
        assert_eq!(
            script.net.peer_addr(client).unwrap(),
            script.net.local_addr(server).unwrap()
        );
    }
}

#[test]
fn listener_of_both_families_shows_mapped_addresses() {
    let mut script = Script::new();
    let listener = script
        .net
        .socket(script.b, Family::V6, Kind::Stream)
        .unwrap();
    script.net.bind(listener, &inet("[::]:7000")).unwrap();
    script.net.listen(listener, 8).unwrap();
    let v4 = script.connect(script.a, B);
    script.run(10 * MILLISECOND);
    let (server, peer) = script.net.accept(listener).unwrap();
    assert!(format!("{peer:?}").contains("[::ffff:10.0.0.1]"));
    assert_eq!(
        script.net.local_addr(server).unwrap(),
        inet("[::ffff:10.0.0.2]:7000")
    );
    assert_eq!(script.net.peer_addr(v4).unwrap(), inet(B));
    let v6 = script
        .net
        .socket(script.a, Family::V6, Kind::Stream)
        .unwrap();
    script.net.connect(v6, &inet("[fd00::2]:7000")).unwrap();
    script.run(10 * MILLISECOND);
    let (_, peer) = script.net.accept(listener).unwrap();
    assert_eq!(peer, Some(script.net.local_addr(v6).unwrap()));
}

#[test]
fn families_share_a_port_if_one_is_for_ipv6_alone() {
    let mut script = Script::new();
    let both = script
        .net
        .socket(script.b, Family::V6, Kind::Stream)
        .unwrap();
    script.net.bind(both, &inet("[::]:7000")).unwrap();
    let other = script.tcp(script.b);
    assert_eq!(
        errno(script.net.bind(other, &inet("0.0.0.0:7000"))),
        Errno::ADDRINUSE
    );
    let alone = script
        .net
        .socket(script.b, Family::V6, Kind::Stream)
        .unwrap();
    script.set(alone, |options| options.only_v6 = true);
    script.net.bind(alone, &inet("[::]:7001")).unwrap();
    script.net.bind(other, &inet("0.0.0.0:7001")).unwrap();
    script.net.listen(alone, 8).unwrap();
    let refused = script.connect(script.a, "10.0.0.2:7001");
    script.run(MILLISECOND);
    assert_eq!(errno(script.send(refused, b"x")), Errno::CONNREFUSED);
}

#[test]
fn full_backlog_delays_and_then_times_out() {
    let mut script = Script::new();
    let listener = script.listener(script.b, B, 0);
    let first = script.connect(script.a, B);
    script.run(10 * MILLISECOND);
    let second = script.connect(script.a, B);
    script.run(10 * MILLISECOND);
    assert_eq!(
        (script.flags(first), script.flags(second)),
        ("w".into(), "".into())
    );
    script.net.accept(listener).unwrap();
    script.run(2 * SECOND); // it tries again after one second
    assert_eq!(script.flags(second), "w");
    let third = script.connect(script.a, B);
    script.run(127 * SECOND - 1);
    assert_eq!(script.flags(third), "");
    script.run(SECOND);
    assert_eq!(errno(script.receive(third, 1)), Errno::TIMEDOUT);
}

#[test]
fn handshake_into_a_full_queue_ends_later() {
    let mut script = Script::new();
    let listener = script.listener(script.b, B, 0);
    let clients = [script.connect(script.a, B), script.connect(script.a, B)];
    script.run(10 * MILLISECOND);
    // Both answers of the listener were sent before its queue was full.
    assert_eq!(clients.map(|client| script.flags(client)), ["w", "w"]);
    script.send(clients[1], b"early").unwrap();
    script.run(100 * MILLISECOND);
    script.net.accept(listener).unwrap();
    assert_eq!(errno(script.net.accept(listener)), Errno::AGAIN);
    script.run(5 * SECOND);
    let (server, _) = script.net.accept(listener).unwrap();
    script.run(SECOND);
    assert_eq!(script.receive(server, 99).unwrap(), b"early");
}

#[test]
fn connect_times_out_in_a_partition() {
    let mut script = Script::new();
    script.listener(script.b, B, 8);
    for (from, to) in [(script.a, script.b), (script.b, script.a)] {
        script.net.set_partition(from, to, true);
        let socket = script.connect(script.a, B);
        script.run(127 * SECOND - 1);
        assert_eq!(script.flags(socket), "");
        script.run(1);
        assert_eq!(errno(script.receive(socket, 1)), Errno::TIMEDOUT);
        script.net.heal();
    }
    let socket = script.tcp(script.a);
    script
        .net
        .partition_during(script.a, script.b, script.now..script.now + SECOND / 2);
    script.net.connect(socket, &inet(B)).unwrap();
    script.run(2 * SECOND);
    assert_eq!(script.flags(socket), "w");
}

#[test]
fn closing_a_listener_resets_its_queue() {
    let mut script = Script::new();
    let listener = script.listener(script.b, B, 8);
    let client = script.connect(script.a, B);
    script.run(10 * MILLISECOND);
    let late = script.connect(script.a, B);
    script.run(600 * MICROSECOND); // the answer is on its way
    script.net.close(listener).unwrap();
    script.run(10 * MILLISECOND);
    assert_eq!(script.flags(client), "rwdhe");
    assert_eq!(errno(script.receive(client, 1)), Errno::CONNRESET);
    assert_eq!(errno(script.receive(late, 1)), Errno::CONNRESET);
    script.listener(script.b, B, 8);
}
