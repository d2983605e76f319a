//! One end of a TCP connection.

use std::collections::{BTreeMap, VecDeque};

use super::address::HostId;
use super::bytes;
use super::slab::Key;

const SECOND: u64 = 1_000_000_000;

/// The bounds of the retransmission timeout on Linux.
const TIMEOUT: (u64, u64) = (SECOND / 5, 120 * SECOND);
/// The timeout of a handshake.
const HANDSHAKE_TIMEOUT: u64 = SECOND;
/// How often a segment is sent again, in the order of [`Phase`] (`tcp_syn_retries`,
/// `tcp_synack_retries` and `tcp_retries2`). The timeouts are 127, 63 and 925 seconds in all.
const RETRIES: [u32; 3] = [6, 5, 15];
/// The same for a closed socket (`tcp_orphan_retries`).
const ORPHAN_RETRIES: u32 = 8;

/// How long the receiver of a small segment waits for bytes to send back.
const ACKNOWLEDGEMENT_DELAY: u64 = SECOND / 25;
/// With more unacknowledged bytes, it does not wait.
const ACKNOWLEDGED_AT_ONCE: u64 = 1_448;

/// The defaults of Linux for keepalive probes.
const KEEPALIVE_IDLE: u64 = 7_200 * SECOND;
const KEEPALIVE_INTERVAL: u64 = 75 * SECOND;
const KEEPALIVE_PROBES: u32 = 9;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Phase {
    SynSent,
    SynReceived,
    Established,
    /// Reset, timed out, or both directions have ended.
    #[default]
    Closed,
}

/// A segment of an established connection, or the `SYN` of the answering side.
///
/// The first byte of each direction has the number 0. `SYN` has no number, and `FIN` has the one
/// after the last byte.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) syn: bool,
    pub(super) fin: bool,
    /// The receiver must acknowledge it even if it is empty.
    pub(super) probe: bool,
    pub(super) sequence: u64,
    pub(super) acknowledged: u64,
    /// The number of the first byte for which the receiver has no room.
    pub(super) window_end: u64,
    /// Bytes are missing from `acknowledged` up to here. Zero if none are known to be missing.
    pub(super) hole_end: u64,
    pub(super) data: Vec<u8>,
}

/// A range of the outgoing bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) sequence: u64,
    pub(super) len: usize,
    pub(super) fin: bool,
}

/// What a segment has changed.
#[derive(Default, Debug)]
pub(super) struct Outcome {
    /// There is more to read.
    pub(super) data: bool,
    /// The peer has ended its direction.
    pub(super) fin: bool,
    /// The send buffer has more room.
    pub(super) room: bool,
    /// The first missing bytes must be sent again, up to this number.
    pub(super) resend: Option<u64>,
}

/// What the timer requires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expiry {
    /// The deadline has moved.
    Nothing,
    SendSyn,
    SendSynAck,
    Resend,
    Probe,
    /// The peer does not respond any more.
    GiveUp,
}

#[derive(Default, Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// The socket at the other end, once it is known.
    pub(super) peer: Option<Key>,
    pub(super) peer_host: HostId,
    /// The listener, until the connection is established.
    pub(super) listener: Option<Key>,
    /// The peer has closed after it had received all bytes and the `FIN`. TCP has the state
    /// `TIME_WAIT` so that the last acknowledgement cannot be lost.
    pub(super) peer_has_finished: bool,
    /// `connect` has not reported the outcome.
    pub(super) is_connecting: bool,
    /// The network has no host with the peer's address.
    pub(super) is_unreachable: bool,

    /// The outgoing bytes from `acknowledged` on.
    sent: VecDeque<u8>,
    acknowledged: u64,
    next: u64,
    /// The greatest `next` until now. After a loss, `next` goes back.
    highest: u64,
    window_end: u64,
    send_limit: usize,
    /// No more bytes can be written. `FIN` follows the last one.
    pub(super) write_closed: bool,
    fin_sent: bool,
    /// As `fin_sent`, but after a loss it does not go back.
    fin_was_sent: bool,
    fin_acknowledged: bool,
    /// A write found no room. The next room is an event.
    pub(super) no_space: bool,

    received: VecDeque<u8>,
    /// The number of the next byte in order.
    expected: u64,
    /// Bytes behind a hole, by their numbers.
    ahead: BTreeMap<u64, Vec<u8>>,
    fin_at: Option<u64>,
    /// The peer's `FIN` has arrived in order.
    pub(super) peer_closed: bool,
    /// The end of the window that the peer knows.
    announced: u64,
    receive_limit: usize,
    /// Reads at the end of the data return 0.
    pub(super) read_closed: bool,
    pub(super) acknowledgement_due: bool,
    /// When the received bytes are acknowledged at the latest.
    acknowledge_at: Option<u64>,
    /// The peer knows that the bytes before this number have arrived.
    confirmed: u64,

    /// When the timer expires.
    pub(super) deadline: Option<u64>,
    /// When the network checks [`next_check`](Self::next_check).
    pub(super) check_at: Option<u64>,
    /// Attempts without an answer.
    retries: u32,
    /// Probes of a closed window. An answer does not reset their delay.
    probes: u32,
    /// The retransmission timeout before it is doubled.
    timeout: u64,
    round_trip: Option<u64>,
    variation: u64,
    /// The round trip of this byte, sent at this time, is measured.
    timed: Option<(u64, u64)>,
    /// After a timeout, everything is sent again as soon as the peer responds.
    is_recovering: bool,
    /// The first missing byte that was sent again without a timeout.
    resent: Option<u64>,
    pub(super) keepalive: bool,
    /// When the last segment of the peer arrived.
    last_arrival: u64,
    /// When the last packet arrives at the peer. No later one arrives before.
    pub(super) flow: u64,
}

impl Connection {
    pub(super) fn new(
        phase: Phase,
        peer_host: HostId,
        (send_limit, receive_limit): (usize, usize),
        now: u64,
    ) -> Connection {
        Connection {
            phase,
            peer_host,
            is_connecting: phase == Phase::SynSent,
            send_limit,
            announced: receive_limit as u64,
            receive_limit,
            deadline: Some(now + HANDSHAKE_TIMEOUT),
            timeout: TIMEOUT.0,
            timed: Some((0, now)),
            last_arrival: now,
            ..Connection::default()
        }
    }

    /// Sets the end of the peer's window.
    pub(super) fn set_window_end(&mut self, window_end: u64) {
        self.window_end = window_end;
    }

    /// Ends the handshake.
    pub(super) fn establish(&mut self, now: u64, window_end: u64) {
        self.phase = Phase::Established;
        self.window_end = self.window_end.max(window_end);
        self.retries = 0;
        self.deadline = None;
        self.last_arrival = now;
        if let Some((_, at)) = self.timed.take() {
            self.measure(now - at);
        }
    }

    /// Ends both directions. Bytes that have arrived can still be read.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Closed;
        self.sent = VecDeque::new();
        self.ahead = BTreeMap::new();
        self.write_closed = true;
        self.read_closed = true;
        self.deadline = None;
        self.acknowledge_at = None;
    }

    // Writing and reading.

    /// How many more bytes the send buffer takes.
    pub(super) fn room(&self) -> usize {
        self.send_limit.saturating_sub(self.sent.len())
    }

    /// At least a third of the send buffer is free (`__sk_stream_is_writeable`).
    pub(super) fn is_writable(&self) -> bool {
        self.write_closed || self.room() * 2 >= self.sent.len()
    }

    pub(super) fn write(&mut self, bufs: &[std::io::IoSlice<'_>], most: usize) {
        bytes::append(&mut self.sent, bufs, most);
    }

    pub(super) fn unread(&self) -> usize {
        self.received.len()
    }

    pub(super) fn peek(&self, bufs: &mut [std::io::IoSliceMut<'_>], most: usize) -> usize {
        bytes::copy_front(&self.received, bufs, most)
    }

    /// Removes bytes that were read. Returns whether the peer must learn of the new room.
    pub(super) fn consume(&mut self, len: usize) -> bool {
        self.received.drain(..len);
        let grown = self.window() - self.announced;
        let is_shut = self.announced == self.expected;
        let half = (self.receive_limit / 2) as u64;
        self.phase == Phase::Established
            && !self.peer_closed
            && (grown >= half.max(1) || is_shut && grown >= half.clamp(1, 1024))
    }

    // Outgoing segments.

    /// The number of `FIN`.
    fn last(&self) -> u64 {
        self.acknowledged + self.sent.len() as u64
    }

    /// Returns whether the peer has not acknowledged everything that was sent.
    fn is_outstanding(&self) -> bool {
        self.next > self.acknowledged || self.fin_sent && !self.fin_acknowledged
    }

    /// Returns whether the peer's window holds up bytes or `FIN`.
    fn is_held_up(&self) -> bool {
        self.last() > self.next || self.write_closed && !self.fin_sent
    }

    /// Both directions have ended, and the peer knows.
    pub(super) fn is_finished(&self) -> bool {
        self.fin_acknowledged && self.peer_closed
    }

    /// The next bytes that can be sent, which count as sent.
    pub(super) fn next_part(&mut self, now: u64, most: usize) -> Option<Part> {
        let last = self.last();
        let sequence = self.next;
        let len = last.min(self.window_end).saturating_sub(sequence);
        let len = (len as usize).min(most);
        let fin = self.write_closed && !self.fin_sent && sequence + len as u64 == last;
        if len == 0 && !fin {
            return None;
        }
        self.probes = 0;
        self.next += len as u64;
        self.fin_sent |= fin;
        self.fin_was_sent |= fin;
        if self.next > self.highest {
            self.highest = self.next;
            self.timed = self.timed.or(Some((self.next, now)));
        }
        Some(Part { sequence, len, fin })
    }

    /// The first bytes that were sent and not acknowledged. Bytes from `end` on are known to have
    /// arrived, unless it is zero.
    pub(super) fn first_part(&mut self, end: u64, most: usize) -> Part {
        self.timed = None; // the acknowledgement may be for either segment
        let len = (self.next - self.acknowledged) as usize;
        let hole = end.saturating_sub(self.acknowledged) as usize;
        let hole = if hole == 0 { len } else { hole };
        let len = len.min(most).min(hole);
        Part {
            sequence: self.acknowledged,
            len,
            fin: self.fin_sent && len == self.sent.len(),
        }
    }

    /// Starts a segment. It acknowledges everything that has arrived.
    pub(super) fn segment(&mut self, part: Part, data: Vec<u8>) -> Segment {
        self.acknowledgement_due = false;
        self.acknowledge_at = None;
        self.confirmed = self.expected;
        self.announced = self.window();
        Segment {
            syn: false,
            fin: part.fin,
            probe: false,
            sequence: part.sequence,
            acknowledged: self.expected + u64::from(self.peer_closed),
            window_end: self.announced,
            hole_end: self.ahead.keys().next().copied().unwrap_or(0),
            data,
        }
    }

    /// A segment without bytes.
    pub(super) fn acknowledgement(&mut self) -> Segment {
        let part = Part {
            sequence: self.next,
            len: 0,
            fin: false,
        };
        self.segment(part, Vec::new())
    }

    /// Appends the bytes of a part.
    pub(super) fn copy_part(&self, part: Part, data: &mut Vec<u8>) {
        let offset = (part.sequence - self.acknowledged) as usize;
        bytes::copy_range(&self.sent, offset, part.len, data);
    }

    // Incoming segments.

    /// The end of the window for the peer. It never goes back.
    fn window(&self) -> u64 {
        let room = self.receive_limit.saturating_sub(self.received.len()) as u64;
        self.announced.max(self.expected + room)
    }

    /// Returns whether a segment has bytes that have not arrived yet.
    pub(super) fn has_new_bytes(&self, segment: &Segment) -> bool {
        !segment.data.is_empty() && segment.sequence + segment.data.len() as u64 > self.expected
    }

    /// Takes in a segment of the established connection.
    pub(super) fn receive(&mut self, now: u64, segment: &Segment) -> Outcome {
        let mut outcome = Outcome::default();
        self.last_arrival = now;
        self.receive_acknowledgement(now, segment, &mut outcome);
        self.acknowledgement_due |= segment.probe || segment.fin;
        let end = segment.sequence + segment.data.len() as u64;
        if segment.fin {
            self.fin_at = Some(end);
        }
        if self.has_new_bytes(segment) {
            outcome.data = self.receive_bytes(now, segment);
        } else {
            self.acknowledgement_due |= !segment.data.is_empty();
        }
        if self.fin_at == Some(self.expected) && !self.peer_closed {
            self.peer_closed = true;
            self.read_closed = true;
            outcome.fin = true;
        }
        outcome
    }

    /// Takes in new bytes. Returns whether there is more to read.
    fn receive_bytes(&mut self, now: u64, segment: &Segment) -> bool {
        if segment.sequence > self.expected {
            self.acknowledgement_due = true;
            let data = self.ahead.entry(segment.sequence).or_default();
            if data.len() < segment.data.len() {
                segment.data.clone_into(data);
            }
            return false;
        }
        self.append(segment.sequence, &segment.data);
        // The peer may be waiting for the end of a hole.
        self.acknowledgement_due |= !self.ahead.is_empty();
        while let Some(entry) = self.ahead.first_entry() {
            if *entry.key() > self.expected {
                break;
            }
            let (sequence, data) = entry.remove_entry();
            self.append(sequence, &data);
        }
        let unconfirmed = self.expected - self.confirmed;
        self.acknowledgement_due |= unconfirmed > ACKNOWLEDGED_AT_ONCE;
        self.acknowledge_at
            .get_or_insert(now + ACKNOWLEDGEMENT_DELAY);
        true
    }

    fn append(&mut self, sequence: u64, data: &[u8]) {
        let known = (self.expected - sequence) as usize;
        if let Some(new) = data.get(known..) {
            self.received.extend(new);
            self.expected += new.len() as u64;
        }
    }

    fn receive_acknowledgement(&mut self, now: u64, segment: &Segment, outcome: &mut Outcome) {
        let last = self.last();
        let fin = self.fin_was_sent && segment.acknowledged > last;
        let acknowledged = segment.acknowledged.min(last);
        let is_old = segment.acknowledged < self.acknowledged;
        if acknowledged > self.acknowledged || fin && !self.fin_acknowledged {
            self.sent
                .drain(..(acknowledged - self.acknowledged) as usize);
            self.acknowledged = acknowledged;
            self.next = self.next.max(acknowledged);
            self.fin_sent |= fin;
            self.fin_acknowledged |= fin;
            self.retries = 0;
            self.probes = 0;
            self.resent = None;
            outcome.room = true;
            if let Some((_, at)) = self.timed.take_if(|(byte, _)| *byte <= acknowledged) {
                self.measure(now - at);
            }
            if self.is_recovering {
                self.is_recovering = false;
                self.next = acknowledged;
                self.fin_sent = fin;
            }
            self.deadline = self.is_outstanding().then_some(now + self.timeout);
        } else if !self.is_outstanding() {
            self.retries = 0; // the answer to a probe
        }
        self.window_end = self.window_end.max(segment.window_end);
        if segment.hole_end > self.acknowledged
            && !is_old
            && self.next > self.acknowledged
            && self.resent != Some(self.acknowledged)
        {
            self.resent = Some(self.acknowledged);
            outcome.resend = Some(segment.hole_end);
        }
    }

    /// Takes everything that was sent as acknowledged.
    pub(super) fn acknowledge_all(&mut self) {
        self.acknowledged = self.last();
        self.next = self.acknowledged;
        self.sent.clear();
        self.fin_sent = true;
        self.fin_acknowledged = true;
        self.deadline = None;
    }

    // Time.

    /// When something must be done, if nothing arrives and nothing is sent before.
    pub(super) fn next_check(&self) -> Option<u64> {
        match (self.deadline, self.acknowledge_at) {
            (Some(deadline), Some(acknowledge)) => Some(deadline.min(acknowledge)),
            (deadline, acknowledge) => deadline.or(acknowledge),
        }
    }

    /// Returns whether received bytes must be acknowledged now.
    pub(super) fn must_acknowledge(&self, now: u64) -> bool {
        self.acknowledge_at.is_some_and(|at| at <= now)
    }

    /// Returns whether there is something to send, as far as the window allows.
    pub(super) fn can_send(&self) -> bool {
        let has_bytes = self.last().min(self.window_end) > self.next;
        let has_fin = self.write_closed && !self.fin_sent;
        self.phase == Phase::Established && (has_bytes || has_fin)
    }

    /// Adjusts the timeout to a measured round trip (RFC 6298).
    fn measure(&mut self, sample: u64) {
        match self.round_trip {
            None => {
                self.round_trip = Some(sample);
                self.variation = sample / 2;
            }
            Some(smoothed) => {
                let error = smoothed.abs_diff(sample);
                self.variation = (3 * self.variation + error) / 4;
                self.round_trip = Some((7 * smoothed + sample) / 8);
            }
        }
        let timeout = self.round_trip.unwrap_or(0) + 4 * self.variation;
        self.timeout = timeout.clamp(TIMEOUT.0, TIMEOUT.1);
    }

    /// Sets the deadline after something was sent, written or acknowledged.
    pub(super) fn update_deadline(&mut self, now: u64) {
        if self.phase != Phase::Established {
            return;
        }
        if self.is_outstanding() || self.is_held_up() {
            // A probe of an idle peer must not delay the first retransmission.
            let latest = now + self.backed_off();
            self.deadline = Some(self.deadline.map_or(latest, |at| at.min(latest)));
        } else {
            let at = self.last_arrival + KEEPALIVE_IDLE;
            let probed = u64::from(self.retries) * KEEPALIVE_INTERVAL;
            self.deadline = self.keepalive.then_some((at + probed).max(now));
        }
    }

    fn backed_off(&self) -> u64 {
        let doublings = self.retries.max(self.probes).min(16);
        (self.timeout << doublings).min(TIMEOUT.1)
    }

    /// Returns whether `FIN` was sent.
    pub(super) fn has_sent_fin(&self) -> bool {
        self.fin_was_sent
    }

    /// Answers the expiry of the timer.
    pub(super) fn expire(&mut self, now: u64, is_orphan: bool) -> Expiry {
        if self.deadline.is_none_or(|at| at > now) {
            return Expiry::Nothing;
        }
        self.deadline = None;
        let is_sending = self.is_outstanding() || self.is_held_up();
        self.retries += 1;
        let most = match self.phase {
            Phase::SynSent => RETRIES[0],
            Phase::SynReceived => RETRIES[1],
            _ if is_orphan => ORPHAN_RETRIES,
            _ if is_sending => RETRIES[2],
            _ => KEEPALIVE_PROBES,
        };
        if self.retries > most {
            return Expiry::GiveUp;
        }
        match self.phase {
            Phase::SynSent | Phase::SynReceived => {
                self.timed = None;
                self.deadline = Some(now + (HANDSHAKE_TIMEOUT << self.retries));
                if self.phase == Phase::SynSent {
                    Expiry::SendSyn
                } else {
                    Expiry::SendSynAck
                }
            }
            Phase::Closed => Expiry::Nothing,
            Phase::Established if self.is_outstanding() => {
                self.is_recovering = true;
                self.deadline = Some(now + self.backed_off());
                Expiry::Resend
            }
            Phase::Established => {
                self.probes += u32::from(is_sending);
                self.update_deadline(now);
                Expiry::Probe
            }
        }
    }
}
