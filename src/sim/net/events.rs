//! Registrations and their events.

use rustix::io::Errno;
use std::io;

use super::address::HostId;
use super::network::Network;
use super::readiness::{Edge, Event, Readiness, Registration};
use super::slab::Key;
use super::socket::{Protocol, SocketId};
use super::wire::Due;
use crate::sim::choices::Site;

impl Network {
    /// Registers a socket with its host's poller, for reading and perhaps for writing. If the
    /// socket is ready, that is an event.
    ///
    /// # Errors
    ///
    /// Fails with `EEXIST` if the socket is registered.
    pub(crate) fn register(
        &mut self,
        id: SocketId,
        key: u64,
        write: bool,
        exclusive: bool,
    ) -> io::Result<()> {
        let socket = self.open_mut(id)?;
        if socket.registration.is_some() {
            return Err(Errno::EXIST.into());
        }
        socket.registration = Some(Registration {
            key,
            write,
            exclusive,
            is_pending: false,
            spurious: None,
        });
        self.mark_if_ready(id.slot());
        Ok(())
    }

    /// Changes a registration. If the socket is ready, that is an event.
    ///
    /// # Errors
    ///
    /// Fails with `ENOENT` if the socket is not registered.
    pub(crate) fn change(&mut self, id: SocketId, key: u64, write: bool) -> io::Result<()> {
        let registration = self.open_mut(id)?.registration.as_mut();
        let registration = registration.ok_or(Errno::NOENT)?;
        registration.key = key;
        registration.write = write;
        self.mark_if_ready(id.slot());
        Ok(())
    }

    /// Removes a registration with its pending event.
    ///
    /// # Errors
    ///
    /// Fails with `ENOENT` if the socket is not registered.
    pub(crate) fn deregister(&mut self, id: SocketId) -> io::Result<()> {
        let registration = self.open_mut(id)?.registration.take();
        Ok(registration.map(drop).ok_or(Errno::NOENT)?)
    }

    /// Returns whether [`take_events`](Self::take_events) may return an event.
    pub(crate) fn has_events(&self, host: HostId) -> bool {
        let mut pending = self.hosts[usize::from(host.0)].pending.iter();
        pending.any(|slot| {
            let socket = self.sockets.get(*slot).filter(|socket| socket.host == host);
            let registration = socket.and_then(|socket| socket.registration.as_ref());
            registration.is_some_and(|registration| registration.is_pending)
        })
    }

    /// Appends the pending events of a host. Each reports the present state.
    pub(crate) fn take_events(&mut self, host: HostId, events: &mut Vec<Event>) {
        let number = usize::from(host.0);
        let mut pending = std::mem::take(&mut self.hosts[number].pending);
        let (rate, count) = (self.wire.faults.event_order, pending.len());
        for i in 0..count.saturating_sub(1) {
            let left = (count - i).min(1024) as u32;
            let skipped = rate.amount(&self.wire.choices, host.0, Site::Event, left);
            pending.swap(i, i + skipped as usize);
        }
        for slot in pending.drain(..) {
            let Some(socket) = self.sockets.get(slot) else {
                continue;
            };
            let registration = socket.registration.as_ref();
            if socket.host != host || !registration.is_some_and(|entry| entry.is_pending) {
                continue;
            }
            let readiness = self.check_readiness(slot);
            let socket = self.sockets.get_mut(slot);
            let registration = socket.and_then(|socket| socket.registration.as_mut());
            events.extend(registration.and_then(|entry| entry.take_event(readiness)));
        }
        self.hosts[number].pending = pending;
    }

    /// Returns the present state of a socket, as poll(2) does.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn readiness(&mut self, id: SocketId) -> io::Result<Readiness> {
        self.open(id)?;
        let readiness = self.check_readiness(id.slot());
        if !readiness.readable {
            self.would_block(id.slot(), Edge::Read); // perhaps a spurious event
        }
        Ok(readiness)
    }

    /// Returns the state of a socket. If there is no room to write, the next room is an event.
    fn check_readiness(&mut self, slot: u32) -> Readiness {
        let unix_writable = self.is_unix_writable(slot);
        let Some(socket) = self.sockets.get_mut(slot) else {
            return Readiness::default();
        };
        let readiness = socket.readiness(unix_writable);
        if !readiness.writable {
            match &mut socket.protocol {
                Protocol::Tcp(connection) => connection.no_space = true,
                Protocol::UnixDatagram(_) => self.wait_for_room(slot),
                _ => {}
            }
        }
        readiness
    }

    fn mark_if_ready(&mut self, slot: u32) {
        let readiness = self.check_readiness(slot);
        let registration = self.sockets.get(slot).and_then(|s| s.registration.as_ref());
        if registration.is_some_and(|entry| entry.filter(readiness).is_some()) {
            self.mark(slot, Edge::State);
        }
    }

    /// Makes an event pending, if the socket is registered for this edge.
    pub(super) fn mark(&mut self, slot: u32, edge: Edge) {
        let Some(socket) = self.sockets.get_mut(slot) else {
            return;
        };
        let registration = socket.registration.as_mut();
        if let Some(entry) = registration.filter(|entry| entry.is_interested(edge)) {
            if !entry.is_pending {
                entry.is_pending = true;
                self.hosts[usize::from(socket.host.0)]
                    .pending
                    .push_back(slot);
            }
        }
    }

    /// After a call has found a socket not ready, a spurious event may follow.
    pub(super) fn would_block(&mut self, slot: u32, edge: Edge) -> Errno {
        const LEVELS: u32 = 16;
        const LEVEL: u64 = 50_000;
        if let Some(socket) = self.sockets.get(slot) {
            let (rate, host) = (self.wire.faults.spurious_event, socket.host.0);
            let level = rate.amount(&self.wire.choices, host, Site::Spurious, LEVELS);
            if level > 0 {
                let at = self.wire.now + u64::from(level) * LEVEL;
                let due = Due::Spurious(self.sockets.key(slot), edge);
                self.wire.schedule.add(at, due);
            }
        }
        Errno::AGAIN
    }

    pub(super) fn report_spurious(&mut self, key: Key, edge: Edge) {
        if !self.sockets.contains(key) {
            return;
        }
        let socket = self.sockets.get_mut(key.slot);
        if let Some(entry) = socket.and_then(|socket| socket.registration.as_mut()) {
            entry.spurious = entry.is_interested(edge).then_some(edge);
            self.mark(key.slot, edge);
        }
    }
}
