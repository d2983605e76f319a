//! A task's one allocation, and counted references to it.
//!
//! ```text
//!             Pending
//!            ┌───────┐
//!            ▼       │
//!  new ──► future ─► RUNNING ──► DONE: output ── take or drop_output ───────► EMPTY
//!            └───────────────────────────── drop_future ───────────────────────┘
//! ```
//!
//! This file has the `unsafe` code of tasks. Its invariants hold whatever other modules do, since
//! an operation panics or has no effect in a wrong state. Only the code that has set RUNNING or
//! EMPTY touches the future, and only the code that has cleared DONE touches the output.

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::num::NonZeroU32;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use crate::key::Key;
use crate::nested_drop;
use crate::panic::{Panic, discard_panic};
use crate::pulse::CurrentTask;

/// In the run queue. Together with RUNNING, requeue when the poll returns.
pub(crate) const QUEUED: u32 = 1;
/// The future is being polled, and belongs to that poll alone.
pub(crate) const RUNNING: u32 = 1 << 1;
/// The output is there.
pub(crate) const DONE: u32 = 1 << 2;
/// Neither future nor output is there, or the code that has set this is dropping them.
pub(crate) const EMPTY: u32 = 1 << 3;
/// Cancelled while it was running.
pub(crate) const CANCELLED: u32 = 1 << 4;
/// The handle is gone, so the output is dropped.
pub(crate) const DETACHED: u32 = 1 << 5;
/// The cell of the main future, which is stored in its `Run`.
pub(crate) const MAIN: u32 = 1 << 6;
/// The table has the waker of a joiner that is not a task of this executor.
pub(crate) const FOREIGN_JOINER: u32 = 1 << 7;
/// The table has a name for the task.
pub(crate) const NAMED: u32 = 1 << 8;
/// Cancelled by an `AbortHandle`, unless the output is there.
pub(crate) const ABORTED: u32 = 1 << 9;
/// The upper half of the state counts the references of the handle, the table, the run queue, the
/// loop, a deferred drop and abort handles.
const ONE: u32 = 1 << 16;

/// The part that is the same in all cells.
pub(crate) struct Head {
    functions: &'static Functions,
    pub(crate) key: Cell<Key>,
    /// The next cell in the run queue, which alone writes it.
    pub(crate) next: Cell<Option<Ref>>,
    pub(crate) spawned_at: &'static Location<'static>,
    /// The flags above, and the count.
    state: Cell<u32>,
    /// The slot of the task of this executor that awaits this one, counted from one.
    joiner: Cell<Option<NonZeroU32>>,
}

impl Head {
    pub(crate) const STATE_OFFSET: usize = mem::offset_of!(Head, state);
    pub(crate) const JOINER_OFFSET: usize = mem::offset_of!(Head, joiner);

    #[inline]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.state.get() & flags != 0
    }

    /// Sets flags, except the flags of the stage.
    #[inline]
    pub(crate) fn set(&self, flags: u32) {
        debug_assert!(flags & (RUNNING | DONE | EMPTY) == 0);
        self.state.set(self.state.get() | flags);
    }

    /// Clears such flags.
    #[inline]
    pub(crate) fn clear(&self, flags: u32) {
        debug_assert!(flags & (RUNNING | DONE | EMPTY) == 0);
        self.state.set(self.state.get() & !flags);
    }

    /// The slot of the task that awaits this one.
    #[inline]
    pub(crate) fn joiner(&self) -> Option<u32> {
        self.joiner.get().map(|number| number.get() - 1)
    }

    #[inline]
    pub(crate) fn set_joiner(&self, slot: Option<u32>) {
        self.joiner
            .set(slot.and_then(|slot| NonZeroU32::new(slot + 1)));
    }

    /// Describes the task in a message.
    pub(crate) fn describe(&self, name: Option<&str>) -> String {
        match name {
            Some(name) => format!("task `{name}`, spawned at {},", self.spawned_at),
            None => format!("a task spawned at {}", self.spawned_at),
        }
    }
}

/// The whole cell. `repr(C)`, so that a pointer to it is one to its head.
#[repr(C)]
struct TaskCell<F: Future> {
    head: Head,
    stage: UnsafeCell<Stage<F>>,
}

/// First the future and then the output, in the same place. The head's state has the stage.
union Stage<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, Panic>>,
}

/// A counted reference to a cell. `repr(transparent)`, so that `None` is a null pointer for readers
/// outside of the process.
#[repr(transparent)]
pub(crate) struct Ref(NonNull<Head>);

/// The handle's reference, which knows the type of the output.
pub(crate) struct OutputRef<T>(Ref, PhantomData<T>);

// A panic leaves every cell consistent, since its state changes before user code runs.
impl<T> UnwindSafe for OutputRef<T> {}
impl<T> RefUnwindSafe for OutputRef<T> {}

impl<T> OutputRef<T> {
    /// Makes a cell. Writes the future to its place at once, since debug builds copy a value on the
    /// stack for each function that takes it.
    #[inline]
    pub(crate) fn new<F>(future: F, spawned_at: &'static Location<'static>) -> Self
    where
        F: Future<Output = T> + 'static,
    {
        let cell = Box::leak(Box::<TaskCell<F>>::new_uninit()).as_mut_ptr();
        let head = Head {
            functions: const { &Functions::of::<F>() },
            key: Cell::new(Key::NO_TASK),
            next: Cell::new(None),
            spawned_at,
            state: Cell::new(ONE),
            joiner: Cell::new(None),
        };
        // SAFETY: the cell is a new allocation of the type, and its stage has room for the future.
        // After this, head and future are there.
        unsafe {
            (&raw mut (*cell).head).write(head);
            let stage = UnsafeCell::raw_get(&raw const (*cell).stage);
            stage.cast::<F>().write(future);
            OutputRef(Ref(NonNull::new_unchecked(cell).cast()), PhantomData)
        }
    }

    /// Forgets the type of the output.
    #[inline]
    pub(crate) fn into_ref(self) -> Ref {
        self.0
    }

    /// Moves the output out, if it is there.
    #[inline]
    pub(crate) fn take(&self) -> Option<Result<T, Panic>> {
        let state = self.state.get();
        if state & DONE == 0 {
            return None;
        }
        self.state.set(state & !DONE | EMPTY);
        let mut output = MaybeUninit::<Result<T, Panic>>::uninit();
        // SAFETY: the output was there, and with DONE cleared no other code touches it. It is of
        // the type that we have, or a subtype, since only `new` makes an `OutputRef`.
        Some(unsafe {
            (self.functions.take_output)(self.0.0, output.as_mut_ptr().cast());
            output.assume_init()
        })
    }
}

impl Ref {
    /// Another reference.
    #[inline]
    pub(crate) fn share(&self) -> Ref {
        self.state.set(self.state.get() + ONE);
        Ref(self.0)
    }

    /// Another reference, for callers that may have many. `None` if the count could overflow.
    #[cold]
    pub(crate) fn try_share(&self) -> Option<Ref> {
        (self.state.get() < u32::MAX / 2).then(|| self.share())
    }

    /// A reference for the run queue, unless the cell is queued, or will be when its poll returns.
    #[inline]
    pub(crate) fn queued(&self) -> Option<Ref> {
        let state = self.state.get();
        if state & (QUEUED | RUNNING) != 0 {
            self.state.set(state | QUEUED);
            return None;
        }
        self.state.set((state | QUEUED) + ONE);
        Some(Ref(self.0))
    }

    /// Polls the future, unless this is the main future's cell or the task has ended. Meanwhile
    /// `current_task` is its key, or `SELF_WOKEN` once it has woken itself. A panic is caught and
    /// becomes the output.
    #[inline(always)]
    pub(crate) fn poll(
        self,
        key: Key,
        current_task: &CurrentTask,
        cx: &mut Context<'_>,
    ) -> PollOutcome {
        let state = self.state.get() & !QUEUED;
        if state & (MAIN | RUNNING | DONE | EMPTY) != 0 {
            return self.skip_poll(state);
        }
        current_task.set(key);
        self.state.set(state | RUNNING);
        // SAFETY: the future is there, and RUNNING makes it ours alone.
        let done = unsafe { (self.functions.poll)(self.0, cx) };
        let woken = current_task.replace(Key::NO_TASK) == Key::SELF_WOKEN;
        let state = self.state.get() & !RUNNING;
        if done {
            self.state.set(state | DONE);
            return PollOutcome::Done(key);
        }
        if state & CANCELLED != 0 {
            self.state.set(state);
            return PollOutcome::Cancelled(key);
        }
        if woken || state & QUEUED != 0 {
            self.state.set(state | QUEUED);
            return PollOutcome::Requeue(self);
        }
        self.state.set(state);
        PollOutcome::Pending
    }

    #[inline]
    fn skip_poll(self, state: u32) -> PollOutcome {
        assert!(state & RUNNING == 0, "a queued cell is not being polled");
        self.state.set(state);
        if state & (DONE | EMPTY) != 0 {
            return PollOutcome::Ended;
        }
        PollOutcome::Main
    }

    /// Drops the future. If the drops of tasks nest [too deep](nested_drop), it is deferred.
    #[inline]
    pub(crate) fn drop_future(&self) {
        assert!(
            !self.has(RUNNING | DONE | EMPTY),
            "the future is present until it ends or is dropped"
        );
        self.state.set(self.state.get() | EMPTY);
        self.drop_stage(false);
    }

    /// Drops the output, if it is there, in the same way.
    #[inline]
    pub(crate) fn drop_output(&self) {
        if self.has(DONE) {
            self.state.set(self.state.get() & !DONE | EMPTY);
            self.drop_stage(true);
        }
    }

    /// The caller has just set EMPTY.
    #[inline]
    fn drop_stage(&self, is_output: bool) {
        nested_drop::drop_deeper(
            // SAFETY: the future or output was there, and with EMPTY set no other code touches it.
            || unsafe { (self.functions.drop_stage)(self.0, is_output) },
            || {
                let cell = self.share();
                Box::new(Deferred { cell, is_output })
            },
        );
    }

    /// Drops the future or output that the last reference has left. A new reference frees the cell.
    #[cold]
    fn drop_unused(&self) {
        let cell = self.share();
        if cell.has(DONE) {
            cell.drop_output();
        } else {
            cell.drop_future();
        }
    }
}

/// A future or output with a deferred drop. The cell is EMPTY, so no other code touches it.
struct Deferred {
    cell: Ref,
    is_output: bool,
}

impl Drop for Deferred {
    fn drop(&mut self) {
        let Ref(cell) = self.cell;
        // SAFETY: `drop_stage` has made this for the present future or output, and no other code
        // touches it.
        unsafe { (self.cell.functions.drop_stage)(cell, self.is_output) }
    }
}

/// How [`Ref::poll`] ended.
pub(crate) enum PollOutcome {
    /// Skipped, since this is the main future's cell.
    Main,
    /// Skipped, since the task had ended while it was queued.
    Ended,
    Pending,
    /// Pending, and the task was woken during the poll.
    Requeue(Ref),
    /// The output is there.
    Done(Key),
    /// The task was cancelled during the poll. The caller drops the future.
    Cancelled(Key),
}

impl<T> Deref for OutputRef<T> {
    type Target = Ref;

    #[inline]
    fn deref(&self) -> &Ref {
        &self.0
    }
}

impl Deref for Ref {
    type Target = Head;

    #[inline]
    fn deref(&self) -> &Head {
        // SAFETY: a counted cell lives, and its head is only ever shared.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Ref {
    #[inline]
    fn drop(&mut self) {
        let state = self.state.get() - ONE;
        self.state.set(state);
        if state < ONE {
            // RUNNING here would mean that a panic has left a poll, which catches all panics.
            if state & (RUNNING | EMPTY) == 0 {
                self.drop_unused();
                return;
            }
            // SAFETY: this was the last reference, and neither future nor output is there.
            unsafe { (self.functions.free)(self.0) }
        }
    }
}

/// The functions that differ from one type of future to the next.
///
/// # Safety
///
/// Each takes a cell that was made for that type, in the state that its field names.
struct Functions {
    /// The future is there, and the caller's alone. If this returns true, the output is there
    /// instead.
    poll: unsafe fn(NonNull<Head>, &mut Context<'_>) -> bool,
    /// The output is there, and the caller's alone. The second argument points to room for a
    /// `Result<F::Output, Panic>`, to which the output moves.
    take_output: unsafe fn(NonNull<Head>, *mut ()),
    /// The output (true) or the future (false) is there, and the caller's alone. This drops it.
    drop_stage: unsafe fn(NonNull<Head>, bool),
    /// The last reference is gone, and neither future nor output is there.
    free: unsafe fn(NonNull<Head>),
}

impl Functions {
    const fn of<F: Future>() -> Functions {
        Functions {
            poll: poll::<F>,
            take_output: take_output::<F>,
            drop_stage: drop_stage::<F>,
            free: free::<F>,
        }
    }
}

/// # Safety
///
/// See [`Functions`].
unsafe fn stage<F: Future>(cell: NonNull<Head>) -> *mut Stage<F> {
    // SAFETY: it is a cell of `F`, and `repr(C)` puts the head first.
    unsafe { cell.cast::<TaskCell<F>>().as_ref() }.stage.get()
}

/// # Safety
///
/// See [`Functions::poll`].
unsafe fn poll<F: Future>(cell: NonNull<Head>, cx: &mut Context<'_>) -> bool {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        // If the poll panics, the future is dropped while the thread is panicking.
        let running = Running::<F>(cell, PhantomData);
        // SAFETY: the future is there and ours alone. It's pinned, since a cell never moves and
        // its future is dropped in place.
        let polled = unsafe { Pin::new_unchecked(&mut *stage::<F>(cell).cast::<F>()) }.poll(cx);
        mem::forget(running);
        polled
    }));
    let output = match polled {
        Ok(Poll::Pending) => return false,
        // SAFETY: the future is there and ours alone.
        Ok(Poll::Ready(output)) => unsafe { drop_finished::<F>(cell, output) },
        Err(payload) => Err(Panic::new(payload)),
    };
    // SAFETY: the future is gone, so its place is free.
    unsafe { (*stage::<F>(cell)).output = ManuallyDrop::new(output) };
    true
}

/// Drops a future that has returned its output. That may panic, which ends this task alone, like a
/// panic of the poll.
///
/// # Safety
///
/// See [`Functions::poll`].
#[inline(always)]
unsafe fn drop_finished<F: Future>(
    cell: NonNull<Head>,
    output: F::Output,
) -> Result<F::Output, Panic> {
    if mem::needs_drop::<F>() {
        let mut running = ManuallyDrop::new(Running::<F>(cell, PhantomData));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| running.drop_future())) {
            discard_panic(|| drop(output));
            return Err(Panic::new(payload));
        }
    }
    Ok(output)
}

/// A future that is being polled, or was polled for the last time. It's there and the holder's
/// alone, and no other code touches it after the drop of this.
struct Running<F: Future>(NonNull<Head>, PhantomData<F>);

impl<F: Future> Running<F> {
    fn drop_future(&mut self) {
        // SAFETY: the future is there, and no other code touches it after this.
        unsafe { ManuallyDrop::drop(&mut (*stage::<F>(self.0)).future) }
    }
}

impl<F: Future> Drop for Running<F> {
    /// The poll has panicked. That panic wins over one of the future's drop.
    fn drop(&mut self) {
        discard_panic(|| self.drop_future());
    }
}

/// # Safety
///
/// See [`Functions::take_output`].
unsafe fn take_output<F: Future>(cell: NonNull<Head>, to: *mut ()) {
    // SAFETY: the caller's promise.
    unsafe {
        let output = ManuallyDrop::take(&mut (*stage::<F>(cell)).output);
        to.cast::<Result<F::Output, Panic>>().write(output);
    }
}

/// # Safety
///
/// See [`Functions::drop_stage`].
unsafe fn drop_stage<F: Future>(cell: NonNull<Head>, is_output: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let stage = stage::<F>(cell);
        if is_output {
            ManuallyDrop::drop(&mut (*stage).output);
        } else {
            ManuallyDrop::drop(&mut (*stage).future);
        }
    }
}

/// # Safety
///
/// See [`Functions::free`].
unsafe fn free<F: Future>(cell: NonNull<Head>) {
    // SAFETY: it is a cell of `F` and was a box when it was made. No reference to it is left.
    drop(unsafe { Box::from_raw(cell.cast::<TaskCell<F>>().as_ptr()) });
}

#[cfg(all(test, not(windlass_loom)))]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn only_the_last_reference_drops_the_future() {
        let guard = Rc::new(());
        let inner = guard.clone();
        let cell = OutputRef::new(async move { drop(inner) }, Location::caller());
        drop(cell.share());
        assert_eq!(Rc::strong_count(&guard), 2);
        drop(cell);
        assert_eq!(Rc::strong_count(&guard), 1);
    }
}
