//! Compile-time checks of `Send`, `Sync` and unwind safety.

mod common;

use std::cell::Cell;
use std::future::Pending;
use std::marker::PhantomPinned;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use windlass::coroutine::{AsyncCoroutine, Co, Coroutine, Exchange, State, Yield};
use windlass::net::{TcpListener, TcpStream};
use windlass::sync::{
    Acquire, Closed, Event, Listener, Lock, Mutex, MutexGuard, Permit, Semaphore, SendError,
    TryAcquireError, TryRecvError, TrySendError, mpsc, oneshot, watch,
};
use windlass::task::{
    Scope, Spawner, StopSource, StopToken, Stopped, TaskGroup, TaskLocal, UntilStopped, WithLocal,
};
use windlass::time::{Elapsed, Interval, Sleep, Timeout};
use windlass::{Async, BlockingTask, Builder, Panic, Runtime, Task, Turn, YieldNow};
use windlass::{Remote, RemoteError, RemoteTask};
use windlass_executor::Executor;
use windlass_reactor::Reactor;

/// Compiles only if the type lacks the trait. A type with the trait would have both impls, and the
/// call would be ambiguous.
macro_rules! is_not {
    ($trait:path: $($type:ty),+ $(,)?) => { $( const _: fn() = || {
        trait Either<Which> {
            fn choose() {}
        }
        struct HasIt;
        impl<T: ?Sized> Either<()> for T {}
        impl<T: ?Sized + $trait> Either<HasIt> for T {}
        let _ = <$type as Either<_>>::choose;
    }; )+ };
}

macro_rules! is {
    ($trait:path: $($type:ty),+ $(,)?) => { $( const _: fn() = || {
        fn has_it<T: ?Sized + $trait>() {}
        has_it::<$type>();
    }; )+ };
}

type Local = Rc<Cell<u8>>;
type Pinned = (Pending<()>, PhantomPinned);

// Shared between threads.
is!(Send: Remote, RemoteTask<u8>, RemoteError, Panic, BlockingTask<u8>);
is!(Sync: Remote);
is!(Clone: Remote, TcpStream);
is!(Unpin: Remote, RemoteTask<u8>, BlockingTask<u8>, Task<u8>, TcpStream, TcpListener, Runtime);

// Used on any thread, with the reactor of that thread.
is!(Send: TcpStream, TcpListener, Async<std::net::TcpStream>);
is!(Sync: TcpStream, TcpListener, Async<std::net::TcpStream>);

// Bound to one thread.
is_not!(Send: Runtime, Task<u8>, Executor, Reactor);
is_not!(Sync: Runtime, Task<u8>, Executor, Reactor);
is_not!(Send: StopSource, StopToken, Stopped);
is!(Clone: StopSource, StopToken);
is!(Unpin: StopSource, StopToken, Stopped, UntilStopped<std::future::Ready<u8>>);

// Plain values.
is!(Send: Turn, Elapsed, Sleep, Timeout<std::future::Ready<u8>>, Interval, YieldNow);
is!(Unpin: Sleep, Interval, Timeout<std::future::Ready<u8>>, YieldNow);
is!(Copy: Turn, Elapsed);

// All of these remain usable after a caught panic.
is!(UnwindSafe: Runtime, Builder, Remote, RemoteTask<u8>, RemoteError, Turn);
is!(RefUnwindSafe: Runtime, Builder, Remote, RemoteTask<u8>, RemoteError, Turn);
is!(UnwindSafe: StopSource, StopToken);
is!(RefUnwindSafe: StopSource, StopToken);

// These carry their output between threads, so the output must be `Send`.
is_not!(Send: RemoteTask<std::rc::Rc<u8>>, BlockingTask<std::rc::Rc<u8>>);

// Usable after a caught panic.
is!(UnwindSafe: TcpListener, TcpStream, Async<std::net::TcpStream>, Reactor, BlockingTask<u8>);
is!(UnwindSafe: StopSource, StopToken, Stopped, Remote, RemoteTask<u8>, RemoteError, Turn);
is!(RefUnwindSafe: StopSource, StopToken, Stopped, Remote, RemoteTask<u8>, RemoteError, Turn);

// Errors that `?` converts into any boxed error.
is!(std::error::Error: RemoteError, Panic, Elapsed);

// A coroutine's body stays on its thread. The body is pinned in a box or on the stack.
is_not!(
    Send:
    Coroutine<'static, (), (), ()>, AsyncCoroutine<'static, (), (), ()>, Co<'static, (), ()>,
    Yield<'static, (), ()>,
);
is_not!(
    Sync:
    Coroutine<'static, (), (), ()>, AsyncCoroutine<'static, (), (), ()>, Exchange<(), ()>,
    Co<'static, (), ()>, Yield<'static, (), ()>,
);
is!(
    Unpin:
    Coroutine<'static, PhantomPinned, PhantomPinned, PhantomPinned>,
    AsyncCoroutine<'static, PhantomPinned, PhantomPinned, PhantomPinned>,
    Yield<'static, PhantomPinned, PhantomPinned>, State<(), ()>,
);
is_not!(Clone: Co<'static, (), ()>);
is!(Send: State<(), ()>);
is!(Sync: State<(), ()>);
is!(Copy: State<(), ()>);
is!(Eq: State<(), ()>);
is!(UnwindSafe: State<(), ()>);
is!(RefUnwindSafe: State<(), ()>);

// Groups and scopes belong to their executor's thread, and their handles are `Unpin`.
is_not!(Send: TaskGroup<()>, Spawner<()>, Scope<'static>);
is_not!(Sync: TaskGroup<()>, Spawner<()>, Scope<'static>);
is!(Unpin: TaskGroup<PhantomPinned>, Spawner<PhantomPinned>, Scope<'static>);
is!(Clone: Spawner<PhantomPinned>, Scope<'static>);

// A static that all threads share, each with values of its own.
is!(Send: TaskLocal<Local>);
is!(Sync: TaskLocal<Local>);
is!(Unpin: TaskLocal<Local>, WithLocal<PhantomPinned, Pinned>);
is_not!(Send: WithLocal<u8, Pending<()>>);
is_not!(Sync: WithLocal<u8, Pending<()>>);

// Channels and locks stay on their thread for every type of value.
is_not!(
    Send:
    Semaphore, Permit<&'static Semaphore>, Permit<Rc<Semaphore>>, Acquire<&'static Semaphore>,
    Event, Listener<'static>, Mutex<u8>, MutexGuard<'static, u8>, Lock<'static, u8>,
    mpsc::Sender<u8>, mpsc::Permit<'static, u8>, mpsc::UnboundedSender<u8>, mpsc::Receiver<u8>,
    oneshot::Sender<u8>, oneshot::Receiver<u8>, watch::Sender<u8>, watch::Receiver<u8>,
);
is_not!(
    Sync:
    Semaphore, Permit<&'static Semaphore>, Permit<Rc<Semaphore>>, Acquire<&'static Semaphore>,
    Event, Listener<'static>, Mutex<u8>, MutexGuard<'static, u8>, Lock<'static, u8>,
    mpsc::Sender<u8>, mpsc::Permit<'static, u8>, mpsc::UnboundedSender<u8>, mpsc::Receiver<u8>,
    oneshot::Sender<u8>, oneshot::Receiver<u8>, watch::Sender<u8>, watch::Receiver<u8>,
);

// `select!` needs `Unpin` futures. These are `Unpin` for every type of value.
is!(
    Unpin:
    Acquire<&'static Semaphore>, Acquire<Rc<Semaphore>>, Lock<'static, PhantomPinned>,
    Listener<'static>, mpsc::Receiver<PhantomPinned>, oneshot::Receiver<PhantomPinned>,
);

// Errors may move to other threads.
is!(Send: Closed, SendError<u8>, TrySendError<u8>, TryRecvError, TryAcquireError);
is!(Sync: Closed, SendError<u8>, TrySendError<u8>, TryRecvError, TryAcquireError);
is!(
    std::error::Error:
    Closed, SendError<u8>, SendError<Local>, TrySendError<u8>, TryRecvError, TryAcquireError,
);

// After a panic that was caught all of these are as usable as before.
is!(
    UnwindSafe:
    TaskGroup<Local>, Spawner<Local>, Scope<'static>, TaskLocal<Local>, Semaphore,
    Permit<&'static Semaphore>, Permit<Rc<Semaphore>>, Acquire<Rc<Semaphore>>, Event,
    Listener<'static>, mpsc::Sender<Local>, mpsc::Permit<'static, Local>,
    mpsc::UnboundedSender<Local>, mpsc::Receiver<Local>, oneshot::Sender<Local>,
    oneshot::Receiver<Local>,
);
is!(
    RefUnwindSafe:
    TaskGroup<Local>, Spawner<Local>, Scope<'static>, TaskLocal<Local>, Semaphore,
    Permit<&'static Semaphore>, Permit<Rc<Semaphore>>, Acquire<Rc<Semaphore>>, Event,
    Listener<'static>, mpsc::Sender<Local>, mpsc::Permit<'static, Local>,
    mpsc::UnboundedSender<Local>, mpsc::Receiver<Local>, oneshot::Sender<Local>,
    oneshot::Receiver<Local>,
);

// These change their values in place and have no poisoning.
is!(UnwindSafe: Mutex<u8>);
is_not!(RefUnwindSafe: Mutex<u8>, MutexGuard<'static, u8>, watch::Sender<u8>, watch::Receiver<u8>);
is_not!(UnwindSafe: MutexGuard<'static, u8>, watch::Sender<u8>, watch::Receiver<u8>);

// A body may borrow anything.
is_not!(UnwindSafe: Coroutine<'static, (), (), ()>, AsyncCoroutine<'static, (), (), ()>);
is_not!(RefUnwindSafe: Coroutine<'static, (), (), ()>, AsyncCoroutine<'static, (), (), ()>);

#[test]
fn a_task_can_hold_a_future_that_is_not_send() {
    let not_send = std::rc::Rc::new(7);
    assert_eq!(
        common::run(async { *windlass::spawn(async move { not_send }).await }),
        7
    );
}
