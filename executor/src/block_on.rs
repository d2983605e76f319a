//! The smallest driver of a future. It polls and parks in turns.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::current;

/// Runs a future to its end on this thread, which sleeps while the future is idle.
///
/// It drives futures that only other tasks and other threads wake, without I/O or timers. Driven by
/// `windlass_reactor::block_on` instead, the same future can wait for sockets.
///
/// # Panics
///
/// Panics inside of a task, since it would stop the loop that the future may wait for. If the
/// future panics, the panic propagates.
///
/// # Examples
///
/// ```
/// use windlass_executor::{block_on, Executor};
///
/// assert_eq!(block_on(async { 1 + 1 }), 2);
/// assert_eq!(block_on(Executor::new().run(async { 1 + 1 })), 2);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    assert!(
        !current::in_task(),
        "`block_on` inside a task would stop all other tasks: `.await` the future instead"
    );
    let (parker, unparker) = parking::pair();
    let waker = Waker::from(unparker);
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        // Returns at once after a wake since the poll, which has left a token.
        parker.park();
    }
}
