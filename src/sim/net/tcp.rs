//! The sockets of TCP.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use super::address::{Address, shown};
use super::bytes;
use super::connection::{Connection, Expiry, Phase};
use super::network::Network;
use super::readiness::Edge;
use super::slab::Key;
use super::socket::{Listener, Protocol, Socket};
use super::wire::{Due, Wire};

/// How long Linux tries to find the hardware address of a host.
const UNREACHABLE_AFTER: u64 = 3_000_000_000;

impl Network {
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

    pub(super) fn connection(&mut self, slot: u32) -> Option<&mut Connection> {
        self.sockets.get_mut(slot)?.connection()
    }

    pub(super) fn find_connection(&mut self, key: Key) -> Option<&mut Connection> {
        if !self.sockets.contains(key) {
            return None;
        }
        self.connection(key.slot)
    }

    pub(super) fn listener(&mut self, key: Key) -> Option<&mut Listener> {
        if !self.sockets.contains(key) {
            return None;
        }
        match &mut self.sockets.get_mut(key.slot)?.protocol {
            Protocol::TcpListener(listener) => Some(listener),
            _ => None,
        }
    }

    /// Returns whether the program has closed the socket.
    pub(super) fn is_orphan(&self, slot: u32) -> bool {
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
