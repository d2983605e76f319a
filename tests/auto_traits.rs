//! What may go to other threads and what must not: checked by the compiler.

mod common;

use std::panic::{RefUnwindSafe, UnwindSafe};

use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopSource, StopToken, Stopped, UntilStopped};
use windlass::time::{Elapsed, Interval, Sleep, Timeout};
use windlass::{Async, BlockingTask, Builder, Panic, Runtime, Task, Turn, YieldNow};
use windlass::{Remote, RemoteError, RemoteTask};
use windlass_executor::Executor;
use windlass_reactor::Reactor;

/// Compiles only if the type does *not* have the trait: it would have both impls otherwise, and
/// the compiler could not choose.
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

// Threads share it, and it is all that they need.
is!(Send: Remote, RemoteTask<u8>, RemoteError, Panic, BlockingTask<u8>);
is!(Sync: Remote);
is!(Clone: Remote, TcpStream);
is!(Unpin: Remote, RemoteTask<u8>, BlockingTask<u8>, Task<u8>, TcpStream, TcpListener, Runtime);

// What belongs to one thread.
is_not!(Send: Runtime, Task<u8>, Executor, Reactor, TcpStream, TcpListener);
is_not!(Sync: Runtime, Task<u8>, Executor, Reactor, TcpStream, TcpListener);
is_not!(Send: StopSource, StopToken, Stopped);
is!(Clone: StopSource, StopToken);
is!(Unpin: StopSource, StopToken, Stopped, UntilStopped<std::future::Ready<u8>>);
is_not!(Send: Async<std::net::TcpStream>);
is_not!(Sync: Async<std::net::TcpStream>);

// Plain values.
is!(Send: Turn, Elapsed, Sleep, Timeout<std::future::Ready<u8>>, Interval, YieldNow);
is!(Unpin: Sleep, Interval, Timeout<std::future::Ready<u8>>, YieldNow);
is!(Copy: Turn, Elapsed);

// After a panic that was caught all of these are as usable as before.
is!(UnwindSafe: Runtime, Builder, Remote, RemoteTask<u8>, RemoteError, Turn);
is!(RefUnwindSafe: Runtime, Builder, Remote, RemoteTask<u8>, RemoteError, Turn);
is!(UnwindSafe: StopSource, StopToken);
is!(RefUnwindSafe: StopSource, StopToken);

// These carry their output between threads, so that has to be `Send`.
is_not!(Send: RemoteTask<std::rc::Rc<u8>>, BlockingTask<std::rc::Rc<u8>>);

// A caught panic leaves them usable.
is!(UnwindSafe: TcpListener, TcpStream, Async<std::net::TcpStream>, Reactor, BlockingTask<u8>);
is!(UnwindSafe: StopSource, StopToken, Stopped, Remote, RemoteTask<u8>, RemoteError, Turn);
is!(RefUnwindSafe: StopSource, StopToken, Stopped, Remote, RemoteTask<u8>, RemoteError, Turn);

// Errors that `?` takes into any box.
is!(std::error::Error: RemoteError, Panic, Elapsed);

#[test]
fn a_future_that_is_not_send_runs_in_a_task() {
    let not_send = std::rc::Rc::new(7);
    assert_eq!(
        common::run(async { *windlass::spawn(async move { not_send }).await }),
        7
    );
}
