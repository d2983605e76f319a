//! Payloads of panics.

use std::any::Any;

use windlass_executor::discard_panic;

/// Returns the message of a panic and drops the payload. The payload is user code: its drop may
/// panic in turn, and must not unwind into the caller.
pub(super) fn describe_panic(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    discard_panic(|| drop(payload));
    text.unwrap_or_else(|| "with a value that is no text".into())
}
