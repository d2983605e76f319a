//! The system calls of a host.

use std::cell::{Cell, RefMut};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::rc::{Rc, Weak};

use windlass_reactor::system::{
    Address, Event, Family, Kind, Readiness, Received, SocketOption, System,
};

use super::clock::Clock;
use super::net::{HostId, Network, SocketId};
use super::trace::EventKind;
use super::world::WorldState;

/// The system that a host runs on.
pub(super) struct HostSystem {
    world: Weak<WorldState>,
    host: HostId,
    pub(super) clock: Cell<Clock>,
}

impl HostSystem {
    pub(super) fn new(world: &Rc<WorldState>, host: HostId, clock: Clock) -> HostSystem {
        HostSystem {
            world: Rc::downgrade(world),
            host,
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
                lost.into_iter().for_each(|lost| network.close(lost));
                Ok(fd)
            }
            Err(error) => {
                network.close(socket);
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
        let now = self.world.upgrade().map_or(0, |world| world.now());
        self.clock.get().of_host(now)
    }

    fn register(&self, fd: RawFd, key: u64, writable: bool, exclusive: bool) -> io::Result<()> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().register(socket, key, writable, exclusive);
        Ok(())
    }

    fn watch_writing(&self, fd: RawFd, key: u64) -> io::Result<()> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().change(socket, key, true);
        Ok(())
    }

    fn deregister(&self, fd: RawFd) -> io::Result<()> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().deregister(socket);
        Ok(())
    }

    fn take_events(&self, events: &mut Vec<Event>) {
        if let Ok(world) = self.world() {
            world.network().take_events(self.host, events);
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
            |network, socket| network.bind(socket, addr),
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
            |network, socket| network.connect(socket, addr),
            |&in_progress| in_progress.into(),
        )
    }

    fn accept(&self, fd: RawFd) -> io::Result<(OwnedFd, Address)> {
        let accept = |network: &mut Network, socket| network.accept(socket);
        let (socket, peer) = self.call(fd, Call::Accept, accept, |_| 0)?;
        Ok((self.descriptor(&*self.world()?, socket)?, peer))
    }

    fn send(&self, fd: RawFd, bufs: &[IoSlice<'_>], to: Option<&Address>) -> io::Result<usize> {
        self.call(
            fd,
            Call::Send,
            |network, socket| network.send(socket, bufs, to),
            |&sent| sent as u64,
        )
    }

    fn receive(&self, fd: RawFd, bufs: &mut [IoSliceMut<'_>], peek: bool) -> io::Result<Received> {
        self.call(
            fd,
            Call::Receive,
            |network, socket| network.receive(socket, bufs, peek),
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
                world.network().close(socket);
                world.record(self.host, EventKind::Call, Call::Close as u64, 0);
            }
        }
    }

    fn local_addr(&self, fd: RawFd) -> io::Result<Address> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().local_addr(socket)
    }

    fn peer_addr(&self, fd: RawFd) -> io::Result<Address> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().peer_addr(socket)
    }

    fn take_error(&self, fd: RawFd) -> io::Result<Option<io::Error>> {
        let take = |network: &mut Network, socket| network.take_error(socket);
        self.call(fd, Call::TakeError, take, |error| error.is_some().into())
    }

    fn option(&self, fd: RawFd, option: SocketOption) -> io::Result<i64> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        world.network().option(socket, option)
    }

    fn set_option(&self, fd: RawFd, option: SocketOption, value: i64) -> io::Result<()> {
        let set = |network: &mut Network, socket| network.set_option(socket, option, value);
        self.call(fd, Call::SetOption, set, |()| 0)
    }

    fn readiness(&self, fd: RawFd) -> io::Result<Readiness> {
        let world = self.world()?;
        let socket = world.descriptors.get(fd)?;
        Ok(world.network().readiness(socket))
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.world()?.network().resolve(self.host, host, port)
    }
}
