//! The ticket of a future, which is its registration among the waiters of a source.

use std::task::Waker;

use crate::poller::Interest;
use crate::registry::SourceEntry;
use crate::waiters::{Identity, identity};

/// A future holds a ticket while it waits, and releases it when it is dropped. So a cancelled wait
/// leaves no waker behind.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<Registration>);

/// Valid until the next event, which takes all waiters of the interest.
#[derive(Debug)]
struct Registration {
    waker: Identity,
    tick: u32,
    disarms: u32,
}

impl Ticket {
    #[inline(always)] // a call with these arguments costs as much as the body
    pub(crate) fn register(
        &mut self,
        entry: &SourceEntry,
        interest: Interest,
        waker: &Waker,
        turn: u32,
    ) {
        if self.0.is_some() && self.holds(entry, interest, waker) {
            return;
        }
        entry.waiters.add_holder(interest, waker, turn);
        self.0 = Some(Registration {
            waker: identity(waker),
            tick: entry.readiness(interest).tick(),
            disarms: entry.disarms(),
        });
    }

    /// Whether the future is registered with this waker. Ends any other registration.
    #[cold]
    fn holds(&mut self, entry: &SourceEntry, interest: Interest, waker: &Waker) -> bool {
        let is_same =
            |it: &Registration| it.waker == identity(waker) && it.is_valid(entry, interest);
        let holds = self.0.as_ref().is_some_and(is_same);
        if !holds {
            self.release(entry, interest);
        }
        holds
    }

    #[inline]
    pub(crate) fn release(&mut self, entry: &SourceEntry, interest: Interest) {
        if let Some(registration) = self.0.take() {
            if registration.is_valid(entry, interest) {
                entry.waiters.remove_holder(interest, registration.waker);
            }
        }
    }
}

impl Registration {
    #[inline]
    fn is_valid(&self, entry: &SourceEntry, interest: Interest) -> bool {
        self.tick == entry.readiness(interest).tick() && self.disarms == entry.disarms()
    }
}
