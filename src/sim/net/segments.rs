//! The segments of TCP connections.

use std::net::SocketAddr;

use rustix::io::Errno;

use super::address::{HostId, Kind, covers};
use super::connection::{Connection, Outcome, Part, Phase, Segment};
use super::network::Network;
use super::readiness::Edge;
use super::slab::Key;
use super::socket::{PortUse, Protocol, Socket};
use super::wire::{Content, Wire};

impl Network {
    // Outgoing packets.

    pub(super) fn send_syn(&mut self, slot: u32) {
        let Network { wire, sockets, .. } = self;
        let sender = sockets.key(slot);
        let Some(socket) = sockets.get_mut(slot) else {
            return;
        };
        let (Some(source), Some(destination)) = (socket.local, socket.remote) else {
            return;
        };
        let (from, window_end) = (socket.host, socket.buffers.1 as u64);
        let Some(connection) = socket.connection().filter(|c| !c.is_unreachable) else {
            return;
        };
        let content = Content::Syn {
            sender,
            source,
            destination,
            window_end,
        };
        let to = connection.peer_host;
        wire.send(from, to, &mut connection.flow, content);
    }

    /// Sends a segment without bytes.
    pub(super) fn send_empty(&mut self, slot: u32, syn: bool, probe: bool) {
        let Network { wire, sockets, .. } = self;
        let sender = sockets.key(slot);
        let Some(socket) = sockets.get_mut(slot) else {
            return;
        };
        let from = socket.host;
        let Some(connection) = socket.connection() else {
            return;
        };
        let Some(receiver) = connection.peer else {
            return;
        };
        let mut segment = connection.acknowledgement();
        segment.syn = syn;
        segment.probe = probe;
        let content = Content::Segment {
            sender,
            receiver,
            segment,
        };
        let to = connection.peer_host;
        wire.send(from, to, &mut connection.flow, content);
    }

    pub(super) fn send_acknowledgement(&mut self, slot: u32) {
        self.send_empty(slot, false, false);
    }

    /// Sends a reset behind the bytes that are on their way.
    pub(super) fn send_reset(&mut self, slot: u32) {
        let Network { wire, sockets, .. } = self;
        let Some(socket) = sockets.get_mut(slot) else {
            return;
        };
        let from = socket.host;
        let Some(connection) = socket.connection() else {
            return;
        };
        if let (Some(receiver), true) = (connection.peer, connection.phase != Phase::Closed) {
            let to = connection.peer_host;
            wire.send(from, to, &mut connection.flow, Content::Reset { receiver });
        }
    }

    /// Answers a packet for which there is no socket.
    fn refuse(&mut self, from: HostId, to: HostId, receiver: Key) {
        self.wire
            .send(from, to, &mut 0, Content::Reset { receiver });
    }

    /// Sends all bytes that the window allows.
    ///
    /// Segments that follow each other and arrive at the same time travel as one.
    pub(super) fn transmit(&mut self, slot: u32) {
        let Network { wire, sockets, .. } = self;
        let sender = sockets.key(slot);
        let Some(socket) = sockets.get_mut(slot) else {
            return;
        };
        let from = socket.host;
        let Some(connection) = socket.connection() else {
            return;
        };
        let (Some(receiver), true) = (connection.peer, connection.can_send()) else {
            return;
        };
        let to = connection.peer_host;
        let most = Wire::max_segment(from, to);
        let mut burst: Option<(u64, Part)> = None;
        while let Some(part) = connection.next_part(wire.now, most) {
            let fate = wire.fate(from, to, part.len, false, &mut connection.flow);
            for (at, is_copy) in [(fate.first, false), (fate.second, true)] {
                let Some(at) = at else { continue };
                match &mut burst {
                    Some((when, sent))
                        if *when == at
                            && !is_copy
                            && sent.sequence + sent.len as u64 == part.sequence =>
                    {
                        sent.len += part.len;
                        sent.fin = part.fin;
                    }
                    _ => {
                        let before = burst.replace((at, part));
                        send_part(wire, connection, (from, to), (sender, receiver), before);
                    }
                }
            }
        }
        send_part(wire, connection, (from, to), (sender, receiver), burst);
    }

    /// Sends the first missing bytes again. Those from `end` on have arrived, unless it is zero.
    pub(super) fn resend(&mut self, slot: u32, end: u64) {
        let Network { wire, sockets, .. } = self;
        let sender = sockets.key(slot);
        let Some(socket) = sockets.get_mut(slot) else {
            return;
        };
        let from = socket.host;
        let Some(connection) = socket.connection() else {
            return;
        };
        let Some(receiver) = connection.peer else {
            return;
        };
        let to = connection.peer_host;
        let part = connection.first_part(end, Wire::max_segment(from, to));
        let fate = wire.fate(from, to, part.len, false, &mut connection.flow);
        for at in [fate.first, fate.second].into_iter().flatten() {
            let burst = Some((at, part));
            send_part(wire, connection, (from, to), (sender, receiver), burst);
        }
    }

    // Incoming packets.

    pub(super) fn receive_syn(
        &mut self,
        from: HostId,
        to: HostId,
        sender: Key,
        (source, destination): (SocketAddr, SocketAddr),
        window_end: u64,
    ) {
        if let Some(child) = self.answering.get(&sender).copied() {
            let connection = self.connection(child);
            if connection.is_some_and(|connection| connection.phase == Phase::SynReceived) {
                self.send_empty(child, true, false);
            }
            return;
        }
        let Some(slot) = self.find_listener(to, destination) else {
            return self.refuse(to, from, sender);
        };
        let key = self.sockets.key(slot);
        let Some(listening) = self.sockets.get(slot) else {
            return;
        };
        let Protocol::TcpListener(listener) = &listening.protocol else {
            return;
        };
        if listener.queue.len() > listener.backlog {
            return; // the client tries again
        }
        let child = self.insert_answering(slot, (from, sender), (source, destination), window_end);
        if let Some(listener) = self.listener(key) {
            listener.handshakes.push(child);
        }
        self.answering.insert(sender, child);
        self.send_empty(child, true, false);
        self.update_timer(child);
    }

    /// Inserts the answering end of a connection.
    fn insert_answering(
        &mut self,
        listener: u32,
        (from, sender): (HostId, Key),
        (source, destination): (SocketAddr, SocketAddr),
        window_end: u64,
    ) -> u32 {
        let key = self.sockets.key(listener);
        let listener = &self.sockets[listener];
        let (host, family, options) = (listener.host, listener.family, listener.options.clone());
        let (child, now) = (self.insert(host, family, Kind::Stream), self.wire.now);
        let ports = &mut self.hosts[usize::from(host.0)].tcp;
        ports.add_accepted(destination.port(), options.reuse_address);
        let socket = &mut self.sockets[child];
        let mut connection = Connection::new(Phase::SynReceived, from, socket.buffers, now);
        connection.peer = Some(sender);
        connection.listener = Some(key);
        connection.keepalive = options.keepalive;
        connection.set_window_end(window_end);
        socket.is_hidden = true;
        socket.local = Some(destination);
        socket.remote = Some(source);
        socket.port = PortUse::Accepted;
        socket.options = options;
        socket.protocol = Protocol::Tcp(Box::new(connection));
        child
    }

    fn find_listener(&self, host: HostId, to: SocketAddr) -> Option<u32> {
        let port = self.port(host, Kind::Stream, to.port())?;
        let score = |socket: &Socket| {
            let local = socket.local?.ip();
            let listens = matches!(socket.protocol, Protocol::TcpListener(_));
            let covers = covers(local, socket.options.only_v6, to.ip());
            let same_family = local.is_ipv4() == to.is_ipv4();
            (listens && covers).then_some((!local.is_unspecified(), same_family))
        };
        let scored = port.bound.iter().filter_map(|slot| {
            let score = self.sockets.get(*slot).and_then(score)?;
            Some((score, *slot))
        });
        scored.max().map(|(_, slot)| slot)
    }

    pub(super) fn receive_segment(
        &mut self,
        from: HostId,
        to: HostId,
        (sender, receiver): (Key, Key),
        segment: Segment,
    ) {
        let slot = receiver.slot;
        let now = self.wire.now;
        let Some(connection) = self.find_connection(receiver) else {
            return self.refuse(to, from, sender);
        };
        match connection.phase {
            Phase::Closed => return self.refuse(to, from, sender),
            Phase::SynSent if segment.syn => {
                connection.peer = Some(sender);
                connection.establish(now, segment.window_end);
                self.send_acknowledgement(slot);
                self.transmit(slot);
                self.update_timer(slot);
                return self.mark_state(slot);
            }
            Phase::SynSent => return self.refuse(to, from, sender),
            Phase::SynReceived => {
                if segment.syn || !self.complete_handshake(slot) {
                    return;
                }
            }
            Phase::Established if segment.syn => return self.send_acknowledgement(slot),
            Phase::Established => {}
        }
        self.receive_established(from, to, (sender, slot), segment);
    }

    /// Puts a connection into the queue of its listener. If the queue is full, the connection stays
    /// in its handshake.
    fn complete_handshake(&mut self, slot: u32) -> bool {
        let now = self.wire.now;
        let Some(key) = self
            .connection(slot)
            .and_then(|connection| connection.listener)
        else {
            return false;
        };
        let Some(listener) = self.listener(key) else {
            return false;
        };
        if listener.queue.len() > listener.backlog {
            return false;
        }
        listener.handshakes.retain(|child| *child != slot);
        listener.queue.push_back(slot);
        if let Some(connection) = self.connection(slot) {
            connection.listener = None;
            connection.establish(now, 0);
        }
        self.mark(key.slot, Edge::Read);
        true
    }

    fn receive_established(
        &mut self,
        from: HostId,
        to: HostId,
        (sender, slot): (Key, u32),
        segment: Segment,
    ) {
        let now = self.wire.now;
        let is_orphan = self.is_orphan(slot);
        let Some(connection) = self.connection(slot) else {
            return;
        };
        let reads_no_more = connection.read_closed && !connection.peer_closed;
        if (is_orphan || reads_no_more && connection.has_sent_fin())
            && connection.has_new_bytes(&segment)
        {
            // No program will read these bytes.
            self.refuse(to, from, sender);
            return self.abort(slot, Errno::CONNRESET);
        }
        let outcome = connection.receive(now, &segment);
        self.wire.recycle(segment.data);
        self.respond(slot, &outcome);
        self.report(slot, &outcome);
        self.finish_if_done(slot);
    }

    /// Sends everything that a segment has made possible or necessary.
    fn respond(&mut self, slot: u32, outcome: &Outcome) {
        if let Some(end) = outcome.resend {
            self.resend(slot, end);
        }
        self.transmit(slot);
        let connection = self.connection(slot);
        if connection.is_some_and(|connection| connection.acknowledgement_due) {
            self.send_acknowledgement(slot);
        }
        self.update_timer(slot);
    }

    /// Makes events of what a segment has changed.
    fn report(&mut self, slot: u32, outcome: &Outcome) {
        if outcome.fin {
            self.mark_state(slot);
        } else if outcome.data {
            self.mark(slot, Edge::Read);
        }
        let Some(connection) = self.connection(slot) else {
            return;
        };
        if outcome.room && connection.no_space && connection.is_writable() {
            connection.no_space = false;
            self.mark(slot, Edge::Write);
        }
    }

    /// Ends a connection after both directions have ended.
    pub(super) fn finish_if_done(&mut self, slot: u32) {
        let is_orphan = self.is_orphan(slot);
        let Some(connection) = self.connection(slot) else {
            return;
        };
        if !connection.is_finished() || connection.phase == Phase::Closed {
            return;
        }
        connection.end();
        let peer = connection.peer;
        if let Some(peer) = peer.and_then(|key| self.find_connection(key)) {
            peer.peer_has_finished = true;
        }
        if is_orphan {
            self.remove(slot);
        } else {
            self.mark_state(slot);
        }
    }

    pub(super) fn receive_reset(&mut self, receiver: Key) {
        let slot = receiver.slot;
        let Some(connection) = self.find_connection(receiver) else {
            return;
        };
        let error = match connection.phase {
            Phase::Closed => return,
            Phase::SynSent => Errno::CONNREFUSED,
            Phase::SynReceived => Errno::CONNRESET,
            Phase::Established if connection.peer_has_finished && connection.has_sent_fin() => {
                connection.acknowledge_all();
                return self.finish_if_done(slot);
            }
            Phase::Established if connection.peer_closed && !connection.has_sent_fin() => {
                Errno::PIPE
            }
            Phase::Established => Errno::CONNRESET,
        };
        self.abort(slot, error);
    }

    /// Ends a connection with an error.
    pub(super) fn abort(&mut self, slot: u32, error: Errno) {
        let is_orphan = self.is_orphan(slot);
        let Some(connection) = self.connection(slot) else {
            return;
        };
        let (phase, listener) = (connection.phase, connection.listener);
        connection.end();
        if phase == Phase::SynReceived {
            if let Some(listener) = listener.and_then(|key| self.listener(key)) {
                listener.handshakes.retain(|child| *child != slot);
            }
            return self.remove(slot);
        }
        if is_orphan {
            return self.remove(slot);
        }
        if let Some(socket) = self.sockets.get_mut(slot) {
            socket.error = Some(error);
        }
        self.mark_state(slot);
    }
}

fn send_part(
    wire: &mut Wire,
    connection: &mut Connection,
    (from, to): (HostId, HostId),
    (sender, receiver): (Key, Key),
    burst: Option<(u64, Part)>,
) {
    let Some((at, part)) = burst else {
        return;
    };
    let mut data = wire.buffer();
    connection.copy_part(part, &mut data);
    let content = Content::Segment {
        sender,
        receiver,
        segment: connection.segment(part, data),
    };
    wire.deliver(at, from, to, content);
}
