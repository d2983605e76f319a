//! Stop requests and deadlines that propagate down a tree, for graceful shutdown.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use futures_core::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::sync::wait_queue::{QueueOwner, WaitKey, WaitQueue, WakeList};
use crate::time::{Sleep, now, sleep_until};
use crate::waits::Place;

/// Requests that work stops, now or at a deadline. Tasks observe it through [`StopToken`]s.
///
/// Dropping a task ends it at its current await. A stop request leaves the end to the task, which
/// makes graceful shutdown possible. For example, a server stops accepting connections and finishes
/// the requests in flight.
///
/// Sources and tokens form a tree. [`StopToken::child`] creates a source below a token, which stops
/// with its parent and can be stopped alone. Deadlines propagate down the tree, so the deadline of
/// a child is never later than its parent's.
///
/// Cloning a source is cheap. Dropping a source stops nothing, but dropping its
/// [`drop_guard`](StopSource::drop_guard) does. Two sources are equal if they are clones, and so
/// are two tokens of the same source.
///
/// # Examples
///
/// A server that stops within ten seconds. Its connections are
/// [independent](crate::task::TaskGroup::independent), so a handler that panics does not affect the
/// others.
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use futures::AsyncWriteExt;
/// use windlass::net::{TcpListener, TcpStream};
/// use windlass::task::{StopSource, StopToken, TaskGroup};
/// use windlass::time::timeout;
///
/// async fn serve(listener: TcpListener, stop: StopToken) -> io::Result<()> {
///     let requests = TaskGroup::independent();
///     while let Some(accepted) = stop.run(listener.accept()).await {
///         requests.spawn(answer(accepted?.0));
///     }
///     drop(listener);
///     Ok(timeout(Duration::from_secs(10), requests.close()).await?)
/// }
/// # async fn answer(mut stream: TcpStream) {
/// #     stream.write_all(b"ahoy").await.ok();
/// # }
/// # windlass::block_on(async {
/// #     let stop = StopSource::new();
/// #     let listener = TcpListener::bind("127.0.0.1:0").await?;
/// #     let server = windlass::spawn(serve(listener, stop.token()));
/// #     windlass::yield_now().await;
/// #     stop.stop();
/// #     server.await
/// # })?;
/// # Ok::<(), io::Error>(())
/// ```
///
/// The names are from C++20's `stop_source` and `stop_token`. Deadlines that propagate down a tree
/// are from Go's `context`.
#[derive(Clone)]
pub struct StopSource {
    inner: Rc<Inner>,
}

impl StopSource {
    /// Creates the root of a tree.
    #[track_caller]
    pub fn new() -> StopSource {
        let inner = Rc::new(Inner::new(None, Location::caller()));
        StopSource { inner }
    }

    /// Returns a token that observes this source.
    pub fn token(&self) -> StopToken {
        let inner = self.inner.clone();
        StopToken { inner }
    }

    /// Stops this source and all below it, now.
    ///
    /// ```
    /// use windlass::task::StopSource;
    ///
    /// let (server, other) = (StopSource::new(), StopSource::new());
    /// let request = server.token().child();
    /// server.stop();
    /// assert!(request.token().is_stopped() && !other.token().is_stopped());
    /// ```
    pub fn stop(&self) {
        let stop = |node: &Inner| !node.stopped.replace(true);
        change_all(&self.inner, stop);
    }

    /// Stops this source and all below it at the deadline. An earlier deadline, set here or above,
    /// stays in effect.
    ///
    /// It uses a timer only while a task waits for it.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use windlass::task::StopSource;
    ///
    /// let server = StopSource::new();
    /// let request = server.token().child();
    /// let noon = Instant::now() + Duration::from_secs(60);
    /// server.stop_at(noon);
    /// request.stop_at(noon + Duration::from_secs(1)); // has no effect
    /// assert_eq!(request.token().deadline(), Some(noon));
    /// ```
    pub fn stop_at(&self, deadline: Instant) {
        change_all(&self.inner, |node| {
            let known = node.deadline.get();
            let is_earlier = known.is_none_or(|known| deadline < known);
            if is_earlier {
                node.deadline.set(Some(deadline));
            }
            is_earlier
        });
    }

    /// Stops this source and all below it after a duration, like [`stop_at`](StopSource::stop_at).
    /// A duration that exceeds the range of the clock sets no deadline.
    pub fn stop_after(&self, limit: Duration) {
        if let Some(deadline) = now().checked_add(limit) {
            self.stop_at(deadline);
        }
    }

    /// Returns a guard that stops this source when it is dropped, at the end of a function for
    /// example, however that ends.
    ///
    /// ```
    /// use windlass::task::StopSource;
    ///
    /// async fn serve() {
    ///     let stop = StopSource::new();
    ///     let token = stop.token();
    ///     let _guard = stop.drop_guard();
    ///     // The reporter ends with this function, also if that is cancelled or panics.
    ///     windlass::spawn(async move { token.stopped().await }).detach();
    /// }
    ///
    /// windlass::block_on(serve());
    /// ```
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { source: Some(self) }
    }
}

impl PartialEq for StopSource {
    fn eq(&self, other: &StopSource) -> bool {
        Rc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for StopSource {}

impl Hash for StopSource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::from_ref(&*self.inner).hash(state);
    }
}

impl Default for StopSource {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StopSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt("StopSource", f)
    }
}

/// Stops a [`StopSource`] when it is dropped. Created by [`StopSource::drop_guard`].
#[derive(Debug)]
#[must_use = "the source is stopped when this is dropped"]
pub struct DropGuard {
    /// Present until drop or `disarm`.
    source: Option<StopSource>,
}

impl DropGuard {
    /// Returns the source and leaves it as it is.
    ///
    /// ```
    /// use windlass::task::StopSource;
    ///
    /// let guard = StopSource::new().drop_guard();
    /// let source = guard.disarm();
    /// assert!(!source.token().is_stopped());
    ///
    /// let token = source.token();
    /// drop(source.drop_guard());
    /// assert!(token.is_stopped());
    /// ```
    pub fn disarm(mut self) -> StopSource {
        self.source.take().expect("source is present until drop")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            source.stop();
        }
    }
}

/// Shows a task whether it should stop. Created by [`StopSource::token`]. Cloning it is cheap.
///
/// # Examples
///
/// ```
/// use windlass::yield_now;
/// use windlass::task::StopSource;
///
/// let source = StopSource::new();
/// let token = source.token();
/// let rounds = windlass::block_on(async {
///     let worker = windlass::spawn(async move {
///         let mut rounds = 0;
///         while !token.is_stopped() {
///             rounds += 1;
///             yield_now().await;
///         }
///         rounds
///     });
///     yield_now().await;
///     source.stop();
///     worker.await
/// });
/// assert_eq!(rounds, 1);
/// ```
#[derive(Clone)]
pub struct StopToken {
    inner: Rc<Inner>,
}

impl StopToken {
    /// Returns true once the source was stopped or its deadline has passed.
    pub fn is_stopped(&self) -> bool {
        self.inner.is_stopped()
    }

    /// Returns the deadline, set on this source or above it, whichever is earlier.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.deadline.get()
    }

    /// Creates a source below this token, for example for a part of the work with a tighter limit.
    ///
    /// ```
    /// use std::future::pending;
    /// use std::time::Duration;
    /// use windlass::task::{StopSource, StopToken};
    ///
    /// async fn request(server: &StopToken) -> Option<()> {
    ///     let own = server.child();
    ///     own.stop_after(Duration::from_millis(1));
    ///     own.token().run(pending()).await
    /// }
    ///
    /// let server = StopSource::new().token();
    /// assert_eq!(windlass::block_on(request(&server)), None);
    /// assert!(!server.is_stopped());
    /// ```
    #[track_caller]
    pub fn child(&self) -> StopSource {
        let inner = Rc::new(Inner::new(Some(self.inner.clone()), Location::caller()));
        self.inner.adopt(&inner);
        StopSource { inner }
    }

    /// Waits until the source is stopped.
    ///
    /// # Panics
    ///
    /// If there is a deadline, panics as [`sleep`](crate::time::sleep) does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub fn stopped(&self) -> Stopped {
        Stopped {
            inner: self.inner.clone(),
            waiter: None,
            sleep: None,
            is_completed: false,
        }
    }

    /// Runs a future until the source is stopped. Returns its output, or `None` after a stop. The
    /// future is then dropped with this one. If the source is already stopped, this returns before
    /// it polls the future, so a loop around it ends even if the future is always ready.
    ///
    /// # Panics
    ///
    /// Panics as [`stopped`](StopToken::stopped) does.
    ///
    /// # Cancel safety
    ///
    /// This is as cancel-safe as the future. A stop drops the future even if it could complete by
    /// then, so an output is lost if dropping the future loses it. A stop that happens while the
    /// future is polled takes effect at the next poll.
    ///
    /// ```
    /// use std::future::pending;
    /// use windlass::task::StopSource;
    ///
    /// let source = StopSource::new();
    /// let token = source.token();
    /// windlass::block_on(async {
    ///     assert_eq!(token.run(async { 7 }).await, Some(7));
    ///     source.stop();
    ///     assert_eq!(token.run(async { 7 }).await, None);
    /// });
    /// ```
    pub fn run<F: Future>(&self, future: F) -> UntilStopped<F> {
        UntilStopped {
            future,
            stopped: self.stopped(),
        }
    }
}

impl PartialEq for StopToken {
    fn eq(&self, other: &StopToken) -> bool {
        Rc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for StopToken {}

impl Hash for StopToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::from_ref(&*self.inner).hash(state);
    }
}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt("StopToken", f)
    }
}

/// The future of [`StopToken::stopped`]. It is `Unpin`, so `select!` takes it without pinning, and
/// a [`FusedFuture`], so `futures::select!` takes it without `fuse()`. After it has completed, each
/// further poll completes too.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Stopped {
    inner: Rc<Inner>,
    waiter: Option<WaitKey>,
    /// The timer, if there is a deadline.
    sleep: Option<Sleep>,
    is_completed: bool,
}

impl Stopped {
    /// Stores the waker. A new deadline dismisses all waiters, which then wait again.
    fn register(&mut self, waker: &Waker, place: Place) {
        let waiters = &self.inner.waiters;
        if self.waiter.is_some() && waiters.poll(&mut self.waiter, waker).is_pending() {
            return;
        }
        let waker = waker.clone(); // user code
        self.waiter = Some(waiters.push(1, 0, Some(waker), place));
    }

    /// Completes if the deadline has passed, and otherwise starts a timer.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.inner.deadline.get() else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(deadline));
        if sleep.deadline() != Some(deadline) {
            sleep.reset(deadline);
        }
        Pin::new(sleep).poll(cx)
    }
}

impl Future for Stopped {
    type Output = ();

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.inner.is_stopped() {
            self.register(cx.waker(), Location::caller()); // user code, which may stop the source
            if !self.inner.stopped.get() {
                ready!(self.poll_deadline(cx));
            }
        }
        self.is_completed = true;
        Poll::Ready(())
    }
}

impl FusedFuture for Stopped {
    fn is_terminated(&self) -> bool {
        self.is_completed
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            self.inner.waiters.remove(waiter);
        }
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt("Stopped", f)
    }
}

pin_project! {
    /// The future of [`StopToken::run`]. Polled again after it has completed, it does what the
    /// inner future does then, or completes again after a stop.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited or polled"]
    pub struct UntilStopped<F> {
        #[pin]
        future: F,
        stopped: Stopped,
    }
}

impl<F: Future> Future for UntilStopped<F> {
    type Output = Option<F::Output>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if Pin::new(&mut *this.stopped).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let output = ready!(this.future.poll(cx));
        this.stopped.is_completed = true;
        Poll::Ready(Some(output))
    }
}

impl<F: Future> FusedFuture for UntilStopped<F> {
    fn is_terminated(&self) -> bool {
        self.stopped.is_completed
    }
}

/// A node of the tree. A change of a node is applied to all nodes below it at once, so reading one
/// needs no walk up the tree. No user code runs under the borrow.
struct Inner {
    stopped: Cell<bool>,
    /// The earliest deadline of this node and those above.
    deadline: Cell<Option<Instant>>,
    /// Keeps the nodes above alive, so that they can propagate changes.
    parent: Option<Rc<Inner>>,
    children: RefCell<Vec<Weak<Inner>>>,
    /// The number of dropped children that are still in the list, which keeps their memory.
    dropped_children: Cell<usize>,
    waiters: WaitQueue,
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl UnwindSafe for Inner {}
impl RefUnwindSafe for Inner {}

/// A sweep of the list requires at least this many dropped children.
const SWEEP_MIN: usize = 16;

impl Inner {
    fn new(parent: Option<Rc<Inner>>, created_at: Place) -> Inner {
        let above = parent.as_deref();
        Inner {
            stopped: Cell::new(above.is_some_and(|node| node.stopped.get())),
            deadline: Cell::new(above.and_then(|node| node.deadline.get())),
            parent,
            children: RefCell::default(),
            dropped_children: Cell::new(0),
            waiters: WaitQueue::new(QueueOwner::Stop, created_at),
        }
    }

    fn is_stopped(&self) -> bool {
        let has_passed = |deadline| now() >= deadline;
        self.stopped.get() || self.deadline.get().is_some_and(has_passed)
    }

    fn adopt(&self, child: &Rc<Inner>) {
        self.children.borrow_mut().push(Rc::downgrade(child));
    }

    /// Counts a dropped child. Once half of the list is dropped children, they are removed, at a
    /// constant cost per child.
    fn disown(&self) {
        let dropped = self.dropped_children.get() + 1;
        self.dropped_children.set(dropped);
        let mut children = self.children.borrow_mut();
        if dropped >= SWEEP_MIN && dropped >= children.len() / 2 {
            self.dropped_children.set(0);
            children.retain(|child| child.strong_count() > 0);
            let living = children.len();
            children.shrink_to(2 * living);
        }
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("stopped", &self.is_stopped())
            .field("deadline", &self.deadline.get())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    /// A loop instead of recursion, which would overflow the stack in a deep tree.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            parent.disown();
            next = Rc::into_inner(parent).and_then(|mut node| node.parent.take());
        }
    }
}

/// Applies a change to a node and all nodes below it, parents first, then wakes their waiters.
/// Stops at nodes that the change leaves as they are, because the nodes below them then stay the
/// same too.
fn change_all(top: &Rc<Inner>, change: impl Fn(&Inner) -> bool) {
    let (mut nodes, mut woken) = (vec![top.clone()], Vec::new());
    let mut changed = 0;
    while let Some(node) = nodes.get(changed).cloned() {
        changed += 1;
        if change(&node) {
            woken.push(node.waiters.dismiss_all());
            nodes.extend(node.children.borrow().iter().filter_map(Weak::upgrade));
        }
    }
    // The whole tree has changed before the first waker runs.
    woken.into_iter().for_each(WakeList::wake);
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::panic::panic_any;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Wake, Waker};

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose, by a payload");
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic_any(Bomb);
        }
    }

    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_payload_whose_drop_panics_stops_no_other_wake() {
        let source = StopSource::new();
        let token = source.token();
        let counts = Arc::new(Counts(AtomicUsize::new(0)));
        let (panics, counter) = (Waker::from(Arc::new(Panics)), Waker::from(counts.clone()));
        let mut waits = pin!([(); 8].map(|()| Box::pin(token.run(std::future::pending::<()>()))));
        for (i, wait) in waits.iter_mut().enumerate() {
            let waker = if i % 2 == 0 { &panics } else { &counter };
            assert!(
                wait.as_mut()
                    .poll(&mut Context::from_waker(waker))
                    .is_pending()
            );
        }
        source.stop();
        assert_eq!(counts.0.load(SeqCst), 4);
    }

    #[test]
    fn dropped_children_take_no_memory_beside_live_ones() {
        let root = StopSource::new().token();
        let living: Vec<_> = (0..100).map(|_| root.child()).collect();
        for _ in 0..10_000 {
            drop(root.child());
        }
        assert!(root.inner.children.borrow().capacity() < 4 * living.len());
    }

    #[test]
    fn a_burst_of_children_leaves_no_memory() {
        let root = StopSource::new().token();
        let burst: Vec<_> = (0..10_000).map(|_| root.child().token()).collect();
        let below: Vec<_> = burst.iter().map(StopToken::child).collect();
        drop((burst, below));
        assert!(root.inner.children.borrow().capacity() < 4 * SWEEP_MIN);
    }
}
