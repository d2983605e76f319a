//! What a child of a group or a scope comes to.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// What a panic was raised with.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs the future to its end and drops it; a panic in either becomes a value. So whoever hears of
/// the end finds the future gone, with all that it held.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, Payload> {
    let mut future = pin!(Some(future));
    let ended = poll_fn(|cx| {
        let running = future.as_mut().as_pin_mut();
        let poll = || running.map_or(Poll::Pending, |future| future.poll(cx));
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await;
    match catch_unwind(AssertUnwindSafe(|| future.set(None))) {
        Ok(()) => ended,
        Err(payload) => ended.and(Err(payload)),
    }
}
