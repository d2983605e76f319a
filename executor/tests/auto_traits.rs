//! Which types are `Send`, `Sync`, `Unpin` and unwind safe. The compiler checks it; see also
//! `must_not_compile.md`.

use std::cell::Cell;
use std::future::Pending;
use std::marker::PhantomPinned;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use windlass_executor::{
    AbortHandle, Entered, Executor, Fallback, Handle, Panic, Run, Task, TickResult, YieldNow,
};

/// Fails to compile unless the type has all of the traits.
macro_rules! has {
    ($type:ty: $($trait:path),+) => {
        const _: () = {
            const fn has<T: ?Sized $(+ $trait)+>() {}
            has::<$type>();
        };
    };
}

/// Fails to compile if the type has one of the traits, because `hidden` then becomes ambiguous.
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

lacks!(Handle: Send, Sync);
has!(Handle: Unpin, Clone, UnwindSafe, RefUnwindSafe);

lacks!(Fallback: Send, Sync);
has!(Fallback: Unpin, UnwindSafe, RefUnwindSafe);

lacks!(AbortHandle: Send, Sync);
has!(AbortHandle: Unpin, Clone, UnwindSafe, RefUnwindSafe);

lacks!(Entered: Send, Sync);
has!(Entered: Unpin);

lacks!(Task<()>: Send, Sync);
lacks!(Task<Local>: Send, Sync);
// The handle never pins the output.
has!(Task<()>: Unpin);
has!(Task<PhantomPinned>: Unpin);

lacks!(Run<'static, Pending<()>>: Send, Sync);
has!(Run<'static, Pending<()>>: Unpin);
// `Run` pins the main future.
lacks!(Run<'static, Pinned>: Unpin);

// A panic may move to another thread, like the one that `std::thread::JoinHandle::join` returns.
has!(Panic: Send, Sync, Unpin, std::error::Error);

has!(TickResult: Send, Sync, Unpin, Copy, Eq, UnwindSafe, RefUnwindSafe);
has!(YieldNow: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);

// These types stay usable after a caught panic.
has!(Executor: UnwindSafe, RefUnwindSafe);
has!(Entered: UnwindSafe, RefUnwindSafe);
has!(Task<Local>: UnwindSafe, RefUnwindSafe);
has!(Task<&'static mut Local>: UnwindSafe, RefUnwindSafe);
has!(Run<'static, Pending<()>>: UnwindSafe, RefUnwindSafe);
lacks!(Run<'static, &'static mut Pending<()>>: UnwindSafe);
has!(Panic: UnwindSafe, RefUnwindSafe);

// Checks of the macros themselves.
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
