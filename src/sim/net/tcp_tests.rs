//! Scripts of TCP sockets. The results were compared with Linux 6.18.

use std::net::Shutdown;
use std::time::Duration;

use rustix::io::Errno;

use super::tests::*;
use super::*;

/// Connects within the first host.
fn local_connection(script: &mut Script) -> (SocketId, SocketId) {
    let listener = script.listener(script.a, "127.0.0.1:80", 8);
    let client = script.connect(script.a, "127.0.0.1:80");
    script.run(MILLISECOND);
    let (server, _) = script.net.accept(listener).unwrap();
    script.net.close(listener).unwrap();
    (client, server)
}

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
    // A listener for IPv4 alone may share the port only with one for IPv6 alone.
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

// Bytes.

#[test]
fn bytes_go_both_ways() {
    let mut script = Script::new();
    for (client, server) in [script.connection(), local_connection(&mut script)] {
        assert_eq!(script.send(client, b"ahoy").unwrap(), 4);
        assert_eq!(script.send(server, b"hello").unwrap(), 5);
        script.run(MILLISECOND);
        assert_eq!(script.flags(server), "rw");
        assert_eq!(script.receive(server, 2).unwrap(), b"ah");
        assert_eq!(script.receive(server, 9).unwrap(), b"oy");
        assert_eq!(script.receive(client, 9).unwrap(), b"hello");
        assert_eq!(script.flags(server), "w");
        assert_eq!(errno(script.receive(server, 9)), Errno::AGAIN);
        assert_eq!(script.send(client, b"").unwrap(), 0);
    }
}

#[test]
fn peek_leaves_the_bytes() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.send(client, b"ahoy").unwrap();
    script.run(MILLISECOND);
    let mut buf = [0; 3];
    let bufs = &mut [std::io::IoSliceMut::new(&mut buf)];
    assert_eq!(
        script.net.receive(server, bufs, true).unwrap(),
        (3, None, false)
    );
    assert_eq!(&buf, b"aho");
    assert_eq!(script.receive(server, 9).unwrap(), b"ahoy");
}

#[test]
fn many_buffers_are_one_transfer() {
    use std::io::{IoSlice, IoSliceMut};
    let mut script = Script::new();
    let (client, server) = script.connection();
    let bufs = [&b"one"[..], b"", b"two", b"three"].map(IoSlice::new);
    assert_eq!(script.net.send(client, &bufs, None).unwrap(), 11);
    script.run(MILLISECOND);
    let (mut first, mut second) = ([0; 4], [0; 9]);
    let bufs = &mut [
        IoSliceMut::new(&mut first),
        IoSliceMut::new(&mut []),
        IoSliceMut::new(&mut second),
    ];
    assert_eq!(script.net.receive(server, bufs, false).unwrap().0, 11);
    assert_eq!((&first, &second[..7]), (b"onet", &b"wothree"[..]));
}

#[test]
fn full_buffers_stop_the_writer_until_the_reader_makes_room() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.register(client, 1, true, false).unwrap();
    let first = script.fill(client);
    script.run(SECOND);
    // The receive buffer has taken the bytes.
    let second = script.fill(client);
    script.run(SECOND);
    script.events(script.a);
    assert_eq!(script.fill(client), 0);
    assert_eq!(script.flags(client), "");
    assert_eq!((first, second), (212_992, 212_992));
    script.receive(server, 1000).unwrap();
    script.run(SECOND);
    assert_eq!(script.events(script.a), [], "a small room is no event");
    let mut read = 1000;
    while !script.net.has_events(script.a) {
        read += script.receive(server, 1000).unwrap().len();
        script.run(10 * MILLISECOND);
    }
    assert!((70_000..150_000).contains(&read), "{read}");
    assert_eq!(script.events(script.a), [(1, "w".to_owned())]);
    let third = script.fill(client);
    let mut left = first + second + third - read;
    while left > 0 {
        left -= script.drain(server).len();
        script.run(SECOND);
    }
}

#[test]
fn small_window_opens_again() {
    for size in [1, 2, 100, 1448, 5000] {
        let mut script = Script::new();
        script.net.set_buffers(size, size);
        let (client, server) = script.connection();
        let (mut sent, mut received) = (0, 0);
        while received < 5 * size {
            sent += script.fill(client);
            script.run(10 * MILLISECOND);
            received += script.drain(server).len();
        }
        assert!(sent >= received);
    }
}

#[test]
fn lost_window_update_is_probed_for() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.fill(client);
    script.run(SECOND);
    script.fill(client);
    script.run(SECOND);
    script.net.set_partition(script.b, script.a, true);
    script.drain(server);
    script.run(MILLISECOND);
    script.net.heal();
    script.run(60 * SECOND);
    assert_eq!(script.drain(server).len(), 212_992);
}

#[test]
fn closed_window_stays_open_forever_with_few_probes() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.fill(client);
    script.run(SECOND);
    script.fill(client);
    let mut events = 0;
    let end = script.now + 24 * 3600 * SECOND;
    while let Some(at) = script.net.next_event().filter(|at| *at < end) {
        script.net.advance(at);
        script.now = at;
        events += 1;
    }
    assert!(events < 5000, "{events}");
    assert_eq!(script.flags(client), "");
    assert_eq!(script.drain(server).len(), 212_992);
    script.run(SECOND);
    assert_eq!(script.drain(server).len(), 212_992);
}

/// Transfers bytes one way, and returns how long that takes.
fn transfer(script: &mut Script, size: usize) -> u64 {
    let (client, server) = script.connection();
    let start = script.now;
    let data: Vec<u8> = (0..size).map(|i| (i * i + i / 251) as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    let mut is_shut = false;
    loop {
        if sent < size {
            match script.send(client, &data[sent..]) {
                Ok(n) => sent += n,
                error => assert_eq!(errno(error), Errno::AGAIN),
            }
        } else if !is_shut {
            script.net.shutdown(client, Shutdown::Write).unwrap();
            is_shut = true;
        }
        match script.receive(server, 100_000) {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => received.extend(bytes),
            error => assert_eq!(errno(error), Errno::AGAIN),
        }
        script.run(MILLISECOND);
        assert!(
            script.now < start + 1000 * SECOND,
            "{} of {size} bytes",
            received.len()
        );
    }
    assert!(received == data, "the bytes differ");
    script.now - start
}

#[test]
fn bad_links_deliver_all_bytes_in_order() {
    for seed in 0..20 {
        let mut script = Script::with_seed(seed);
        let mut faults = Faults::none();
        faults.jitter = Rate::one_in(3);
        faults.small_buffers = Rate::one_in(2);
        script.net.set_faults(faults);
        for (from, to) in [(script.a, script.b), (script.b, script.a)] {
            let link = script.net.link_mut(from, to);
            link.loss = Rate::probability(0.05 * (seed % 5) as f64);
            link.duplication = Rate::probability(0.1);
            link.reorder = Rate::probability(0.1);
        }
        transfer(&mut script, 1_000_000);
    }
}

#[test]
fn good_link_has_no_retransmission() {
    let mut script = Script::new();
    let time = transfer(&mut script, 1_000_000);
    assert!(time < 20 * MILLISECOND, "{time}");
    assert!(
        script
            .net
            .next_event()
            .is_none_or(|at| at <= script.now + SECOND)
    );
}

#[test]
fn fast_retransmission_needs_no_timeout() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.set_partition(script.a, script.b, true);
    script.send(client, b"lost ").unwrap();
    script.net.heal();
    script.send(client, b"found").unwrap();
    script.run(5 * MILLISECOND);
    assert_eq!(script.receive(server, 99).unwrap(), b"lost found");
}

#[test]
fn slow_link_does_not_cause_retransmission() {
    let mut script = Script::new();
    for (from, to) in [(script.a, script.b), (script.b, script.a)] {
        script
            .net
            .link_mut(from, to)
            .set_latency(SECOND / 5..=SECOND / 5);
    }
    let listener = script.listener(script.b, B, 8);
    let client = script.connect(script.a, B);
    script.run(SECOND);
    let (server, _) = script.net.accept(listener).unwrap();
    let mut events = 0;
    script.send(client, b"x").unwrap();
    while let Some(at) = script.net.next_event() {
        script.net.advance(at);
        events += 1;
    }
    assert!(
        events <= 3,
        "segment, acknowledgement and timer, but {events}"
    );
    assert_eq!(script.receive(server, 9).unwrap(), b"x");
}

// The end of a connection.

#[test]
fn half_close_lets_the_other_half_go_on() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.send(client, b"request").unwrap();
    script.net.shutdown(client, Shutdown::Write).unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.flags(server), "rwd");
    assert_eq!(script.flags(client), "w");
    assert_eq!(script.receive(server, 99).unwrap(), b"request");
    assert_eq!(script.receive(server, 99).unwrap(), b"");
    assert_eq!(errno(script.send(client, b"x")), Errno::PIPE);
    script.net.shutdown(client, Shutdown::Write).unwrap();
    script.send(server, b"response").unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.receive(client, 99).unwrap(), b"response");
    script.net.shutdown(server, Shutdown::Write).unwrap();
    script.run(10 * MILLISECOND);
    for socket in [client, server] {
        assert_eq!(script.flags(socket), "rwdh");
        assert_eq!(script.receive(socket, 99).unwrap(), b"");
        assert_eq!(
            errno(script.net.shutdown(socket, Shutdown::Both)),
            Errno::NOTCONN
        );
        assert_eq!(errno(script.net.peer_addr(socket)), Errno::NOTCONN);
        assert!(script.net.take_error(socket).unwrap().is_none());
        script.net.close(socket).unwrap();
    }
    script.run(10 * SECOND);
    assert_eq!(script.net.next_event(), None);
}

#[test]
fn close_sends_the_rest_first() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    let sent = script.fill(client);
    script.run(SECOND);
    let sent = sent + script.fill(client);
    script.net.close(client).unwrap();
    script.run(SECOND);
    let mut received = 0;
    loop {
        match script.receive(server, 10_000) {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => received += bytes.len(),
            error => assert_eq!(errno(error), Errno::AGAIN),
        }
        script.run(10 * MILLISECOND);
    }
    assert_eq!(received, sent);
    script.net.close(server).unwrap();
    script.run(10 * SECOND);
    assert_eq!(script.net.next_event(), None);
}

#[test]
fn close_with_unread_bytes_resets() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.send(server, b"unread").unwrap();
    script.run(MILLISECOND);
    script.send(client, b"zz").unwrap();
    script.net.close(client).unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.flags(server), "rwdhe");
    assert_eq!(script.receive(server, 9).unwrap(), b"zz");
    assert_eq!(errno(script.receive(server, 9)), Errno::CONNRESET);
    assert_eq!(script.receive(server, 9).unwrap(), b"");
    assert_eq!(errno(script.send(server, b"x")), Errno::PIPE);
    assert_eq!(errno(script.net.peer_addr(server)), Errno::NOTCONN);
    assert_eq!(
        errno(script.net.shutdown(server, Shutdown::Write)),
        Errno::NOTCONN
    );
}

#[test]
fn reset_is_the_error_of_the_first_write() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.set(client, |options| options.linger = Some(Duration::ZERO));
    script.send(client, b"hey").unwrap();
    script.net.close(client).unwrap();
    script.run(MILLISECOND);
    assert_eq!(errno(script.send(server, b"x")), Errno::CONNRESET);
    assert_eq!(errno(script.send(server, b"x")), Errno::PIPE);
    assert_eq!(script.receive(server, 9).unwrap(), b"hey");
    assert_eq!(script.receive(server, 9).unwrap(), b"");
}

#[test]
fn reset_connection_can_still_be_accepted() {
    let mut script = Script::new();
    let listener = script.listener(script.b, B, 8);
    let client = script.connect(script.a, B);
    script.run(10 * MILLISECOND);
    script.set(client, |options| options.linger = Some(Duration::ZERO));
    script.send(client, b"hey").unwrap();
    script.net.close(client).unwrap();
    script.run(10 * MILLISECOND);
    let (server, peer) = script.net.accept(listener).unwrap();
    assert!(peer.is_some());
    assert_eq!(script.flags(server), "rwdhe");
    assert_eq!(script.receive(server, 9).unwrap(), b"hey");
    assert_eq!(errno(script.receive(server, 9)), Errno::CONNRESET);
}

#[test]
fn write_to_a_closed_peer_is_reset() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.close(client).unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.flags(server), "rwd");
    script.send(server, b"x").unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.flags(server), "rwdhe");
    assert_eq!(script.receive(server, 9).unwrap(), b"");
    let error = script.net.take_error(server).unwrap().unwrap();
    assert_eq!(error.raw_os_error(), Some(Errno::PIPE.raw_os_error()));
    assert_eq!(errno(script.send(server, b"x")), Errno::PIPE);
}

#[test]
fn reads_after_a_read_shutdown_return_what_arrives() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.shutdown(client, Shutdown::Read).unwrap();
    assert_eq!(script.flags(client), "rwd");
    assert_eq!(script.receive(client, 9).unwrap(), b"");
    script.send(server, b"abc").unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.receive(client, 9).unwrap(), b"abc");
    assert_eq!(script.receive(client, 9).unwrap(), b"");
    script.send(client, b"xyz").unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.receive(server, 9).unwrap(), b"xyz");
}

#[test]
fn bytes_for_a_socket_that_is_shut_down_reset_it() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.shutdown(client, Shutdown::Both).unwrap();
    assert_eq!(script.flags(client), "rwdh");
    script.run(MILLISECOND);
    script.send(server, b"abc").unwrap();
    script.run(10 * MILLISECOND);
    assert_eq!(script.flags(client), "rwdhe");
    assert_eq!(errno(script.receive(client, 9)), Errno::CONNRESET);
    assert_eq!(script.receive(server, 9).unwrap(), b"");
    assert_eq!(errno(script.send(server, b"abc")), Errno::PIPE);
}

#[test]
fn lost_last_acknowledgement_is_no_error() {
    for seed in 0..200 {
        let mut script = Script::with_seed(seed);
        let (client, server) = script.connection();
        for (from, to) in [(script.a, script.b), (script.b, script.a)] {
            script.net.link_mut(from, to).loss = Rate::probability(0.4);
        }
        script.send(client, b"bye").unwrap();
        script.net.shutdown(client, Shutdown::Write).unwrap();
        script.net.shutdown(server, Shutdown::Write).unwrap();
        script.run(3600 * SECOND);
        for socket in [client, server] {
            assert_eq!(script.flags(socket), "rwdh", "seed {seed}");
            assert!(script.net.take_error(socket).unwrap().is_none());
        }
        assert_eq!(script.receive(server, 9).unwrap(), b"bye");
        assert_eq!(script.net.next_event(), None);
    }
}

#[test]
fn closed_socket_gives_up_sooner() {
    let mut script = Script::new();
    let (client, _) = script.connection();
    script.net.crash(script.b);
    script.send(client, b"lost").unwrap();
    script.net.close(client).unwrap();
    script.run(120 * SECOND);
    assert_eq!(script.net.next_event(), None);
}

#[test]
fn keepalive_detects_a_dead_peer() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.set(client, |options| options.keepalive = true);
    script.run(100_000 * SECOND);
    assert_eq!(script.flags(client), "w", "the peer responds");
    script.net.crash(script.b);
    script.run((7_200 + 9 * 75 + 1) * SECOND);
    assert_eq!(errno(script.receive(client, 1)), Errno::TIMEDOUT);
    assert_eq!(script.net.next_event(), None);
    let _ = server;
}

#[test]
fn many_connections_leave_nothing_behind() {
    let mut script = Script::new();
    let listener = script.listener(script.b, B, 100);
    for round in 0..200 {
        let client = script.connect(script.a, B);
        script.run(10 * MILLISECOND);
        let (server, _) = script.net.accept(listener).unwrap();
        script.send(client, b"request").unwrap();
        script.run(MILLISECOND);
        script.receive(server, 99).unwrap();
        let (first, last) = if round % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        script.net.close(first).unwrap();
        script.run((round % 3) * MILLISECOND);
        script.net.close(last).unwrap();
        script.run(10 * MILLISECOND);
    }
    script.run(10 * SECOND);
    assert_eq!(script.net.next_event(), None);
    assert_eq!(script.net.sockets_in_use(), 1);
    script.net.close(listener).unwrap();
    assert_eq!(script.net.sockets_in_use(), 0);
}
