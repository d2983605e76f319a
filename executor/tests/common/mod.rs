//! Helpers of the tests. They are a trace of events, futures that record their polls and drops, and
//! wakers that count or run a hook.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread::{self, ThreadId};

use windlass_executor::{Executor, yield_now};

/// Event names in the order in which the events happened.
#[derive(Clone, Default)]
pub(crate) struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&self, word: impl Into<String>) {
        self.0.borrow_mut().push(word.into());
    }

    /// Compares the whole trace with `expected`, and clears it.
    #[track_caller]
    pub(crate) fn is(&self, expected: &[&str]) {
        let words = self.0.take();
        assert_eq!(words, expected);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A future that records "poll a" and "drop a". A closure implements its polls.
pub(crate) struct Traced<F> {
    name: &'static str,
    trace: Trace,
    step: F,
}

pub(crate) fn traced<F, T>(trace: &Trace, name: &'static str, step: F) -> Traced<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin,
{
    let trace = trace.clone();
    Traced { name, trace, step }
}

impl<F, T> Future for Traced<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin,
{
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.trace.push(format!("poll {}", self.name));
        (self.step)(cx)
    }
}

impl<F> Drop for Traced<F> {
    fn drop(&mut self) {
        self.trace.push(format!("drop {}", self.name));
    }
}

/// A step that completes at its first poll.
pub(crate) fn ready<T: Clone + Unpin>(
    output: T,
) -> impl FnMut(&mut Context<'_>) -> Poll<T> + Unpin {
    move |_| Poll::Ready(output.clone())
}

/// A step that stays pending and registers no waker.
pub(crate) fn idle() -> impl FnMut(&mut Context<'_>) -> Poll<()> + Unpin {
    |_| Poll::Pending
}

/// A slot where a future stores its waker for the test.
pub(crate) type Kept = Rc<RefCell<Option<Waker>>>;

/// A step that stores its waker and stays pending.
pub(crate) fn keep(kept: &Kept) -> impl FnMut(&mut Context<'_>) -> Poll<()> + Unpin + use<> {
    let kept = kept.clone();
    move |cx| {
        kept.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// Takes the stored waker out, so that no borrow is held while it is used.
pub(crate) fn kept(kept: &Kept) -> Waker {
    kept.borrow().clone().expect("it was polled")
}

/// Calls a closure when it is dropped.
pub(crate) struct OnDrop<F: FnOnce()>(ManuallyDrop<F>);

pub(crate) fn on_drop<F: FnOnce()>(then: F) -> OnDrop<F> {
    OnDrop(ManuallyDrop::new(then))
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        // SAFETY: the closure is taken once, here, and `self` is not used again.
        let then = unsafe { ManuallyDrop::take(&mut self.0) };
        then();
    }
}

/// Records "drop a" when it is dropped.
pub(crate) fn records_drop(trace: &Trace, name: &'static str) -> OnDrop<impl FnOnce() + use<>> {
    let trace = trace.clone();
    on_drop(move || trace.push(format!("drop {name}")))
}

/// Panics when it is dropped.
pub(crate) fn panics_on_drop(message: &'static str) -> OnDrop<impl FnOnce()> {
    on_drop(move || panic!("{message}"))
}

/// A panic payload that panics when dropped, with another such payload, a given number of times.
pub(crate) struct Bomb(pub(crate) u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(left) = self.0.checked_sub(1) {
            std::panic::panic_any(Bomb(left));
        }
    }
}

/// Holds a value and stays pending.
pub(crate) async fn hold<T>(value: T) {
    let _value = value;
    std::future::pending::<()>().await;
}

/// Holds a value and stays pending, with an output of any type.
pub(crate) async fn held_for_ever<T, R>(value: T) -> R {
    hold(value).await;
    unreachable!()
}

/// Yields a given number of times.
pub(crate) async fn yields(times: usize) {
    for _ in 0..times {
        yield_now().await;
    }
}

/// Asserts that it is used and dropped on the thread that created it.
pub(crate) struct Canary(ThreadId, Arc<AtomicUsize>);

impl Canary {
    pub(crate) fn new(dropped: &Arc<AtomicUsize>) -> Self {
        Canary(thread::current().id(), dropped.clone())
    }

    pub(crate) fn sing(&self) {
        assert_eq!(thread::current().id(), self.0, "used on another thread");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        if thread::current().id() != self.0 {
            eprintln!("dropped on another thread");
            std::process::abort(); // a panic might be caught
        }
        self.1.fetch_add(1, SeqCst);
    }
}

/// A waker that counts its wakes.
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn new() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        (count.clone(), Waker::from(count))
    }

    /// The number of wakes since the last call.
    pub(crate) fn take(&self) -> usize {
        self.0.swap(0, SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Hooks of a [`hooked`] waker, each called at most once. For one thread only.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) on_clone: Hook,
    pub(crate) on_wake: Hook,
    pub(crate) on_drop: Hook,
}

#[derive(Default)]
pub(crate) struct Hook(RefCell<Option<Box<dyn FnOnce()>>>);

impl Hook {
    pub(crate) fn set(&self, then: impl FnOnce() + 'static) {
        self.0.replace(Some(Box::new(then)));
    }

    fn call(&self) {
        let then = self.0.take();
        if let Some(then) = then {
            then();
        }
    }
}

/// A waker that runs the test's hooks on clone, wake and drop.
pub(crate) fn hooked() -> (Rc<Hooks>, Waker) {
    static VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            let hooks = ManuallyDrop::new(from_raw(data));
            let copy = Rc::clone(&hooks);
            hooks.on_clone.call();
            RawWaker::new(Rc::into_raw(copy).cast(), &VTABLE)
        },
        |data| from_raw(data).on_wake.call(),
        |data| ManuallyDrop::new(from_raw(data)).on_wake.call(),
        |data| from_raw(data).on_drop.call(),
    );

    fn from_raw(data: *const ()) -> Rc<Hooks> {
        // SAFETY: the data comes from `Rc::into_raw`. A caller that must keep the count forgets the
        // `Rc`. These wakers stay on their thread.
        unsafe { Rc::from_raw(data.cast::<Hooks>()) }
    }

    let hooks = Rc::new(Hooks::default());
    let raw = RawWaker::new(Rc::into_raw(hooks.clone()).cast(), &VTABLE);
    // SAFETY: each clone owns a count of the `Rc`, which wake or drop releases.
    (hooks, unsafe { Waker::from_raw(raw) })
}

/// Polls once.
pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

/// Polls tasks until none is ready.
pub(crate) fn settle(executor: &Executor) {
    let mut left = 100_000;
    while executor.tick(Waker::noop(), 64).ready {
        left -= 1;
        assert!(left > 0, "tasks stay ready");
    }
}

/// The message of the panic that the closure ends with.
#[track_caller]
pub(crate) fn panic_of<T>(code: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => text(&*payload).to_owned(),
    }
}

pub(crate) fn text(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&'static str>().copied();
    literal
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(not a text)")
}

/// Creates executors until one has the id in `name`, its `Debug` output. Also returns the others,
/// so that they keep their ids.
pub(crate) fn executor_with_the_id_of(name: &str) -> Option<(Executor, Vec<Executor>)> {
    let id = |name: &str| {
        name.split("id: ")
            .nth(1)?
            .split(',')
            .next()
            .map(str::to_owned)
    };
    let wanted = id(name).expect("the Debug output shows the id");
    let mut others = Vec::new();
    for _ in 0..1000 {
        let executor = Executor::new();
        if id(&format!("{executor:?}")).as_deref() == Some(wanted.as_str()) {
            return Some((executor, others));
        }
        others.push(executor);
    }
    None // a test on another thread has it
}

/// A value shared by a task and its test.
pub(crate) fn shared<T>(value: T) -> Rc<RefCell<T>> {
    Rc::new(RefCell::new(value))
}

pub(crate) fn flag() -> Rc<Cell<bool>> {
    Rc::new(Cell::new(false))
}
