//! Which types may go to other threads, and which may not. This is checked when it is compiled; see
//! also `must_not_compile.md`.

use std::cell::Cell;
use std::future::Pending;
use std::marker::PhantomPinned;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use windlass_executor::coroutine::{AsyncCoroutine, Co, Coroutine, Exchange, State, Yield};
use windlass_executor::sync::{
    Acquire, Closed, Event, Listener, Lock, Mutex, MutexGuard, Permit, Semaphore, SendError,
    TryAcquireError, TryRecvError, TrySendError, mpsc, oneshot, watch,
};
use windlass_executor::{
    Entered, Executor, Panic, Run, Scope, Spawner, Task, TaskGroup, TaskLocal, Tick, WithLocal,
    YieldNow,
};

/// Fails to compile if a type does not have all the traits.
macro_rules! has {
    ($type:ty: $($trait:path),+) => {
        const _: () = {
            const fn has<T: ?Sized $(+ $trait)+>() {}
            has::<$type>();
        };
    };
}

/// Fails to compile if a type has one of the traits: then `Probe` has two ways to say `hidden`.
macro_rules! lacks {
    ($type:ty: $($trait:path),+) => {
        $(const _: fn() = || {
            trait Probe<Which> {
                fn hidden() {}
            }
            impl<T: ?Sized> Probe<()> for T {}
            struct Has;
            impl<T: ?Sized + $trait> Probe<Has> for T {}
            let _ = <$type as Probe<_>>::hidden;
        };)+
    };
}

type Local = Rc<Cell<u8>>;
type Pinned = (Pending<()>, PhantomPinned);

lacks!(Executor: Send, Sync);
has!(Executor: Unpin);

lacks!(Entered: Send, Sync);
has!(Entered: Unpin);

lacks!(Task<()>: Send, Sync);
lacks!(Task<Local>: Send, Sync);
// The output is never pinned in the handle.
has!(Task<()>: Unpin);
has!(Task<PhantomPinned>: Unpin);

lacks!(Run<'static, Pending<()>>: Send, Sync);
has!(Run<'static, Pending<()>>: Unpin);
// The main future is pinned in its `Run`.
lacks!(Run<'static, Pinned>: Unpin);

// A panic may be carried to another thread, as that of `std::thread::JoinHandle::join`.
has!(Panic: Send, Sync, Unpin, std::error::Error);

has!(Tick: Send, Sync, Unpin, Copy, Eq, UnwindSafe, RefUnwindSafe);
has!(YieldNow: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);

// A coroutine's body stays on its thread. It's pinned elsewhere, in its box or on the stack.
lacks!(Coroutine<'static, (), (), ()>: Send, Sync);
has!(Coroutine<'static, PhantomPinned, PhantomPinned, PhantomPinned>: Unpin);
lacks!(AsyncCoroutine<'static, (), (), ()>: Send, Sync);
has!(AsyncCoroutine<'static, PhantomPinned, PhantomPinned, PhantomPinned>: Unpin);
lacks!(Exchange<(), ()>: Sync);
lacks!(Co<'static, (), ()>: Send, Sync, Clone);
lacks!(Yield<'static, (), ()>: Send, Sync);
has!(Yield<'static, PhantomPinned, PhantomPinned>: Unpin);
has!(State<(), ()>: Send, Sync, Unpin, Copy, Eq, UnwindSafe, RefUnwindSafe);
// Groups and scopes belong to their executor's thread, and pin nothing inside of the handle.
lacks!(TaskGroup<()>: Send, Sync);
lacks!(Spawner<()>: Send, Sync);
lacks!(Scope<'static>: Send, Sync);
has!(TaskGroup<PhantomPinned>: Unpin);
has!(Spawner<PhantomPinned>: Unpin, Clone);
has!(Scope<'static>: Unpin, Clone);

// A static that all threads share, each with values of its own.
has!(TaskLocal<Local>: Send, Sync, Unpin);
lacks!(WithLocal<u8, Pending<()>>: Send, Sync);
has!(WithLocal<PhantomPinned, Pinned>: Unpin);
// Channels and locks stay on their thread, whatever goes through them.
lacks!(Semaphore: Send, Sync);
lacks!(Permit<&'static Semaphore>: Send, Sync);
lacks!(Permit<Rc<Semaphore>>: Send, Sync);
lacks!(Acquire<&'static Semaphore>: Send, Sync);
lacks!(Event: Send, Sync);
lacks!(Listener<'static>: Send, Sync);
lacks!(Mutex<u8>: Send, Sync);
lacks!(MutexGuard<'static, u8>: Send, Sync);
lacks!(Lock<'static, u8>: Send, Sync);
lacks!(mpsc::Sender<u8>: Send, Sync);
lacks!(mpsc::Permit<'static, u8>: Send, Sync);
lacks!(mpsc::UnboundedSender<u8>: Send, Sync);
lacks!(mpsc::Receiver<u8>: Send, Sync);
lacks!(oneshot::Sender<u8>: Send, Sync);
lacks!(oneshot::Receiver<u8>: Send, Sync);
lacks!(watch::Sender<u8>: Send, Sync);
lacks!(watch::Receiver<u8>: Send, Sync);
// `select!` takes them without pinning, whatever goes through them.
has!(Acquire<&'static Semaphore>: Unpin);
has!(Acquire<Rc<Semaphore>>: Unpin);
has!(Lock<'static, PhantomPinned>: Unpin);
has!(Listener<'static>: Unpin);
has!(mpsc::Receiver<PhantomPinned>: Unpin);
has!(oneshot::Receiver<PhantomPinned>: Unpin);
// Errors may travel.
has!(Closed: Send, Sync, std::error::Error);
has!(SendError<u8>: Send, Sync, std::error::Error);
has!(SendError<Local>: std::error::Error);
has!(TrySendError<u8>: Send, Sync, std::error::Error);
has!(TryRecvError: Send, Sync, std::error::Error);
has!(TryAcquireError: Send, Sync, std::error::Error);

// After a panic that was caught all of these are as usable as before.
has!(Executor: UnwindSafe, RefUnwindSafe);
has!(Entered: UnwindSafe, RefUnwindSafe);
has!(Task<Local>: UnwindSafe, RefUnwindSafe);
has!(Task<&'static mut Local>: UnwindSafe, RefUnwindSafe);
has!(Run<'static, Pending<()>>: UnwindSafe, RefUnwindSafe);
lacks!(Run<'static, &'static mut Pending<()>>: UnwindSafe);
has!(Panic: UnwindSafe, RefUnwindSafe);
has!(TaskGroup<Local>: UnwindSafe, RefUnwindSafe);
has!(Spawner<Local>: UnwindSafe, RefUnwindSafe);
has!(Scope<'static>: UnwindSafe, RefUnwindSafe);
has!(TaskLocal<Local>: UnwindSafe, RefUnwindSafe);
has!(Semaphore: UnwindSafe, RefUnwindSafe);
has!(Permit<&'static Semaphore>: UnwindSafe, RefUnwindSafe);
has!(Permit<Rc<Semaphore>>: UnwindSafe, RefUnwindSafe);
has!(Acquire<Rc<Semaphore>>: UnwindSafe, RefUnwindSafe);
has!(Event: UnwindSafe, RefUnwindSafe);
has!(Listener<'static>: UnwindSafe, RefUnwindSafe);
has!(mpsc::Sender<Local>: UnwindSafe, RefUnwindSafe);
has!(mpsc::Permit<'static, Local>: UnwindSafe, RefUnwindSafe);
has!(mpsc::UnboundedSender<Local>: UnwindSafe, RefUnwindSafe);
has!(mpsc::Receiver<Local>: UnwindSafe, RefUnwindSafe);
has!(oneshot::Sender<Local>: UnwindSafe, RefUnwindSafe);
has!(oneshot::Receiver<Local>: UnwindSafe, RefUnwindSafe);
// Their values are changed in place, and nothing is poisoned.
has!(Mutex<u8>: UnwindSafe);
lacks!(Mutex<u8>: RefUnwindSafe);
lacks!(MutexGuard<'static, u8>: UnwindSafe, RefUnwindSafe);
lacks!(watch::Sender<u8>: UnwindSafe, RefUnwindSafe);
lacks!(watch::Receiver<u8>: UnwindSafe, RefUnwindSafe);
// A body may borrow anything.
lacks!(Coroutine<'static, (), (), ()>: UnwindSafe, RefUnwindSafe);
lacks!(AsyncCoroutine<'static, (), (), ()>: UnwindSafe, RefUnwindSafe);

// The probes themselves: they tell the two apart.
has!(u8: Send, Sync);
lacks!(Local: Send, Sync);
lacks!(*const (): Send, Sync);

#[test]
fn futures_and_outputs_need_not_be_send() {
    let executor = Executor::new();
    let local: Local = Rc::new(Cell::new(1));
    let theirs = local.clone();
    let task: Task<Local> = executor.spawn(async move {
        theirs.set(2);
        theirs
    });
    let output = windlass_executor::block_on(executor.run(task));
    assert!(Rc::ptr_eq(&output, &local) && local.get() == 2);
}

#[test]
fn the_main_future_may_borrow_and_need_not_be_unpin() {
    let word = String::from("rope");
    let executor = Executor::new();
    let first = windlass_executor::block_on(executor.run(async { word.as_str() }));
    assert_eq!(first, "rope");
}
