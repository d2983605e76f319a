//! The simulation of programs without the feature, as types that have no values.

use std::convert::Infallible;
use std::fs::Permissions;
use std::future::Future;
use std::io::{self, SeekFrom};
use std::marker::PhantomData;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::OpenOptions;
use super::handle::Handle;
use super::metadata::Metadata;
use super::operation::{OpOutput, Operation};
use super::order::OperationGuard;
use super::position::Position;
use crate::waits::FacadeWait;

#[inline(always)]
pub(crate) const fn is_simulated() -> bool {
    false
}

pub(crate) enum Host {}

#[inline(always)]
pub(crate) const fn current() -> Option<Host> {
    None
}

impl Host {
    pub(crate) fn start(self, _: Operation) -> Task<OpOutput> {
        match self {}
    }

    pub(crate) fn open(self, _: &OpenOptions, _: &Path) -> Task<io::Result<Handle>> {
        match self {}
    }

    pub(crate) fn spawn<T>(self, _: impl FnOnce() -> T) -> Task<T> {
        match self {}
    }

    pub(crate) fn spawn_on<T>(self, _: OperationGuard, _: impl FnOnce(&Handle) -> T) -> Task<T> {
        match self {}
    }

    pub(crate) fn foreign_file(self) -> SimulatedFile {
        match self {}
    }
}

pub(crate) fn list_waits(_: &mut Vec<FacadeWait>) {}

pub(crate) struct Task<T>(Infallible, PhantomData<T>);

impl<T> Task<T> {
    pub(crate) fn detach(self) {
        match self.0 {}
    }
}

impl<T> Unpin for Task<T> {}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(crate) enum SimulatedFile {}

impl SimulatedFile {
    pub(crate) fn read(&self, _: &mut [u8], _: Position) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn write(&self, _: &[u8], _: Position) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn seek(&self, _: SeekFrom) -> io::Result<u64> {
        match *self {}
    }

    pub(crate) fn set_len(&self, _: u64) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn sync(&self, _: bool) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        match *self {}
    }

    pub(crate) fn set_permissions(&self, _: Permissions) -> io::Result<()> {
        match *self {}
    }
}
