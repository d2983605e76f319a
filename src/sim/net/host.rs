//! A host.

use std::collections::{BTreeMap, VecDeque};

use super::slab::Key;

/// The ports that the system chooses from, as on Linux.
pub(super) const FIRST_PORT: u16 = 32_768;
const LAST_PORT: u16 = 60_999;

#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) tcp: Ports,
    pub(super) udp: Ports,
    /// The Unix sockets with a path. A closed socket leaves its name.
    pub(super) paths: BTreeMap<Box<[u8]>, Option<Key>>,
    pub(super) abstract_names: BTreeMap<Box<[u8]>, Key>,
    /// The sockets with a pending event. Some may have none any more.
    pub(super) pending: VecDeque<u32>,
    /// How many sockets the programs have open, and how many they may have.
    pub(super) open: usize,
    pub(super) limit: usize,
}

/// The used ports of one protocol.
#[derive(Debug)]
pub(super) struct Ports {
    used: BTreeMap<u16, Port>,
    next: u16,
}

#[derive(Default, Debug)]
pub(super) struct Port {
    /// The sockets that are bound to it.
    pub(super) bound: Vec<u32>,
    /// How many accepted connections have it.
    pub(super) accepted: usize,
    /// All these connections allow others to bind to it.
    pub(super) accepted_reuse: bool,
}

impl Host {
    pub(super) fn new(name: &str) -> Host {
        Host {
            name: name.to_owned(),
            is_up: true,
            tcp: Ports::new(),
            udp: Ports::new(),
            paths: BTreeMap::new(),
            abstract_names: BTreeMap::new(),
            pending: VecDeque::new(),
            open: 0,
            limit: usize::MAX,
        }
    }
}

impl Ports {
    fn new() -> Ports {
        Ports {
            used: BTreeMap::new(),
            next: FIRST_PORT,
        }
    }

    pub(super) fn get(&self, port: u16) -> Option<&Port> {
        self.used.get(&port)
    }

    /// Finds the next port that is free for all addresses.
    pub(super) fn find_free(&mut self) -> Option<u16> {
        for _ in FIRST_PORT..=LAST_PORT {
            let port = self.next;
            self.next = if port == LAST_PORT {
                FIRST_PORT
            } else {
                port + 1
            };
            if !self.used.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }

    pub(super) fn bind(&mut self, port: u16, socket: u32) {
        self.used.entry(port).or_default().bound.push(socket);
    }

    pub(super) fn unbind(&mut self, port: u16, socket: u32) {
        if let Some(used) = self.used.get_mut(&port) {
            used.bound.retain(|bound| *bound != socket);
        }
        self.remove_unused(port);
    }

    pub(super) fn add_accepted(&mut self, port: u16, reuse: bool) {
        let used = self.used.entry(port).or_default();
        used.accepted_reuse = reuse && (used.accepted_reuse || used.accepted == 0);
        used.accepted += 1;
    }

    pub(super) fn remove_accepted(&mut self, port: u16) {
        if let Some(used) = self.used.get_mut(&port) {
            used.accepted -= 1;
        }
        self.remove_unused(port);
    }

    fn remove_unused(&mut self, port: u16) {
        let used = self.used.get(&port);
        if used.is_some_and(|used| used.bound.is_empty() && used.accepted == 0) {
            self.used.remove(&port);
        }
    }
}
