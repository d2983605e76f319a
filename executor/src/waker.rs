//! Wakers that are plain numbers.
//!
//! The data "pointer" of a waker is a [`Key`] and is never dereferenced. Cloning a waker copies the
//! number, and dropping it is free. A waker counts no references and cannot dangle. If its task is
//! gone, a wake has no effect, because the slot has another generation or the executor is gone.

use std::mem::ManuallyDrop;
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::current;
use crate::key::Key;
use crate::task_id::TaskId;

/// The functions of all wakers of this crate.
pub(crate) static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop);

/// The waker of the task that `key` names. Its drop has no effect, so callers may skip it.
#[inline]
pub(crate) fn waker(key: Key) -> ManuallyDrop<Waker> {
    // SAFETY: the functions of VTABLE never dereference the pointer, which is a plain number. Any
    // number of copies may be used and dropped on any thread, at any time.
    ManuallyDrop::new(unsafe { Waker::new(key.to_ptr(), &VTABLE) })
}

/// The key in a waker of this crate.
#[inline]
pub(crate) fn key_of(data: *const (), vtable: &'static RawWakerVTable) -> Option<Key> {
    std::ptr::eq(vtable, &VTABLE).then(|| Key::from_ptr(data))
}

/// The slot of the task that the waker names, if it is a task of `executor`.
#[inline]
pub(crate) fn index_in(executor: u16, waker: &Waker) -> Option<u32> {
    let key = key_of(waker.data(), waker.vtable())?;
    (key.executor() == executor).then(|| key.index())
}

fn clone(number: *const ()) -> RawWaker {
    RawWaker::new(number, &VTABLE)
}

fn wake(number: *const ()) {
    current::wake(Key::from_ptr(number));
}

fn drop(_number: *const ()) {}

impl TaskId {
    /// Returns the id of the task that the waker wakes, or `None` if it is not a waker of an
    /// executor of this crate. The main future of a [`Run`](crate::Run) has an id, too.
    pub fn of_waker(waker: &Waker) -> Option<TaskId> {
        TaskId::of_raw_waker(waker.data(), waker.vtable())
    }

    /// As [`of_waker`](TaskId::of_waker), for the parts of a waker.
    pub fn of_raw_waker(data: *const (), vtable: &'static RawWakerVTable) -> Option<TaskId> {
        key_of(data, vtable).and_then(TaskId::of_key)
    }
}
