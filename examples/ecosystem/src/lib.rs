//! Crates of the ecosystem on windlass. Each module has the adapter for a crate, and each test runs
//! it against the real service. `docs/crates.md` has the list of crates.
//!
//! `examples/web` shows hyper, axum, rustls and async-tungstenite.

pub mod dns;
pub mod grpc;
pub mod postgres;
pub mod quic;
pub mod redis;
pub mod services;
pub mod tower;
