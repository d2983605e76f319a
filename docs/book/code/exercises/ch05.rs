//! Exercises of chapter 5. The tests are in `checks/ch05.rs`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use windlass_book::hole;

/// 5.1: Pending at the first poll, and ready at the second. It calls the waker itself.
#[derive(Debug, Default)]
struct YieldOnce {
    has_yielded: bool,
}

impl Future for YieldOnce {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let _ = (self.has_yielded, context);
        hole("be pending once, and call the waker")
    }
}

/// 5.2: Polls both futures until both are ready, and returns both outputs.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let _ = (first, second);
    hole("pin both, and poll each that is not ready yet")
}

/// 5.3: Polls the future at most `most` times, without waiting. Returns `None` if it is not ready
/// then. The waker does nothing.
fn poll_at_most<F: Future>(most: usize, future: F) -> Option<F::Output> {
    let _ = (most, future);
    hole("poll with `Waker::noop()`")
}

#[cfg(test)]
#[path = "../checks/ch05.rs"]
mod checks;
