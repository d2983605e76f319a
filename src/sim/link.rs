//! The links between the hosts of a world.

use std::rc::{Rc, Weak};
use std::time::Duration;

use super::net::HostId;
use super::world::{WorldState, nanos};

/// The link from one host to another.
#[derive(Clone)]
pub struct Link {
    pub(super) world: Weak<WorldState>,
    pub(super) from: HostId,
    pub(super) to: HostId,
}
