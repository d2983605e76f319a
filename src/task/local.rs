//! Values that belong to a task rather than to a function or a thread.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread::LocalKey;

/// Declares task-local values: each a `static` [`TaskLocal`].
///
/// ```
/// use windlass::{block_on, task_local};
///
/// task_local! {
///     /// The number of the request that is being served.
///     pub static REQUEST: u64;
///     static USER: String;
/// }
///
/// fn log(text: &str) -> String {
///     REQUEST.with(|request| format!("[{request}] {text}"))
/// }
///
/// block_on(REQUEST.scope(7, async {
///     assert_eq!(log("hauled"), "[7] hauled");
///     assert_eq!(USER.try_with(String::clone), None);
/// }));
/// ```
#[macro_export]
macro_rules! task_local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty);+ $(;)?) => { $(
        $(#[$attribute])*
        $visibility static $name: $crate::task::TaskLocal<$type> = {
            ::std::thread_local! {
                static SLOT: $crate::task::TaskLocalSlot<$type> =
                    const { $crate::task::TaskLocalSlot::new() };
            }
            $crate::task::TaskLocal::new(::std::stringify!($name), &SLOT)
        };
    )+ };
}

/// A value for the time of a future: whatever the future calls finds it, however deep, and no other
/// task does. Declared by [`task_local!`](crate::task_local!).
///
/// It's for what every function would have to hand on, and none looks at: a request's number for
/// the log, the span of a trace. A spawned task doesn't inherit it: wrap its future in a
/// [`scope`](TaskLocal::scope) of its own. The children of a [`scope`](crate::task::scope()) do,
/// since they are polled by their parent.
pub struct TaskLocal<T: 'static> {
    name: &'static str,
    slot: &'static LocalKey<TaskLocalSlot<T>>,
}

impl<T> TaskLocal<T> {
    #[doc(hidden)]
    pub const fn new(name: &'static str, slot: &'static LocalKey<TaskLocalSlot<T>>) -> Self {
        TaskLocal { name, slot }
    }

    /// A future that runs the other one with this value. The value is put in place for each poll
    /// and taken out after it, also if that panics, and again for the future's drop. So tasks that
    /// run in between don't see it. Scopes may be nested: the innermost counts.
    ///
    /// It allocates a box for the future, and a counted place for the value.
    ///
    /// # Cancel safety
    ///
    /// That of the future.
    ///
    /// ```
    /// # use windlass::{block_on, task_local};
    /// # task_local! { static DEPTH: u32; }
    /// block_on(DEPTH.scope(1, async {
    ///     DEPTH.scope(2, async { assert_eq!(DEPTH.with(|it| *it), 2) }).await;
    ///     assert_eq!(DEPTH.with(|it| *it), 1);
    /// }));
    /// ```
    pub fn scope<F: Future>(&'static self, value: T, future: F) -> WithLocal<T, F> {
        WithLocal {
            local: self,
            value: Rc::new(value),
            future: Some(Box::into_pin(Box::new(future))),
        }
    }

    /// Calls the closure with the value.
    ///
    /// # Panics
    ///
    /// Outside of a [`scope`](TaskLocal::scope) of this task-local.
    #[track_caller]
    pub fn with<R>(&'static self, look: impl FnOnce(&T) -> R) -> R {
        match self.get() {
            Some(value) => look(&value),
            None => panic!(
                "the task-local `{0}` has no value here: run the future by `{0}.scope(value, \
                 future)`; a spawned task doesn't inherit it",
                self.name
            ),
        }
    }

    /// Calls the closure with the value; `None` outside of a [`scope`](TaskLocal::scope). (No
    /// `Result` as std's and tokio's: there is but one reason.)
    pub fn try_with<R>(&'static self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.get().map(|value| look(&value))
    }

    /// A count of the value, so that whatever looks at it may change what is in the slot.
    fn get(&self) -> Option<Rc<T>> {
        let value = self.replace(None)?;
        self.replace(Some(value.clone()));
        Some(value)
    }

    fn replace(&self, value: Option<Rc<T>>) -> Option<Rc<T>> {
        let put = |slot: &TaskLocalSlot<T>| slot.0.replace(ManuallyDrop::new(value));
        ManuallyDrop::into_inner(self.slot.with(put))
    }
}

impl<T> fmt::Debug for TaskLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskLocal").field(&self.name).finish()
    }
}

/// Where a thread has the value of the future that it polls.
///
/// `ManuallyDrop`, because a thread-local value without a destructor is still there for futures
/// that are dropped while the thread ends. Nothing leaks: who puts a value in takes it out.
#[doc(hidden)]
#[allow(missing_debug_implementations)]
pub struct TaskLocalSlot<T>(Cell<ManuallyDrop<Option<Rc<T>>>>);

impl<T> TaskLocalSlot<T> {
    #[allow(clippy::new_without_default)] // for `task_local!` alone, which needs it to be const
    pub const fn new() -> Self {
        TaskLocalSlot(Cell::new(ManuallyDrop::new(None)))
    }
}

/// The future of [`TaskLocal::scope`].
#[must_use = "futures do nothing unless awaited or polled"]
pub struct WithLocal<T: 'static, F> {
    local: &'static TaskLocal<T>,
    value: Rc<T>,
    /// None only in the drop. Boxed, so that it can be dropped in there while the value is in its
    /// place.
    future: Option<Pin<Box<F>>>,
}

// Neither value nor future is pinned in here.
impl<T, F> Unpin for WithLocal<T, F> {}

impl<T, F> WithLocal<T, F> {
    fn enter(&self) -> Entered<T> {
        let value = Some(self.value.clone());
        Entered {
            local: self.local,
            before: self.local.replace(value),
        }
    }
}

impl<T, F: Future> Future for WithLocal<T, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = self.enter();
        let future = self.future.as_mut();
        future.map_or(Poll::Pending, |future| future.as_mut().poll(cx))
    }
}

impl<T, F> Drop for WithLocal<T, F> {
    fn drop(&mut self) {
        let _entered = self.enter();
        self.future = None;
    }
}

impl<T, F> fmt::Debug for WithLocal<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithLocal")
            .field("local", &self.local.name)
            .finish_non_exhaustive()
    }
}

/// The value is in its place while this lives.
struct Entered<T: 'static> {
    local: &'static TaskLocal<T>,
    before: Option<Rc<T>>,
}

impl<T> Drop for Entered<T> {
    fn drop(&mut self) {
        let ours = self.local.replace(self.before.take());
        drop(ours);
    }
}
