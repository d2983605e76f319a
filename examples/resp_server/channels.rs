//! Channels, to which clients publish and subscribe.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::rc::{Rc, Weak};

use windlass::sync::Event;

use super::clients::Client;
use super::reply::Reply;

/// The queued messages of a subscriber.
pub(crate) struct Mailbox {
    client: Rc<Client>,
    messages: RefCell<Vec<u8>>,
    /// Maximum size of the queue. A subscriber that is slower is disconnected.
    limit: usize,
    filled: Event,
}

impl Mailbox {
    pub(crate) fn new(client: Rc<Client>, limit: usize) -> Mailbox {
        client.is_subscriber.set(true);
        Mailbox {
            client,
            messages: RefCell::default(),
            limit,
            filled: Event::new(),
        }
    }

    /// Waits until there are messages.
    pub(crate) async fn filled(&self) {
        while self.messages.borrow().is_empty() {
            self.filled.listen().await;
        }
    }

    pub(crate) fn take(&self) -> Vec<u8> {
        let messages = mem::take(&mut *self.messages.borrow_mut());
        self.client.queued.release(messages.len());
        messages
    }

    fn put(&self, message: &[u8]) {
        let mut messages = self.messages.borrow_mut();
        let is_over = messages.len() + message.len() > self.limit;
        if is_over || !self.client.queued.try_hold(message.len()) {
            self.client.disconnect();
            return;
        }
        messages.extend_from_slice(message);
        drop(messages);
        self.filled.notify_one();
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.client.queued.release(self.messages.borrow().len());
        self.client.is_subscriber.set(false);
    }
}

/// Mailboxes belong to their sessions.
type Subscribers = Vec<Weak<Mailbox>>;

/// The subscribers of each channel.
#[derive(Default)]
pub(crate) struct Channels {
    /// A channel exists while it has a subscriber.
    subscribers: RefCell<HashMap<Box<[u8]>, Subscribers>>,
}

impl Channels {
    /// Number of channels.
    pub(crate) fn len(&self) -> usize {
        self.subscribers.borrow().len()
    }

    /// Sends a message to the subscribers. Returns their number.
    pub(crate) fn publish(&self, channel: &[u8], text: &[u8]) -> usize {
        let subscribers = self.subscribers.borrow();
        let Some(subscribers) = subscribers.get(channel) else {
            return 0;
        };
        let mut message = Vec::new();
        message.array(3);
        message.bulk(b"message");
        message.bulk(channel);
        message.bulk(text);
        let live = subscribers.iter().filter_map(Weak::upgrade);
        live.map(|mailbox| mailbox.put(&message)).count()
    }

    pub(crate) fn subscribe(&self, channel: &[u8], mailbox: &Rc<Mailbox>) {
        let mut subscribers = self.subscribers.borrow_mut();
        let list = subscribers.entry(channel.into()).or_default();
        list.push(Rc::downgrade(mailbox));
    }

    pub(crate) fn unsubscribe(&self, channel: &[u8], mailbox: &Rc<Mailbox>) {
        let mut subscribers = self.subscribers.borrow_mut();
        if let Some(list) = subscribers.get_mut(channel) {
            list.retain(|other| other.as_ptr() != Rc::as_ptr(mailbox));
            if list.is_empty() {
                subscribers.remove(channel);
            }
        }
    }
}
