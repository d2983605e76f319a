//! The network of a world: hosts, links, and the sockets of TCP, UDP and Unix.
//!
//! It is a model. It has no descriptor, thread, clock or system call. The world moves its time, and
//! passes on the socket calls of the programs. All errors are as on Linux. The model was compared
//! with Linux 6.18 on the loopback interface.
//!
//! These parts of a real network are left out:
//!
//! - Congestion control, Nagle's algorithm and selective acknowledgements. A receiver reports its
//!   first hole instead. One window limits the bytes in flight, which is the receiver's.
//! - `TIME_WAIT`. The end that closes last has the port again at once, and a lost last
//!   acknowledgement has no effect.
//! - Simultaneous connects, urgent data, fragments, multicast and `SO_REUSEPORT`.
//! - The memory that the system needs beside the bytes, except for datagrams.
//! - Events for room in the send buffer of a UDP socket, which always has room.
//! - Descriptors as messages of Unix sockets.

mod address;
mod binding;
mod bytes;
mod calls;
mod connection;
mod events;
mod faults;
mod host;
mod link;
mod network;
mod rate;
mod readiness;
mod schedule;
mod segments;
mod slab;
mod socket;
mod tcp;
mod udp;
mod unix;
mod wire;
#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod tcp_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod udp_tests;
#[cfg(test)]
mod unix_tests;

pub(crate) use address::{Address, HostId, UnixName};
#[cfg(test)]
use address::{Family, Kind};
pub(crate) use faults::Faults;
pub(crate) use link::Link;
pub(crate) use network::Network;
pub(crate) use rate::Rate;
pub(crate) use readiness::{Event, Readiness};
pub(crate) use socket::SocketId;
