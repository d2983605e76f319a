//! Values that belong to a task instead of a function or a thread.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread::LocalKey;

use futures_core::future::FusedFuture;

/// Declares task-local values, each a `static` [`TaskLocal`](crate::task::TaskLocal).
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

/// A value that is set while a future runs. Functions that the future calls can read it at any
/// depth. It is hidden from other tasks. Declared by [`task_local!`](crate::task_local!).
///
/// It suits context that every function would otherwise have to pass on, such as the request number
/// for the log or the span of a trace. A spawned task does not inherit the value, so wrap its
/// future in a [`scope`](TaskLocal::scope) of its own. The children of a
/// [`scope`](crate::task::scope()) do inherit it, because their parent polls them.
pub struct TaskLocal<T: 'static> {
    name: &'static str,
    slot: &'static LocalKey<TaskLocalSlot<T>>,
}

impl<T> TaskLocal<T> {
    #[doc(hidden)]
    pub const fn new(name: &'static str, slot: &'static LocalKey<TaskLocalSlot<T>>) -> Self {
        TaskLocal { name, slot }
    }

    /// Returns a future that runs another one with this value. The value is set for each poll and
    /// for the drop of the future, and unset afterwards even if that panics. So tasks that run in
    /// between do not see it. Scopes may be nested, and the innermost one is in effect.
    ///
    /// It allocates a box for the future and an `Rc` for the value.
    ///
    /// # Cancel safety
    ///
    /// The future is as cancel-safe as the inner future.
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

    /// Calls a closure with this value set. The value is unset afterwards, even if the closure
    /// panics. Like [`scope`](TaskLocal::scope), for code that awaits nothing.
    ///
    /// ```
    /// # use windlass::task_local;
    /// # task_local! { static REQUEST: u64; }
    /// let line = REQUEST.sync_scope(7, || REQUEST.with(|it| format!("[{it}] hauled")));
    /// assert_eq!(line, "[7] hauled");
    /// assert_eq!(REQUEST.try_with(|it| *it), None);
    /// ```
    pub fn sync_scope<R>(&'static self, value: T, run: impl FnOnce() -> R) -> R {
        let _entered = self.enter(Rc::new(value));
        run()
    }

    fn enter(&'static self, value: Rc<T>) -> Entered<T> {
        Entered {
            local: self,
            previous: self.replace(Some(value)),
        }
    }

    /// Calls the closure with the value.
    ///
    /// # Panics
    ///
    /// Panics outside of a [`scope`](TaskLocal::scope) of this task-local.
    #[track_caller]
    pub fn with<R>(&'static self, read: impl FnOnce(&T) -> R) -> R {
        match self.get() {
            Some(value) => read(&value),
            None => panic!(
                "the task-local `{0}` has no value here: wrap the future in `{0}.scope(value, \
                 future)`, also that of a spawned task, which does not inherit the value",
                self.name
            ),
        }
    }

    /// Calls the closure with the value. Returns `None` outside of a [`scope`](TaskLocal::scope),
    /// where std and tokio return a `Result` that has more than one reason.
    pub fn try_with<R>(&'static self, read: impl FnOnce(&T) -> R) -> Option<R> {
        self.get().map(|value| read(&value))
    }

    /// Clones the `Rc`, so that a closure that reads the value may enter and leave scopes.
    fn get(&self) -> Option<Rc<T>> {
        let value = self.replace(None)?;
        self.replace(Some(value.clone()));
        Some(value)
    }

    fn replace(&self, value: Option<Rc<T>>) -> Option<Rc<T>> {
        let replace = |slot: &TaskLocalSlot<T>| slot.0.replace(ManuallyDrop::new(value));
        ManuallyDrop::into_inner(self.slot.with(replace))
    }
}

impl<T> fmt::Debug for TaskLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskLocal").field(&self.name).finish()
    }
}

/// The value of the future that a thread polls.
///
/// `ManuallyDrop`, because a thread-local without a destructor still exists for futures that are
/// dropped while the thread ends. It leaks no value, because `Entered` restores the previous one.
#[doc(hidden)]
#[allow(missing_debug_implementations)]
pub struct TaskLocalSlot<T>(Cell<ManuallyDrop<Option<Rc<T>>>>);

impl<T> TaskLocalSlot<T> {
    #[allow(clippy::new_without_default)] // only for `task_local!`, which needs a const function
    pub const fn new() -> Self {
        TaskLocalSlot(Cell::new(ManuallyDrop::new(None)))
    }
}

/// The future of [`TaskLocal::scope`].
#[must_use = "futures do nothing unless awaited or polled"]
pub struct WithLocal<T: 'static, F> {
    local: &'static TaskLocal<T>,
    value: Rc<T>,
    /// `None` only during the drop. Boxed, so that it can be dropped there while the value is set.
    future: Option<Pin<Box<F>>>,
}

// Neither field is pinned in place.
impl<T, F> Unpin for WithLocal<T, F> {}

impl<T, F> WithLocal<T, F> {
    fn enter(&self) -> Entered<T> {
        self.local.enter(self.value.clone())
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

impl<T, F: FusedFuture> FusedFuture for WithLocal<T, F> {
    fn is_terminated(&self) -> bool {
        let future = self.future.as_ref();
        future.is_none_or(|future| future.is_terminated())
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

/// The value is set while this exists.
struct Entered<T: 'static> {
    local: &'static TaskLocal<T>,
    previous: Option<Rc<T>>,
}

impl<T> Drop for Entered<T> {
    fn drop(&mut self) {
        let ours = self.local.replace(self.previous.take());
        drop(ours);
    }
}
