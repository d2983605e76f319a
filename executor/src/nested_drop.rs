//! Bounds the stack that nested drops of tasks take.
//!
//! A task owns the tasks of the handles it holds, so its drop drops them. Up to [`MAX_DEPTH`] such
//! drops nest in place, in the order of the code. Deeper values are put on a list, which the drop
//! at the last level in place empties before it returns. So a chain of any length takes the stack
//! of [`MAX_DEPTH`] drops, and all of it is gone when the drop of its first task returns.
//!
//! Only `'static` values can be deferred, since they are dropped after their owner's other fields,
//! which others might borrow from.

use std::any::Any;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use crate::panic::{Payload, drop_payload};

/// How many drops nest in place. Enough for trees written by hand, whose destructors may rely on
/// the order. In debug builds a level takes some 1 KiB of stack besides the frames of the user's
/// types.
const MAX_DEPTH: u32 = 32;

// Without a destructor, so that tasks can be dropped while the thread ends. Nothing leaks, since a
// value is only deferred inside of the drop that empties the list.
thread_local! {
    /// How many drops are on the stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The deferred values. The last one is dropped next.
    static DEFERRED: Cell<ManuallyDrop<Vec<Box<dyn Any>>>> =
        const { Cell::new(ManuallyDrop::new(Vec::new())) };
}

/// Drops a value so that a chain of any length takes little stack.
///
/// A type that owns tasks, and that tasks may own, drops them with this function in its `Drop`.
/// Programs can chain such values to any length, and the drop of the first would otherwise take a
/// stack as deep. Up to 32 nested drops run in place. Deeper ones are deferred, and have all run
/// when the outermost drop returns. [`Task`](crate::Task) does the same for its future.
///
/// # Panics
///
/// If a destructor of the value panics. All deferred drops run before.
///
/// # Examples
///
/// ```
/// use windlass_executor::drop_nested;
///
/// /// A list that may be a million nodes long.
/// struct Node(Option<Box<Node>>);
///
/// impl Drop for Node {
///     fn drop(&mut self) {
///         drop_nested(self.0.take());
///     }
/// }
///
/// let list = (0..1_000_000).fold(None, |next, _| Some(Box::new(Node(next))));
/// drop(list);
/// ```
pub fn drop_nested<T: 'static>(value: T) {
    let value = Cell::new(Some(value));
    drop_deeper(|| drop(value.take()), || Box::new(value.take()));
}

/// Runs a drop one level deeper. If that is too deep, the value that `defer` returns is dropped
/// later instead. If the drop panics, the panic propagates.
#[inline(always)]
pub(crate) fn drop_deeper(drop_in_place: impl FnOnce(), defer: impl FnOnce() -> Box<dyn Any>) {
    let depth = DEPTH.get();
    if depth >= MAX_DEPTH - 1 {
        return drop_too_deep(depth, drop_in_place, defer);
    }
    DEPTH.set(depth + 1);
    let _level = Level(depth);
    drop_in_place();
}

#[cold]
#[inline(never)]
fn drop_too_deep(depth: u32, drop_in_place: impl FnOnce(), defer: impl FnOnce() -> Box<dyn Any>) {
    if depth == MAX_DEPTH {
        // The drop that empties the list is on the stack.
        let value = defer();
        with_deferred(|deferred| deferred.push(value));
    } else {
        DEPTH.set(MAX_DEPTH);
        let _level = Level(depth);
        drop_with_deferred(drop_in_place);
    }
}

/// Restarts the depth from zero until the guard is dropped. A loop that a destructor runs may wait
/// for the drop of a task, which must not be deferred until the destructor returns.
#[inline]
pub(crate) fn restart_depth() -> Level {
    Level(DEPTH.replace(0))
}

/// Restores the depth.
pub(crate) struct Level(u32);

impl Drop for Level {
    #[inline]
    fn drop(&mut self) {
        DEPTH.set(self.0);
    }
}

/// The last level in place. Also drops the values that are deferred meanwhile, depth first and in
/// the order of the code. After a panic it drops the rest too. The first panic propagates at
/// the end, unless the thread is panicking already, when a second panic would abort.
fn drop_with_deferred(drop_in_place: impl FnOnce()) {
    let mut first = None;
    // Values below this index belong to a drop in which a destructor runs a loop.
    let start = with_deferred(|deferred| deferred.len());
    drop_one(&mut first, drop_in_place);
    while let Some(value) = with_deferred(|deferred| pop_from(start, deferred)) {
        drop_one(&mut first, || drop(value));
    }
    if let Some(payload) = first {
        resume_unwind(payload);
    }
}

/// Takes the last value above `start`. Frees the memory of a list that is empty.
fn pop_from(start: usize, deferred: &mut Vec<Box<dyn Any>>) -> Option<Box<dyn Any>> {
    if deferred.is_empty() {
        *deferred = Vec::new();
    }
    (deferred.len() > start).then(|| deferred.pop())?
}

/// Runs a drop. Of the values that it defers, the first is dropped next.
fn drop_one(first: &mut Option<Payload>, drop_in_place: impl FnOnce()) {
    let known = with_deferred(|deferred| deferred.len());
    if let Err(payload) = catch_unwind(AssertUnwindSafe(drop_in_place)) {
        if first.is_some() || thread::panicking() {
            drop_payload(payload);
        } else {
            *first = Some(payload);
        }
    }
    with_deferred(|deferred| deferred[known..].reverse());
}

/// Passes the list to `access`, which must not run user code.
fn with_deferred<R>(access: impl FnOnce(&mut Vec<Box<dyn Any>>) -> R) -> R {
    let mut deferred = DEFERRED.replace(ManuallyDrop::new(Vec::new()));
    let result = access(&mut deferred);
    DEFERRED.set(deferred);
    result
}
