//! The smallest thing that drives a future: poll, park, repeat.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::current;

/// Runs a future to its end on this thread, which sleeps while there is nothing to do.
///
/// It knows no I/O and no timers: it is for futures that only other tasks and other threads wake.
/// With `windlass_reactor::block_on` in its place, the same future can wait for sockets.
///
/// # Panics
///
/// Inside of a task: it would stop the loop that the future may be waiting for. A panic of the
/// future goes through.
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
        "`block_on` inside of a task would stop all other tasks: `.await` the future instead"
    );
    let (parker, unparker) = parking::pair();
    let waker = Waker::from(unparker);
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        // A wake since the poll has left its token: then this returns at once.
        parker.park();
    }
}
