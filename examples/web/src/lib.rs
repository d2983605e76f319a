//! What the programs of this package share.
#![allow(
    missing_docs,
    missing_debug_implementations,
    reason = "read whole, not by its docs"
)]

pub mod server;
pub mod tls;
pub mod websocket;
pub mod rooms;
pub mod chat;
pub mod redis;
