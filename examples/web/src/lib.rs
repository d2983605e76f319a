//! What the programs of this package share.
#![allow(missing_docs, reason = "examples are read whole, not by their docs")]

pub mod redis;
pub mod server;
pub mod websocket;
