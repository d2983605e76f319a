//! Unix sockets, within one host and without delay.

use std::io::{IoSlice, IoSliceMut};

use rustix::io::Errno;

use super::address::{Address, Family, HostId, Kind, UnixName};
use super::bytes;
use super::network::Network;
use super::readiness::Edge;
use super::slab::Key;
use super::socket::{OVERHEAD, Protocol, UnixDatagram, UnixListener, UnixMessage, UnixStream};

/// How many datagrams a queue has before other senders must wait (`max_dgram_qlen`).
const MAX_QUEUE: usize = 10;

impl Network {
    // Names.

    pub(super) fn bind_unix(&mut self, slot: u32, name: &UnixName) -> Result<(), Errno> {
        let key = self.sockets.key(slot);
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let host = socket.host;
        let own = match &mut socket.protocol {
            Protocol::UnixStream(stream) => &mut stream.name,
            Protocol::UnixDatagram(datagram) => &mut datagram.name,
            _ => return Err(Errno::INVAL),
        };
        if *own != UnixName::Unnamed {
            return Err(Errno::INVAL);
        }
        let names = &mut self.hosts[usize::from(host.0)];
        match name {
            UnixName::Unnamed => return Err(Errno::INVAL),
            UnixName::Path(path) => {
                if names.paths.contains_key(&**path) {
                    return Err(Errno::ADDRINUSE);
                }
                names.paths.insert((**path).into(), Some(key));
            }
            UnixName::Abstract(name) => {
                if names.abstract_names.contains_key(&**name) {
                    return Err(Errno::ADDRINUSE);
                }
                names.abstract_names.insert((**name).into(), key);
            }
        }
        *own = name.clone();
        Ok(())
    }

    /// Finds the open socket with a name.
    fn find_unix(&self, host: HostId, name: &UnixName, kind: Kind) -> Result<u32, Errno> {
        let names = &self.hosts[usize::from(host.0)];
        let key = match name {
            UnixName::Unnamed => return Err(Errno::INVAL),
            UnixName::Path(path) => *names.paths.get(&**path).ok_or(Errno::NOENT)?,
            UnixName::Abstract(name) => names.abstract_names.get(&**name).copied(),
        };
        let slot = key.ok_or(Errno::CONNREFUSED)?.slot;
        let socket = self.sockets.get(slot).ok_or(Errno::CONNREFUSED)?;
        if socket.kind != kind {
            return Err(Errno::PROTOTYPE);
        }
        Ok(slot)
    }

    // Both kinds.

    /// Connects two sockets with each other.
    pub(super) fn join_unix(&mut self, first: u32, second: u32) {
        for (slot, peer) in [(first, second), (second, first)] {
            let peer_key = self.sockets.key(peer);
            match self
                .sockets
                .get_mut(slot)
                .map(|socket| &mut socket.protocol)
            {
                Some(Protocol::UnixStream(stream)) => {
                    stream.is_connected = true;
                    stream.peer = Some(peer);
                }
                Some(Protocol::UnixDatagram(datagram)) => datagram.peer = Some(peer_key),
                _ => {}
            }
        }
    }

    pub(super) fn shutdown_unix(&mut self, slot: u32, read: bool, write: bool) {
        let peer = match self
            .sockets
            .get_mut(slot)
            .map(|socket| &mut socket.protocol)
        {
            Some(Protocol::UnixStream(stream)) => {
                stream.read_closed |= read;
                stream.write_closed |= write;
                stream.peer
            }
            Some(Protocol::UnixDatagram(datagram)) => {
                datagram.read_closed |= read;
                datagram.write_closed |= write;
                None
            }
            _ => None,
        };
        self.mark(slot, Edge::State);
        if let Some(peer) = peer {
            if let Some(stream) = self.unix_stream(peer) {
                stream.read_closed |= write;
                stream.write_closed |= read;
            }
            self.mark(peer, Edge::State);
        }
    }

    /// Separates a socket that is removed from its peers.
    pub(super) fn leave_unix(&mut self, slot: u32) {
        let Some(socket) = self.sockets.get_mut(slot) else {
            return;
        };
        match &mut socket.protocol {
            Protocol::UnixStream(stream) => {
                let (peer, is_unread) = (stream.peer.take(), !stream.received.is_empty());
                let listener = stream.listener.take();
                self.part_unix(peer, is_unread);
                for child in listener.into_iter().flat_map(|listener| listener.queue) {
                    let peer = self
                        .unix_stream(child)
                        .and_then(|stream| stream.peer.take());
                    self.part_unix(peer, true);
                    self.remove(child);
                }
            }
            Protocol::UnixDatagram(_) => self.clear_queue(slot),
            _ => {}
        }
    }

    /// Drops the datagrams that a socket has not received.
    fn clear_queue(&mut self, slot: u32) {
        if let Some(datagram) = self.unix_datagram(slot) {
            let queue = std::mem::take(&mut datagram.queue);
            let waiting = std::mem::take(&mut datagram.waiting);
            for message in queue {
                self.release(&message);
            }
            self.wake_senders(waiting);
        }
    }

    /// Reports to a stream that its peer is closed. The peer may have left bytes unread.
    fn part_unix(&mut self, stream: Option<u32>, is_unread: bool) {
        let Some(slot) = stream else {
            return;
        };
        let Some(socket) = self.sockets.get_mut(slot) else {
            return;
        };
        if let Some(stream) = socket.unix_stream() {
            stream.peer = None;
            stream.read_closed = true;
            stream.write_closed = true;
        }
        if is_unread {
            socket.error = Some(Errno::CONNRESET);
        }
        self.mark(slot, Edge::State);
    }

    /// Returns whether a Unix socket can be written to (`unix_writable`, `unix_dgram_poll`).
    pub(super) fn is_unix_writable(&self, slot: u32) -> bool {
        let Some(socket) = self.sockets.get(slot) else {
            return false;
        };
        let limit = socket.buffers.0;
        match &socket.protocol {
            Protocol::UnixStream(stream) => self.used_by(stream) * 4 <= limit,
            Protocol::UnixDatagram(datagram) => {
                let peer = datagram.peer.filter(|peer| self.sockets.contains(*peer));
                let is_full = peer.is_some_and(|peer| self.is_full_for(peer.slot, slot));
                datagram.charged * 4 <= limit && !is_full
            }
            _ => false,
        }
    }

    fn unix_stream(&mut self, slot: u32) -> Option<&mut UnixStream> {
        self.sockets.get_mut(slot)?.unix_stream()
    }

    fn unix_datagram(&mut self, slot: u32) -> Option<&mut UnixDatagram> {
        self.sockets.get_mut(slot)?.unix_datagram()
    }

    // Streams.

    /// How many bytes of a stream its peer has not read.
    fn used_by(&self, stream: &UnixStream) -> usize {
        let peer = stream.peer.and_then(|peer| self.sockets.get(peer));
        match peer.map(|socket| &socket.protocol) {
            Some(Protocol::UnixStream(peer)) => peer.received.len(),
            _ => 0,
        }
    }

    pub(super) fn listen_unix(&mut self, slot: u32, backlog: usize) -> Result<(), Errno> {
        let stream = self.unix_stream(slot).ok_or(Errno::BADF)?;
        if stream.name == UnixName::Unnamed || stream.is_connected {
            return Err(Errno::INVAL);
        }
        let queue = stream.listener.take().map(|listener| listener.queue);
        let queue = queue.unwrap_or_default();
        stream.listener = Some(UnixListener { backlog, queue });
        self.mark(slot, Edge::State);
        Ok(())
    }

    pub(super) fn connect_unix_stream(&mut self, slot: u32, to: &UnixName) -> Result<(), Errno> {
        let host = self.sockets.get(slot).ok_or(Errno::BADF)?.host;
        let found = self.find_unix(host, to, Kind::Stream)?;
        let listening = self.unix_stream(found).ok_or(Errno::CONNREFUSED)?;
        let name = listening.name.clone();
        let listener = listening.listener.as_ref().ok_or(Errno::CONNREFUSED)?;
        if listener.queue.len() > listener.backlog {
            return Err(Errno::AGAIN);
        }
        let stream = self.unix_stream(slot).ok_or(Errno::BADF)?;
        if stream.listener.is_some() {
            return Err(Errno::INVAL);
        }
        if stream.is_connected {
            return Err(Errno::ISCONN);
        }
        stream.peer_name = name.clone();
        let client_name = stream.name.clone();
        let child = self.insert(host, Family::Unix, Kind::Stream);
        self.join_unix(slot, child);
        if let Some(socket) = self.sockets.get_mut(child) {
            socket.is_hidden = true;
            if let Some(stream) = socket.unix_stream() {
                stream.name = name;
                stream.peer_name = client_name;
            }
        }
        if let Some(stream) = self.unix_stream(found) {
            stream
                .listener
                .iter_mut()
                .for_each(|listener| listener.queue.push_back(child));
        }
        self.mark(found, Edge::Read);
        self.mark(slot, Edge::State);
        Ok(())
    }

    pub(super) fn accept_unix(&mut self, slot: u32) -> Option<(u32, Address)> {
        let listener = self.unix_stream(slot)?.listener.as_mut()?;
        let child = listener.queue.pop_front()?;
        let name = self.unix_stream(child)?.peer_name.clone();
        Some((child, Address::Unix(name)))
    }

    pub(super) fn send_unix_stream(
        &mut self,
        slot: u32,
        bufs: &[IoSlice<'_>],
    ) -> Result<usize, Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let (host, limit) = (socket.host, socket.buffers.0);
        let stream = socket.unix_stream().ok_or(Errno::BADF)?;
        if !stream.is_connected {
            return Err(Errno::NOTCONN);
        }
        if stream.write_closed {
            return Err(Errno::PIPE);
        }
        let peer = stream.peer.ok_or(Errno::PIPE)?;
        let len = bytes::length(bufs);
        let used = self.unix_stream(peer).map_or(0, |peer| peer.received.len());
        let whole = len.min(limit.saturating_sub(used));
        if len == 0 {
            return Ok(0);
        }
        if whole == 0 {
            return Err(self.would_block(slot, Edge::Write));
        }
        let sent = self.shorten(host, whole);
        if let Some(peer) = self.unix_stream(peer) {
            bytes::append(&mut peer.received, bufs, sent);
        }
        self.mark(peer, Edge::Read);
        if sent < whole {
            self.mark(slot, Edge::Write);
        }
        Ok(sent)
    }

    pub(super) fn receive_unix_stream(
        &mut self,
        slot: u32,
        bufs: &mut [IoSliceMut<'_>],
        peek: bool,
    ) -> Result<usize, Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let host = socket.host;
        let stream = socket.unix_stream().ok_or(Errno::BADF)?;
        if !stream.is_connected {
            return Err(Errno::INVAL);
        }
        if stream.received.is_empty() {
            let is_closed = stream.read_closed;
            socket.check_error()?;
            return match is_closed {
                true => Ok(0),
                false => Err(self.would_block(slot, Edge::Read)),
            };
        }
        let whole = bytes::length_mut(bufs).min(stream.received.len());
        let most = self.shorten(host, whole);
        let stream = self.unix_stream(slot).ok_or(Errno::BADF)?;
        let received = bytes::copy_front(&stream.received, bufs, most);
        let peer = stream.peer;
        if !peek {
            stream.received.drain(..received);
        }
        if received < whole {
            self.mark(slot, Edge::Read);
        }
        // Each read frees memory of the sender, which is an event if there is enough room.
        if let Some(peer) = peer.filter(|_| !peek && received > 0) {
            if self.is_unix_writable(peer) {
                self.mark(peer, Edge::Write);
            }
        }
        Ok(received)
    }

    // Datagrams.

    /// Returns whether the queue of a socket is full for a sender. It never is for the socket's own
    /// peer.
    fn is_full_for(&self, receiver: u32, sender: u32) -> bool {
        match self.sockets.get(receiver).map(|socket| &socket.protocol) {
            Some(Protocol::UnixDatagram(datagram)) => {
                let is_peer = datagram.peer == Some(self.sockets.key(sender));
                !is_peer && datagram.queue.len() > MAX_QUEUE
            }
            _ => false,
        }
    }

    pub(super) fn connect_unix_datagram(&mut self, slot: u32, to: &UnixName) -> Result<(), Errno> {
        let host = self.sockets.get(slot).ok_or(Errno::BADF)?.host;
        let found = self.find_unix(host, to, Kind::Datagram)?;
        self.check_sender(found, slot)?;
        let key = self.sockets.key(found);
        let datagram = self.unix_datagram(slot).ok_or(Errno::BADF)?;
        datagram.peer = Some(key);
        datagram.peer_name = to.clone();
        Ok(())
    }

    /// A socket with a peer receives from that peer only.
    fn check_sender(&mut self, receiver: u32, sender: u32) -> Result<(), Errno> {
        let sender = self.sockets.key(sender);
        let datagram = self.unix_datagram(receiver).ok_or(Errno::CONNREFUSED)?;
        match datagram.peer {
            Some(peer) if peer != sender => Err(Errno::PERM),
            _ => Ok(()),
        }
    }

    pub(super) fn send_unix_datagram(
        &mut self,
        slot: u32,
        bufs: &[IoSlice<'_>],
        to: Option<&UnixName>,
    ) -> Result<usize, Errno> {
        let sender = self.sockets.key(slot);
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let (host, limit) = (socket.host, socket.buffers.0);
        let datagram = socket.unix_datagram().ok_or(Errno::BADF)?;
        let (charged, peer) = (datagram.charged, datagram.peer);
        let (sender_name, write_closed) = (datagram.name.clone(), datagram.write_closed);
        let len = bytes::length(bufs);
        if to.is_none() && peer.is_none() {
            return Err(Errno::NOTCONN);
        }
        if len > limit.saturating_sub(32) {
            return Err(Errno::MSGSIZE);
        }
        if write_closed {
            return Err(Errno::PIPE);
        }
        if charged >= limit {
            return Err(self.would_block(slot, Edge::Write));
        }
        let receiver = self.find_receiver(slot, host, to)?;
        if self.is_full_for(receiver, slot) {
            self.wait_for_room(slot);
            return Err(self.would_block(slot, Edge::Write));
        }
        let message = UnixMessage {
            sender,
            sender_name,
            data: bytes::gather(self.wire.buffer(), bufs),
        };
        self.queue_message(receiver, message);
        Ok(len)
    }

    /// Queues a datagram, and charges its memory to the sender.
    fn queue_message(&mut self, receiver: u32, message: UnixMessage) {
        if let Some(sender) = self.unix_datagram(message.sender.slot) {
            sender.charged += message.data.len() + OVERHEAD;
        }
        if let Some(receiver) = self.unix_datagram(receiver) {
            receiver.queue.push_back(message);
        }
        self.mark(receiver, Edge::Read);
    }

    /// Finds the socket that a datagram is for. Without a name, it is the sender's peer.
    fn find_receiver(
        &mut self,
        sender: u32,
        host: HostId,
        to: Option<&UnixName>,
    ) -> Result<u32, Errno> {
        let peer = self
            .unix_datagram(sender)
            .and_then(|datagram| datagram.peer);
        let receiver = match to {
            Some(name) => self.find_unix(host, name, Kind::Datagram)?,
            None => match peer.filter(|peer| self.sockets.contains(*peer)) {
                Some(peer) => peer.slot,
                None => {
                    let datagram = self.unix_datagram(sender).ok_or(Errno::BADF)?;
                    datagram.peer = None;
                    // `unix_dgram_disconnected` drops the datagrams in the queue.
                    self.clear_queue(sender);
                    return Err(Errno::CONNREFUSED);
                }
            },
        };
        self.check_sender(receiver, sender)?;
        let receives = self.unix_datagram(receiver);
        if receives.is_some_and(|receiver| receiver.read_closed) {
            return Err(Errno::PIPE);
        }
        Ok(receiver)
    }

    /// Room in the queue of the socket's peer becomes an event.
    pub(super) fn wait_for_room(&mut self, slot: u32) {
        let key = self.sockets.key(slot);
        let Some(peer) = self.unix_datagram(slot).and_then(|datagram| datagram.peer) else {
            return;
        };
        if self.sockets.contains(peer) && self.is_full_for(peer.slot, slot) {
            if let Some(datagram) = self.unix_datagram(peer.slot) {
                if !datagram.waiting.contains(&key) {
                    datagram.waiting.push(key);
                }
            }
        }
    }

    pub(super) fn receive_unix_datagram(
        &mut self,
        slot: u32,
        bufs: &mut [IoSliceMut<'_>],
        peek: bool,
    ) -> Result<(usize, Option<Address>, bool), Errno> {
        let datagram = self.unix_datagram(slot).ok_or(Errno::BADF)?;
        let Some(message) = datagram.queue.front() else {
            if datagram.read_closed {
                return Ok((0, None, false));
            }
            return Err(self.would_block(slot, Edge::Read));
        };
        let len = message.data.len();
        let copied = bytes::scatter(&message.data, bufs, 0, len);
        let addr = Some(Address::Unix(message.sender_name.clone()));
        if !peek {
            let message = datagram.queue.pop_front();
            let waiting = match datagram.queue.len() <= MAX_QUEUE {
                true => std::mem::take(&mut datagram.waiting),
                false => Vec::new(),
            };
            if let Some(message) = message {
                self.release(&message);
                self.wire.recycle(message.data);
            }
            self.wake_senders(waiting);
        }
        Ok((copied, addr, copied < len))
    }

    /// Returns the memory of a datagram to its sender.
    fn release(&mut self, message: &UnixMessage) {
        let sender = message.sender;
        if !self.sockets.contains(sender) {
            return;
        }
        if let Some(datagram) = self.unix_datagram(sender.slot) {
            datagram.charged -= message.data.len() + OVERHEAD;
        }
        if self.is_unix_writable(sender.slot) {
            self.mark(sender.slot, Edge::Write);
        }
    }

    fn wake_senders(&mut self, waiting: Vec<Key>) {
        for key in waiting {
            if self.sockets.contains(key) {
                self.mark(key.slot, Edge::Write);
            }
        }
    }
}
