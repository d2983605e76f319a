//! The script of a test, and tests of hosts, names, links and events.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

use rustix::io::Errno;

pub(super) use super::faults::Faults;
pub(super) use super::socket::Options;
use super::*;
use crate::sim::choices::Choices;

pub(super) const MICROSECOND: u64 = 1_000;
pub(super) const MILLISECOND: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// A network with two hosts, 10.0.0.1 and 10.0.0.2, and without faults.
pub(super) struct Script {
    pub(super) net: Network,
    pub(super) a: HostId,
    pub(super) b: HostId,
    pub(super) now: u64,
}

pub(super) const A: &str = "10.0.0.1:7000";
pub(super) const B: &str = "10.0.0.2:7000";

pub(super) fn inet(addr: &str) -> Address {
    Address::Inet(addr.parse().expect("the test has a valid address"))
}

pub(super) fn path(name: &str) -> Address {
    Address::Unix(UnixName::Path(name.as_bytes().into()))
}

pub(super) fn hidden(name: &str) -> Address {
    Address::Unix(UnixName::Abstract(name.as_bytes().into()))
}

/// The error of a call that must fail.
pub(super) fn errno<T>(result: io::Result<T>) -> Errno {
    let error = result.err().expect("the call fails");
    Errno::from_io_error(&error).expect("the error has a code of the system")
}

impl Script {
    pub(super) fn new() -> Script {
        Script::with_seed(0)
    }

    pub(super) fn with_seed(seed: u64) -> Script {
        let mut net = Network::new(Rc::new(Choices::new(seed)));
        net.set_faults(Faults::none());
        let (a, _) = net.add_host("a");
        let (b, _) = net.add_host("b");
        Script { net, a, b, now: 0 }
    }

    pub(super) fn tcp(&mut self, host: HostId) -> SocketId {
        self.net.socket(host, Family::V4, Kind::Stream).unwrap()
    }

    pub(super) fn udp(&mut self, host: HostId) -> SocketId {
        self.net.socket(host, Family::V4, Kind::Datagram).unwrap()
    }

    pub(super) fn unix(&mut self, kind: Kind) -> SocketId {
        self.net.socket(self.a, Family::Unix, kind).unwrap()
    }

    pub(super) fn bound(&mut self, host: HostId, addr: &str) -> SocketId {
        let socket = self.udp(host);
        self.net.bind(socket, &inet(addr)).unwrap();
        socket
    }

    pub(super) fn set(&mut self, socket: SocketId, change: impl FnOnce(&mut Options)) {
        let mut options = self.net.options(socket).unwrap().clone();
        change(&mut options);
        self.net.set_options(socket, options).unwrap();
    }

    pub(super) fn listener(&mut self, host: HostId, addr: &str, backlog: usize) -> SocketId {
        let socket = self.tcp(host);
        self.net.bind(socket, &inet(addr)).unwrap();
        self.net.listen(socket, backlog).unwrap();
        socket
    }

    /// A connection from the first host to the second, with both ends.
    pub(super) fn connection(&mut self) -> (SocketId, SocketId) {
        let listener = self.listener(self.b, B, 8);
        let client = self.connect(self.a, B);
        let server = loop {
            self.run(10 * MILLISECOND);
            match self.net.accept(listener) {
                Ok((server, _)) => break server,
                error => assert_eq!(errno(error), Errno::AGAIN),
            }
        };
        self.net.close(listener).unwrap();
        (client, server)
    }

    pub(super) fn connect(&mut self, host: HostId, addr: &str) -> SocketId {
        let socket = self.tcp(host);
        assert!(self.net.connect(socket, &inet(addr)).unwrap());
        socket
    }

    /// Moves the time from event to event.
    pub(super) fn run(&mut self, time: u64) {
        let end = self.now + time;
        while let Some(at) = self.net.next_event().filter(|at| *at <= end) {
            assert!(at >= self.now, "an event is in the past");
            self.now = at;
            self.net.advance(at);
        }
        self.now = end;
        self.net.advance(end);
    }

    pub(super) fn send(&mut self, socket: SocketId, bytes: &[u8]) -> io::Result<usize> {
        self.net.send(socket, &[IoSlice::new(bytes)], None)
    }

    pub(super) fn send_to(
        &mut self,
        socket: SocketId,
        data: &[u8],
        to: &Address,
    ) -> io::Result<usize> {
        self.net.send(socket, &[IoSlice::new(data)], Some(to))
    }

    pub(super) fn receive(&mut self, socket: SocketId, most: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; most];
        let (n, _, _) = self
            .net
            .receive(socket, &mut [IoSliceMut::new(&mut buf)], false)?;
        buf.truncate(n);
        Ok(buf)
    }

    /// Writes until the buffer is full.
    pub(super) fn fill(&mut self, socket: SocketId) -> usize {
        let mut filled = 0;
        loop {
            match self.send(socket, &[7; 4096]) {
                Ok(n) => filled += n,
                error => {
                    assert_eq!(errno(error), Errno::AGAIN);
                    return filled;
                }
            }
        }
    }

    /// Reads until there is nothing left.
    pub(super) fn drain(&mut self, socket: SocketId) -> Vec<u8> {
        let mut drained = Vec::new();
        loop {
            match self.receive(socket, 4096) {
                Ok(bytes) if bytes.is_empty() => return drained,
                Ok(bytes) => drained.extend(bytes),
                error => {
                    assert_eq!(errno(error), Errno::AGAIN);
                    return drained;
                }
            }
        }
    }

    /// The flags of epoll for the present state.
    pub(super) fn flags(&mut self, socket: SocketId) -> String {
        show(self.net.readiness(socket).unwrap())
    }

    /// The keys and flags of the pending events.
    pub(super) fn events(&mut self, host: HostId) -> Vec<(u64, String)> {
        let mut events = Vec::new();
        self.net.take_events(host, &mut events);
        assert!(!self.net.has_events(host));
        let events = events.into_iter();
        events
            .map(|event| (event.key, show(event.readiness)))
            .collect()
    }
}

fn show(readiness: Readiness) -> String {
    let flags = [
        (readiness.readable, 'r'),
        (readiness.writable, 'w'),
        (readiness.hung_up, 'd'),
        (readiness.closed, 'h'),
        (readiness.error, 'e'),
    ];
    let set = flags.iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, flag)| *flag).collect()
}

// Hosts and names.

#[test]
fn names_resolve_as_on_a_host() {
    let script = Script::new();
    let resolve = |name: &str| script.net.resolve(name, 80).unwrap();
    let addrs = |addrs: &[&str]| -> Vec<SocketAddr> {
        addrs.iter().map(|addr| addr.parse().unwrap()).collect()
    };
    assert_eq!(resolve("b"), addrs(&["10.0.0.2:80", "[fd00::2]:80"]));
    assert_eq!(resolve("B"), resolve("b"));
    assert_eq!(resolve("localhost"), addrs(&["127.0.0.1:80", "[::1]:80"]));
    assert_eq!(resolve("10.9.9.9"), addrs(&["10.9.9.9:80"]));
    assert_eq!(resolve("::1"), addrs(&["[::1]:80"]));
    let simulated = script.net.resolve("nowhere.invalid", 80).unwrap_err();
    assert_eq!(
        simulated.to_string(),
        "failed to lookup address information: Name or service not known"
    );
    assert_eq!(format!("{:?}", simulated.kind()), "Uncategorized");
}

#[test]
fn addresses_go_beyond_one_byte() {
    let mut net = Network::new(Rc::new(Choices::new(0)));
    for number in 1..=300_u32 {
        let (host, addr) = net.add_host("many");
        let bytes = [10, 0, (number >> 8) as u8, number as u8];
        assert_eq!(addr.octets(), bytes);
        let socket = net.socket(host, Family::V4, Kind::Datagram).unwrap();
        net.bind(socket, &Address::Inet((addr, 9).into())).unwrap();
    }
}

#[test]
fn descriptors_are_limited() {
    let mut script = Script::new();
    script.net.set_descriptor_limit(script.a, 2);
    let first = script.tcp(script.a);
    let _second = script.udp(script.a);
    let third = script.net.socket(script.a, Family::V4, Kind::Stream);
    assert_eq!(errno(third), Errno::MFILE);
    assert_eq!(errno(script.net.pair(script.a, Kind::Stream)), Errno::MFILE);
    script.net.close(first).unwrap();
    script.tcp(script.a);
    script.tcp(script.b);
}

#[test]
fn accept_without_descriptor_keeps_the_connection() {
    let mut script = Script::new();
    let listener = script.listener(script.b, B, 8);
    script.connect(script.a, B);
    script.run(10 * MILLISECOND);
    script.net.set_descriptor_limit(script.b, 1);
    assert_eq!(errno(script.net.accept(listener)), Errno::MFILE);
    assert_eq!(script.flags(listener), "r");
    script.net.set_descriptor_limit(script.b, 2);
    script.net.accept(listener).unwrap();
    assert_eq!(errno(script.net.accept(listener)), Errno::MFILE);
}

#[test]
fn closed_sockets_are_bad_descriptors() {
    let mut script = Script::new();
    let (client, _server) = script.connection();
    script.net.close(client).unwrap();
    assert_eq!(errno(script.send(client, b"x")), Errno::BADF);
    assert_eq!(errno(script.net.close(client)), Errno::BADF);
    let closed = script.udp(script.a);
    script.net.close(closed).unwrap();
    assert_eq!(errno(script.net.readiness(closed)), Errno::BADF);
}

#[test]
fn crash_resets_peers_after_the_restart_only() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.send(client, b"lost").unwrap();
    script.net.crash(script.b);
    script.run(10 * SECOND);
    assert_eq!(errno(script.net.readiness(server)), Errno::BADF);
    assert_eq!(script.flags(client), "w");
    assert_eq!(errno(script.receive(client, 1)), Errno::AGAIN);
    script.net.restart(script.b);
    script.run(100 * SECOND); // the next retransmission
    assert_eq!(script.flags(client), "rwdhe");
    assert_eq!(errno(script.receive(client, 1)), Errno::CONNRESET);
    let again = script.connect(script.a, B);
    script.run(MILLISECOND);
    assert_eq!(errno(script.send(again, b"x")), Errno::CONNREFUSED);
}

#[test]
fn connection_to_a_dead_host_times_out() {
    let mut script = Script::new();
    let (client, _) = script.connection();
    let idle = script.connect(script.a, A);
    script.send(client, b"lost").unwrap();
    script.net.crash(script.b);
    script.run(924 * SECOND);
    assert_eq!(script.flags(client), "w");
    script.run(2 * SECOND);
    assert_eq!(errno(script.receive(client, 1)), Errno::TIMEDOUT);
    assert_eq!(script.receive(client, 1).unwrap(), b"");
    assert_eq!(errno(script.send(client, b"x")), Errno::PIPE);
    assert_eq!(errno(script.send(idle, b"x")), Errno::CONNREFUSED);
    assert_eq!(script.net.next_event(), None);
}

#[test]
fn bytes_arrive_after_their_sender_has_crashed() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.send(client, b"last words").unwrap();
    script.net.crash(script.a);
    script.run(MILLISECOND);
    assert_eq!(script.receive(server, 99).unwrap(), b"last words");
}

// Links.

#[test]
fn latency_is_that_of_the_link() {
    let mut script = Script::new();
    script
        .net
        .link_mut(script.a, script.b)
        .set_latency(3 * MILLISECOND..=3 * MILLISECOND);
    script
        .net
        .link_mut(script.b, script.a)
        .set_latency(5 * MILLISECOND..=5 * MILLISECOND);
    let listener = script.listener(script.b, B, 8);
    let client = script.connect(script.a, B);
    script.run(8 * MILLISECOND - 1);
    assert_eq!(script.flags(client), "");
    script.run(1);
    assert_eq!(script.flags(client), "w");
    assert_eq!(script.flags(listener), "");
    script.run(3 * MILLISECOND);
    assert_eq!(script.flags(listener), "r");
    // Within a host, a round trip takes 20 microseconds.
    let local = script.connect(script.b, B);
    script.run(20 * MICROSECOND);
    assert_eq!(script.flags(local), "w");
}

#[test]
fn bandwidth_delays_packets_behind_each_other() {
    let mut script = Script::new();
    script.net.link_mut(script.a, script.b).bandwidth = Some(1_000_000);
    let sender = script.udp(script.a);
    let receiver = script.bound(script.b, B);
    for _ in 0..3 {
        script.send_to(sender, &[0; 1000], &inet(B)).unwrap();
    }
    script.run(500 * MICROSECOND + MILLISECOND);
    assert_eq!(script.drain(receiver).len(), 1000);
    script.run(2 * MILLISECOND);
    assert_eq!(script.drain(receiver).len(), 2000);
}

#[test]
fn partition_is_of_one_direction_and_heals() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.set_partition(script.a, script.b, true);
    script.send(client, b"held up").unwrap();
    script.send(server, b"passes").unwrap();
    script.run(5 * SECOND);
    assert_eq!(script.receive(client, 99).unwrap(), b"passes");
    assert_eq!(errno(script.receive(server, 99)), Errno::AGAIN);
    script.net.heal();
    script.run(30 * SECOND);
    assert_eq!(script.receive(server, 99).unwrap(), b"held up");
}

#[test]
fn partitions_begin_and_end_at_their_times() {
    let mut script = Script::new();
    let receiver = script.bound(script.b, B);
    let sender = script.udp(script.a);
    script
        .net
        .partition_during(script.a, script.b, SECOND..3 * SECOND);
    script
        .net
        .partition_during(script.a, script.b, 2 * SECOND..4 * SECOND);
    script
        .net
        .partition_during(script.a, script.b, 6 * SECOND..6 * SECOND);
    let mut arrived = Vec::new();
    for second in 0..7_u8 {
        script.run(SECOND / 2);
        script.send_to(sender, &[second], &inet(B)).unwrap();
        script.run(SECOND / 2);
        arrived.extend(script.drain(receiver));
    }
    assert_eq!(arrived, [0, 4, 5, 6]);
}

#[test]
fn heal_cancels_scheduled_partitions() {
    let mut script = Script::new();
    let receiver = script.bound(script.b, B);
    let sender = script.udp(script.a);
    script
        .net
        .partition_during(script.a, script.b, 0..3 * SECOND);
    script
        .net
        .partition_during(script.a, script.b, 4 * SECOND..5 * SECOND);
    script.run(SECOND);
    script.net.heal();
    for _ in 0..5 {
        script.send_to(sender, b"x", &inet(B)).unwrap();
        script.run(SECOND);
    }
    assert_eq!(script.drain(receiver).len(), 5);
}

// Events.

#[test]
fn registration_reports_the_present_state_once() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.register(client, 1, false, false).unwrap();
    assert!(!script.net.has_events(script.a));
    script.net.change(client, 2, true).unwrap();
    assert_eq!(script.events(script.a), [(2, "w".to_owned())]);
    assert_eq!(script.events(script.a), []);
    script.send(server, b"x").unwrap();
    script.run(MILLISECOND);
    script.net.change(client, 3, true).unwrap();
    assert_eq!(script.events(script.a), [(3, "rw".to_owned())]);
    assert_eq!(
        errno(script.net.register(client, 1, false, false)),
        Errno::EXIST
    );
    script.net.deregister(client).unwrap();
    assert_eq!(errno(script.net.deregister(client)), Errno::NOENT);
    assert_eq!(errno(script.net.change(client, 1, true)), Errno::NOENT);
}

#[test]
fn each_arrival_is_an_edge_and_edges_coalesce() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.register(server, 5, true, false).unwrap();
    script.events(script.b);
    for _ in 0..2 {
        script.send(client, b"x").unwrap();
        script.run(MILLISECOND);
        script.send(client, b"x").unwrap();
        script.run(MILLISECOND);
        // The bytes were not read, and yet new ones are an edge.
        assert_eq!(script.events(script.b), [(5, "rw".to_owned())]);
    }
    script.receive(server, 2).unwrap();
    assert!(!script.net.has_events(script.b));
    script.net.shutdown(client, Shutdown::Write).unwrap();
    script.run(MILLISECOND);
    assert_eq!(script.events(script.b), [(5, "rwd".to_owned())]);
}

#[test]
fn deregistered_sockets_have_no_events() {
    let mut script = Script::new();
    let (client, server) = script.connection();
    script.net.register(server, 5, true, false).unwrap();
    script.net.deregister(server).unwrap();
    assert_eq!(script.events(script.b), []);
    script.net.register(server, 6, true, false).unwrap();
    script.net.deregister(server).unwrap();
    script.net.register(server, 7, true, false).unwrap();
    assert_eq!(script.events(script.b), [(7, "w".to_owned())]);
    script.send(client, b"x").unwrap();
    script.run(MILLISECOND);
    script.net.close(server).unwrap();
    assert_eq!(script.events(script.b), []);
}

#[test]
fn reused_slots_keep_events_apart() {
    let mut script = Script::new();
    let first = script.bound(script.a, A);
    script.net.register(first, 1, true, false).unwrap();
    script.net.close(first).unwrap();
    let second = script.bound(script.b, B);
    assert_eq!(first.slot(), second.slot());
    script.net.register(second, 2, true, false).unwrap();
    assert!(!script.net.has_events(script.a));
    assert_eq!(script.events(script.a), []);
    assert_eq!(script.events(script.b), [(2, "w".to_owned())]);
}

#[test]
fn exclusive_registrations_report_input_only() {
    let mut script = Script::new();
    let listener = script.listener(script.b, B, 8);
    script.net.register(listener, 4, false, true).unwrap();
    assert_eq!(script.events(script.b), []);
    script.connect(script.a, B);
    script.run(10 * MILLISECOND);
    assert_eq!(script.events(script.b), [(4, "r".to_owned())]);
    // Linux wakes the pollers of a listener that is shut down for writing.
    script.net.shutdown(listener, Shutdown::Write).unwrap();
    assert_eq!(script.events(script.b), [(4, "r".to_owned())]);
}

// Faults.

fn with_fault(seed: u64, change: impl FnOnce(&mut Faults)) -> Script {
    let mut script = Script::with_seed(seed);
    let mut faults = Faults::none();
    change(&mut faults);
    script.net.set_faults(faults);
    script
}

#[test]
fn short_reads_are_followed_by_an_event() {
    let mut script = with_fault(1, |faults| faults.short_transfer = Rate::one_in(1));
    let (here, there) = script.net.pair(script.a, Kind::Stream).unwrap();
    script.net.register(there, 1, false, false).unwrap();
    let mut shorter = 0;
    for _ in 0..100 {
        let sent = script.send(here, &[7; 100]).unwrap();
        assert!((1..=100).contains(&sent));
        let mut left = sent;
        while left > 0 {
            assert!(script.net.has_events(script.a), "the rest is an event");
            script.events(script.a);
            let received = script.receive(there, 200).unwrap().len();
            assert!((1..=left).contains(&received));
            left -= received;
            shorter += usize::from(left > 0);
        }
        assert_eq!(errno(script.receive(there, 1)), Errno::AGAIN);
    }
    assert!(shorter > 50, "{shorter}");
}

#[test]
fn short_writes_are_followed_by_an_event() {
    let mut script = with_fault(1, |faults| faults.short_transfer = Rate::one_in(1));
    let (client, server) = script.connection();
    script.net.register(client, 1, true, false).unwrap();
    script.events(script.a);
    let mut sent = 0;
    let mut shorter = 0;
    while sent < 1000 {
        let n = script.send(client, &vec![7; 1000 - sent]).unwrap();
        sent += n;
        shorter += usize::from(sent < 1000);
        assert_eq!(script.net.has_events(script.a), sent < 1000);
        script.events(script.a);
    }
    assert!(shorter > 0);
    script.run(MILLISECOND);
    let mut received = 0;
    while received < 1000 {
        received += script.receive(server, 1000).unwrap().len();
    }
}

#[test]
fn spurious_events_follow_calls_that_would_block() {
    let mut script = with_fault(1, |faults| faults.spurious_event = Rate::one_in(1));
    let (client, _server) = script.connection();
    script.net.register(client, 1, false, false).unwrap();
    let mut found = 0;
    for _ in 0..100 {
        assert_eq!(errno(script.receive(client, 1)), Errno::AGAIN);
        script.run(SECOND);
        found += script.events(script.a).len();
    }
    assert!(found > 50, "{found}");
}

#[test]
fn a_stale_socket_names_no_other_one() {
    let mut script = Script::new();
    let closed = script.udp(script.a);
    script.net.close(closed).unwrap();
    let stale = script.bound(script.a, "0.0.0.0:7000");
    assert_eq!(closed.slot(), stale.slot());
    script.net.crash(script.a);
    script.net.restart(script.a);
    let socket = script.bound(script.a, "0.0.0.0:7000");
    assert_eq!(stale.slot(), socket.slot());
    for id in [closed, stale] {
        assert_eq!(errno(script.net.close(id)), Errno::BADF);
        assert_eq!(errno(script.net.readiness(id)), Errno::BADF);
    }
    assert_eq!(script.flags(socket), "w");
}

#[test]
fn interrupts_leave_the_socket_alone() {
    let mut script = with_fault(1, |faults| {
        faults.interrupt = Rate::one_in(2);
    });
    let mut interrupted = 0;
    let (here, there) = script.net.pair(script.a, Kind::Stream).unwrap();
    for number in 0..100 {
        while let Err(error) = script.send(here, &[number]) {
            assert_eq!(error.kind(), io::ErrorKind::Interrupted);
            interrupted += 1;
        }
        let received = loop {
            match script.receive(there, 9) {
                Ok(received) => break received,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
            }
            interrupted += 1;
        };
        assert_eq!(received, [number]);
    }
    assert!(interrupted > 50, "{interrupted}");
}

/// A network with all faults, a TCP connection in progress, its listener, and two UDP sockets.
fn bad_network(seed: u64) -> (Script, Vec<SocketId>) {
    let mut script = Script::with_seed(seed);
    script.net.set_faults(Faults::default());
    for (from, to) in [(script.a, script.b), (script.b, script.a)] {
        let link = script.net.link_mut(from, to);
        link.loss = Rate::probability(0.05);
        link.duplication = Rate::probability(0.05);
        link.reorder = Rate::probability(0.05);
    }
    let from = |host: HostId| if host == HostId(0) { A } else { B };
    let mut sockets = Vec::new();
    while sockets.len() < 4 {
        let host = HostId(sockets.len() as u16 % 2);
        let kind = [Kind::Stream, Kind::Datagram][sockets.len() / 2];
        if let Ok(socket) = script.net.socket(host, Family::V4, kind) {
            script.net.bind(socket, &inet(from(host))).unwrap();
            script
                .net
                .register(socket, sockets.len() as u64, true, false)
                .unwrap();
            sockets.push(socket);
        }
    }
    script.net.listen(sockets[1], 8).unwrap();
    script.net.connect(sockets[0], &inet(B)).unwrap();
    script
        .net
        .partition_during(script.b, script.a, 2 * SECOND..4 * SECOND);
    (script, sockets)
}

/// Runs a program that has all kinds of sockets on a network with all faults, and returns its log.
fn log(seed: u64) -> String {
    use std::fmt::Write as _;
    let (mut script, mut sockets) = bad_network(seed);
    let mut log = String::new();
    let mut events = Vec::new();
    for step in 0..2000_u32 {
        script.run(5 * MILLISECOND);
        for host in [script.a, script.b] {
            events.clear();
            script.net.take_events(host, &mut events);
            for event in &events {
                writeln!(log, "{} {host:?} {event:?}", script.now).unwrap();
            }
        }
        let sent = script
            .send(sockets[0], &[step as u8; 999])
            .map_err(|e| e.to_string());
        let datagram = script.send_to(sockets[3], &[step as u8], &inet(A));
        writeln!(log, "{sent:?} {:?}", datagram.map_err(|e| e.to_string())).unwrap();
        if let Ok((socket, addr)) = script.net.accept(sockets[1]) {
            writeln!(log, "accepted {addr:?}").unwrap();
            script
                .net
                .register(socket, sockets.len() as u64, false, false)
                .unwrap();
            sockets.push(socket);
        }
        for &socket in &sockets[2..] {
            let received = script.receive(socket, 700).map_err(|e| e.to_string());
            writeln!(log, "{received:?} {:?}", script.net.next_event()).unwrap();
        }
    }
    log
}

#[test]
fn same_seed_gives_the_same_log() {
    let first = log(3);
    assert_eq!(first, log(3));
    assert_ne!(first, log(4));
    assert!(first.contains("accepted"));
}
