//! The state that all connections share.

use std::cell::{Cell, RefCell};

use super::channels::Channels;
use super::clients::Clients;
use super::log::Journal;
use super::options::Options;
use super::request::Parser;
use super::store::Store;

/// Size of the buffer that all connections read into.
const INPUT_BYTES: usize = 64 * 1024;

/// Memory that a connection uses between two of its waits.
pub(crate) struct Scratch {
    pub(crate) input: Box<[u8]>,
    pub(crate) output: Vec<u8>,
    pub(crate) parser: Parser,
}

pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) store: RefCell<Store>,
    pub(crate) channels: Channels,
    pub(crate) clients: Clients,
    pub(crate) journal: Option<Journal>,
    pub(crate) scratch: RefCell<Scratch>,
    /// Number of executed requests.
    pub(crate) requests: Cell<u64>,
}

impl State {
    pub(crate) fn new(options: Options, store: Store, journal: Option<Journal>) -> State {
        State {
            store: RefCell::new(store),
            channels: Channels::default(),
            clients: Clients::new(options.client_memory),
            journal,
            scratch: RefCell::new(Scratch {
                input: vec![0; INPUT_BYTES].into_boxed_slice(),
                output: Vec::new(),
                parser: Parser::new(options.request),
            }),
            requests: Cell::new(0),
            options,
        }
    }
}
