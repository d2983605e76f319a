//! The library shared by the programs of this package. Its servers withstand many, slow or hostile
//! clients, and shut down gracefully.
#![allow(
    missing_docs,
    missing_debug_implementations,
    reason = "read whole, not by its docs"
)]

mod stop;
pub mod server;
mod pace;
mod upload;
pub mod http;
pub mod tls;
pub mod websocket;
pub mod frame_stream;
pub mod rooms;
pub mod chat;
pub mod redis;
pub mod greeting;

pub use server::serve;
pub use stop::stop_at_signals;
pub use upload::Upload;
