//! The interface of a runtime that the works need.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

pub(crate) trait Runtime: 'static {
    type Handle<T: 'static>: 'static;

    /// Starts the runtime on this thread, and ends it with the future.
    fn block_on<F: Future>(future: F) -> F::Output;

    /// Starts the runtime with this timer slack, if it has such an option.
    fn block_on_with_slack<F: Future>(_: Option<Duration>, future: F) -> F::Output {
        Self::block_on(future)
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static;

    fn detach<T: 'static>(handle: Self::Handle<T>);

    /// Awaits the output, as in a program that expects no panic.
    fn join<T: 'static>(handle: Self::Handle<T>) -> impl Future<Output = T>;

    fn sleep(duration: Duration) -> impl Future<Output = ()>;
}

/// Wakes itself and returns `Pending` once. The same for all contenders.
pub(crate) struct Yield(bool);

pub(crate) fn yield_once() -> Yield {
    Yield(false)
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
