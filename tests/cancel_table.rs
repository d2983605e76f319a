//! Generates the table of cancel safety in the docs of `windlass::task`. Each future is dropped at
//! each of its awaits, and the effects are checked.

// Half of the rows need features that Windows lacks, such as Unix sockets, a shell or signals.
#![cfg(unix)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, ErrorKind::WouldBlock, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{Count, OnDrop, pair, watchdog};
use futures::future::{LocalBoxFuture, join_all};
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use rustix::process::{getpid, kill_process};
use windlass::coroutine::{AsyncCoroutine, State::Yielded};
use windlass::fs::{self, File};
use windlass::io::{copy, copy_bidirectional, send_file};
use windlass::net::unix::{UnixDatagram, UnixListener, UnixStream};
use windlass::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, lookup_host};
use windlass::process::{Command, Stdio};
use windlass::signal::{Signal, Signals, ctrl_c};
use windlass::sync::{Event, Mutex, OnceCell, Semaphore, broadcast, mpsc, oneshot, watch};
use windlass::task::{StopSource, Task, TaskGroup, scope, try_scope};
use windlass::time::{interval, sleep, timeout};
use windlass::{Async, Remote, Runtime, spawn, spawn_blocking, task_local, yield_now};

const HOUR: Duration = Duration::from_secs(3600);
const TABLE: &str = include_str!("../src/task/cancel_safety.md");

/// A row of the table.
struct Row {
    futures: &'static str,
    dropped: &'static str,
    may_have_done: &'static str,
    tries: &'static [Attempt],
}

/// Drops a future after a number of polls and checks the effects. Returns true if the future has
/// completed by then.
type Attempt = fn(Cut) -> LocalBoxFuture<'static, io::Result<bool>>;

/// The poll after which a future is dropped.
struct Cut {
    polls: usize,
    remote: Remote,
}

impl Cut {
    /// Polls the future that many times, then drops it. After each poll, an event happens for which
    /// the future may wait, and the future is woken. Returns the output if the future has
    /// completed.
    async fn off<F: Future>(&self, future: F, mut event: impl AsyncFnMut()) -> Option<F::Output> {
        let mut future = pin!(future);
        for _ in 0..self.polls {
            if let std::task::Poll::Ready(output) = futures::poll!(future.as_mut()) {
                return Some(output);
            }
            event().await;
            settle().await;
        }
        None
    }
}

/// Turns the loop until the event has reached its waiters.
async fn settle() {
    for _ in 0..3 {
        sleep(Duration::ZERO).await;
        yield_now().await;
    }
}

async fn nothing() {}

const LOSES_NOTHING: &str = "loses nothing";
const HALF_DONE: &str = "**may be partly done**";
const GIVES_UP: &str = "abandons it";
const ENDS: &str = "cancels what it owns";
const GOES_ON: &str = "**continues**";

const ROWS: &[Row] = &[
    Row {
        futures: "`TcpListener::accept`, `UnixListener::accept`, `Incoming::next`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the connection stays in the queue",
        tries: &[
            |cut| Box::pin(accept(cut)),
            |cut| Box::pin(accept_unix(cut)),
            |cut| Box::pin(incoming(cut)),
        ],
    },
    Row {
        futures: "`TcpStream::connect`, `TcpSocket::connect`, `UnixStream::connect`",
        dropped: GIVES_UP,
        may_have_done: "peers may see connections that close immediately",
        tries: &[
            |cut| Box::pin(connect(cut)),
            |cut| Box::pin(connect_socket(cut)),
            |cut| Box::pin(connect_to_several(cut)),
            |cut| Box::pin(connect_unix(cut)),
        ],
    },
    Row {
        futures: "`bind`, `UdpSocket::connect`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing, but the lookup of a host name continues in its thread",
        tries: &[|cut| Box::pin(bind(cut)), |cut| Box::pin(connect_udp(cut))],
    },
    Row {
        futures: "`read`, `TcpStream::peek`, `UnixStream::recv_with_fds`, `Async::read_with`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the bytes stay in the socket",
        tries: &[
            |cut| Box::pin(read(cut)),
            |cut| Box::pin(peek(cut)),
            |cut| Box::pin(receive_descriptors(cut)),
            |cut| Box::pin(read_with(cut)),
        ],
    },
    Row {
        futures: "`write`, `UnixStream::send_with_fds`, `Async::write_with`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: no byte was written",
        tries: &[
            |cut| Box::pin(write(cut)),
            |cut| Box::pin(send_descriptors(cut)),
            |cut| Box::pin(write_with(cut)),
        ],
    },
    Row {
        futures: "`flush`, `close`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: on sockets both complete in their first poll",
        tries: &[|cut| Box::pin(flush(cut)), |cut| Box::pin(close_half(cut))],
    },
    Row {
        futures: "`read_exact`",
        dropped: HALF_DONE,
        may_have_done: "read an unknown number of bytes into the buffer",
        tries: &[|cut| Box::pin(read_exact(cut))],
    },
    Row {
        futures: "`write_all`, `io::send_file`",
        dropped: HALF_DONE,
        may_have_done: "sent an unknown number of the bytes",
        tries: &[
            |cut| Box::pin(write_all(cut)),
            |cut| Box::pin(sending_file(cut)),
        ],
    },
    Row {
        futures: "`io::copy`, `io::copy_bidirectional`",
        dropped: HALF_DONE,
        may_have_done: "copied a part; bytes that were read and not yet written, up to 1 MiB per \
                        direction, are lost",
        tries: &[
            |cut| Box::pin(copying(cut)),
            |cut| Box::pin(copying_both_ways(cut)),
        ],
    },
    Row {
        futures: "`recv`, `recv_from`, `UdpSocket::peek_from`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the datagram stays in the socket",
        tries: &[
            |cut| Box::pin(recv_from(cut)),
            |cut| Box::pin(recv(cut)),
            |cut| Box::pin(peek_from(cut)),
        ],
    },
    Row {
        futures: "`send`, `send_to`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the datagram was not sent",
        tries: &[|cut| Box::pin(send_to(cut)), |cut| Box::pin(send(cut))],
    },
    Row {
        futures: "`readable`, `writable`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing",
        tries: &[|cut| Box::pin(readable(cut)), |cut| Box::pin(writable(cut))],
    },
    Row {
        futures: "`lookup_host`",
        dropped: GOES_ON,
        may_have_done: "a lookup that has begun continues in its thread, and its result is \
                        dropped",
        tries: &[|cut| Box::pin(lookup(cut))],
    },
    Row {
        futures: "`Signals::recv`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the signal stays pending",
        tries: &[|cut| Box::pin(signal(cut))],
    },
    Row {
        futures: "`ctrl_c`",
        dropped: GIVES_UP,
        may_have_done: "a Ctrl-C has no effect until the next call",
        tries: &[|cut| Box::pin(interrupt(cut))],
    },
    Row {
        futures: "`Child::wait`",
        dropped: LOSES_NOTHING,
        may_have_done: "the child's input is closed; its status is still available",
        tries: &[|cut| Box::pin(wait_for_child(cut))],
    },
    Row {
        futures: "`Command::status`, `Command::output`, `Child::wait_with_output`",
        dropped: GOES_ON,
        may_have_done: "the child continues, unless it is set to be killed on drop; output that \
                        was read is lost",
        tries: &[
            |cut| {
                Box::pin(child_alone(cut, async |command| {
                    command.status().await.map(drop)
                }))
            },
            |cut| {
                Box::pin(child_alone(cut, async |command| {
                    command.output().await.map(drop)
                }))
            },
            |cut| {
                Box::pin(child_alone(cut, async |command| {
                    command.spawn()?.wait_with_output().await.map(drop)
                }))
            },
        ],
    },
    Row {
        futures: "`File::open`, `File::create`, `OpenOptions::open`",
        dropped: GIVES_UP,
        may_have_done: "may create or truncate the file, which is closed again",
        tries: &[|cut| Box::pin(open_file(cut))],
    },
    Row {
        futures: "`read` and `flush` of a `File`, `File::read_at`, `fs::read`, `ReadDir::next`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the next read returns the bytes that were read, and written \
                        bytes are still written",
        tries: &[
            |cut| Box::pin(read_file(cut)),
            |cut| Box::pin(flush_file(cut)),
            |cut| Box::pin(read_file_at(cut)),
            |cut| Box::pin(read_whole_file(cut)),
            |cut| Box::pin(read_folder(cut)),
        ],
    },
    Row {
        futures: "`File::write_at`, `fs::write`",
        dropped: HALF_DONE,
        may_have_done: "an unknown number of the bytes is written, or will be",
        tries: &[
            |cut| Box::pin(write_file_at(cut)),
            |cut| Box::pin(write_whole_file(cut)),
        ],
    },
    Row {
        futures: "`File::sync_all`, `File::set_len`, `fs::copy`, `fs::rename` and similar ones",
        dropped: GOES_ON,
        may_have_done: "has completed, continues, or never begins",
        tries: &[
            |cut| Box::pin(sync_file(cut)),
            |cut| Box::pin(rename_file(cut)),
            |cut| Box::pin(copy_file(cut)),
        ],
    },
    Row {
        futures: "`sleep`, `Interval::tick`, `yield_now`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the next call returns the tick; timers are cancelled",
        tries: &[
            |cut| Box::pin(sleeping(cut)),
            |cut| Box::pin(tick(cut)),
            |cut| Box::pin(yielding(cut)),
        ],
    },
    Row {
        futures: "`timeout(_, future)`, `StopToken::run(future)`, `TaskLocal::scope(_, future)`",
        dropped: "as the future",
        may_have_done: "what the future may have done, which is dropped with it",
        tries: &[
            |cut| Box::pin(limited(cut)),
            |cut| Box::pin(run_until_stopped(cut)),
            |cut| Box::pin(with_local(cut)),
        ],
    },
    Row {
        futures: "`&mut Task`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the task continues and keeps its output",
        tries: &[|cut| Box::pin(task_by_reference(cut))],
    },
    Row {
        futures: "`Task`, `Task::catch`, `Task::cancel`",
        dropped: ENDS,
        may_have_done: "the task is cancelled, or its output is dropped",
        tries: &[
            |cut| Box::pin(task_by_value(cut, |task| Box::pin(task))),
            |cut| {
                Box::pin(task_by_value(cut, |task| {
                    Box::pin(async { drop(task.catch().await) })
                }))
            },
            |cut| {
                Box::pin(task_by_value(cut, |task| {
                    Box::pin(async { task.cancel().await.unwrap_or_default() })
                }))
            },
        ],
    },
    Row {
        futures: "`RemoteTask`",
        dropped: GOES_ON,
        may_have_done: "the task continues, and its output is dropped",
        tries: &[|cut| Box::pin(remote_task(cut))],
    },
    Row {
        futures: "`BlockingTask`",
        dropped: GOES_ON,
        may_have_done: "a closure that has begun continues, and its output is dropped; one that \
                        has not never runs",
        tries: &[|cut| Box::pin(blocking_task(cut))],
    },
    Row {
        futures: "`TaskGroup::join_next`, `TaskGroup::room`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the children continue, and their outputs are kept",
        tries: &[|cut| Box::pin(join_next(cut)), |cut| Box::pin(room(cut))],
    },
    Row {
        futures: "`TaskGroup::close`, `scope`, `try_scope`",
        dropped: ENDS,
        may_have_done: "all children are cancelled at their current await",
        tries: &[
            |cut| Box::pin(close(cut)),
            |cut| Box::pin(in_scope(cut)),
            |cut| Box::pin(in_try_scope(cut)),
        ],
    },
    Row {
        futures: "`StopToken::stopped`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing",
        tries: &[|cut| Box::pin(stopped(cut))],
    },
    Row {
        futures: "`AsyncCoroutine::send`",
        dropped: HALF_DONE,
        may_have_done: "once polled, the value was passed in: continue with `answer`",
        tries: &[|cut| Box::pin(send_in(cut))],
    },
    Row {
        futures: "`AsyncCoroutine::answer`, and `next` of the stream",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: the body stays suspended at its current await",
        tries: &[|cut| Box::pin(answer(cut)), |cut| Box::pin(next(cut))],
    },
    Row {
        futures: "`mpsc::Receiver::recv`, `mpsc::Receiver::recv_many`, \
                  `broadcast::Receiver::recv`, `&mut oneshot::Receiver`, `Sender::closed`, \
                  `watch::Receiver::changed`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: sent values stay in the channel",
        tries: &[
            |cut| Box::pin(receive(cut)),
            |cut| Box::pin(receive_many(cut)),
            |cut| Box::pin(receive_broadcast(cut)),
            |cut| Box::pin(receive_once(cut)),
            |cut| Box::pin(closed(cut)),
            |cut| Box::pin(closed_by_all(cut)),
            |cut| Box::pin(changed(cut)),
        ],
    },
    Row {
        futures: "`watch::Receiver::wait_for`",
        dropped: LOSES_NOTHING,
        may_have_done: "values for which the condition was false are marked as seen",
        tries: &[|cut| Box::pin(wait_for(cut))],
    },
    Row {
        futures: "`OnceCell::get_or_init`, `OnceCell::get_or_try_init`",
        dropped: "as the future",
        may_have_done: "what the future of the function may have done, which is dropped with it; \
                        the next waiter computes the value",
        tries: &[|cut| Box::pin(get_or_init(cut))],
    },
    Row {
        futures: "`mpsc::Sender::send`",
        dropped: GIVES_UP,
        may_have_done: "nothing: the value was not sent and is dropped",
        tries: &[|cut| Box::pin(send_value(cut))],
    },
    Row {
        futures: "`mpsc::Sender::reserve_owned`",
        dropped: GIVES_UP,
        may_have_done: "nothing: the sender is dropped, and capacity that it was granted goes to \
                        the next one",
        tries: &[|cut| Box::pin(reserve_owned(cut))],
    },
    Row {
        futures: "`mpsc::Sender::reserve`, `mpsc::Sender::reserve_many`, `Semaphore::acquire`, \
                  `Mutex::lock`, `Mutex::lock_owned`, `Event::listen`",
        dropped: LOSES_NOTHING,
        may_have_done: "nothing: it leaves the queue, and what it was granted goes to the next \
                        waiter",
        tries: &[
            |cut| Box::pin(reserve(cut)),
            |cut| Box::pin(reserve_many(cut)),
            |cut| Box::pin(acquire(cut)),
            |cut| Box::pin(lock(cut)),
            |cut| Box::pin(lock_owned(cut)),
            |cut| Box::pin(listen(cut)),
        ],
    },
];

#[test]
fn each_future_is_as_cancel_safe_as_documented() -> io::Result<()> {
    for row in ROWS {
        for (number, attempt) in row.tries.iter().enumerate() {
            let _watchdog = watchdog();
            for polls in 0.. {
                let runtime = Runtime::new()?;
                let remote = runtime.remote();
                let ended = runtime.block_on(attempt(Cut { polls, remote }))?;
                while runtime.turn(Some(Duration::ZERO))?.ready {}
                assert_eq!(
                    runtime.next_deadline(),
                    None,
                    "{} left a timer",
                    row.futures
                );
                if ended {
                    assert!(polls > 0);
                    println!("{} ({number}): ends in {polls} polls", row.futures);
                    break;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_documented_table_matches_the_tested_one() {
    let mut table =
        String::from("| future | when dropped | what it may have done |\n|---|---|---|\n");
    for row in ROWS {
        table += &format!(
            "| {} | {} | {} |\n",
            row.futures, row.dropped, row.may_have_done
        );
    }
    assert!(
        TABLE == table,
        "src/task/cancel_safety.md must be:\n{table}"
    );
}

async fn accept(cut: Cut) -> io::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let mut clients = vec![];
    let event = async || clients.push(std::net::TcpStream::connect(addr).unwrap());
    let accepted = cut.off(listener.accept(), event).await.transpose()?;
    for _ in usize::from(accepted.is_some())..clients.len() {
        listener.accept().await?;
    }
    Ok(accepted.is_some())
}

async fn accept_unix(cut: Cut) -> io::Result<bool> {
    let path = std::env::temp_dir().join(format!("windlass-cut-{}", process::id()));
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).await?;
    let mut clients = vec![];
    let event = async || clients.push(StdUnixStream::connect(&path).unwrap());
    let accepted = cut.off(listener.accept(), event).await.transpose()?;
    for _ in usize::from(accepted.is_some())..clients.len() {
        listener.accept().await?;
    }
    std::fs::remove_file(&path)?;
    Ok(accepted.is_some())
}

async fn incoming(cut: Cut) -> io::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let mut clients = vec![];
    let event = async || clients.push(std::net::TcpStream::connect(addr).unwrap());
    let accepted = cut.off(listener.incoming().next(), event).await;
    let accepted = accepted.flatten().transpose()?;
    for _ in usize::from(accepted.is_some())..clients.len() {
        listener.accept().await?;
    }
    Ok(accepted.is_some())
}

async fn connect(cut: Cut) -> io::Result<bool> {
    connect_by(cut, async |addr| TcpStream::connect(addr).await).await
}

async fn connect_socket(cut: Cut) -> io::Result<bool> {
    connect_by(cut, async |addr| TcpSocket::new_v4()?.connect(addr).await).await
}

async fn connect_by(
    cut: Cut,
    connect: impl AsyncFnOnce(SocketAddr) -> io::Result<TcpStream>,
) -> io::Result<bool> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let connect = connect(listener.local_addr()?);
    let connected = cut.off(connect, nothing).await.transpose()?;
    match listener.accept() {
        Err(error) => assert_eq!((error.kind(), cut.polls), (WouldBlock, 0)),
        Ok((mut peer, _)) if connected.is_none() => {
            peer.set_nonblocking(false)?;
            assert!(
                matches!(peer.read(&mut [0]), Ok(0) | Err(_)),
                "the peer is closed"
            );
        }
        Ok(_) => {}
    }
    Ok(connected.is_some())
}

/// Connects to a listener with a full queue.
async fn connect_to_several(cut: Cut) -> io::Result<bool> {
    // With the short queue full, further connections have to wait.
    let full = std::net::TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&full, 1)?;
    let silent = full.local_addr()?;
    let mut queue = join_all((0..10).map(|_| TcpStream::connect(silent)));
    assert!(timeout(Duration::ZERO, &mut queue).await.is_err());

    let open = std::net::TcpListener::bind("127.0.0.1:0")?;
    let addrs = [silent, open.local_addr()?];
    let event = async || sleep(Duration::from_millis(100)).await;
    let connect = TcpStream::connect(&addrs[..]);
    let connected = cut.off(connect, event).await.transpose()?;
    if let Some(stream) = &connected {
        assert_eq!(stream.peer_addr()?, addrs[1]);
    }
    Ok(connected.is_some())
}

async fn connect_unix(cut: Cut) -> io::Result<bool> {
    let path = std::env::temp_dir().join(format!("windlass-cut-full-{}", process::id()));
    std::fs::remove_file(&path).ok();
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    rustix::net::listen(&listener, 0)?; // room for one connection
    let _first = UnixStream::connect(&path).await?;
    let mut accepted = vec![];
    let event = async || {
        accepted.extend(listener.accept());
        sleep(Duration::from_millis(2)).await; // the kernel sends no event when the queue has space
    };
    let connected = cut.off(UnixStream::connect(&path), event).await;
    let connected = connected.transpose()?;
    accepted.extend(std::iter::from_fn(|| listener.accept().ok()));
    assert_eq!(accepted.len(), 1 + usize::from(connected.is_some()));
    std::fs::remove_file(&path)?;
    Ok(connected.is_some())
}

async fn bind(cut: Cut) -> io::Result<bool> {
    let [.., high, low] = process::id().to_be_bytes();
    let addr = (Ipv4Addr::new(127, 77, high, low), 7007); // an address that no other process uses
    let bound = cut.off(TcpListener::bind(addr), nothing).await;
    let bound = bound.transpose()?;
    assert_eq!(std::net::TcpListener::bind(addr).is_ok(), bound.is_none());
    Ok(bound.is_some())
}

async fn connect_udp(cut: Cut) -> io::Result<bool> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let event = async || sleep(Duration::from_millis(1)).await;
    let connected = cut.off(socket.connect("localhost:9"), event).await;
    let connected = connected.transpose()?;
    assert_eq!(socket.peer_addr().is_ok(), connected.is_some());
    Ok(connected.is_some())
}

/// Drops an operation that reads a stream of `x` bytes. Returns its output, the number of bytes
/// sent, and the number of bytes left.
async fn taking<R>(
    cut: &Cut,
    take: impl AsyncFnOnce(&mut TcpStream) -> io::Result<R>,
) -> io::Result<(Option<R>, usize, usize)> {
    let (mut near, mut far) = pair().await?;
    let mut sent = 0;
    let event = async || {
        sent += 1;
        far.write_all(b"x").await.unwrap();
    };
    let taken = cut.off(take(&mut near), event).await.transpose()?;
    drop(far);
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await?;
    Ok((taken, sent, rest.len()))
}

async fn read(cut: Cut) -> io::Result<bool> {
    let read = async |stream: &mut TcpStream| stream.read(&mut [0; 9]).await;
    let (taken, sent, rest) = taking(&cut, read).await?;
    assert_eq!(taken.unwrap_or(0) + rest, sent);
    Ok(taken.is_some())
}

async fn peek(cut: Cut) -> io::Result<bool> {
    let peek = async |stream: &mut TcpStream| stream.peek(&mut [0; 9]).await;
    let (seen, sent, rest) = taking(&cut, peek).await?;
    assert_eq!(rest, sent);
    Ok(seen.is_some())
}

async fn read_exact(cut: Cut) -> io::Result<bool> {
    let mut buffer = [0; 3];
    let read_exact = async |stream: &mut TcpStream| stream.read_exact(&mut buffer).await;
    let (ended, sent, rest) = taking(&cut, read_exact).await?;
    let taken = cut.polls.saturating_sub(1); // each poll but the first takes one
    assert_eq!(sent - rest, taken);
    assert_eq!(buffer.iter().filter(|byte| **byte == b'x').count(), taken);
    Ok(ended.is_some())
}

/// Receives a descriptor per event.
async fn receive_descriptors(cut: Cut) -> io::Result<bool> {
    let (near, far) = UnixStream::pair()?;
    let mut sent = 0;
    let event = async || {
        sent += far.send_with_fds(b"x", &[far.as_fd()]).await.unwrap();
    };
    let (mut buf, mut fds) = ([0; 9], Vec::new());
    let received = cut.off(near.recv_with_fds(&mut buf, &mut fds), event).await;
    let taken = received.transpose()?;
    assert_eq!(fds.len(), taken.unwrap_or(0));
    while fds.len() < sent {
        assert_eq!(near.recv_with_fds(&mut buf, &mut fds).await?, 1);
    }
    Ok(taken.is_some())
}

/// Sends a descriptor into a full socket, which each event empties.
async fn send_descriptors(cut: Cut) -> io::Result<bool> {
    let (near, far) = UnixStream::pair()?;
    while near.try_write(&[0; 4096]).is_ok() {}
    // Few receives, because they charge the budget of the task.
    let (mut buf, mut fds) = (vec![0; 1 << 20], Vec::new());
    let mut empty = async || {
        if let Some(received) = far.recv_with_fds(&mut buf, &mut fds).now_or_never() {
            received.unwrap();
        }
    };
    let sending = [near.as_fd()];
    let sent = cut.off(near.send_with_fds(b"x", &sending), &mut empty);
    let sent = sent.await.transpose()?;
    near.shutdown(Shutdown::Write)?;
    while far.recv_with_fds(&mut buf, &mut fds).await? > 0 {}
    assert_eq!(fds.len(), sent.unwrap_or(0));
    Ok(sent.is_some())
}

async fn read_with(cut: Cut) -> io::Result<bool> {
    let (near, far) = StdUnixStream::pair()?;
    let (near, mut sent) = (Async::new(near)?, 0);
    let event = async || {
        sent += (&far).write(b"x").unwrap();
    };
    let read = near.read_with(|mut stream| stream.read(&mut [0; 9]));
    let taken = cut.off(read, event).await.transpose()?;
    drop(far);
    let (mut left, mut rest) = (near.into_inner()?, Vec::new());
    left.set_nonblocking(false)?;
    left.read_to_end(&mut rest)?;
    assert_eq!(taken.unwrap_or(0) + rest.len(), sent);
    Ok(taken.is_some())
}

/// Drops an operation that writes into a socket, which each event empties. Returns its output and
/// the number of bytes that have arrived.
async fn giving<R>(
    cut: &Cut,
    near: TcpStream,
    mut far: TcpStream,
    give: impl AsyncFnOnce(&mut TcpStream) -> io::Result<R>,
) -> io::Result<(Option<R>, usize)> {
    let (mut near, mut arrived) = (near, 0);
    let event = async || {
        while let Ok(read) = far.try_read(&mut [0; 65536]) {
            arrived += read;
        }
    };
    let given = cut.off(give(&mut near), event).await.transpose()?;
    drop(near);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await?;
    Ok((given, arrived + rest.len()))
}

async fn write(cut: Cut) -> io::Result<bool> {
    let (near, far) = pair().await?;
    let mut filled = 0;
    while let Ok(written) = near.try_write(&[0; 65536]) {
        filled += written;
        settle().await;
    }
    let write = async |stream: &mut TcpStream| stream.write(&[1; 100]).await;
    let (given, arrived) = giving(&cut, near, far, write).await?;
    assert_eq!(filled + given.unwrap_or(0), arrived);
    Ok(given.is_some())
}

/// More than the sockets hold.
const MUCH: usize = 16 << 20;

async fn write_all(cut: Cut) -> io::Result<bool> {
    let write_all = async |stream: &mut TcpStream| stream.write_all(&vec![1; MUCH]).await;
    writing_much(cut, write_all).await
}

async fn sending_file(cut: Cut) -> io::Result<bool> {
    let path = std::env::temp_dir().join(format!("windlass-cut-sent-{}", process::id()));
    std::fs::write(&path, vec![1; MUCH])?;
    let file = File::open(&path).await?;
    std::fs::remove_file(&path)?;
    let send = async |stream: &mut TcpStream| {
        let sent = send_file(&*stream, b"", &file, 0..MUCH as u64).await?;
        assert_eq!(sent, MUCH as u64);
        Ok(())
    };
    writing_much(cut, send).await
}

async fn writing_much(
    cut: Cut,
    write: impl AsyncFnOnce(&mut TcpStream) -> io::Result<()>,
) -> io::Result<bool> {
    let (near, far) = pair().await?;
    let (ended, arrived) = giving(&cut, near, far, write).await?;
    match (cut.polls, ended) {
        (0, _) => assert_eq!(arrived, 0),
        (1, _) => assert!(arrived < MUCH, "a part"),
        (_, None) => assert!(arrived <= MUCH),
        (_, Some(())) => assert_eq!(arrived, MUCH),
    }
    Ok(ended.is_some())
}

async fn copying(cut: Cut) -> io::Result<bool> {
    copying_by(cut, async |from, to| copy(from, to).await).await
}

async fn copying_both_ways(cut: Cut) -> io::Result<bool> {
    let both_ways = async |from: &TcpStream, to: &TcpStream| {
        let (there, back) = copy_bidirectional(from, to).await?;
        assert_eq!(back, 0);
        Ok(there)
    };
    copying_by(cut, both_ways).await
}

async fn copying_by(
    cut: Cut,
    copy: impl AsyncFnOnce(&TcpStream, &TcpStream) -> io::Result<u64>,
) -> io::Result<bool> {
    const BYTES: usize = 16 << 20; // more than the sockets hold
    let ((mut from, mut source), (to, sink)) = (pair().await?, pair().await?);
    sink.shutdown(Shutdown::Write)?;
    let writing = spawn(async move {
        source.write_all(&vec![1; BYTES]).await?;
        source.close().await
    });
    settle().await;
    let copy = async |to: &mut TcpStream| copy(&from, to).await;
    let (copied, arrived) = giving(&cut, to, sink, copy).await?;
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).await?;
    writing.await?;
    let lost = BYTES - arrived - rest.len();
    match copied {
        Some(copied) => assert_eq!((copied as usize, lost), (BYTES, 0)),
        None => assert!(lost <= 1 << 20, "{lost} are lost"),
    }
    Ok(copied.is_some())
}

async fn write_with(cut: Cut) -> io::Result<bool> {
    let (near, far) = StdUnixStream::pair()?;
    far.set_nonblocking(true)?;
    let (near, mut filled, arrived) = (Async::new(near)?, 0, Cell::new(0));
    while let Ok(written) = near.try_write_with(|mut it| it.write(&[0; 4096])) {
        filled += written;
    }
    let empty = || {
        while let Ok(read) = (&far).read(&mut [0; 65536]) {
            arrived.set(arrived.get() + read);
        }
    };
    let write = near.write_with(|mut it| it.write(&[1; 100]));
    let written = cut.off(write, async || empty()).await.transpose()?;
    empty();
    assert_eq!(arrived.get(), filled + written.unwrap_or(0));
    Ok(written.is_some())
}

async fn flush(cut: Cut) -> io::Result<bool> {
    let (mut near, mut far) = pair().await?;
    near.write_all(b"x").await?;
    let flushed = cut.off(near.flush(), nothing).await.transpose()?;
    far.read_exact(&mut [0]).await?; // the data is in transit either way
    Ok(flushed.is_some())
}

async fn close_half(cut: Cut) -> io::Result<bool> {
    let (mut near, far) = pair().await?;
    let closed = cut.off(near.close(), nothing).await.transpose()?;
    settle().await;
    let end = far.try_read(&mut [0]).map_err(|error| error.kind());
    let expected = if closed.is_some() {
        Ok(0)
    } else {
        Err(WouldBlock)
    };
    assert_eq!(end, expected);
    Ok(closed.is_some())
}

/// A socket, and another one that sends it datagrams.
async fn udp_pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let (near, far) = (
        UdpSocket::bind("127.0.0.1:0").await?,
        UdpSocket::bind("127.0.0.1:0").await?,
    );
    far.connect(near.local_addr()?).await?;
    near.connect(far.local_addr()?).await?;
    Ok((near, far))
}

/// Returns the number of datagrams in the socket.
fn datagrams(socket: &UdpSocket) -> usize {
    std::iter::from_fn(|| socket.try_recv(&mut [0]).ok()).count()
}

async fn receiving<R>(
    cut: &Cut,
    receive: impl AsyncFnOnce(&UdpSocket) -> io::Result<R>,
) -> io::Result<(Option<R>, usize, usize)> {
    let (near, far) = udp_pair().await?;
    let mut sent = 0;
    let event = async || {
        sent += far.send(b"x").await.unwrap();
    };
    let received = cut.off(receive(&near), event).await.transpose()?;
    Ok((received, sent, datagrams(&near)))
}

async fn recv_from(cut: Cut) -> io::Result<bool> {
    let recv_from = async |socket: &UdpSocket| socket.recv_from(&mut [0]).await;
    let (received, sent, rest) = receiving(&cut, recv_from).await?;
    assert_eq!(usize::from(received.is_some()) + rest, sent);
    Ok(received.is_some())
}

async fn recv(cut: Cut) -> io::Result<bool> {
    let (near, far) = UnixDatagram::pair()?;
    let mut sent = 0;
    let event = async || {
        sent += far.send(b"x").await.unwrap();
    };
    let received = cut.off(near.recv(&mut [0]), event).await.transpose()?;
    let rest = std::iter::from_fn(|| near.try_recv(&mut [0]).ok()).count();
    assert_eq!(usize::from(received.is_some()) + rest, sent);
    Ok(received.is_some())
}

async fn peek_from(cut: Cut) -> io::Result<bool> {
    let peek_from = async |socket: &UdpSocket| socket.peek_from(&mut [0]).await;
    let (seen, sent, rest) = receiving(&cut, peek_from).await?;
    assert_eq!(rest, sent);
    Ok(seen.is_some())
}

async fn send_to(cut: Cut) -> io::Result<bool> {
    let (near, far) = (
        UdpSocket::bind("127.0.0.1:0").await?,
        UdpSocket::bind("127.0.0.1:0").await?,
    );
    let sent = cut
        .off(near.send_to(b"x", far.local_addr()?), nothing)
        .await
        .transpose()?;
    settle().await;
    assert_eq!(datagrams(&far), usize::from(sent.is_some()));
    Ok(sent.is_some())
}

async fn send(cut: Cut) -> io::Result<bool> {
    let (near, far) = UnixDatagram::pair()?;
    let mut filled = 0;
    while near.try_send(b"x").is_ok() {
        filled += 1;
    }
    let arrived = Cell::new(0);
    let empty = || {
        while let Ok(received) = far.try_recv(&mut [0]) {
            arrived.set(arrived.get() + received);
        }
    };
    let event = async || empty();
    let sent = cut.off(near.send(b"x"), event).await.transpose()?;
    empty();
    assert_eq!(arrived.get(), filled + usize::from(sent.is_some()));
    Ok(sent.is_some())
}

async fn readable(cut: Cut) -> io::Result<bool> {
    let (near, far) = StdUnixStream::pair()?;
    let near = Async::new(near)?;
    let event = async || (&far).write_all(b"x").unwrap();
    let ended = cut.off(near.readable(), event).await.transpose()?;
    if cut.polls == 0 {
        (&far).write_all(b"x")?;
    }
    near.readable().await?; // the next waiter sees the same byte
    Ok(ended.is_some())
}

async fn writable(cut: Cut) -> io::Result<bool> {
    let (near, far) = StdUnixStream::pair()?;
    far.set_nonblocking(true)?;
    let near = Async::new(near)?;
    while near.try_write_with(|mut it| it.write(&[0; 4096])).is_ok() {}
    let empty = || while (&far).read(&mut [0; 65536]).is_ok() {};
    let ended = cut
        .off(near.writable(), async || empty())
        .await
        .transpose()?;
    if cut.polls == 0 {
        empty();
    }
    near.writable().await?; // the same condition
    Ok(ended.is_some())
}

async fn lookup(cut: Cut) -> io::Result<bool> {
    let event = async || sleep(Duration::from_millis(1)).await;
    let found = cut
        .off(lookup_host("localhost:80"), event)
        .await
        .transpose()?;
    let again = lookup_host("localhost:81").await?;
    assert!(again.iter().all(|addr| addr.port() == 81)); // not the result of the first lookup
    Ok(found.is_some())
}

async fn signal(cut: Cut) -> io::Result<bool> {
    let mut signals = Signals::new([Signal::USR1])?;
    let event = async || kill_process(getpid(), rustix::process::Signal::USR1).unwrap();
    let signal = cut.off(signals.recv(), event).await.transpose()?;
    if signal.is_none() && cut.polls > 0 {
        assert_eq!(signals.recv().await?, Signal::USR1);
    }
    Ok(signal.is_some())
}

async fn interrupt(cut: Cut) -> io::Result<bool> {
    let event = async || kill_process(getpid(), rustix::process::Signal::INT).unwrap();
    Ok(cut.off(ctrl_c(), event).await.transpose()?.is_some())
}

async fn wait_for_child(cut: Cut) -> io::Result<bool> {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
    let event = async || sleep(Duration::from_millis(1)).await;
    let ended = cut.off(child.wait(), event).await.transpose()?;
    assert_eq!(child.stdin.is_none(), cut.polls > 0);
    assert!(child.wait().await?.success());
    Ok(ended.is_some())
}

/// Drops a future that waits for a child, which prints "x" once its input has ended.
async fn child_alone(
    cut: Cut,
    wait: impl AsyncFn(&mut Command) -> io::Result<()>,
) -> io::Result<bool> {
    let (near, far) = StdUnixStream::pair()?;
    let (mut near, mut command) = (Async::new(near)?, Command::new("sh"));
    command.args(["-c", "cat >&2; echo x >&2"]);
    command
        .stdin(OwnedFd::from(far.try_clone()?))
        .stderr(OwnedFd::from(far));
    let mut events = 0;
    let event = async || {
        events += 1;
        if events == 2 {
            near.get_ref().shutdown(Shutdown::Write).unwrap();
        }
        sleep(Duration::from_millis(1)).await;
    };
    let ended = cut.off(wait(&mut command), event).await.transpose()?;
    drop(command);
    near.get_ref().shutdown(Shutdown::Write)?;
    let mut output = String::new();
    near.read_to_string(&mut output).await?;
    assert_eq!(output, if cut.polls > 0 { "x\n" } else { "" });
    Ok(ended.is_some())
}

async fn sleeping(cut: Cut) -> io::Result<bool> {
    let event = async || sleep(Duration::from_millis(2)).await;
    let slept = cut.off(sleep(Duration::from_millis(1)), event).await;
    Ok(slept.is_some()) // the runtime reports whether the timer was stopped
}

async fn tick(cut: Cut) -> io::Result<bool> {
    let period = Duration::from_millis(1);
    let mut ticks = interval(period);
    let first = ticks.tick().await;
    let event = async || sleep(3 * period).await;
    let ticked: Option<Instant> = cut.off(ticks.tick(), event).await;
    let second = match ticked {
        Some(tick) => tick,
        None => ticks.tick().await,
    };
    assert_eq!(second, first + period);
    Ok(ticked.is_some())
}

async fn yielding(cut: Cut) -> io::Result<bool> {
    Ok(cut.off(yield_now(), nothing).await.is_some())
}

/// Completes after two waits. Holds a value that counts its drop.
fn held(dropped: &Count) -> impl Future<Output = ()> + use<> {
    let dropped = dropped.clone();
    let held = OnDrop(move || dropped.add());
    async move {
        let _held = held;
        for _ in 0..2 {
            sleep(Duration::ZERO).await;
        }
    }
}

/// Checks that dropping the owner has dropped the inner future.
async fn owning<F: Future>(cut: Cut, own: impl FnOnce(Count) -> F) -> io::Result<bool> {
    let dropped = Count::default();
    let ended = cut.off(own(dropped.clone()), nothing).await;
    assert_eq!(dropped.get(), 1);
    Ok(ended.is_some())
}

async fn limited(cut: Cut) -> io::Result<bool> {
    owning(cut, |count| timeout(HOUR, held(&count))).await
}

async fn run_until_stopped(cut: Cut) -> io::Result<bool> {
    let source = StopSource::new();
    source.stop_after(HOUR);
    let token = source.token();
    owning(cut, |count| token.run(held(&count))).await
}

task_local!(static NUMBER: u32);

async fn with_local(cut: Cut) -> io::Result<bool> {
    owning(cut, |count| NUMBER.scope(7, held(&count))).await
}

async fn task_by_reference(cut: Cut) -> io::Result<bool> {
    let dropped = Count::default();
    let inner = held(&dropped);
    let mut task = spawn(async {
        inner.await;
        7
    });
    let ended = cut.off(&mut task, nothing).await;
    let output = match ended {
        Some(output) => output,
        None => task.await,
    };
    assert_eq!((output, dropped.get()), (7, 1));
    Ok(ended.is_some())
}

async fn task_by_value(
    cut: Cut,
    wait: fn(Task<()>) -> LocalBoxFuture<'static, ()>,
) -> io::Result<bool> {
    owning(cut, |count| wait(spawn(held(&count)))).await
}

async fn remote_task(cut: Cut) -> io::Result<bool> {
    let (ready, wait) = futures::channel::oneshot::channel();
    let task = cut.remote.spawn(|| async move {
        sleep(Duration::ZERO).await;
        ready.send(()).expect("the receiver exists");
    });
    let ended = cut.off(task, nothing).await;
    wait.await.expect("the task completes");
    Ok(ended.is_some())
}

async fn blocking_task(cut: Cut) -> io::Result<bool> {
    let (begins, begun) = futures::channel::oneshot::channel();
    let (ends, ended) = futures::channel::oneshot::channel();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let task = spawn_blocking(move || {
        begins.send(()).expect("the receiver exists");
        _ = gate.recv();
        ends.send(()).expect("the receiver exists");
    });
    begun.await.expect("the closure starts");
    let mut open = Some(open);
    let event = async || {
        drop(open.take());
        sleep(Duration::from_millis(1)).await;
    };
    let output = cut.off(task, event).await;
    drop(open);
    ended.await.expect("the closure completes");
    Ok(output.is_some())
}

/// Creates a file for this test with these contents.
fn file_with(contents: &[u8]) -> io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("windlass-cut-file-{}", process::id()));
    std::fs::write(&path, contents)?;
    Ok(path)
}

/// Gives other threads time to finish.
async fn moment() {
    sleep(Duration::from_millis(1)).await;
}

/// Waits until no descriptor of this process has the file open.
async fn until_closed(path: &Path) {
    while common::is_open(&path.to_string_lossy()) {
        moment().await;
    }
}

async fn open_file(cut: Cut) -> io::Result<bool> {
    let path = file_with(b"ahoy")?;
    let opened = cut.off(File::create(&path), moment).await.transpose()?;
    let ended = opened.is_some();
    drop(opened);
    until_closed(&path).await;
    assert!([0, 4].contains(&std::fs::read(&path)?.len()));
    Ok(ended)
}

async fn read_file(cut: Cut) -> io::Result<bool> {
    let mut file = File::open(file_with(b"ahoy")?).await?;
    let mut word = [0; 4];
    let read = cut.off(file.read(&mut word[..2]), moment).await;
    let taken = read.transpose()?.unwrap_or(0);
    file.read_exact(&mut word[taken..]).await?;
    assert_eq!(&word, b"ahoy");
    Ok(taken > 0)
}

async fn flush_file(cut: Cut) -> io::Result<bool> {
    let path = file_with(b"")?;
    let mut file = File::create(&path).await?;
    file.write_all(b"ahoy").await?;
    let flushed = cut.off(file.flush(), moment).await.transpose()?;
    drop(file);
    until_closed(&path).await;
    assert_eq!(std::fs::read(&path)?, b"ahoy");
    Ok(flushed.is_some())
}

async fn read_file_at(cut: Cut) -> io::Result<bool> {
    let file = File::open(file_with(b"ahoy")?).await?;
    let mut word = [0; 4];
    let read = cut.off(file.read_at(&mut word, 0), moment).await;
    let ended = read.transpose()?.is_some();
    assert_eq!(&word, if ended { b"ahoy" } else { &[0; 4] });
    Ok(ended)
}

async fn read_whole_file(cut: Cut) -> io::Result<bool> {
    let path = file_with(b"ahoy")?;
    let read = cut.off(fs::read(&path), moment).await.transpose()?;
    until_closed(&path).await;
    Ok(read.is_some())
}

async fn read_folder(cut: Cut) -> io::Result<bool> {
    let mut entries = fs::read_dir("src").await?;
    let first = cut
        .off(entries.next(), moment)
        .await
        .flatten()
        .transpose()?;
    let mut count = usize::from(first.is_some());
    while entries.next_entry().await?.is_some() {
        count += 1;
    }
    assert_eq!(count, std::fs::read_dir("src")?.count());
    Ok(first.is_some())
}

async fn write_file_at(cut: Cut) -> io::Result<bool> {
    let path = file_with(b"....")?;
    let file = File::options().write(true).open(&path).await?;
    let wrote = cut.off(file.write_at(b"ahoy", 0), moment).await;
    drop(file);
    until_closed(&path).await;
    let now = std::fs::read(&path)?;
    let first = now.iter().zip(b"ahoy").take_while(|(now, new)| now == new);
    assert_eq!(
        now[first.count()..],
        b"...."[..now.iter().filter(|&&it| it == b'.').count()]
    );
    Ok(wrote.transpose()?.is_some())
}

async fn write_whole_file(cut: Cut) -> io::Result<bool> {
    let path = file_with(b"....")?;
    let wrote = cut
        .off(fs::write(&path, "ahoy"), moment)
        .await
        .transpose()?;
    until_closed(&path).await;
    let now = std::fs::read(&path)?;
    assert!(now == b"...." || b"ahoy".starts_with(&now));
    Ok(wrote.is_some())
}

async fn sync_file(cut: Cut) -> io::Result<bool> {
    let path = file_with(b"ahoy")?;
    let file = File::options().write(true).open(&path).await?;
    let synced = cut.off(file.sync_all(), moment).await.transpose()?;
    let cut_off = cut.off(file.set_len(2), moment).await.transpose()?;
    drop(file);
    until_closed(&path).await;
    assert!([2, 4].contains(&std::fs::read(&path)?.len()));
    Ok(synced.and(cut_off).is_some())
}

async fn rename_file(cut: Cut) -> io::Result<bool> {
    let old = file_with(b"ahoy")?;
    let new = old.with_extension("new");
    let renamed = cut.off(fs::rename(&old, &new), moment).await.transpose()?;
    while renamed.is_some() && old.exists() {
        moment().await;
    }
    assert!(old.exists() || new.exists());
    Ok(renamed.is_some())
}

async fn copy_file(cut: Cut) -> io::Result<bool> {
    let from = file_with(b"ahoy")?;
    let to = from.with_extension("copy");
    let copied = cut.off(fs::copy(&from, &to), moment).await.transpose()?;
    until_closed(&from).await;
    if copied.is_some() {
        assert_eq!(std::fs::read(&to)?, b"ahoy");
    }
    Ok(copied.is_some())
}

async fn join_next(cut: Cut) -> io::Result<bool> {
    let (dropped, mut group) = (Count::default(), TaskGroup::infallible());
    (0..3).for_each(|_| group.spawn(held(&dropped)));
    let joined = cut.off(group.join_next(), nothing).await;
    for _ in usize::from(joined.is_some())..3 {
        assert!(group.join_next().await.is_some());
    }
    assert_eq!((group.join_next().await, dropped.get()), (None, 3));
    Ok(joined.is_some())
}

async fn room(cut: Cut) -> io::Result<bool> {
    let (dropped, mut group) = (Count::default(), TaskGroup::infallible().limit(1));
    group.spawn(held(&dropped));
    let ended = cut.off(group.room(), nothing).await;
    assert!(group.join_next().await.is_some());
    Ok(ended.is_some())
}

async fn close(cut: Cut) -> io::Result<bool> {
    owning(cut, |count| {
        let group = TaskGroup::infallible();
        group.spawn(held(&count));
        group.close()
    })
    .await
}

async fn in_scope(cut: Cut) -> io::Result<bool> {
    owning(cut, |count| {
        let child = held(&count);
        scope(async move |s| s.spawn(child))
    })
    .await
}

async fn in_try_scope(cut: Cut) -> io::Result<bool> {
    owning(cut, |count| {
        let child = held(&count);
        try_scope(async move |s| {
            s.spawn(child.map(Ok::<_, io::Error>));
            Ok(())
        })
    })
    .await
}

async fn stopped(cut: Cut) -> io::Result<bool> {
    let source = StopSource::new();
    source.stop_after(HOUR);
    let token = source.token();
    let event = async || source.stop();
    let ended = cut.off(token.stopped(), event).await;
    if ended.is_none() && cut.polls > 0 {
        token.stopped().await; // the next waiter is notified too
    }
    Ok(ended.is_some())
}

async fn receive(cut: Cut) -> io::Result<bool> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut sent = 0;
    let event = async || {
        sent += 1;
        sender.send(sent).unwrap();
    };
    let mut got = Vec::from_iter(cut.off(receiver.recv(), event).await.flatten());
    let ended = !got.is_empty();
    got.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
    assert!(got.into_iter().eq(1..=sent));
    Ok(ended)
}

async fn receive_many(cut: Cut) -> io::Result<bool> {
    let (sender, mut receiver) = mpsc::channel(9);
    let mut sent = 0;
    let event = async || {
        sent += 2;
        sender.try_send(sent - 1).unwrap();
        sender.try_send(sent).unwrap();
    };
    let mut got = Vec::new();
    let count = cut.off(receiver.recv_many(&mut got, 3), event).await;
    let ended = count.is_some();
    assert_eq!(count.unwrap_or(0), got.len());
    got.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
    assert!(got.into_iter().eq(1..=sent));
    Ok(ended)
}

async fn receive_broadcast(cut: Cut) -> io::Result<bool> {
    let (sender, mut receiver) = broadcast::channel(9);
    let mut sent = 0;
    let event = async || {
        sent += 1;
        sender.send(sent).unwrap();
    };
    let received = cut.off(receiver.recv(), event).await;
    let ended = received.is_some();
    let mut got: Vec<_> = received.into_iter().flatten().collect();
    got.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
    assert!(got.into_iter().eq(1..=sent));
    Ok(ended)
}

async fn receive_once(cut: Cut) -> io::Result<bool> {
    let (sender, mut receiver) = oneshot::channel();
    let mut sender = Some(sender);
    let mut send = async || {
        let _ = sender.take().map(|sender| sender.send(7));
    };
    let ended = cut.off(&mut receiver, &mut send).await;
    send().await;
    let got = match ended {
        Some(got) => got,
        None => receiver.await,
    };
    assert_eq!(got, Ok(7));
    Ok(ended.is_some())
}

async fn closed(cut: Cut) -> io::Result<bool> {
    let (mut sender, receiver) = oneshot::channel::<()>();
    let mut receiver = Some(receiver);
    let event = async || drop(receiver.take());
    let ended = cut.off(sender.closed(), event).await.is_some();
    assert_eq!(sender.is_closed(), cut.polls > 0);
    Ok(ended)
}

async fn closed_by_all(cut: Cut) -> io::Result<bool> {
    let (sender, receiver) = watch::channel(());
    let mut receiver = Some(receiver);
    let event = async || drop(receiver.take());
    let ended = cut.off(sender.closed(), event).await.is_some();
    assert_eq!(sender.is_closed(), cut.polls > 0);
    Ok(ended)
}

async fn wait_for(cut: Cut) -> io::Result<bool> {
    let (sender, mut receiver) = watch::channel(0);
    let event = async || sender.send_modify(|value| *value += 1);
    let met = cut.off(receiver.wait_for(|value| *value == 2), event).await;
    let ended = met.is_some();
    drop(met);
    let is_unseen = cut.polls > 0 && !ended;
    assert_eq!(receiver.has_changed(), Ok(is_unseen));
    Ok(ended)
}

async fn get_or_init(cut: Cut) -> io::Result<bool> {
    let cell = OnceCell::new();
    let ended = {
        let compute = async || {
            yield_now().await;
            1
        };
        cut.off(cell.get_or_init(compute), nothing).await.is_some()
    };
    let next = *cell.get_or_init(async || 2).await;
    assert_eq!(next, if ended { 1 } else { 2 });
    Ok(ended)
}

async fn changed(cut: Cut) -> io::Result<bool> {
    let (sender, mut receiver) = watch::channel(0);
    let event = async || sender.send(1).unwrap();
    let ended = cut.off(receiver.changed(), event).await.is_some();
    assert_eq!(receiver.has_changed(), Ok(cut.polls > 0 && !ended));
    Ok(ended)
}

async fn send_value(cut: Cut) -> io::Result<bool> {
    let (sender, mut receiver) = mpsc::channel(1);
    let cargo = Rc::new(());
    sender.try_send((0, cargo.clone())).unwrap();
    let mut got = vec![];
    let event = async || got.extend(receiver.try_recv());
    let send = sender.send((1, cargo.clone()));
    let ended = cut.off(send, event).await.is_some();
    got.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
    let numbers = got.iter().map(|(number, _)| *number);
    assert!(numbers.eq(0..=usize::from(ended)));
    let left = Rc::strong_count(&cargo) - 1;
    assert_eq!(left, got.len(), "unsent values are dropped");
    Ok(ended)
}

/// Drops the first of two waiters after its first poll, when the resource becomes available. The
/// second must then get it.
async fn first_of_two<F: Future>(
    cut: Cut,
    [first, second]: [F; 2],
    give: impl Fn(),
) -> io::Result<bool> {
    let mut second = pin!(second);
    let event = async || {
        assert!(futures::poll!(second.as_mut()).is_pending());
        give();
    };
    let ended = cut.off(first, event).await.is_some();
    if cut.polls == 0 {
        give();
    }
    assert!(second.now_or_never().is_some());
    Ok(ended)
}

async fn reserve(cut: Cut) -> io::Result<bool> {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = RefCell::new(receiver);
    sender.try_send(0).unwrap();
    let give = || assert!(receiver.borrow_mut().try_recv().is_ok());
    first_of_two(cut, [sender.reserve(), sender.reserve()], give).await
}

async fn reserve_many(cut: Cut) -> io::Result<bool> {
    let (sender, receiver) = mpsc::channel(2);
    let receiver = RefCell::new(receiver);
    sender
        .try_reserve_many(2)
        .unwrap()
        .for_each(|permit| permit.send(0).unwrap());
    let give = || {
        receiver.borrow_mut().try_recv().unwrap();
        receiver.borrow_mut().try_recv().unwrap();
    };
    first_of_two(cut, [sender.reserve_many(2), sender.reserve_many(2)], give).await
}

async fn reserve_owned(cut: Cut) -> io::Result<bool> {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = RefCell::new(receiver);
    sender.try_send(0).unwrap();
    let give = || assert!(receiver.borrow_mut().try_recv().is_ok());
    let waiting = [sender.clone().reserve_owned(), sender.reserve_owned()];
    first_of_two(cut, waiting, give).await
}

async fn lock_owned(cut: Cut) -> io::Result<bool> {
    let mutex = Rc::new(Mutex::new(()));
    let held = RefCell::new(mutex.try_lock());
    let give = || drop(held.take());
    let waiting = [mutex.clone().lock_owned(), mutex.clone().lock_owned()];
    first_of_two(cut, waiting, give).await
}

async fn acquire(cut: Cut) -> io::Result<bool> {
    let semaphore = Semaphore::new(0);
    let give = || semaphore.add_permits(1);
    first_of_two(cut, [semaphore.acquire(1), semaphore.acquire(1)], give).await
}

async fn lock(cut: Cut) -> io::Result<bool> {
    let mutex = Mutex::new(());
    let held = RefCell::new(mutex.try_lock());
    let give = || drop(held.take());
    first_of_two(cut, [mutex.lock(), mutex.lock()], give).await
}

async fn listen(cut: Cut) -> io::Result<bool> {
    let event = Event::new();
    let (first, next) = (event.listen(), event.listen());
    let ended = cut.off(first, async || event.notify_one()).await.is_some();
    let is_handed_on = next.now_or_never().is_some();
    assert_eq!(is_handed_on, cut.polls > 0 && !ended);
    Ok(ended)
}

/// Waits twice before it yields.
fn adds_one() -> AsyncCoroutine<'static, u32, u32, ()> {
    AsyncCoroutine::new(async |co, mut number: u32| {
        while number < 100 {
            sleep(Duration::ZERO).await;
            sleep(Duration::ZERO).await;
            number = co.yield_(number + 1).await;
        }
    })
}

async fn send_in(cut: Cut) -> io::Result<bool> {
    let mut coroutine = adds_one();
    let answer = cut.off(coroutine.send(1), nothing).await;
    match (cut.polls, answer) {
        (0, _) => assert_eq!(coroutine.send(2).await, Yielded(3)), // the 1 was not passed in
        (_, None) => assert_eq!(coroutine.answer().await, Yielded(2)),
        (_, Some(answer)) => assert_eq!(answer, Yielded(2)),
    }
    Ok(answer.is_some())
}

async fn answer(cut: Cut) -> io::Result<bool> {
    let mut coroutine = adds_one();
    assert_eq!(coroutine.send(1).now_or_never(), None);
    let ended = cut.off(coroutine.answer(), nothing).await;
    let answer = match ended {
        Some(answer) => answer,
        None => coroutine.answer().await,
    };
    assert_eq!(answer, Yielded(2));
    Ok(ended.is_some())
}

async fn next(cut: Cut) -> io::Result<bool> {
    let mut numbers = AsyncCoroutine::new(async |co, ()| {
        for number in 1..=2 {
            sleep(Duration::ZERO).await;
            co.yield_(number).await;
        }
    });
    let ended = cut.off(numbers.next(), nothing).await.flatten();
    let mut all = Vec::from_iter(ended);
    all.extend(numbers.collect::<Vec<_>>().await);
    assert_eq!(all, [1, 2]);
    Ok(ended.is_some())
}
