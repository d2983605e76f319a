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
//! The `unsafe` of tasks is here, and nothing outside can break what it rests on: in a state that
//! doesn't allow it, an operation panics or does nothing. The future is only touched by whoever has
//! set RUNNING or EMPTY, the output only by whoever has cleared DONE.

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::key::Key;
use crate::nested_drop;
use crate::panic::{Panic, discard_panic};

/// The cell is in the run queue; RUNNING as well, it will be.
pub(crate) const QUEUED: u32 = 1;
/// The future is being polled, and is nobody else's.
pub(crate) const RUNNING: u32 = 1 << 1;
/// The output is there.
pub(crate) const DONE: u32 = 1 << 2;
/// Neither future nor output is there any more, or whoever has set this is dropping them.
pub(crate) const EMPTY: u32 = 1 << 3;
/// Cancelled while it was running.
pub(crate) const CANCELLED: u32 = 1 << 4;
/// Nobody will want the output.
pub(crate) const DETACHED: u32 = 1 << 5;
/// It stands for the main future, which is not in it.
pub(crate) const MAIN: u32 = 1 << 6;
/// The joiner is in the table's `others`.
pub(crate) const OTHER_JOINER: u32 = 1 << 7;
/// The table has a name for it.
pub(crate) const NAMED: u32 = 1 << 8;
/// The upper half counts references: of the handle, the table, the run queue and the loop. There
/// are no others, since a `Ref` can't be cloned.
const ONE: u32 = 1 << 16;

/// No joiner.
pub(crate) const NOBODY: u32 = u32::MAX;

/// What is the same in all cells.
pub(crate) struct Head {
    functions: &'static Functions,
    pub(crate) key: Cell<Key>,
    /// The next in the run queue, which alone writes it.
    pub(crate) next: Cell<Option<Ref>>,
    /// Where it was spawned.
    pub(crate) place: &'static Location<'static>,
    /// The flags above, and the count.
    state: Cell<u32>,
    /// The slot of the task of this executor that awaits this one.
    pub(crate) joiner: Cell<u32>,
}

impl Head {
    #[inline]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.state.get() & flags != 0
    }

    /// Sets flags that say nothing of the stage.
    #[inline]
    pub(crate) fn set(&self, flags: u32) {
        debug_assert!(flags & (RUNNING | DONE | EMPTY) == 0);
        self.state.set(self.state.get() | flags);
    }

    /// As [`set`](Self::set).
    #[inline]
    pub(crate) fn clear(&self, flags: u32) {
        debug_assert!(flags & (RUNNING | DONE | EMPTY) == 0);
        self.state.set(self.state.get() & !flags);
    }
}

/// The whole cell. `repr(C)`, so that a pointer to it is one to its head.
#[repr(C)]
struct TaskCell<F: Future> {
    head: Head,
    stage: UnsafeCell<Stage<F>>,
}

/// The future first, the output then, in the same place; which of them, the head's state says.
union Stage<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<Result<F::Output, Panic>>,
}

/// A counted reference to a cell.
pub(crate) struct Ref(NonNull<Head>);

/// The handle's reference, which knows the type of the output.
pub(crate) struct OutputRef<T>(Ref, PhantomData<T>);

/// The references to a new cell.
pub(crate) struct NewCell<T> {
    pub(crate) handle: OutputRef<T>,
    pub(crate) in_table: Ref,
    pub(crate) in_queue: Ref,
}

impl<T> NewCell<T> {
    /// Makes a cell. Writes the future to its place at once, since debug builds copy a value on the
    /// stack for each function that takes it.
    #[inline]
    pub(crate) fn new<F>(future: F, place: &'static Location<'static>) -> Self
    where
        F: Future<Output = T> + 'static,
    {
        let cell = Box::leak(Box::<TaskCell<F>>::new_uninit()).as_mut_ptr();
        let head = Head {
            functions: const { &Functions::of::<F>() },
            key: Cell::new(Key::new(0, 0, 0)),
            next: Cell::new(None),
            place,
            state: Cell::new((3 * ONE) | QUEUED),
            joiner: Cell::new(NOBODY),
        };
        // SAFETY: the cell is a new allocation of the type, and its stage is a place for the
        // future. After this head and future are there.
        let cell = unsafe {
            (&raw mut (*cell).head).write(head);
            let stage = UnsafeCell::raw_get(&raw const (*cell).stage);
            stage.cast::<F>().write(future);
            NonNull::new_unchecked(cell).cast()
        };
        NewCell {
            handle: OutputRef(Ref(cell), PhantomData),
            in_table: Ref(cell),
            in_queue: Ref(cell),
        }
    }
}

impl Ref {
    /// A reference for the run queue, unless that has one, or gets one when a poll returns.
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

    /// Polls the future, unless this is the main one's cell or the task has ended. Meanwhile
    /// `polled` has its key, or WOKEN once it has woken itself: then it goes back to the queue. A
    /// panic is caught and is the output.
    #[inline(always)]
    pub(crate) fn poll(self, polled: &Cell<Key>, cx: &mut Context<'_>) -> Polled {
        let key = self.key.get();
        polled.set(key);
        let state = self.state.get() & !QUEUED;
        if state & (MAIN | RUNNING | DONE | EMPTY) != 0 {
            polled.set(Key::NOBODY);
            return self.no_future(state);
        }
        self.state.set(state | RUNNING);
        // SAFETY: the future is there, and RUNNING makes it ours alone.
        let done = unsafe { (self.functions.poll)(self.0, cx) };
        let woken = polled.replace(Key::NOBODY) == Key::WOKEN;
        let state = self.state.get() & !RUNNING;
        if done {
            self.state.set(state | DONE);
            return Polled::Done(key);
        }
        if state & CANCELLED != 0 {
            self.state.set(state);
            return Polled::Cancelled(key);
        }
        if woken || state & QUEUED != 0 {
            self.state.set(state | QUEUED);
            return Polled::Queued(self);
        }
        self.state.set(state);
        Polled::Pending
    }

    #[inline]
    fn no_future(self, state: u32) -> Polled {
        assert!(state & RUNNING == 0, "a future waits here");
        self.state.set(state);
        if state & (DONE | EMPTY) == 0 {
            Polled::Main
        } else {
            Polled::Ended
        }
    }

    /// Drops the future: at once, unless this is [too deep](nested_drop) in the drops of others.
    #[inline]
    pub(crate) fn drop_future(&self) {
        assert!(!self.has(RUNNING | DONE | EMPTY), "a future waits here");
        self.state.set(self.state.get() | EMPTY);
        self.drop_stage(false);
    }

    /// Drops the output, if it is there, as [`drop_future`](Self::drop_future).
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
            // SAFETY: the future or output was there, and with EMPTY set nobody else finds it.
            || unsafe { (self.functions.drop_stage)(self.0, is_output) },
            || {
                self.state.set(self.state.get() + ONE);
                let cell = Ref(self.0);
                Box::new(Deferred { cell, is_output })
            },
        );
    }

    /// The last reference goes, and the future or output is still there. This makes another one,
    /// which frees the cell.
    #[cold]
    fn drop_unused(&self) {
        self.state.set(self.state.get() + ONE);
        let cell = Ref(self.0);
        if cell.has(DONE) {
            cell.drop_output();
        } else {
            cell.drop_future();
        }
    }
}

/// A future or output whose drop was deferred. The cell says EMPTY, so nobody else finds it.
struct Deferred {
    cell: Ref,
    is_output: bool,
}

impl Drop for Deferred {
    fn drop(&mut self) {
        let Ref(cell) = self.cell;
        // SAFETY: `drop_stage` has made this for what is there, and nobody else finds it.
        unsafe { (self.cell.functions.drop_stage)(cell, self.is_output) }
    }
}

/// The task, in a message.
pub(crate) fn describe(cell: &Ref, name: Option<Rc<str>>) -> String {
    match name {
        Some(name) => format!("task `{name}`, spawned at {},", cell.place),
        None => format!("a task spawned at {}", cell.place),
    }
}

/// How a poll ended.
pub(crate) enum Polled {
    /// It wasn't one: the main future is to be polled.
    Main,
    /// It wasn't one: the task had ended in the queue.
    Ended,
    Pending,
    /// As `Pending`, and it goes back to the queue.
    Queued(Ref),
    /// The output is there.
    Done(Key),
    /// The future is there, and is to be dropped.
    Cancelled(Key),
}

impl<T> OutputRef<T> {
    /// Without the type of the output.
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
        // SAFETY: the output was there, and with DONE cleared nobody else finds it. It is of the
        // type that we have, or a subtype, since only `Ref::new` makes an `OutputRef`.
        Some(unsafe {
            (self.functions.take_output)(self.0.0, output.as_mut_ptr().cast());
            output.assume_init()
        })
    }
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
            // RUNNING here would mean that a poll was left by a panic, which none is.
            if state & (RUNNING | EMPTY) == 0 {
                self.drop_unused();
                return;
            }
            // SAFETY: this was the last reference, and neither future nor output is there.
            unsafe { (self.functions.free)(self.0) }
        }
    }
}

/// What differs from one type of future to the next.
///
/// # Safety
///
/// Each takes a cell that was made for that type, and says what it wants of its stage besides.
struct Functions {
    /// The future is there, and the caller's alone. If this returns true, the output is there
    /// instead.
    poll: unsafe fn(NonNull<Head>, &mut Context<'_>) -> bool,
    /// The output is there, and the caller's alone. It is in the second place after this, which is
    /// one for a `Result<F::Output, Panic>`.
    take_output: unsafe fn(NonNull<Head>, *mut ()),
    /// The output (true) or the future (false) is there, and the caller's alone. It's gone after
    /// this.
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
    // SAFETY: the caller's promise.
    let stage = unsafe { stage::<F>(cell) };
    let polled = catch_unwind(AssertUnwindSafe(|| {
        // If the poll panics, the future is dropped while the thread is panicking.
        let running = Running(stage);
        // SAFETY: the future is there and ours alone; it's pinned, since a cell never moves and
        // its future is dropped in place.
        let polled =
            unsafe { Pin::new_unchecked(&mut *(&raw mut (*stage).future).cast::<F>()) }.poll(cx);
        mem::forget(running);
        polled
    }));
    let mut output = match polled {
        Ok(Poll::Pending) => return false,
        Ok(Poll::Ready(output)) => Ok(output),
        Err(payload) => {
            // SAFETY: the future is gone, so the place is free.
            unsafe { (*stage).output = ManuallyDrop::new(Err(Panic::new(payload))) };
            return true;
        }
    };
    if mem::needs_drop::<F>() {
        let mut running = ManuallyDrop::new(Running(stage));
        // Its drop may panic: that, too, ends this task alone.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| running.drop_future())) {
            let unwanted = mem::replace(&mut output, Err(Panic::new(payload)));
            discard_panic(|| drop(unwanted));
        }
    }
    // SAFETY: the future is gone, so the place is free.
    unsafe { (*stage).output = ManuallyDrop::new(output) };
    true
}

/// A future that is being polled, or was polled for the last time. It's there and the holder's
/// alone, and nobody touches it after the drop of this.
struct Running<F: Future>(*mut Stage<F>);

impl<F: Future> Running<F> {
    fn drop_future(&mut self) {
        // SAFETY: the future is there, and nobody touches it after this.
        unsafe { ManuallyDrop::drop(&mut (*self.0).future) }
    }
}

impl<F: Future> Drop for Running<F> {
    /// The poll has panicked: that panic wins over one of the future's drop.
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
    // SAFETY: it is a cell of `F`, which was a box when it was made, and nobody has it any more.
    drop(unsafe { Box::from_raw(cell.cast::<TaskCell<F>>().as_ptr()) });
}
