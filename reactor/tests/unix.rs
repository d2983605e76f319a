//! Unix sockets.

#![cfg(unix)]

mod common;

use std::cell::Cell;
use std::fs;
use std::future::Future;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use common::*;
use futures::future::{join_all, poll_fn};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};
use windlass_reactor::net::unix::{UnixDatagram, UnixListener, UnixStream};
use windlass_reactor::time::{sleep, timeout};

const MS: Duration = Duration::from_millis(1);

/// The path of a socket, which is removed on drop.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let file = format!("windlass-{}-{name}", std::process::id());
        Place(std::env::temp_dir().join(file))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

#[test]
fn many_connections_echo() {
    let place = Place::new("echo");
    run(async {
        let listener = UnixListener::bind(&place).await.unwrap();
        assert_eq!(
            listener.local_addr().unwrap().as_pathname(),
            Some(place.as_ref())
        );
        let serve = async {
            let echo = |stream: UnixStream| async move {
                futures::io::copy(&stream, &mut &stream).await.unwrap();
            };
            listener
                .incoming()
                .take(50)
                .for_each_concurrent(None, |it| echo(it.unwrap()))
                .await;
        };
        let request = |i: u8| {
            let place = &place;
            async move {
                let mut stream = UnixStream::connect(place).await.unwrap();
                let sent = [i; 10_000];
                let mut received = Vec::new();
                let mut reader = stream.clone();
                let (wrote, read) = join!(
                    async {
                        stream.write_all(&sent).await?;
                        stream.close().await
                    },
                    reader.read_to_end(&mut received)
                );
                wrote.unwrap();
                read.unwrap();
                assert!(received == sent);
            }
        };
        join!(serve, join_all((0..50).map(request)));
    });
}

#[test]
fn peer_name_is_that_of_the_client() {
    let (place, client) = (Place::new("named"), Place::new("client"));
    run(async {
        let listener = UnixListener::bind(&place).await.unwrap();
        let (accepted, stream) = join!(listener.accept(), UnixStream::connect(&place));
        let (_, peer) = accepted.unwrap();
        assert!(peer.is_unnamed());
        assert_eq!(
            stream.unwrap().peer_addr().unwrap().as_pathname(),
            Some(place.as_ref())
        );
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&client.0).unwrap()).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(&place.0).unwrap()).unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.as_pathname(), Some(client.as_ref()));
    });
}

#[test]
fn peer_with_a_path_of_maximal_length_is_accepted() {
    let place = Place::new("longest");
    let dir = std::env::temp_dir().join(format!("windlass-{:060}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let longest = |len: usize| {
        let dir = dir.to_str().unwrap();
        format!("{dir}/{}", "x".repeat(len - dir.len() - 1))
    };
    run(async {
        let listener = UnixListener::bind(&place).await.unwrap();
        for len in [106, 107, 108] {
            let socket =
                rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
            rustix::net::bind(&socket, &SocketAddrUnix::new(longest(len)).unwrap()).unwrap();
            rustix::net::connect(&socket, &SocketAddrUnix::new(&place.0).unwrap()).unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.as_pathname(), Some(Path::new(&longest(len))));
        }
    });
    fs::remove_dir_all(dir).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_work() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("\0windlass-{}", std::process::id());
    run(async {
        let listener = UnixListener::bind(&name).await.unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!(addr.as_abstract_name(), Some(&name.as_bytes()[1..]));
        let (accepted, connected) = join!(listener.accept(), UnixStream::connect(&name));
        accepted.unwrap();
        connected.unwrap();
        let error = UnixListener::bind(&name).await.unwrap_err();
        assert!(error.to_string().contains(&name[1..]), "{error}");
    });
}

#[test]
fn data_and_eof_in_one_edge_are_both_read() {
    for vectored in [false, true] {
        run(async {
            let (here, mut there) = UnixStream::pair().unwrap();
            let reading = async {
                let (mut all, mut buf) = (Vec::new(), [0; 64]);
                loop {
                    let n = if vectored {
                        let bufs = &mut [IoSliceMut::new(&mut buf)];
                        (&here).read_vectored(bufs).await.unwrap()
                    } else {
                        (&here).read(&mut buf).await.unwrap()
                    };
                    if n == 0 {
                        return all;
                    }
                    all.extend_from_slice(&buf[..n]);
                }
            };
            let (all, ()) = join!(reading, async {
                sleep(Duration::ZERO).await;
                there.write_all(b"ahoy").await.unwrap();
                there.close().await.unwrap();
            });
            assert_eq!(all, b"ahoy");
        });
    }
}

#[test]
fn data_after_a_passed_descriptor_is_read() {
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let mut all = [0; 3];
        let mut reading = &here;
        let (first, ()) = join!(reading.read(&mut all), async {
            sleep(Duration::ZERO).await;
            let (fds, mut space) = ([there.as_fd()], [MaybeUninit::uninit(); 64]);
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            let a = [IoSlice::new(b"a")];
            rustix::net::sendmsg(&there, &a, &mut control, SendFlags::empty()).unwrap();
            (&there).write_all(b"bc").await.unwrap();
        });
        let n = first.unwrap();
        (&here).read_exact(&mut all[n..]).await.unwrap();
        assert_eq!(&all, b"abc");
    });
}

#[test]
fn urgent_data_hangs_no_later_read() {
    run(async {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let mut all = [0; 6];
        let (read, ()) = join!(here.read_exact(&mut all), async {
            sleep(Duration::ZERO).await;
            there.write_all(b"abc").await.unwrap();
            let urgent = rustix::net::send(&there, b"!", SendFlags::OOB);
            assert!(urgent.is_ok() || urgent == Err(rustix::io::Errno::OPNOTSUPP));
            there.write_all(b"def").await.unwrap();
        });
        read.unwrap();
        assert_eq!(&all, b"abcdef");
    });
}

#[test]
fn large_transfers_in_both_directions_are_intact() {
    const LEN: usize = 4 << 20;
    let (to, fro) = (pattern(LEN, 3), pattern(LEN, 4));
    let (mut a, mut b) = (Vec::new(), Vec::new());
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let send = |mut stream: UnixStream, data: Vec<u8>| async move {
            stream.write_all(&data).await.unwrap();
            stream.close().await.unwrap();
        };
        let (_, _, read_here, read_there) = join!(
            send(here.clone(), to.clone()),
            send(there.clone(), fro.clone()),
            async { (&here).read_to_end(&mut a).await },
            async { (&there).read_to_end(&mut b).await }
        );
        read_here.unwrap();
        read_there.unwrap();
    });
    assert!(a == fro && b == to);
}

#[test]
fn half_close_and_shutdown_work_in_both_orders() {
    run(async {
        for swap in [false, true] {
            let (a, b) = UnixStream::pair().unwrap();
            let (mut a, mut b) = if swap { (b, a) } else { (a, b) };
            a.close().await.unwrap();
            let mut text = String::new();
            b.read_to_string(&mut text).await.unwrap();
            b.write_all(b"answer").await.unwrap();
            b.close().await.unwrap();
            a.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "answer");
            a.shutdown(Shutdown::Both).unwrap();
            a.shutdown(Shutdown::Both).unwrap();
            assert!(b.write_all(b"x").await.is_err(), "an error, not a signal");
        }
    });
}

#[test]
fn try_methods_do_not_wait() {
    run(async {
        let (a, b) = UnixStream::pair().unwrap();
        assert_eq!(
            b.try_read(&mut [0; 4]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        while a.try_write(&[0; 4096]).is_ok() {}
        assert_eq!(a.try_write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        b.readable().await.unwrap();
        let ((), ()) = join!(async { a.writable().await.unwrap() }, async {
            sleep(Duration::ZERO).await;
            while b.try_read(&mut [0; 65536]).is_ok() {}
        });
        assert!(a.try_write(b"x").is_ok());
    });
}

#[test]
fn sockets_come_from_std_and_go_back_to_other_threads() {
    let place = Place::new("std");
    let listener = net::UnixListener::bind(&place).unwrap();
    let there = thread::spawn(move || {
        run(async {
            let listener = UnixListener::try_from(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let clone = stream.clone();
            assert!(clone.into_std().is_err());
            (listener.into_std().unwrap(), stream.into_std().unwrap())
        })
    });
    let client = net::UnixStream::connect(&place).unwrap();
    let mut client = UnixStream::try_from(client).unwrap();
    let (_listener, stream) = there.join().unwrap();
    let mut stream = UnixStream::try_from(stream).unwrap();
    run(async {
        client.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
    });
}

#[test]
fn connect_retries_while_the_listen_queue_is_full() {
    let place = Place::new("full");
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(&place.0).unwrap()).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    run(async {
        let listener = UnixListener::try_from(net::UnixListener::from(socket)).unwrap();
        let mut connected = Vec::new();
        let late = loop {
            let mut connect = Box::pin(UnixStream::connect(&place));
            match timeout(3 * MS, &mut connect).await {
                Ok(stream) => connected.push(stream.unwrap()),
                Err(_) => break connect,
            }
            assert!(connected.len() < 100, "the queue is never full");
        };
        let (stream, accepted) = join!(late, listener.accept());
        stream.unwrap();
        accepted.unwrap();
    });
}

#[test]
fn errors_name_the_path() {
    let place = Place::new("errors");
    let name = place.as_ref().to_str().unwrap();
    run(async {
        let error = UnixStream::connect(&place).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(name), "{error}");
        drop(UnixListener::bind(&place).await.unwrap());
        let error = UnixListener::bind(&place).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(name), "{error}");
        let error = UnixStream::connect(&place).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(name), "{error}");
        let error = UnixDatagram::bind(&place).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        let socket = UnixDatagram::unbound().unwrap();
        for error in [
            socket.connect(&place).await.unwrap_err(),
            socket.send_to(b"x", &place).await.unwrap_err(),
            socket.try_send_to(b"x", &place).unwrap_err(),
        ] {
            assert!(error.to_string().contains(name), "{error}");
        }
        let long = "x".repeat(500);
        let error = UnixListener::bind(&long).await.unwrap_err();
        assert!(error.to_string().contains(&long), "{error}");
    });
}

#[test]
fn datagrams_are_sent_and_answered() {
    let (here, there) = (Place::new("here"), Place::new("there"));
    run(async {
        let a = UnixDatagram::bind(&here).await.unwrap();
        let b = UnixDatagram::bind(&there).await.unwrap();
        let mut buffer = [0; 16];
        a.send_to(b"ahoy", &there).await.unwrap();
        let (n, sender) = b.recv_from(&mut buffer).await.unwrap();
        assert_eq!(
            (&buffer[..n], sender.as_pathname()),
            (&b"ahoy"[..], Some(here.as_ref()))
        );
        b.connect(&here).await.unwrap();
        b.send(b"x").await.unwrap();
        assert_eq!(a.recv(&mut buffer).await.unwrap(), 1);
        assert_eq!(b.try_send(b"").unwrap(), 0);
        assert_eq!(a.try_send_to(b"yz", &there).unwrap(), 2);
        a.readable().await.unwrap();
        assert_eq!(a.try_recv(&mut buffer).unwrap(), 0);
        b.readable().await.unwrap();
        assert_eq!(b.try_recv_from(&mut buffer).unwrap().0, 2);
        let c = a.clone();
        assert!(a.into_std().is_err());
        assert!(UnixDatagram::try_from(c.into_std().unwrap()).is_ok());
    });
}

#[test]
fn connected_sender_waits_while_the_queue_is_full() {
    run(async {
        let (a, b) = UnixDatagram::pair().unwrap();
        let (sent, received) = join!(
            async {
                for i in 0..500_u32 {
                    a.send(&i.to_ne_bytes()).await.unwrap();
                }
                500
            },
            async {
                sleep(MS).await;
                let mut buffer = [0; 4];
                for i in 0..500_u32 {
                    b.recv(&mut buffer).await.unwrap();
                    assert_eq!(u32::from_ne_bytes(buffer), i);
                }
                500
            }
        );
        assert_eq!(sent, received);
    });
}

#[test]
fn queue_filled_by_others_does_not_hang_the_sender() {
    let place = Place::new("others");
    run(async {
        let receiver = UnixDatagram::bind(&place).await.unwrap();
        let (other, sender) = (
            UnixDatagram::unbound().unwrap(),
            UnixDatagram::unbound().unwrap(),
        );
        let mut queued = 0;
        while other.try_send_to(b"x", &place).is_ok() {
            queued += 1;
        }
        let (done, polls) = (Cell::new(false), Cell::new(0));
        let mut sending = Box::pin(sender.send_to(b"late", &place));
        let (sent, ()) = join!(
            poll_fn(|cx| {
                polls.set(polls.get() + 1);
                let polled = sending.as_mut().poll(cx);
                done.set(polled.is_ready());
                polled
            }),
            async {
                sleep(20 * MS).await;
                assert!(!done.get());
                assert!(polls.get() < 20, "{} polls: it spins", polls.get());
                for _ in 0..queued {
                    receiver.recv(&mut [0; 8]).await.unwrap();
                }
                assert_eq!(receiver.recv(&mut [0; 8]).await.unwrap(), 4);
            }
        );
        assert_eq!(sent.unwrap(), 4);
    });
}

#[test]
fn error_without_a_running_reactor_says_what_to_call() {
    let place = Place::new("nobody");
    let _receiver = net::UnixDatagram::bind(&place).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    while sender.try_send_to(b"x", &place).is_ok() {}
    let errors = [
        futures::executor::block_on(sender.send_to(b"x", &place)).unwrap_err(),
        futures::executor::block_on(poll_fn(|cx| {
            let (here, _there) = UnixStream::pair().unwrap();
            std::pin::Pin::new(&mut here.readable()).as_mut().poll(cx)
        }))
        .unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("Reactor"), "{error}");
    }
}

/// More buffers than one system call accepts (`IOV_MAX`).
#[test]
fn vectored_io_beyond_the_system_limit_is_split() {
    run(async {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let data = pattern(3000, 5);
        // All data arrives before the first read, so no further event follows.
        there.write_all(&data).await.unwrap();
        let mut bytes = vec![0; 3000];
        assert!(timeout(Duration::ZERO, here.readable()).await.is_ok());
        let mut filled = 0;
        while filled < data.len() {
            let mut bufs: Vec<_> = bytes[filled..].chunks_mut(1).map(IoSliceMut::new).collect();
            filled += here.read_vectored(&mut bufs).await.unwrap();
        }
        assert!(bytes == data);
        let bufs: Vec<_> = data.chunks(1).map(IoSlice::new).collect();
        assert_eq!(there.write_vectored(&bufs).await.unwrap(), 1024);
    });
}

/// Reads a descriptor to its end.
fn read_all(fd: std::os::fd::OwnedFd) -> String {
    std::io::read_to_string(fs::File::from(fd)).unwrap()
}

#[test]
fn descriptors_travel_with_bytes() {
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let sent = here
            .send_with_fds(b"ahoy", &[reader.as_fd()])
            .await
            .unwrap();
        assert_eq!(sent, 4);
        rustix::io::write(&writer, b"through the pipe").unwrap();
        drop(writer);

        let (mut buf, mut fds) = ([0; 16], Vec::new());
        let n = there.recv_with_fds(&mut buf, &mut fds).await.unwrap();
        assert_eq!(&buf[..n], b"ahoy");
        let fd = fds.pop().unwrap();
        assert!(fds.is_empty());
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(read_all(fd), "through the pipe");
    });
}

#[test]
fn receive_with_descriptors_waits_and_stops_behind_them() {
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut buf, mut fds) = ([0; 16], Vec::new());
        let receive = there.recv_with_fds(&mut buf, &mut fds);
        let send = async {
            let many: Vec<_> = (0..253).map(|_| here.as_fd()).collect();
            here.send_with_fds(b"with", &many).await.unwrap();
            here.send_with_fds(b"without", &[]).await.unwrap();
        };
        let (received, ()) = join!(receive, send);
        assert_eq!(received.unwrap(), 4);
        assert_eq!(fds.len(), 253);
        let n = there.recv_with_fds(&mut buf, &mut fds).await.unwrap();
        assert_eq!(&buf[..n], b"without");
        assert_eq!(fds.len(), 253);
    });
}

#[test]
fn datagram_carries_descriptors() {
    run(async {
        let (here, there) = UnixDatagram::pair().unwrap();
        here.send_with_fds(b"a", &[here.as_fd(), there.as_fd()])
            .await
            .unwrap();
        here.send_with_fds(b"b", &[]).await.unwrap();
        let (mut buf, mut fds) = ([0; 16], Vec::new());
        assert_eq!(there.recv_with_fds(&mut buf, &mut fds).await.unwrap(), 1);
        assert_eq!(fds.len(), 2);
        assert_eq!(there.recv_with_fds(&mut buf, &mut fds).await.unwrap(), 1);
        assert_eq!((buf[0], fds.len()), (b'b', 2));
    });
}

#[test]
fn too_many_descriptors_are_refused() {
    run(async {
        let (here, _there) = UnixStream::pair().unwrap();
        let many: Vec<_> = (0..254).map(|_| here.as_fd()).collect();
        let error = here.send_with_fds(b"x", &many).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn descriptors_without_a_byte_are_refused() {
    run(async {
        let (here, _there) = UnixStream::pair().unwrap();
        let error = here.send_with_fds(b"", &[here.as_fd()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(here.send_with_fds(b"", &[]).await.unwrap(), 0);
    });
}

#[test]
fn peer_is_this_process() {
    run(async {
        let place = Place::new("cred");
        let listener = UnixListener::bind(&place).await.unwrap();
        let client = UnixStream::connect(&place).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        for stream in [client, server] {
            let cred = stream.peer_cred().unwrap();
            assert_eq!(cred.uid, rustix::process::geteuid().as_raw());
            assert_eq!(cred.gid, rustix::process::getegid().as_raw());
            let pid = cfg!(any(target_os = "linux", target_os = "android"))
                .then(|| std::process::id() as i32);
            assert_eq!(cred.pid, pid);
        }
    });
}
