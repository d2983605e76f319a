//! What may travel between threads. This compiles, or it does not.

use std::os::fd::OwnedFd;

use windlass_reactor::fs::{DirEntry, File, OpenOptions, ReadDir};
use windlass_reactor::io::{PipeReader, PipeWriter, Stderr, Stdin, Stdout};
use windlass_reactor::net::unix::{self, UnixDatagram, UnixListener, UnixStream};
use windlass_reactor::net::{self, TcpListener, TcpStream, UdpSocket};
use windlass_reactor::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use windlass_reactor::signal::{CtrlC, Signal, Signals};
use windlass_reactor::time::{Elapsed, Interval, MissedTicks, Sleep, Timeout};
use windlass_reactor::{Async, Awake, BlockingTask, Pool, Reactor, Readable, Turned, Writable};

macro_rules! are {
    ($trait:path: $($type:ty),* $(,)?) => {
        const _: fn() = || {
            fn is<T: $trait>() {}
            $( is::<$type>(); )*
        };
    };
}

/// With the trait, two impls would fit, and none could be chosen.
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

are!(Send: Sleep, Interval, Timeout<()>, Elapsed, MissedTicks, Turned, Signal);
are!(Sync: Sleep, Interval, Timeout<()>, Elapsed, MissedTicks, Turned, Signal);
are!(Unpin: Sleep, Interval, Timeout<()>, Async<OwnedFd>, Reactor);
are!(Unpin: TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream, UnixDatagram);
are!(Unpin: PipeReader, PipeWriter, Stdin, Stdout, Stderr, Signals, CtrlC);
are!(Unpin: Readable<'static>, Writable<'static>, net::Incoming<'static>, unix::Incoming<'static>);
are!(Unpin: Child, ChildStdin, ChildStdout, ChildStderr);
are!(Unpin: File, ReadDir, BlockingTask<u8>);
are!(Send: Command, BlockingTask<u8>, Pool, OpenOptions, ReadDir, DirEntry);
are!(Sync: Command, Pool, OpenOptions, DirEntry);
are!(Clone: Reactor, TcpStream, UdpSocket, UnixStream, UnixDatagram);

are_not!(Send: Reactor, Awake<'static>, Async<OwnedFd>, TcpListener, TcpStream, UdpSocket);
are_not!(Sync: Reactor, Awake<'static>, Async<OwnedFd>, TcpListener, TcpStream, UdpSocket);
are_not!(Send: UnixListener, UnixStream, UnixDatagram, Readable<'static>, Writable<'static>);
are_not!(Sync: UnixListener, UnixStream, UnixDatagram, Readable<'static>, Writable<'static>);
are_not!(Send: PipeReader, PipeWriter, Stdin, Stdout, Stderr, Signals, CtrlC);
are_not!(Sync: PipeReader, PipeWriter, Stdin, Stdout, Stderr, Signals, CtrlC);
are_not!(Send: net::Incoming<'static>, unix::Incoming<'static>);
are_not!(Send: Child, ChildStdin, ChildStdout, ChildStderr);
are_not!(Sync: Child, ChildStdin, ChildStdout, ChildStderr);
are_not!(Send: File, BlockingTask<std::rc::Rc<u8>>);
are_not!(Sync: File);

#[test]
fn the_public_types_are_send_or_not_as_they_say() {}
