//! What a panic leaves behind.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The text of a panic. Its value is dropped here, which may panic in turn: so a caller can rely on
/// getting the text.
pub(super) fn describe_panic(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    discard_panic(payload);
    text.unwrap_or_else(|| "with a value that is no text".into())
}

fn discard_panic(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again); // it may be of the same kind
    }
}
