//! Yielding to the other tasks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Lets all other tasks that are ready run first.
///
/// Long computations call it at intervals, so that the loop stays responsive.
///
/// # Cancel safety
///
/// The future may be dropped at any time.
///
/// # Examples
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use windlass::{block_on, spawn, yield_now};
///
/// let trace = Rc::new(RefCell::new(Vec::new()));
/// let of_task = trace.clone();
/// block_on(async {
///     spawn(async move { of_task.borrow_mut().push("task") }).detach();
///     yield_now().await;
///     trace.borrow_mut().push("main");
/// });
/// assert_eq!(*trace.borrow(), ["task", "main"]);
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited or polled"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
