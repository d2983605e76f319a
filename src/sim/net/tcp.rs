//! The sockets of TCP.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use super::address::{Address, Family, HostId, Kind, covers, shown};
use super::bytes;
use super::connection::{Connection, Expiry, Part, Phase, Segment};
use super::network::Network;
use super::readiness::Edge;
use super::slab::Key;
use super::socket::{Listener, PortUse, Protocol, Socket};
use super::wire::{Content, Due, Wire};

/// How long Linux tries to find the hardware address of a host.
const UNREACHABLE_AFTER: u64 = 3_000_000_000;

impl Network {
    // The calls of the programs.

    pub(super) fn listen_tcp(&mut self, slot: u32, backlog: usize) -> Result<(), Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        match &mut socket.protocol {
            Protocol::TcpListener(listener) => {
                listener.backlog = backlog;
                return Ok(());
            }
            Protocol::TcpIdle => {}
            _ => return Err(Errno::INVAL),
        }
        self.bind_free(slot)?;
        let local = self.sockets.get(slot).and_then(|socket| socket.local);
        if local.is_some_and(|local| self.is_listened_on(slot, local)) {
            return Err(Errno::ADDRINUSE);
        }
        if let Some(socket) = self.sockets.get_mut(slot) {
            socket.protocol = Protocol::TcpListener(Listener {
                backlog,
                queue: VecDeque::new(),
                handshakes: Vec::new(),
            });
        }
        self.mark_state(slot);
        Ok(())
    }

    /// Resets the connections of a listener that no program has accepted.
    pub(super) fn stop_listening(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot) else {
            return;
        };
        let protocol = std::mem::replace(&mut socket.protocol, Protocol::TcpIdle);
        if let Protocol::TcpListener(listener) = protocol {
            for child in listener.queue.into_iter().chain(listener.handshakes) {
                self.send_reset(child);
                self.remove(child);
            }
        }
    }

    pub(super) fn accept_tcp(&mut self, slot: u32) -> Option<(u32, Address)> {
        let Protocol::TcpListener(listener) = &mut self.sockets.get_mut(slot)?.protocol else {
            return None;
        };
        let child = listener.queue.pop_front()?;
        let socket = self.sockets.get(child)?;
        Some((child, shown(socket.remote?, socket.family)))
    }

    pub(super) fn connect_tcp(&mut self, slot: u32, to: SocketAddr) -> Result<bool, Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        match &mut socket.protocol {
            Protocol::TcpIdle => {}
            Protocol::Tcp(connection) if connection.is_connecting => match connection.phase {
                Phase::Established => {
                    connection.is_connecting = false;
                    return Ok(false);
                }
                Phase::Closed => {
                    let error = socket.error.take().unwrap_or(Errno::CONNABORTED);
                    socket.protocol = Protocol::TcpIdle;
                    socket.remote = None;
                    return Err(error);
                }
                _ => return Err(Errno::ALREADY),
            },
            _ => return Err(Errno::ISCONN),
        }
        self.route(slot, to)?;
        self.bind_free(slot).map_err(|_| Errno::ADDRNOTAVAIL)?;
        let (host, source, destination) = self.route(slot, to)?;
        let now = self.wire.now;
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let peer_host = host.unwrap_or(socket.host);
        let mut connection = Connection::new(Phase::SynSent, peer_host, socket.buffers, now);
        connection.keepalive = socket.options.keepalive;
        if host.is_none() {
            connection.is_unreachable = true;
            connection.deadline = Some(now + UNREACHABLE_AFTER);
        }
        socket.local = Some(source);
        socket.remote = Some(destination);
        socket.protocol = Protocol::Tcp(Box::new(connection));
        self.send_syn(slot);
        self.update_timer(slot);
        Ok(true)
    }

    pub(super) fn send_tcp(&mut self, slot: u32, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        socket.check_error()?;
        let host = socket.host;
        let Some(connection) = socket.connection() else {
            return Err(Errno::PIPE);
        };
        match connection.phase {
            Phase::SynSent | Phase::SynReceived => return Err(Errno::AGAIN),
            Phase::Established if !connection.write_closed => {}
            _ => return Err(Errno::PIPE),
        }
        let (len, room) = (bytes::length(bufs), connection.room());
        if len == 0 {
            return Ok(0);
        }
        connection.no_space |= room < len;
        if room == 0 {
            return Err(self.would_block(slot, Edge::Write));
        }
        let whole = len.min(room);
        let sent = self.shorten(host, whole);
        if let Some(connection) = self.connection(slot) {
            connection.write(bufs, sent);
        }
        self.transmit(slot);
        self.update_timer(slot);
        if sent < whole {
            self.mark(slot, Edge::Write);
        }
        Ok(sent)
    }

    pub(super) fn receive_tcp(
        &mut self,
        slot: u32,
        bufs: &mut [IoSliceMut<'_>],
        peek: bool,
    ) -> Result<usize, Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let host = socket.host;
        let Protocol::Tcp(connection) = &mut socket.protocol else {
            socket.check_error()?;
            return Err(Errno::NOTCONN);
        };
        let unread = connection.unread();
        if unread == 0 {
            if connection.peer_closed {
                return Ok(0);
            }
            if let Some(error) = socket.error.take() {
                return Err(error);
            }
            if connection.read_closed {
                return Ok(0);
            }
            return Err(self.would_block(slot, Edge::Read));
        }
        let whole = bytes::length_mut(bufs).min(unread);
        let most = self.shorten(host, whole);
        let Some(connection) = self.connection(slot) else {
            return Err(Errno::BADF);
        };
        let received = connection.peek(bufs, most);
        if !peek && connection.consume(received) {
            self.send_acknowledgement(slot);
        }
        if received < whole {
            self.mark(slot, Edge::Read);
        }
        Ok(received)
    }

    pub(super) fn shutdown_tcp(&mut self, slot: u32, read: bool, write: bool) -> Result<(), Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let result = match &mut socket.protocol {
            Protocol::TcpListener(_) => {
                if read {
                    self.stop_listening(slot);
                }
                Ok(())
            }
            Protocol::Tcp(connection) => match connection.phase {
                Phase::SynSent => {
                    socket.protocol = Protocol::TcpIdle;
                    socket.remote = None;
                    socket.error = Some(Errno::CONNRESET);
                    Ok(())
                }
                Phase::Closed => Err(Errno::NOTCONN),
                _ => {
                    connection.read_closed |= read;
                    connection.write_closed |= write;
                    self.transmit(slot);
                    self.update_timer(slot);
                    Ok(())
                }
            },
            _ => Err(Errno::NOTCONN),
        };
        self.mark_state(slot);
        result
    }

    pub(super) fn close_connection(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot) else {
            return;
        };
        let resets = socket.options.linger == Some(Duration::ZERO);
        let Some(connection) = socket.connection() else {
            return;
        };
        if connection.phase != Phase::Established {
            self.remove(slot);
        } else if resets || connection.unread() > 0 {
            self.send_reset(slot);
            self.remove(slot);
        } else {
            connection.write_closed = true;
            connection.read_closed = true;
            self.transmit(slot);
            self.update_timer(slot);
            self.finish_if_done(slot);
        }
    }

    // Outgoing packets.

    fn send_syn(&mut self, slot: u32) {
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
    fn send_empty(&mut self, slot: u32, syn: bool, probe: bool) {
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

    fn send_acknowledgement(&mut self, slot: u32) {
        self.send_empty(slot, false, false);
    }

    /// Sends a reset behind the bytes that are on their way.
    fn send_reset(&mut self, slot: u32) {
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
    fn transmit(&mut self, slot: u32) {
        let Network { wire, sockets, .. } = self;
        let sender = sockets.key(slot);
        let Some(socket) = sockets.get_mut(slot) else {
            return;
        };
        let from = socket.host;
        let Some(connection) = socket.connection() else {
            return;
        };
        let (Phase::Established, Some(receiver)) = (connection.phase, connection.peer) else {
            return;
        };
        if !connection.can_send() {
            return;
        }
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
    fn resend(&mut self, slot: u32, end: u64) {
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
        let (family, options) = (listening.family, listening.options.clone());
        let child = self.insert(to, family, Kind::Stream);
        let now = self.wire.now;
        let reuse = options.reuse_address;
        if let Some(socket) = self.sockets.get_mut(child) {
            let buffers = socket.buffers;
            let mut connection = Connection::new(Phase::SynReceived, from, buffers, now);
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
        }
        let ports = &mut self.hosts[usize::from(to.0)].tcp;
        ports.add_accepted(destination.port(), reuse);
        self.answering.insert(sender, child);
        if let Some(listener) = self.listener(key) {
            listener.handshakes.push(child);
        }
        self.send_empty(child, true, false);
        self.update_timer(child);
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
        let has_room = outcome.room && connection.no_space && connection.is_writable();
        if has_room {
            connection.no_space = false;
        }
        self.wire.recycle(segment.data);
        if let Some(end) = outcome.resend {
            self.resend(slot, end);
        }
        self.transmit(slot);
        if self
            .connection(slot)
            .is_some_and(|connection| connection.acknowledgement_due)
        {
            self.send_acknowledgement(slot);
        }
        self.update_timer(slot);
        if outcome.fin {
            self.mark_state(slot);
        } else if outcome.data {
            self.mark(slot, Edge::Read);
        }
        if has_room {
            self.mark(slot, Edge::Write);
        }
        self.finish_if_done(slot);
    }

    /// Ends a connection after both directions have ended.
    fn finish_if_done(&mut self, slot: u32) {
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
    fn abort(&mut self, slot: u32, error: Errno) {
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

    // Time.

    /// Makes sure that a connection is checked in time.
    pub(super) fn update_timer(&mut self, slot: u32) {
        let Network { wire, sockets, .. } = self;
        let key = sockets.key(slot);
        if let Some(connection) = sockets.get_mut(slot).and_then(Socket::connection) {
            connection.update_deadline(wire.now);
            schedule_check(wire, connection, key);
        }
    }

    /// Removes the first items of the schedule if they are checks that have become pointless. They
    /// would be steps of the world in which nothing happens.
    pub(super) fn remove_pointless_checks(&mut self) {
        while let Some((at, Due::Check(key))) = self.wire.schedule.peek() {
            let (at, key) = (at, *key);
            let connection = self.find_connection(key);
            let connection = connection.filter(|connection| connection.check_at == Some(at));
            if connection
                .as_ref()
                .is_some_and(|c| c.next_check().is_some_and(|next| next <= at))
            {
                return;
            }
            if let Some(connection) = connection {
                connection.check_at = None;
            }
            self.wire.schedule.take_due(at);
            let Network { wire, sockets, .. } = self;
            if sockets.contains(key) {
                if let Some(connection) = sockets.get_mut(key.slot).and_then(Socket::connection) {
                    schedule_check(wire, connection, key);
                }
            }
        }
    }

    pub(super) fn check_connection(&mut self, key: Key, at: u64) {
        let (slot, now) = (key.slot, self.wire.now);
        let is_orphan = self.is_orphan(slot);
        let Some(connection) = self.find_connection(key) else {
            return;
        };
        if connection.check_at != Some(at) {
            return; // an earlier check has replaced this one
        }
        connection.check_at = None;
        if connection.is_unreachable && connection.deadline.is_some_and(|at| at <= now) {
            return self.abort(slot, Errno::HOSTUNREACH);
        }
        let must_acknowledge = connection.must_acknowledge(now);
        match connection.expire(now, is_orphan) {
            Expiry::Nothing if must_acknowledge => self.send_acknowledgement(slot),
            Expiry::Nothing => {}
            Expiry::SendSyn => self.send_syn(slot),
            Expiry::SendSynAck => self.send_empty(slot, true, false),
            Expiry::Resend => self.resend(slot, 0),
            Expiry::Probe => self.send_empty(slot, false, true),
            Expiry::GiveUp => return self.abort(slot, Errno::TIMEDOUT),
        }
        self.update_timer(slot);
    }

    // Lookups.

    fn connection(&mut self, slot: u32) -> Option<&mut Connection> {
        self.sockets.get_mut(slot)?.connection()
    }

    fn find_connection(&mut self, key: Key) -> Option<&mut Connection> {
        if !self.sockets.contains(key) {
            return None;
        }
        self.connection(key.slot)
    }

    fn listener(&mut self, key: Key) -> Option<&mut Listener> {
        if !self.sockets.contains(key) {
            return None;
        }
        match &mut self.sockets.get_mut(key.slot)?.protocol {
            Protocol::TcpListener(listener) => Some(listener),
            _ => None,
        }
    }

    /// Whether the program has closed the socket.
    fn is_orphan(&self, slot: u32) -> bool {
        self.sockets
            .get(slot)
            .is_some_and(|socket| socket.is_orphan)
    }

    pub(super) fn mark_state(&mut self, slot: u32) {
        self.mark(slot, Edge::State);
    }
}

fn schedule_check(wire: &mut Wire, connection: &mut Connection, key: Key) {
    if let Some(at) = connection.next_check() {
        if connection.check_at.is_none_or(|check| check > at) {
            connection.check_at = Some(at);
            wire.schedule.add(at, Due::Check(key));
        }
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
