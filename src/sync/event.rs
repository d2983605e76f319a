//! Telling tasks that something has changed.

use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::waiters::{Place, Turn, Waiters};
use windlass_executor::budget;

/// Tells tasks that something has changed, so that they look again.
///
/// What has changed is in cells of yours; the event remembers nothing, and a notification that
/// finds no listener is gone. No wake-up is lost in a loop such as `while !ready() {
/// event.listen().await }`, since nothing else runs between the look and the listening.
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use windlass::sync::Event;
/// use windlass::{block_on, spawn, yield_now};
///
/// block_on(async {
///     let tide = Rc::new((Cell::new(0), Event::new()));
///     let rising = tide.clone();
///     let sea = spawn(async move {
///         let (level, changed) = &*rising;
///         for _ in 0..5 {
///             yield_now().await;
///             level.set(level.get() + 1);
///             changed.notify_all();
///         }
///     });
///     let (level, changed) = &*tide;
///     while level.get() < 3 {
///         changed.listen().await;
///     }
///     assert_eq!(level.get(), 3);
///     sea.await;
/// });
/// ```
pub struct Event {
    waiters: Waiters,
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
impl UnwindSafe for Event {}
impl RefUnwindSafe for Event {}

impl Event {
    /// An event that nobody listens to yet.
    pub const fn new() -> Self {
        Event {
            waiters: Waiters::new(),
        }
    }

    /// Listens from now on, not only from the first poll: every notification from here on counts.
    ///
    /// # Cancel safety
    ///
    /// When a listener is dropped that [`notify_one`](Self::notify_one) or
    /// [`notify`](Self::notify) has notified, the next one is notified in its place.
    pub fn listen(&self) -> Listener<'_> {
        Listener {
            event: self,
            place: Some(self.waiters.join(1, None)),
        }
    }

    /// Notifies the one that has listened longest and wasn't notified yet. If nobody listens, it is
    /// not kept for the next one, as it would be by tokio's `Notify`.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Notifies so many, those that have listened longest and weren't notified yet: each call
    /// notifies others.
    ///
    /// ```
    /// use windlass::sync::Event;
    /// use windlass::block_on;
    ///
    /// let event = Event::new();
    /// let (a, b) = (event.listen(), event.listen());
    /// event.notify(2);
    /// block_on(async { (a.await, b.await) });
    /// ```
    pub fn notify(&self, listeners: usize) {
        let (_, woken) = self.waiters.serve(listeners);
        woken.wake();
    }

    /// Notifies all that listen now.
    pub fn notify_all(&self) {
        self.waiters.dismiss().wake();
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("has_listeners", &!self.waiters.is_empty())
            .finish_non_exhaustive()
    }
}

/// The future of [`Event::listen`].
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Listener<'a> {
    event: &'a Event,
    /// None once it is ready.
    place: Option<Place>,
}

impl Future for Listener<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let event = self.event;
        budget::poll_with(cx, |cx| event.waiters.poll(&mut self.place, cx.waker())).map(|_| ())
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let turn = self.place.take().map(|at| self.event.waiters.leave(at));
        if turn == Some(Turn::Served) {
            self.event.notify_one();
        }
    }
}

impl fmt::Debug for Listener<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}
