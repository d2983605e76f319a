//! Asking work to stop, in a tree.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use windlass_executor::discard_panic;

use crate::time::{Sleep, sleep_until};

/// Asks work to stop: at once, or at a deadline. Those who work hold its [`StopToken`]s.
///
/// To drop a task ends it at whatever await it is. To stop it is the polite way: the task sees it
/// where it looks, and ends in good order: a server takes no more connections, and requests that
/// are being answered are answered.
///
/// Sources and tokens form a tree. [`StopToken::child`] makes a source below a token: it stops with
/// its parent, and can be stopped by itself. Deadlines pass down: that of a child is never later
/// than its parent's.
///
/// To clone a source is cheap. Dropping one stops nothing.
///
/// # Examples
///
/// A server that stops within ten seconds. Its connections are
/// [independent](crate::task::TaskGroup::independent): one whose handler panics costs the others
/// nothing.
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
/// The names are those of C++20's `stop_source` and `stop_token`; deadlines that pass down a tree
/// are Go's `context`.
#[derive(Clone)]
pub struct StopSource {
    node: Rc<Node>,
}

impl StopSource {
    /// Makes a source that has no parent.
    pub fn new() -> StopSource {
        let node = Rc::new(Node::default());
        StopSource { node }
    }

    /// A token for those who work.
    pub fn token(&self) -> StopToken {
        let node = self.node.clone();
        StopToken { node }
    }

    /// Stops now, with all below.
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
        let stop = |node: &Node| !node.stopped.replace(true);
        change_all(&self.node, stop);
    }

    /// Stops at that time, with all below. An earlier deadline stays, be it set here or above.
    ///
    /// It takes no timer until somebody waits.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use windlass::task::StopSource;
    ///
    /// let server = StopSource::new();
    /// let request = server.token().child();
    /// let noon = Instant::now() + Duration::from_secs(60);
    /// server.stop_at(noon);
    /// request.stop_at(noon + Duration::from_secs(1)); // says nothing new
    /// assert_eq!(request.token().deadline(), Some(noon));
    /// ```
    pub fn stop_at(&self, deadline: Instant) {
        change_all(&self.node, |node| {
            let known = node.deadline.get();
            let is_earlier = known.is_none_or(|known| deadline < known);
            if is_earlier {
                node.deadline.set(Some(deadline));
            }
            is_earlier
        });
    }

    /// Stops after that time, with all below. See [`stop_at`](StopSource::stop_at). A time too long
    /// for the clock is never.
    pub fn stop_after(&self, limit: Duration) {
        if let Some(deadline) = Instant::now().checked_add(limit) {
            self.stop_at(deadline);
        }
    }
}

impl Default for StopSource {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StopSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt("StopSource", f)
    }
}

/// Says whether work shall stop. Made by [`StopSource::token`]; to clone it is cheap.
///
/// # Examples
///
/// ```
/// use windlass::task::StopSource;
/// use windlass::yield_now;
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
    node: Rc<Node>,
}

impl StopToken {
    /// True once it was stopped, or the deadline has come.
    pub fn is_stopped(&self) -> bool {
        self.node.is_stopped()
    }

    /// When it stops at the latest, by its own deadline or one above; `None` if nothing is set.
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline.get()
    }

    /// A source below this token: for a part of the work, with a narrower limit say.
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
    pub fn child(&self) -> StopSource {
        let node = Rc::new(Node {
            stopped: self.node.stopped.clone(),
            deadline: self.node.deadline.clone(),
            parent: Some(self.node.clone()),
            children: RefCell::default(),
            gone: Cell::new(0),
            waiters: RefCell::default(),
        });
        self.node.adopt(&node);
        StopSource { node }
    }

    /// Waits until it's stopped.
    ///
    /// # Panics
    ///
    /// If there is a deadline, as [`sleep`](crate::time::sleep).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub fn stopped(&self) -> Stopped {
        Stopped {
            node: self.node.clone(),
            waiter: None,
            sleep: None,
        }
    }

    /// Runs the future until it's stopped: its output, or `None`. Then the future is dropped with
    /// this one, at whatever await it was. If it's stopped already, the future isn't polled: so a
    /// loop around this ends, even if the future is always ready.
    ///
    /// # Panics
    ///
    /// As [`stopped`](StopToken::stopped).
    ///
    /// # Cancel safety
    ///
    /// That of the future, which a stop drops, also if it could be ready by then: so an output is
    /// lost if it is one that a drop of the future loses. A stop while it is polled comes too late.
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

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt("StopToken", f)
    }
}

/// The future of [`StopToken::stopped`]. It's `Unpin`: `select!` takes it without pinning.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Stopped {
    node: Rc<Node>,
    /// The number of its waker in the node.
    waiter: Option<u64>,
    /// For the deadline, if there's one.
    sleep: Option<Sleep>,
}

impl Stopped {
    /// True if the deadline has come; if not, it has a timer.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.node.deadline.get() else {
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.node.is_stopped() {
            return Poll::Ready(());
        }
        let waiter = self.node.wait(self.waiter, cx.waker());
        self.waiter = Some(waiter);
        // To leave the waker was user code, which may have stopped it.
        if self.node.stopped.get() {
            return Poll::Ready(());
        }
        self.poll_deadline(cx)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            let waker = self.node.waiters.borrow_mut().wakers.remove(&waiter);
            drop(waker); // under no borrow
        }
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt("Stopped", f)
    }
}

pin_project! {
    /// The future of [`StopToken::run`].
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if Pin::new(this.stopped).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        this.future.poll(cx).map(Some)
    }
}

/// A place in the tree. What is said to a node is said to all below it at once, so to look at one
/// takes no way up. No user code runs under the borrows.
#[derive(Default)]
struct Node {
    stopped: Cell<bool>,
    /// Its own or that of a node above, whichever is the earliest.
    deadline: Cell<Option<Instant>>,
    /// Keeps those above alive, so that they can pass on what they are told.
    parent: Option<Rc<Node>>,
    children: RefCell<Vec<Weak<Node>>>,
    /// How many of them are gone. Until they are swept out, their memory is kept.
    gone: Cell<usize>,
    waiters: RefCell<Waiters>,
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
impl UnwindSafe for Node {}
impl RefUnwindSafe for Node {}

/// So few children that are gone aren't swept out.
const FEW: usize = 16;

/// Wakers by number, which is the order of their coming.
#[derive(Default)]
struct Waiters {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Node {
    fn is_stopped(&self) -> bool {
        let is_late = |deadline| Instant::now() >= deadline;
        self.stopped.get() || self.deadline.get().is_some_and(is_late)
    }

    fn adopt(&self, child: &Rc<Node>) {
        self.children.borrow_mut().push(Rc::downgrade(child));
    }

    /// A child was dropped. When half of the list is gone, that half is swept out: a constant cost
    /// for each.
    fn disown(&self) {
        let gone = self.gone.get() + 1;
        self.gone.set(gone);
        let mut children = self.children.borrow_mut();
        if gone >= FEW && gone >= children.len() / 2 {
            self.gone.set(0);
            children.retain(|child| child.strong_count() > 0);
            let living = children.len();
            children.shrink_to(2 * living);
        }
    }

    /// Leaves a waker under the number, or a new one.
    fn wait(&self, waiter: Option<u64>, waker: &Waker) -> u64 {
        let mut waiters = self.waiters.borrow_mut();
        let number = waiter.unwrap_or(waiters.next);
        waiters.next = waiters.next.max(number + 1);
        let known = waiters.wakers.get(&number);
        if known.is_some_and(|known| known.will_wake(waker)) {
            return number;
        }
        drop(waiters);
        let waker = waker.clone(); // user code
        let old = self.waiters.borrow_mut().wakers.insert(number, waker);
        drop(old); // user code, too
        number
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("stopped", &self.is_stopped())
            .field("deadline", &self.deadline.get())
            .finish_non_exhaustive()
    }
}

impl Drop for Node {
    /// Not by recursion, which a deep tree would make too deep.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            parent.disown();
            next = Rc::into_inner(parent).and_then(|mut node| node.parent.take());
        }
    }
}

/// Changes the node and all below it, parents first, then wakes whoever waits there. Where the
/// change says nothing new, it says nothing new below.
fn change_all(top: &Rc<Node>, change: impl Fn(&Node) -> bool) {
    let (mut nodes, mut woken) = (vec![top.clone()], Vec::new());
    let mut changed = 0;
    while let Some(node) = nodes.get(changed).cloned() {
        changed += 1;
        if change(&node) {
            let wakers = std::mem::take(&mut node.waiters.borrow_mut().wakers);
            woken.extend(wakers.into_values());
            nodes.extend(node.children.borrow().iter().filter_map(Weak::upgrade));
        }
    }
    // All is said before the first is woken, and none that panics keeps others from being woken.
    for waker in woken {
        discard_panic(|| waker.wake());
    }
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
    fn a_payload_that_panics_when_dropped_costs_no_other_waiter_its_wake() {
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
    fn children_that_are_gone_take_no_room_beside_those_that_live() {
        let root = StopSource::new().token();
        let living: Vec<_> = (0..100).map(|_| root.child()).collect();
        for _ in 0..10_000 {
            drop(root.child());
        }
        assert!(root.node.children.borrow().capacity() < 4 * living.len());
    }

    #[test]
    fn a_burst_of_children_leaves_no_memory_behind() {
        let root = StopSource::new().token();
        let burst: Vec<_> = (0..10_000).map(|_| root.child().token()).collect();
        let below: Vec<_> = burst.iter().map(StopToken::child).collect();
        drop((burst, below));
        assert!(root.node.children.borrow().capacity() < 4 * FEW);
    }
}
