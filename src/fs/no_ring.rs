//! The ring of platforms without io_uring, as a type that has no values.

use std::io;
use std::task::{Context, Poll, Waker};

use super::background::Progress;
use super::operation::{Collected, OpOutput, Operation};
use windlass_reactor::completion::Registrar;

pub(crate) type Leftover = (Option<Operation>, Option<Waker>);

#[derive(Debug)]
pub(crate) enum Ring {}

impl Ring {
    pub(crate) fn new(_: &Registrar<'_>) -> io::Result<Ring> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn start(&self, _: Operation) -> u32 {
        match *self {}
    }

    pub(crate) fn poll(
        &self,
        _: u32,
        _: &mut Context<'_>,
        _: &mut Option<Waker>,
    ) -> Poll<OpOutput> {
        match *self {}
    }

    pub(crate) fn detach(&self, _: u32) -> Leftover {
        match *self {}
    }

    pub(crate) fn abandon(&self, _: u32) -> Leftover {
        match *self {}
    }

    pub(crate) fn submit(&self) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn is_short_of_memory(&self) -> bool {
        match *self {}
    }

    pub(crate) fn collect(&self, _: &mut Vec<Waker>) -> Option<Box<Collected>> {
        match *self {}
    }

    pub(crate) fn has_work(&self) -> bool {
        match *self {}
    }

    pub(crate) fn finish(
        &self,
        _: &mut Vec<Waker>,
        _: &mut Progress,
    ) -> Option<Option<Box<Collected>>> {
        match *self {}
    }
}

pub(crate) fn is_refused(_: &io::Result<usize>) -> bool {
    false
}
