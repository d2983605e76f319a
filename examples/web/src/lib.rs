//! What the programs of this package share: a server that holds its own against clients that are
//! many, slow or hostile, and that stops in good order.

mod serve;
mod stop;

pub use serve::{Limits, serve};
pub use stop::stop_at_signals;
