//! Checks each row of the tables of `Send` types and futures in the docs of `windlass`, and that
//! each public type has one.

// Some of the types are absent on Windows.
#![cfg(unix)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, Ready};
use std::rc::Rc;

use windlass::net::unix::{UnixDatagram, UnixListener, UnixStream};
use windlass::net::{TcpListener, TcpStream, UdpSocket};
use windlass::sync::TrySendError;
use windlass::*;

const TABLE: &str = include_str!("../src/send.md");
const API: &str = include_str!("../docs/api/windlass.txt");

type Std = std::net::TcpStream;
/// A type that is neither `Send` nor `Sync`.
type Bound = Rc<Cell<u8>>;
/// A type that is `Send` only.
type Sent = Cell<u8>;
type Unit = Ready<()>;
type State<T> = coroutine::State<T, u8>;

/// Whether a type has a trait. The constant of the impl with the bound hides the default one.
macro_rules! has {
    ($trait:ident, $type:ty) => {{
        #[allow(dead_code)]
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Otherwise for Probe<T> {}
        #[allow(dead_code)]
        impl<T: ?Sized + $trait> Probe<T> {
            const HAS: bool = true;
        }
        <Probe<$type>>::HAS
    }};
}

/// The word in the table.
fn word(always: bool, sometimes: bool, condition: &str) -> String {
    match (always, sometimes) {
        (true, _) => "yes".to_owned(),
        (false, true) => format!("if {condition}"),
        (false, false) => "no".to_owned(),
    }
}

/// The rows of types: the path, and the type. A generic type has three: with a parameter that is
/// neither `Send` nor `Sync`, with one that is `Send` only, and with one that is both.
macro_rules! types {
    ($($name:literal: $bound:ty $(, $sent:ty, $plain:ty)?;)*) => {
        BTreeMap::from([ $( ($name, {
            let all = [
                (has!(Send, $bound), has!(Sync, $bound)),
                $( (has!(Send, $sent), has!(Sync, $sent)),
                (has!(Send, $plain), has!(Sync, $plain)), )?
            ];
            let last = all[all.len() - 1];
            // A type may be `Sync` already if its parameter is `Send`.
            let needs_send = all.get(1).is_some_and(|sent| sent.1);
            let sync_if = if needs_send { "`T: Send`" } else { "`T: Sync`" };
            [
                word(all[0].0, last.0, "`T: Send`"),
                word(all[0].1, last.1, sync_if),
            ]
        }) ),* ])
    };
}

fn types() -> BTreeMap<&'static str, [String; 2]> {
    #[allow(unused_mut)]
    let mut types = types! {
        "Async": Async<Rc<Std>>, Async<NotSync>, Async<Std>;
        "BlockingTask": BlockingTask<Bound>, BlockingTask<Sent>, BlockingTask<u8>;
        "Builder": Builder;
        "EnterGuard": EnterGuard<'static>;
        "Handle": Handle;
        "Panic": Panic;
        "Pool": Pool;
        "Readable": Readable<'static>;
        "Remote": Remote;
        "RemoteError": RemoteError;
        "RemoteTask": RemoteTask<Bound>, RemoteTask<Sent>, RemoteTask<u8>;
        "Runtime": Runtime;
        "Task": Task<u8>;
        "Turn": Turn;
        "Writable": Writable<'static>;
        "YieldNow": YieldNow;
        "completion::MayBlock": completion::MayBlock;
        "completion::Registrar": completion::Registrar<'static>;
        "completion::Registration": completion::Registration<Source>;
        "coroutine::AsyncCoroutine": coroutine::AsyncCoroutine<'static, u8, u8, u8>;
        "coroutine::Co": coroutine::Co<'static, u8, u8>;
        "coroutine::Coroutine": coroutine::Coroutine<'static, u8, u8, u8>;
        "coroutine::Exchange": coroutine::Exchange<u8, u8>;
        "coroutine::State": State<Bound>, State<Sent>, State<u8>;
        "coroutine::Yield": coroutine::Yield<'static, u8, u8>;
        "fs::DirBuilder": fs::DirBuilder;
        "fs::DirEntry": fs::DirEntry;
        "fs::File": fs::File;
        "fs::FileTimes": fs::FileTimes;
        "fs::FileType": fs::FileType;
        "fs::Metadata": fs::Metadata;
        "fs::Root": fs::Root;
        "fs::OpenOptions": fs::OpenOptions;
        "fs::Permissions": fs::Permissions;
        "fs::ReadDir": fs::ReadDir;
        "inspect::Activity": inspect::Activity;
        "inspect::Cycle": inspect::Cycle;
        "inspect::Deadlock": inspect::Deadlock;
        "inspect::Frame": inspect::Frame;
        "inspect::Metrics": inspect::Metrics;
        "inspect::Phase": inspect::Phase;
        "inspect::PollTimes": inspect::PollTimes;
        "inspect::Server": inspect::Server;
        "inspect::ServerBuilder": inspect::ServerBuilder;
        "inspect::Stack": inspect::Stack;
        "inspect::Stall": inspect::Stall;
        "inspect::StalledTask": inspect::StalledTask;
        "inspect::SystemCalls": inspect::SystemCalls;
        "inspect::TaskId": inspect::TaskId;
        "inspect::TaskInfo": inspect::TaskInfo;
        "inspect::TaskState": inspect::TaskState;
        "inspect::Wait": inspect::Wait;
        "inspect::Watchdog": inspect::Watchdog;
        "inspect::WatchdogBuilder": inspect::WatchdogBuilder;
        "io::PipeReader": io::PipeReader;
        "io::PipeWriter": io::PipeWriter;
        "io::Stderr": io::Stderr;
        "io::Stdin": io::Stdin;
        "io::Stdout": io::Stdout;
        "net::Incoming": net::Incoming<'static>;
        "net::TcpListener": TcpListener;
        "net::TcpSocket": net::TcpSocket;
        "net::TcpStream": TcpStream;
        "net::UdpSocket": UdpSocket;
        "net::unix::Incoming": net::unix::Incoming<'static>;
        "net::unix::PeerCred": net::unix::PeerCred;
        "net::unix::UnixDatagram": UnixDatagram;
        "net::unix::UnixListener": UnixListener;
        "net::unix::UnixStream": UnixStream;
        "process::Child": process::Child;
        "process::ChildStderr": process::ChildStderr;
        "process::ChildStdin": process::ChildStdin;
        "process::ChildStdout": process::ChildStdout;
        "process::Command": process::Command;
        "process::ExitStatus": process::ExitStatus;
        "process::Output": process::Output;
        "process::Stdio": process::Stdio;
        "signal::CtrlC": signal::CtrlC;
        "signal::Signal": signal::Signal;
        "signal::Signals": signal::Signals;
        "sync::Acquire": sync::Acquire<&'static sync::Semaphore>;
        "sync::Closed": sync::Closed;
        "sync::Event": sync::Event;
        "sync::Listener": sync::Listener<'static>;
        "sync::Lock": sync::Lock<'static, u8>;
        "sync::Mutex": sync::Mutex<u8>;
        "sync::MutexGuard": sync::MutexGuard<'static, u8>;
        "sync::OnceCell": sync::OnceCell<u8>;
        "sync::OwnedMutexGuard": sync::OwnedMutexGuard<u8>;
        "sync::Permit": sync::Permit<&'static sync::Semaphore>;
        "sync::Semaphore": sync::Semaphore;
        "sync::SendError": sync::SendError<Bound>, sync::SendError<Sent>, sync::SendError<u8>;
        "sync::TryAcquireError": sync::TryAcquireError;
        "sync::TryRecvError": sync::TryRecvError;
        "sync::TrySendError": TrySendError<Bound>, TrySendError<Sent>, TrySendError<u8>;
        "sync::broadcast::Lagged": sync::broadcast::Lagged;
        "sync::broadcast::Receiver": sync::broadcast::Receiver<u8>;
        "sync::broadcast::Recv": sync::broadcast::Recv<'static, u8>;
        "sync::broadcast::RecvError": sync::broadcast::RecvError;
        "sync::broadcast::Sender": sync::broadcast::Sender<u8>;
        "sync::broadcast::TryRecvError": sync::broadcast::TryRecvError;
        "sync::mpsc::OwnedPermit": sync::mpsc::OwnedPermit<u8>;
        "sync::mpsc::Permit": sync::mpsc::Permit<'static, u8>;
        "sync::mpsc::PermitIterator": sync::mpsc::PermitIterator<'static, u8>;
        "sync::mpsc::Receiver": sync::mpsc::Receiver<u8>;
        "sync::mpsc::Recv": sync::mpsc::Recv<'static, u8>;
        "sync::mpsc::Sender": sync::mpsc::Sender<u8>;
        "sync::mpsc::UnboundedSender": sync::mpsc::UnboundedSender<u8>;
        "sync::mpsc::WeakSender": sync::mpsc::WeakSender<u8>;
        "sync::mpsc::WeakUnboundedSender": sync::mpsc::WeakUnboundedSender<u8>;
        "sync::oneshot::Receiver": sync::oneshot::Receiver<u8>;
        "sync::oneshot::Sender": sync::oneshot::Sender<u8>;
        "sync::watch::Receiver": sync::watch::Receiver<u8>;
        "sync::watch::Sender": sync::watch::Sender<u8>;
        "task::AbortHandle": task::AbortHandle;
        "task::DropGuard": task::DropGuard;
        "task::Local": task::Local<Bound>;
        "task::Scope": task::Scope<'static>;
        "task::Spawner": task::Spawner<()>;
        "task::StopSource": task::StopSource;
        "task::StopToken": task::StopToken;
        "task::Stopped": task::Stopped;
        "task::TaskGroup": task::TaskGroup<()>;
        "task::TaskLocal": task::TaskLocal<Bound>;
        "task::UntilStopped": task::UntilStopped<Unit>;
        "task::WithLocal": task::WithLocal<u8, Unit>;
        "time::Elapsed": time::Elapsed;
        "time::Interval": time::Interval;
        "time::MissedTicks": time::MissedTicks;
        "time::Sleep": time::Sleep;
        "time::Timeout": time::Timeout<Bound>, time::Timeout<Sent>, time::Timeout<u8>;
        "workers::Builder": workers::Builder;
        "workers::Figures": workers::Figures;
        "workers::Listener": workers::Listener;
        "workers::Message": workers::Message;
        "workers::OpenConnection": workers::OpenConnection;
        "workers::Parent": workers::Parent;
        "workers::Party": workers::Party;
        "workers::Worker": workers::Worker;
    };
    #[cfg(target_os = "linux")]
    types.extend(types! {
        "inspect::outside::FdView": inspect::outside::FdView;
        "inspect::outside::LoopState": inspect::outside::LoopState;
        "inspect::outside::PlacesView": inspect::outside::PlacesView;
        "inspect::outside::RuntimeView": inspect::outside::RuntimeView;
        "inspect::outside::Snapshot": inspect::outside::Snapshot;
        "inspect::outside::StateView": inspect::outside::StateView;
        "inspect::outside::TaskNumber": inspect::outside::TaskNumber;
        "inspect::outside::TaskView": inspect::outside::TaskView;
        "inspect::outside::TimerView": inspect::outside::TimerView;
        "inspect::outside::WaitView": inspect::outside::WaitView;
    });
    #[cfg(feature = "http")]
    types.extend(types! {
        "http::Body": http::Body;
        "http::Builder": http::Builder;
        "http::Client": http::Client;
        "http::Error": http::Error;
        "http::ErrorKind": http::ErrorKind;
        "http::FinalUri": http::FinalUri;
    });
    #[cfg(feature = "hyper")]
    types.extend(types! {
        "hyper::Executor": hyper::Executor;
        "hyper::Io": hyper::Io<Bound>, hyper::Io<Sent>, hyper::Io<u8>;
        "hyper::Timer": hyper::Timer;
    });
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    types.extend(types! {
        "sim::Failure": sim::Failure;
        "sim::FailureKind": sim::FailureKind;
        "sim::Host": sim::Host;
        "sim::Link": sim::Link;
        "sim::Report": sim::Report;
        "sim::World": sim::World;
    });
    types
}

/// A completion source.
struct Source;

impl completion::CompletionSource for Source {
    fn submit(&self) -> std::io::Result<completion::MayBlock> {
        Ok(completion::MayBlock::Yes)
    }

    fn collect(&self, _: &mut Vec<std::task::Waker>) {}
}

/// A descriptor that is `Send` only.
struct NotSync {
    fd: Std,
    _is_not_sync: Cell<u8>,
}

impl std::os::fd::AsFd for NotSync {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The type of the future that a function returns, which is not called.
struct Output<F>(std::marker::PhantomData<F>);

fn output<A, F: Future>(_: fn(A) -> F) -> Output<F> {
    Output(std::marker::PhantomData)
}

/// Method calls find the impl for the value first, if its bound holds.
trait Sendable {
    fn is_send(&self) -> bool {
        true
    }
}

trait Unsendable {
    fn is_send(&self) -> bool {
        false
    }
}

impl<F: Send> Sendable for Output<F> {}
impl<F> Unsendable for &Output<F> {}

macro_rules! futures {
    ($($name:literal: |$arg:ident: $type:ty| $future:expr;)*) => {
        BTreeMap::from([ $( ($name, (&output(|$arg: $type| $future)).is_send()) ),* ])
    };
}

fn futures() -> BTreeMap<&'static str, bool> {
    use ::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
    type Str = &'static str;
    futures! {
        "net::TcpListener::bind": |addr: Str| TcpListener::bind(addr);
        "net::TcpListener::accept": |it: &'static TcpListener| it.accept();
        "net::TcpStream::connect": |addr: Str| TcpStream::connect(addr);
        "net::TcpStream::peek": |it: &'static TcpStream| it.peek(&mut []);
        "net::UdpSocket::bind": |addr: Str| UdpSocket::bind(addr);
        "net::UdpSocket::connect": |it: &'static UdpSocket| it.connect("localhost:1");
        "net::UdpSocket::recv_from": |it: &'static UdpSocket| it.recv_from(&mut []);
        "net::UdpSocket::send_to": |it: &'static UdpSocket| it.send_to(b"", "localhost:1");
        "net::unix::UnixListener::accept": |it: &'static UnixListener| it.accept();
        "net::unix::UnixStream::connect": |path: Str| UnixStream::connect(path);
        "net::unix::UnixDatagram::send_to": |it: &'static UnixDatagram| it.send_to(b"", "path");
        "net::lookup_host": |addr: Str| net::lookup_host(addr);
        "Incoming::next": |it: &'static mut net::Incoming<'static>| it.next();
        "AsyncReadExt::read": |it: &'static mut TcpStream| it.read(&mut []);
        "AsyncWriteExt::write_all": |it: &'static mut TcpStream| it.write_all(b"");
        "Async::readable": |it: &'static Async<Std>| it.readable();
        "Async::read_with": |it: &'static Async<Std>| it.read_with(|_| Ok(()));
        "io::copy": |it: &'static TcpStream| async move { io::copy(&mut &*it, &mut &*it).await };
        "time::sleep": |limit: std::time::Duration| time::sleep(limit);
        "time::Interval::tick": |it: &'static mut time::Interval| it.tick();
        "yield_now": |_it: ()| yield_now();
        "spawn_blocking": |_it: ()| spawn_blocking(|| ());
        "fs::File::open": |path: Str| fs::File::open(path);
        "fs::Root::open_file": |root: &'static fs::Root| root.open_file("rope");
        "io::send_file": |it: (&'static TcpStream, &'static fs::File)| {
            io::send_file(it.0, b"", it.1, 0..1)
        };
        "fs::read": |path: Str| fs::read(path);
        "spawn": |_it: ()| spawn(async {});
        "process::Child::wait": |it: &'static mut process::Child| it.wait();
        "process::Command::output": |it: &'static mut process::Command| it.output();
        "signal::ctrl_c": |_it: ()| signal::ctrl_c();
        "sync::mpsc::Receiver::recv": |it: &'static mut sync::mpsc::Receiver<u8>| it.recv();
        "sync::Mutex::lock": |it: &'static sync::Mutex<u8>| it.lock();
        "sync::Semaphore::acquire": |it: &'static sync::Semaphore| it.acquire(1);
        "task::TaskGroup::join_next": |it: &'static mut task::TaskGroup<()>| it.join_next();
    }
}

fn cells(row: &str) -> Vec<&str> {
    let row = row.trim_matches('|');
    row.split('|').map(str::trim).collect()
}

/// The names in backticks of the first cell.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The rows of one of the two tables, which differ in their heads.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let lines = TABLE.lines().skip_while(|line| !line.starts_with(head));
    let lines = lines.skip(2).take_while(|line| line.starts_with('|'));
    lines.map(cells).collect()
}

#[test]
fn each_row_of_types_is_right() {
    let mut wrong = Vec::new();
    let types = types();
    for row in rows("| type |") {
        for name in names(row[0]) {
            let Some(word) = types.get(name) else {
                let is_optional = ["http::", "hyper::", "sim::", "inspect::outside::"];
                assert!(
                    is_optional.iter().any(|folder| name.starts_with(folder)),
                    "the test does not know `{name}`"
                );
                continue;
            };
            if [&*word[0], &*word[1]] != row[1..3] {
                wrong.push(format!("{name}: {} | {}", word[0], word[1]));
            }
        }
        let is_explained = row[1] == "yes" || row[3..].iter().any(|why| !why.is_empty());
        assert!(is_explained, "`{}` has no reason", row[0]);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_row_of_futures_is_right() {
    let (futures, mut listed) = (futures(), BTreeSet::new());
    let mut wrong = Vec::new();
    for row in rows("| future |") {
        for name in names(row[0]) {
            listed.insert(name);
            match futures.get(name) {
                None => wrong.push(format!("the test does not know `{name}`")),
                Some(true) if row[1] != "yes" => wrong.push(format!("{name}: yes")),
                Some(false) if row[1] != "no" => wrong.push(format!("{name}: no")),
                Some(_) => {}
            }
        }
    }
    let missing = futures.keys().filter(|name| !listed.contains(*name));
    wrong.extend(missing.map(|name| format!("`{name}` is missing")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The listing of the public API is checked by `.ci/api`.
#[test]
fn the_table_has_each_public_type_once() {
    /// The other paths of types that the table has.
    const AGAIN: &[&str] = &["io::Async", "task::Panic", "task::Task"];
    let mut listed = BTreeSet::new();
    for row in rows("| type |") {
        for name in names(row[0]) {
            assert!(listed.insert(name), "`{name}` is there twice");
        }
    }
    let public = API.lines().filter_map(|line| {
        let (kind, path) = line.split_once(" windlass::")?;
        ["struct", "enum"].contains(&kind).then_some(path)
    });
    let missing: Vec<_> = public
        .filter(|path| !AGAIN.contains(path) && !listed.contains(path))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let unknown: Vec<_> = types()
        .into_keys()
        .filter(|name| !listed.contains(name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}
