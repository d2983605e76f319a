//! Stub.
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use windlass_reactor::system::*;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct HostId(pub(super) u16);
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SocketId(pub(super) u32);
#[derive(Debug)]
pub(super) struct Network(u16);
type R<T> = io::Result<T>;
impl Network {
    pub(super) fn new(_: std::rc::Rc<super::choices::Choices>) -> Network {
        Network(0)
    }
    pub(super) fn add_host(&mut self, _: &str) -> HostId {
        self.0 += 1;
        HostId(self.0 - 1)
    }
    pub(super) fn heal(&mut self) {}
    pub(super) fn partition_during(&mut self, _: HostId, _: HostId, _: std::ops::Range<u64>) {}
    pub(super) fn crash(&mut self, _: HostId) {}
    pub(super) fn restart(&mut self, _: HostId) {}
    pub(super) fn next_event(&self) -> Option<u64> {
        None
    }
    pub(super) fn advance(&mut self, _: u64) {}
    pub(super) fn has_events(&self, _: HostId) -> bool {
        false
    }
    pub(super) fn listens(&self, _: HostId) -> bool {
        false
    }
    pub(super) fn register(&mut self, _: SocketId, _: u64, _: bool, _: bool) {}
    pub(super) fn change(&mut self, _: SocketId, _: u64, _: bool) {}
    pub(super) fn deregister(&mut self, _: SocketId) {}
    pub(super) fn take_events(&mut self, _: HostId, _: &mut Vec<Event>) {}
    pub(super) fn socket(&mut self, _: HostId, _: Family, _: Kind) -> R<SocketId> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn pair(&mut self, _: HostId, _: Kind) -> R<(SocketId, SocketId)> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn bind(&mut self, _: SocketId, _: &Address) -> R<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn listen(&mut self, _: SocketId, _: usize) -> R<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn connect(&mut self, _: SocketId, _: &Address) -> R<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn accept(&mut self, _: SocketId) -> R<(SocketId, Address)> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn send(&mut self, _: SocketId, _: &[IoSlice<'_>], _: Option<&Address>) -> R<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn receive(
        &mut self,
        _: SocketId,
        _: &mut [IoSliceMut<'_>],
        _: bool,
    ) -> R<Received> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn shutdown(&mut self, _: SocketId, _: Shutdown) -> R<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn close(&mut self, _: SocketId) {}
    pub(super) fn local_addr(&self, _: SocketId) -> R<Address> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn peer_addr(&self, _: SocketId) -> R<Address> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn take_error(&mut self, _: SocketId) -> R<Option<io::Error>> {
        Ok(None)
    }
    pub(super) fn option(&self, _: SocketId, _: SocketOption) -> R<i64> {
        Ok(0)
    }
    pub(super) fn set_option(&mut self, _: SocketId, _: SocketOption, _: i64) -> R<()> {
        Ok(())
    }
    pub(super) fn readiness(&self, _: SocketId) -> Readiness {
        Readiness::default()
    }
    pub(super) fn resolve(&self, _: HostId, _: &str, _: u16) -> R<Vec<SocketAddr>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
