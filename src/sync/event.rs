//! Notifies tasks that something has changed.

use std::fmt;
use std::future::Future;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::future::FusedFuture;

use windlass_executor::budget;

use super::wait_queue::{QueueOwner, WaitKey, WaitQueue, WaitState};
use crate::waits::{Place, poll_fused_at};

/// Notifies tasks that something has changed, so that they check it again.
///
/// The state itself is in cells of yours. The event is stateless, so a notification without a
/// listener is lost. A loop such as `while !ready() { event.listen().await }` misses no wake-up,
/// because the check and the start of the listener are one step.
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
///
/// # Notifications that are kept
///
/// A notification that must be kept for a later listener, as with tokio's `Notify`, is a `Cell`
/// beside the event:
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use windlass::sync::Event;
/// use windlass::{block_on, spawn};
///
/// #[derive(Default)]
/// struct Notify {
///     is_notified: Cell<bool>,
///     event: Event,
/// }
///
/// impl Notify {
///     fn notify_one(&self) {
///         self.is_notified.set(true);
///         self.event.notify_one();
///     }
///
///     async fn notified(&self) {
///         while !self.is_notified.replace(false) {
///             self.event.listen().await;
///         }
///     }
/// }
///
/// block_on(async {
///     let notify = Rc::new(Notify::default());
///     notify.notify_one();
///     let waiting = notify.clone();
///     spawn(async move { waiting.notified().await }).await;
/// });
/// ```
pub struct Event {
    waiters: WaitQueue,
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl UnwindSafe for Event {}
impl RefUnwindSafe for Event {}

impl Event {
    /// Creates an event.
    #[track_caller]
    pub const fn new() -> Self {
        Event::of(QueueOwner::Event, Location::caller())
    }

    pub(crate) const fn of(owner: QueueOwner, created_at: Place) -> Self {
        Event {
            waiters: WaitQueue::new(owner, created_at),
        }
    }

    /// Returns a future that waits for a notification. It receives notifications from this call on,
    /// even before its first poll.
    ///
    /// # Cancel safety
    ///
    /// If a listener that [`notify_one`](Self::notify_one) or [`notify`](Self::notify) has notified
    /// is dropped before it completes, the next listener is notified in its place.
    #[track_caller]
    pub fn listen(&self) -> Listener<'_> {
        self.listen_at(Location::caller())
    }

    /// As [`listen`](Event::listen), for a future that is awaited at this place.
    pub(super) fn listen_at(&self, place: Place) -> Listener<'_> {
        Listener {
            event: self,
            key: Some(self.waiters.push(1, 0, None, place)),
        }
    }

    /// Returns a future that waits until the condition is true, which is checked after each
    /// notification. Completing charges the budget.
    pub(super) fn until(&self, mut is_met: impl FnMut() -> bool) -> impl FusedFuture<Output = ()> {
        let mut listener = None;
        poll_fused_at(move |cx, place| {
            while !is_met() {
                let listen = || self.listen_at(place);
                ready!(Pin::new(listener.get_or_insert_with(listen)).poll(cx));
                listener = None;
            }
            budget::poll_charge(cx)
        })
    }

    /// Notifies the listener that has waited longest. Without a listener, the notification is lost,
    /// whereas tokio's `Notify` would store it for the next one.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Notifies this many listeners, those that have waited longest first. Each call notifies
    /// others.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::Event;
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

    /// Notifies all current listeners.
    pub fn notify_all(&self) {
        self.waiters.dismiss_all().wake();
    }
}

impl Default for Event {
    #[track_caller]
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
    /// `None` after completion.
    key: Option<WaitKey>,
}

impl Future for Listener<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let event = self.event;
        budget::poll_with(cx, |cx| event.waiters.poll(&mut self.key, cx.waker())).map(|_| ())
    }
}

impl FusedFuture for Listener<'_> {
    fn is_terminated(&self) -> bool {
        self.key.is_none()
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let state = self.key.take().map(|key| self.event.waiters.remove(key));
        if state == Some(WaitState::Served) {
            self.event.notify_one();
        }
    }
}

impl fmt::Debug for Listener<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}
