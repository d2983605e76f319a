//! The loop. Polls the future and turns the reactor, until the future completes.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::inner::ReactorInner;
use crate::reactor::Reactor;

/// Runs a future to its end on this thread, and turns the thread's reactor while it waits.
///
/// Before it returns, it lets [completion sources](crate::completion) finish their operations.
///
/// The future can be one request, a `join!` of several, or an executor with a million tasks. It is
/// polled only after a wake.
///
/// Its turns serve all futures of the thread. Code that polls other futures on this thread polls
/// them again afterwards, whether or not the descriptor of the [`Reactor`] is readable then.
///
/// # Panics
///
/// Panics if the reactor cannot be created, for example because the process is out of descriptors,
/// or if a turn fails. A panic of the future propagates.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass_reactor::{block_on, time::sleep};
///
/// block_on(async {
///     sleep(Duration::from_millis(1)).await;
/// });
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    match Reactor::current() {
        Ok(reactor) => reactor.block_on(future),
        Err(error) => panic!("can't make this thread's reactor: {error}"),
    }
}

impl Reactor {
    /// Runs a future to its end as [`block_on`] does, on this existing reactor.
    ///
    /// # Panics
    ///
    /// Panics if a turn fails, or in a forked child if the reactor was made before the fork. A
    /// panic of the future propagates.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        if let Err(error) = self.inner().check_origin() {
            panic!("can't block on an inherited reactor: {error}");
        }
        let _awake = self.awake();
        let _ends = EndOfLoop(self.inner()); // dropped after the future
        let block_on = self.inner().park().block_on_waker();
        let waker = Waker::from(block_on.clone());
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if block_on.take_woken() {
                if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                    return output;
                }
            }
            // ④ The future is pending, so the reactor turns until a waker is called.
            let limit = block_on.is_woken().then_some(Duration::ZERO);
            if let Err(error) = self.inner().turn(limit) {
                panic!("the reactor of this thread failed: {error}");
            }
        }
    }
}

/// The end of a `block_on`, also of one that panics. After the outermost loop, completions may
/// never get another turn.
struct EndOfLoop<'a>(&'a ReactorInner);

impl Drop for EndOfLoop<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.finish_outermost();
    }
}
