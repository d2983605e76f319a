//! The wait of a future for a source, which ends when the future is dropped.

use std::task::Waker;

use crate::source::{Interest, Row, Source};
use crate::waiters::{Identity, identity};

/// A future's place among the waiters of a source, which it gives back when it's dropped: so a wait
/// that was given up leaves nothing behind.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<Registration>);

/// It holds until the next event, which takes all waiters of the direction.
#[derive(Debug)]
struct Registration {
    waker: Identity,
    events: u32,
    disarms: u32,
}

impl Ticket {
    #[inline(always)] // a call costs as much as all that it does
    pub(crate) fn register(&mut self, row: &Row, interest: Interest, waker: &Waker, turn: u32) {
        if self.0.is_some() && self.keeps(row, interest, waker) {
            return;
        }
        row.waiters.add_holder(interest, waker, turn);
        self.0 = Some(Registration {
            waker: identity(waker),
            events: row.direction(interest).events(),
            disarms: row.disarms.get(),
        });
    }

    /// Whether it's registered by this waker already. Otherwise it isn't registered any more.
    #[cold]
    fn keeps(&mut self, row: &Row, interest: Interest, waker: &Waker) -> bool {
        let is_same = |it: &Registration| it.waker == identity(waker) && it.holds(row, interest);
        let keeps = self.0.as_ref().is_some_and(is_same);
        if !keeps {
            self.give_back(row, interest);
        }
        keeps
    }

    #[inline]
    fn give_back(&mut self, row: &Row, interest: Interest) {
        if let Some(registration) = self.0.take() {
            if registration.holds(row, interest) {
                row.waiters.remove_holder(interest, registration.waker);
            }
        }
    }
}

impl Registration {
    #[inline]
    fn holds(&self, row: &Row, interest: Interest) -> bool {
        self.events == row.direction(interest).events() && self.disarms == row.disarms.get()
    }
}

/// The wait of one future, which ends with it.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    source: &'a Source,
    interest: Interest,
    ticket: Ticket,
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

    /// For [`Source::poll_with`].
    #[inline]
    pub(crate) fn ticket(&mut self) -> Option<&mut Ticket> {
        Some(&mut self.ticket)
    }
}

impl Drop for Wait<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.0.is_some() {
            self.ticket.give_back(self.source.row(), self.interest);
        }
    }
}
