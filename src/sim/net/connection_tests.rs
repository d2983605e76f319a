//! Scripts of TCP connections. The results were compared with Linux 6.18.

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
            script.net.link_mut(from, to).loss = Rate::probability(0.25);
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
