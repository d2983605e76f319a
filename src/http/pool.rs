//! hyper-util's pool of the current runtime.

use std::cell::RefCell;
use std::rc::Rc;

use hyper_util::client::legacy;

use super::body::Body;
use super::connector::Connector;
use crate::{Handle, Runtime};

pub(super) type Connections = legacy::Client<Connector, Body>;

/// Makes a pool, and a new one after the end of a runtime. The task that closes unused connections
/// ends with the runtime, and hyper-util starts it once per pool.
pub(super) struct Pool {
    builder: legacy::Builder,
    connector: Connector,
    /// With the runtime that first used it.
    connections: RefCell<Option<(Handle, Rc<Connections>)>>,
}

impl Pool {
    pub(super) fn new(builder: legacy::Builder, connector: Connector) -> Pool {
        Pool {
            builder,
            connector,
            connections: RefCell::default(),
        }
    }

    /// Returns the connections of the runtime that polls the caller.
    pub(super) fn get(&self) -> Rc<Connections> {
        if let Some((runtime, connections)) = &*self.connections.borrow() {
            if !runtime.is_closed() {
                return connections.clone();
            }
        }
        let connections = Rc::new(self.builder.build(self.connector.clone()));
        let current = Runtime::try_current().map(|runtime| (runtime, connections.clone()));
        let old = self.connections.replace(current);
        drop(old); // closes connections, outside of the borrow
        connections
    }
}
