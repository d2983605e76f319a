//! The ticket of a future, which is its registration among the waiters of a source.

use std::task::Waker;

use crate::current;
use crate::entry::{EntryRef, LocalEntry, Message, Registration};
use crate::poller::Interest;
use crate::waiters::identity;

/// A future holds a ticket while it waits, and releases it when it is dropped. So a cancelled wait
/// leaves no waker behind.
#[derive(Debug, Default)]
pub(crate) struct Ticket<'a>(Option<(EntryRef<'a>, Registration)>);

impl<'a> Ticket<'a> {
    #[inline(always)] // a call with these arguments costs as much as the body
    pub(crate) fn register(
        &mut self,
        entry: LocalEntry<'a>,
        interest: Interest,
        waker: &Waker,
        turn: u32,
    ) {
        if self.0.is_some() && self.holds(entry, interest, waker) {
            return;
        }
        self.0 = Some((entry.as_ref(), entry.start_wait(interest, waker, turn)));
    }

    /// Whether the future is registered with this waker. Ends any other registration.
    #[cold]
    fn holds(&mut self, entry: LocalEntry<'_>, interest: Interest, waker: &Waker) -> bool {
        let holds = self.0.as_ref().is_some_and(|(known, registration)| {
            *known == entry.as_ref()
                && registration.waker == identity(waker)
                && entry.holds(interest, registration)
        });
        if !holds {
            self.release(interest);
        }
        holds
    }

    #[inline]
    pub(crate) fn release(&mut self, interest: Interest) {
        if let Some((entry, registration)) = self.0.take() {
            match current::local(entry) {
                Some(entry) => entry.end_wait(interest, &registration),
                None => end_elsewhere(entry, interest, registration),
            }
        }
    }
}

/// Ends a registration in the reactor of another thread.
#[cold]
fn end_elsewhere(entry: EntryRef<'_>, interest: Interest, registration: Registration) {
    let message = Message::WaitEnded(entry.to_owned(), interest, registration);
    let _ = entry.remote().post(message, |_| {}); // the waker is gone with the reactor
}
