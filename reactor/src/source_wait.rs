//! The wait of one future for a source.

use std::io;
use std::task::{Context, Poll};

use rustix::fd::AsFd;

use crate::poller::Interest;
use crate::source::Source;
use crate::ticket::Ticket;

/// The wait of one future for a source. Its registration ends when the future is dropped.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    source: &'a Source,
    interest: Interest,
    ticket: Ticket<'a>,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(source: &'a Source, interest: Interest) -> Self {
        Wait {
            source,
            interest,
            ticket: Ticket::default(),
        }
    }

    pub(crate) fn source(&self) -> &'a Source {
        self.source
    }

    pub(crate) fn interest(&self) -> Interest {
        self.interest
    }

    /// Like [`Source::poll_with`].
    #[inline]
    pub(crate) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let ticket = Some(&mut self.ticket);
        self.source
            .poll_with(cx, fd, self.interest, ticket, operation)
    }
}

impl Drop for Wait<'_> {
    #[inline]
    fn drop(&mut self) {
        self.ticket.release(self.interest);
    }
}
