//! Which types may move between threads and across a caught panic. The compiler checks it.

mod common;

use std::net::TcpStream as Std;
use std::panic::{RefUnwindSafe, UnwindSafe};

use windlass::fs::{DirEntry, File, OpenOptions, ReadDir};
use windlass::io::{Stderr, Stdin, Stdout};
use windlass::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use windlass::signal::{CtrlC, Signal, Signals};
use windlass::{BlockingTask, Pool};
use windlass_reactor::net::{self, TcpListener, TcpStream, UdpSocket};
use windlass_reactor::time::{Elapsed, Interval, MissedTicks, Sleep, Timeout};
use windlass_reactor::{Async, Awake, Reactor, Readable, TurnResult, Writable};

macro_rules! are {
    ($trait:path: $($type:ty),* $(,)?) => {
        const _: fn() = || {
            fn is<T: $trait>() {}
            $( is::<$type>(); )*
        };
    };
}

/// Fails to compile if a type has the trait, because two impls then match.
macro_rules! are_not {
    ($trait:path: $($type:ty),* $(,)?) => { $(
        const _: fn() = || {
            struct Has;
            trait Either<T> {
                fn one() {}
            }
            impl<T> Either<()> for T {}
            impl<T: $trait> Either<Has> for T {}
            <$type as Either<_>>::one();
        };
    )* };
}

are!(Send: Sleep, Interval, Timeout<()>, Elapsed, MissedTicks, TurnResult, Signal);
are!(Sync: Sleep, Interval, Timeout<()>, Elapsed, MissedTicks, TurnResult, Signal);
are!(Unpin: Sleep, Interval, Timeout<()>, Async<Std>, Reactor);
are!(Unpin: TcpListener, TcpStream, UdpSocket);
are!(Unpin: Stdin, Stdout, Stderr, Signals, CtrlC);
are!(Unpin: Readable<'static>, Writable<'static>, net::Incoming<'static>);
are!(Unpin: Child, ChildStdin, ChildStdout, ChildStderr);
are!(Unpin: File, ReadDir, BlockingTask<u8>);
are!(Send: Command, BlockingTask<u8>, Pool, OpenOptions, ReadDir, DirEntry);
are!(Sync: Command, Pool, OpenOptions, DirEntry);
are!(Clone: Reactor, TcpStream, UdpSocket);

// Sockets and their futures may be used on any thread.
are!(Send: Async<Std>, TcpListener, TcpStream, UdpSocket);
are!(Sync: Async<Std>, TcpListener, TcpStream, UdpSocket);
are!(Send: Readable<'static>, Writable<'static>, net::Incoming<'static>);
are!(Sync: Readable<'static>, Writable<'static>, net::Incoming<'static>);
are_not!(Send: Reactor, Awake<'static>, Async<std::rc::Rc<Std>>);
are_not!(Sync: Reactor, Awake<'static>, Async<std::rc::Rc<Std>>);
are_not!(Send: Signals, CtrlC, Child);
are_not!(Sync: Signals, CtrlC, Child);
are_not!(Send: File, BlockingTask<std::rc::Rc<u8>>);
are_not!(Sync: File);

// A panic leaves all of these usable. Each change of their state is a single step, and user code
// never runs in the middle of one.
are!(UnwindSafe: Sleep, Interval, Timeout<()>, Elapsed, MissedTicks, TurnResult, Signal);
are!(RefUnwindSafe: Sleep, Interval, Timeout<()>, Elapsed, MissedTicks, TurnResult, Signal);
are!(UnwindSafe: Reactor, Awake<'static>, Async<Std>, TcpListener, TcpStream, UdpSocket);
are!(RefUnwindSafe: Reactor, Awake<'static>, Async<Std>, TcpListener, TcpStream, UdpSocket);
are!(UnwindSafe: Readable<'static>, Writable<'static>, net::Incoming<'static>);
are!(RefUnwindSafe: Readable<'static>, Writable<'static>, net::Incoming<'static>);
are!(UnwindSafe: Stdin, Stdout, Stderr, Signals, CtrlC);
are!(RefUnwindSafe: Stdin, Stdout, Stderr, Signals, CtrlC);
are!(UnwindSafe: Child, ChildStdin, ChildStdout, ChildStderr, Pool, BlockingTask<u8>);
are!(RefUnwindSafe: Child, ChildStdin, ChildStdout, ChildStderr, Pool, BlockingTask<u8>);
are!(UnwindSafe: File, ReadDir, DirEntry, OpenOptions);
are!(RefUnwindSafe: File, ReadDir, DirEntry, OpenOptions);

#[cfg(unix)]
mod unix {
    use std::panic::{RefUnwindSafe, UnwindSafe};

    use windlass::io::{PipeReader, PipeWriter};
    use windlass_reactor::net::unix::{Incoming, UnixDatagram, UnixListener, UnixStream};

    are!(Unpin: UnixListener, UnixStream, UnixDatagram, Incoming<'static>, PipeReader, PipeWriter);
    are!(Clone: UnixStream, UnixDatagram);
    are!(Send: UnixListener, UnixStream, UnixDatagram, Incoming<'static>);
    are!(Sync: UnixListener, UnixStream, UnixDatagram, Incoming<'static>);
    are!(UnwindSafe: UnixListener, UnixStream, UnixDatagram, Incoming<'static>);
    are!(RefUnwindSafe: UnixListener, UnixStream, UnixDatagram, Incoming<'static>);
    are!(UnwindSafe: PipeReader, PipeWriter);
    are!(RefUnwindSafe: PipeReader, PipeWriter);
}

/// Uses the socket without `AssertUnwindSafe`.
#[test]
fn socket_is_usable_after_a_caught_panic() {
    common::run(async {
        let (here, mut there) = common::tcp_pair().await;
        let panics = || {
            let waits = here.readable();
            assert!(common::poll(&mut { waits }, std::task::Waker::noop()).is_ready());
        };
        assert!(std::panic::catch_unwind(panics).is_err());
        futures::AsyncWriteExt::write_all(&mut there, b"ahoy")
            .await
            .unwrap();
        here.readable().await.unwrap();
        assert_eq!(here.try_read(&mut [0; 8]).unwrap(), 4);
    });
}

#[test]
fn public_types_are_send_or_not_as_documented() {}
