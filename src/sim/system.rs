//! The system calls of a host.

use std::cell::{Cell, RefMut};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use windlass_reactor::system::{
    Address, Event, Family, Kind, Readiness, Received, SocketOption, System,
};

use super::clock::Clock;
use super::context::Context;
use super::net::{self, HostId, Network, SocketId, UnixName};
use super::trace::{EventKind, hash_of};
use super::world::WorldState;

/// The system that a host runs on.
pub(super) struct HostSystem {
    world: Weak<WorldState>,
    host: HostId,
    /// Of the world. It has the time also while the world is being dropped.
    context: Rc<Context>,
    pub(super) clock: Cell<Clock>,
}

impl HostSystem {
    pub(super) fn new(world: &Rc<WorldState>, host: HostId, clock: Clock) -> HostSystem {
        HostSystem {
            world: Rc::downgrade(world),
            host,
            context: world.run.context.clone(),
            clock: Cell::new(clock),
        }
    }

    /// Fails while the world is being dropped.
    fn world(&self) -> io::Result<Rc<WorldState>> {
        let world = self.world.upgrade();
        world.ok_or_else(|| io::Error::other("the simulated world has ended"))
    }

    /// Makes a call for a socket, and records its result.
    fn call<T>(
        &self,
        fd: RawFd,
        name: Call,
        call: impl FnOnce(&mut Network, SocketId) -> io::Result<T>,
        result: impl FnOnce(&T) -> u64,
    ) -> io::Result<T> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        let returned = call(&mut world.network(), socket);
        let number = match &returned {
            Ok(value) => result(value),
            Err(error) => 1 << 63 | error.raw_os_error().unwrap_or(0) as u64,
        };
        world.record(self.host, EventKind::Call, name as u64, number);
        returned
    }

    /// Creates the descriptor of a new socket.
    fn descriptor(&self, world: &WorldState, socket: SocketId) -> io::Result<OwnedFd> {
        let created = world.descriptors.insert(socket);
        let mut network: RefMut<'_, Network> = world.network();
        match created {
            Ok((fd, lost)) => {
                if let Some(lost) = lost {
                    let _ = network.close(lost); // fails if its host has crashed
                }
                Ok(fd)
            }
            Err(error) => {
                network.close(socket)?;
                Err(error)
            }
        }
    }
}

/// The calls, by their numbers in the trace.
#[derive(Clone, Copy)]
enum Call {
    Socket,
    Bind,
    Listen,
    Connect,
    Accept,
    Send,
    Receive,
    Shutdown,
    Close,
    SetOption,
    TakeError,
}

impl System for HostSystem {
    fn now(&self) -> u64 {
        self.clock.get().of_host(self.context.now())
    }

    fn register(&self, fd: RawFd, key: u64, writable: bool, exclusive: bool) -> io::Result<()> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().register(socket, key, writable, exclusive)
    }

    fn watch_writing(&self, fd: RawFd, key: u64) -> io::Result<()> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().change(socket, key, true)
    }

    fn deregister(&self, fd: RawFd) -> io::Result<()> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().deregister(socket)
    }

    fn take_events(&self, events: &mut Vec<Event>) {
        if let Ok(world) = self.world() {
            let mut taken = world.events.take();
            world.network().take_events(self.host, &mut taken);
            events.extend(taken.drain(..).map(|event| Event {
                key: event.key,
                readiness: readiness(event.readiness),
            }));
            world.events.set(taken);
        }
    }

    fn socket(&self, family: Family, kind: Kind) -> io::Result<OwnedFd> {
        let world = self.world()?;
        let socket = world.network().socket(self.host, family, kind)?;
        world.record(self.host, EventKind::Call, Call::Socket as u64, 0);
        self.descriptor(&world, socket)
    }

    fn pair(&self, kind: Kind) -> io::Result<(OwnedFd, OwnedFd)> {
        let world = self.world()?;
        let (here, there) = world.network().pair(self.host, kind)?;
        let here = self.descriptor(&world, here)?;
        Ok((here, self.descriptor(&world, there)?))
    }

    fn bind(&self, fd: RawFd, addr: &Address) -> io::Result<()> {
        self.call(
            fd,
            Call::Bind,
            |network, socket| network.bind(socket, &to_network(addr)),
            |()| 0,
        )
    }

    fn listen(&self, fd: RawFd, backlog: usize) -> io::Result<()> {
        self.call(
            fd,
            Call::Listen,
            |network, socket| network.listen(socket, backlog),
            |()| 0,
        )
    }

    fn connect(&self, fd: RawFd, addr: &Address) -> io::Result<bool> {
        self.call(
            fd,
            Call::Connect,
            |network, socket| network.connect(socket, &to_network(addr)),
            |&in_progress| in_progress.into(),
        )
    }

    fn accept(&self, fd: RawFd) -> io::Result<(OwnedFd, Address)> {
        let accept = |network: &mut Network, socket| network.accept(socket);
        let (socket, peer) = self.call(fd, Call::Accept, accept, |_| 0)?;
        let peer = peer.map_or(Address::Unix(Vec::new()), to_reactor);
        Ok((self.descriptor(&*self.world()?, socket)?, peer))
    }

    fn send(&self, fd: RawFd, bufs: &[IoSlice<'_>], to: Option<&Address>) -> io::Result<usize> {
        let sent = self.call(
            fd,
            Call::Send,
            |network, socket| network.send(socket, bufs, to.map(to_network).as_ref()),
            |&sent| sent as u64,
        )?;
        if let Some(world) = self.world.upgrade() {
            let hash = hash_of(bufs, sent);
            world.record(self.host, EventKind::Bytes, sent as u64, hash);
        }
        Ok(sent)
    }

    fn receive(&self, fd: RawFd, bufs: &mut [IoSliceMut<'_>], peek: bool) -> io::Result<Received> {
        self.call(
            fd,
            Call::Receive,
            |network, socket| {
                let (bytes, from, _) = network.receive(socket, bufs, peek)?;
                let from = from.map(to_reactor);
                Ok(Received { bytes, from })
            },
            |received| received.bytes as u64,
        )
    }

    fn shutdown(&self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        self.call(
            fd,
            Call::Shutdown,
            |network, socket| network.shutdown(socket, how),
            |()| 0,
        )
    }

    fn close(&self, fd: RawFd) {
        if let Ok(world) = self.world() {
            if let Some(socket) = world.descriptors.remove(fd) {
                let _ = world.network().close(socket); // fails if the host has crashed
                world.record(self.host, EventKind::Call, Call::Close as u64, 0);
            }
        }
    }

    fn local_addr(&self, fd: RawFd) -> io::Result<Address> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().local_addr(socket).map(to_reactor)
    }

    fn peer_addr(&self, fd: RawFd) -> io::Result<Address> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().peer_addr(socket).map(to_reactor)
    }

    fn take_error(&self, fd: RawFd) -> io::Result<Option<io::Error>> {
        let take = |network: &mut Network, socket| network.take_error(socket);
        self.call(fd, Call::TakeError, take, |error| error.is_some().into())
    }

    fn option(&self, fd: RawFd, option: SocketOption) -> io::Result<i64> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        let network = world.network();
        let options = network.options(socket)?;
        Ok(match option {
            SocketOption::NoDelay => options.nodelay.into(),
            SocketOption::Ttl => options.ttl.into(),
            SocketOption::Linger => options.linger.map_or(-1, |linger| linger.as_secs() as i64),
            SocketOption::KeepAlive => options.keepalive.into(),
            SocketOption::Broadcast => options.broadcast.into(),
            SocketOption::ReuseAddress => options.reuse_address.into(),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    fn set_option(&self, fd: RawFd, option: SocketOption, value: i64) -> io::Result<()> {
        let set = |network: &mut Network, socket| {
            let mut options = network.options(socket)?.clone();
            let is_on = value != 0;
            match option {
                SocketOption::NoDelay => options.nodelay = is_on,
                SocketOption::Ttl if !(1..=255).contains(&value) => {
                    return Err(Errno::INVAL.into());
                }
                SocketOption::Ttl => options.ttl = value as u32,
                SocketOption::Linger => {
                    options.linger = u64::try_from(value).ok().map(Duration::from_secs);
                }
                SocketOption::KeepAlive => options.keepalive = is_on,
                SocketOption::Broadcast => options.broadcast = is_on,
                SocketOption::ReuseAddress => options.reuse_address = is_on,
                _ => return Err(io::ErrorKind::Unsupported.into()),
            }
            network.set_options(socket, options)
        };
        self.call(fd, Call::SetOption, set, |()| 0)
    }

    fn readiness(&self, fd: RawFd) -> io::Result<Readiness> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        let state = world.network().readiness(socket)?;
        Ok(readiness(state))
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.world()?.network().resolve(host, port)
    }
}

fn readiness(state: net::Readiness) -> Readiness {
    Readiness {
        readable: state.readable,
        writable: state.writable,
        read_closed: state.hung_up,
        hung_up: state.closed,
        error: state.error,
        priority: state.priority,
    }
}

fn to_network(addr: &Address) -> net::Address {
    match addr {
        Address::Ip(addr) => net::Address::Inet(*addr),
        Address::Unix(path) => net::Address::Unix(match &path[..] {
            [] => UnixName::Unnamed,
            [0, name @ ..] => UnixName::Abstract(name.into()),
            path => UnixName::Path(path.into()),
        }),
    }
}

fn to_reactor(addr: net::Address) -> Address {
    match addr {
        net::Address::Inet(addr) => Address::Ip(addr),
        net::Address::Unix(UnixName::Unnamed) => Address::Unix(Vec::new()),
        net::Address::Unix(UnixName::Path(path)) => Address::Unix(path.to_vec()),
        net::Address::Unix(UnixName::Abstract(name)) => Address::Unix([&[0], &name[..]].concat()),
    }
}
