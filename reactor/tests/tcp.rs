//! TCP over loopback.

mod common;

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use futures::future::{Either, join_all, select};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join};
use rustix::net::SendFlags;
use windlass_reactor::net::{TcpListener, TcpStream, lookup_host};
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Reactor, block_on};

const MS: Duration = Duration::from_millis(1);

/// The ways to read bytes. All use the same readiness, and must verify it with the socket where it
/// may be stale.
#[derive(Clone, Copy, Debug)]
enum How {
    Read,
    Vectored,
    Try,
    Exact,
}

const ALL: [How; 4] = [How::Read, How::Vectored, How::Try, How::Exact];

impl How {
    async fn read(self, mut stream: &TcpStream, buf: &mut [u8; 64]) -> io::Result<usize> {
        match self {
            How::Read => stream.read(buf).await,
            How::Exact => stream.read(&mut buf[..1]).await,
            How::Vectored => {
                let (a, b) = buf.split_at_mut(2);
                stream
                    .read_vectored(&mut [IoSliceMut::new(a), IoSliceMut::new(b)])
                    .await
            }
            How::Try => loop {
                match stream.try_read(buf) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        stream.readable().await?;
                    }
                    result => return result,
                }
            },
        }
    }

    async fn read_to_end(self, stream: &TcpStream) -> io::Result<Vec<u8>> {
        let (mut all, mut buf) = (Vec::new(), [0; 64]);
        loop {
            match self.read(stream, &mut buf).await? {
                0 => return Ok(all),
                n => all.extend_from_slice(&buf[..n]),
            }
        }
    }
}

async fn write_and_shut_down(mut stream: &TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    stream.close().await.unwrap();
}

/// Turns the reactor a few times, so that it processes all pending events.
async fn some_turns() {
    for _ in 0..3 {
        sleep(Duration::ZERO).await;
    }
}

#[test]
fn data_and_eof_in_one_edge_are_both_read() {
    for how in ALL {
        run(async {
            let (here, there) = tcp_pair().await;
            let waits_already = async {
                let all = how.read_to_end(&here).await.unwrap();
                assert_eq!(all, b"ahoy", "{how:?}");
            };
            let peer = async {
                some_turns().await;
                write_and_shut_down(&there, b"ahoy").await;
            };
            join!(waits_already, peer);
        });
    }
}

#[test]
fn data_and_eof_before_the_first_read_are_both_read() {
    for how in ALL {
        for turns in [false, true] {
            run(async {
                let (here, there) = tcp_pair().await;
                write_and_shut_down(&there, b"ahoy").await;
                if turns {
                    some_turns().await;
                }
                assert_eq!(how.read_to_end(&here).await.unwrap(), b"ahoy", "{how:?}");
            });
        }
    }
}

#[test]
fn data_and_eof_between_two_reads_are_both_read() {
    for how in ALL {
        for turns in [false, true] {
            run(async {
                let (here, there) = tcp_pair().await;
                let mut buf = [0; 64];
                let (n, ()) = join!(how.read(&here, &mut buf), async {
                    some_turns().await;
                    (&there).write_all(b"x").await.unwrap();
                });
                assert_eq!(n.unwrap(), 1);
                write_and_shut_down(&there, b"ahoy").await;
                if turns {
                    some_turns().await;
                }
                assert_eq!(how.read_to_end(&here).await.unwrap(), b"ahoy", "{how:?}");
            });
        }
    }
}

#[test]
fn eof_right_after_a_short_read_is_read() {
    for how in ALL {
        run(async {
            let (here, there) = tcp_pair().await;
            let mut buf = [0; 64];
            let (n, ()) = join!(how.read(&here, &mut buf), async {
                some_turns().await;
                (&there).write_all(b"x").await.unwrap();
            });
            assert_eq!(n.unwrap(), 1);
            let (end, ()) = join!(how.read(&here, &mut buf), async {
                some_turns().await;
                there.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(end.unwrap(), 0, "{how:?}");
            assert_eq!(how.read(&here, &mut buf).await.unwrap(), 0, "and again");
        });
    }
}

#[test]
fn registration_by_a_writer_keeps_earlier_readiness() {
    for how in ALL {
        run(async {
            let (here, there) = tcp_pair().await;
            write_and_shut_down(&there, b"ahoy").await;
            while here.try_write(&[0; 65536]).is_ok() {}
            // Registers the socket after its data and end of stream have arrived.
            let _ = timeout(Duration::ZERO, here.writable()).await;
            assert_eq!(how.read_to_end(&here).await.unwrap(), b"ahoy", "{how:?}");
        });
    }
}

#[test]
#[cfg_attr(
    windows,
    ignore = "wine 8 ends a connection before it resets it, as std's blocking sockets show"
)]
fn a_reset_is_an_error_of_pending_and_later_operations() {
    run(async {
        let (here, there) = tcp_pair().await;
        let mut buf = [0; 64];
        let (read, ()) = join!(async { (&here).read(&mut buf).await }, async {
            some_turns().await;
            there.set_linger(Some(Duration::ZERO)).unwrap();
            drop(there);
        });
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let error = (&here).write_all(b"x").await.unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        ));
        here.shutdown(Shutdown::Both).unwrap(); // is not connected: no error
        (&here).close().await.unwrap();
    });
}

#[test]
#[cfg_attr(
    windows,
    ignore = "wine 8 ends a connection before it resets it, as std's blocking sockets show"
)]
fn a_reset_after_data_ends_a_read() {
    for how in ALL {
        run(async {
            let (here, there) = tcp_pair().await;
            let (read, ()) = join!(how.read_to_end(&here), async {
                some_turns().await;
                (&there).write_all(b"ahoy").await.unwrap();
                there.set_linger(Some(Duration::ZERO)).unwrap();
                drop(there);
            });
            assert_eq!(
                read.unwrap_err().kind(),
                ErrorKind::ConnectionReset,
                "{how:?}"
            );
        });
    }
}

#[test]
fn half_closed_stream_receives_the_answer() {
    for client_first in [true, false] {
        run(async {
            let (a, b) = tcp_pair().await;
            let (first, second) = if client_first { (&b, &a) } else { (&a, &b) };
            let one = async {
                write_and_shut_down(first, b"question").await;
                How::Read.read_to_end(first).await.unwrap()
            };
            let other = async {
                let received = How::Read.read_to_end(second).await.unwrap();
                assert_eq!(received, b"question");
                write_and_shut_down(second, b"answer").await;
            };
            assert_eq!(join!(one, other).0, b"answer");
            first.shutdown(Shutdown::Write).unwrap(); // a second time
            first.shutdown(Shutdown::Both).unwrap();
            second.shutdown(Shutdown::Both).unwrap();
        });
    }
}

#[test]
fn shutdown_of_reading_ends_a_pending_read() {
    run(async {
        let (here, _there) = tcp_pair().await;
        let mut buf = [0; 64];
        let (read, ()) = join!(async { (&here).read(&mut buf).await }, async {
            some_turns().await;
            here.shutdown(Shutdown::Read).unwrap();
        });
        assert_eq!(read.unwrap(), 0);
    });
}

#[test]
fn large_transfers_in_both_directions_are_intact() {
    const LEN: usize = 8 << 20;
    async fn send(mut stream: &TcpStream, data: &[u8]) {
        stream.write_all(data).await.unwrap();
        stream.close().await.unwrap();
    }
    async fn receive(mut stream: &TcpStream) -> Vec<u8> {
        let mut all = Vec::with_capacity(LEN);
        stream.read_to_end(&mut all).await.unwrap();
        all
    }
    let (to, fro) = (pattern(LEN, 1), pattern(LEN, 2));
    run(async {
        let (here, there) = tcp_pair().await;
        let ((), (), a, b) = join!(
            send(&here, &to),
            send(&there, &fro),
            receive(&here),
            receive(&there)
        );
        assert!(a == fro && b == to);
    });
}

#[test]
fn vectored_reads_and_writes_keep_the_order() {
    run(async {
        let (here, there) = tcp_pair().await;
        let slices = [
            IoSlice::new(b"heave"),
            IoSlice::new(b""),
            IoSlice::new(b" ho"),
        ];
        assert_eq!((&here).write_vectored(&slices).await.unwrap(), 8);
        let (mut a, mut b) = ([0; 3], [0; 64]);
        let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!((&there).read_vectored(bufs).await.unwrap(), 8);
        assert_eq!((&a, &b[..5]), (b"hea", &b"ve ho"[..]));
        assert_eq!((&here).write_vectored(&[]).await.unwrap(), 0);
    });
}

#[test]
fn read_into_an_empty_buffer_returns_zero() {
    run(async {
        let (here, there) = tcp_pair().await;
        (&there).write_all(b"x").await.unwrap();
        here.readable().await.unwrap();
        assert_eq!((&here).read(&mut []).await.unwrap(), 0);
        assert_eq!((&here).read(&mut [0; 8]).await.unwrap(), 1);
        assert_eq!((&here).write(b"").await.unwrap(), 0);
    });
}

#[test]
fn peek_leaves_the_data() {
    run(async {
        let (here, there) = tcp_pair().await;
        let mut buf = [0; 64];
        let (n, ()) = join!(here.peek(&mut buf), async {
            some_turns().await;
            (&there).write_all(b"ahoy").await.unwrap();
        });
        assert_eq!(n.unwrap(), 4);
        assert_eq!(here.peek(&mut buf).await.unwrap(), 4);
        assert_eq!((&here).read(&mut buf).await.unwrap(), 4);
        write_and_shut_down(&there, b"").await;
        assert_eq!(here.peek(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn urgent_data_hangs_no_later_read() {
    for how in ALL {
        for turns in [false, true] {
            run(async {
                let (here, there) = tcp_pair().await;
                let (all, ()) = join!(how.read_to_end(&here), async {
                    some_turns().await;
                    (&there).write_all(b"abc").await.unwrap();
                    rustix::net::send(&there, b"!", SendFlags::OOB).unwrap();
                    if turns {
                        some_turns().await;
                    }
                    write_and_shut_down(&there, b"def").await;
                });
                assert_eq!(all.unwrap(), b"abcdef", "{how:?}");
            });
        }
    }
}

#[test]
fn data_after_urgent_data_is_read_after_a_short_read() {
    for how in ALL {
        run(async {
            let (here, there) = tcp_pair().await;
            let reading = async {
                let (mut all, mut buf) = (Vec::new(), [0; 64]);
                while all.len() < 6 {
                    let n = how.read(&here, &mut buf).await.unwrap();
                    all.extend_from_slice(&buf[..n]);
                }
                all
            };
            let (all, ()) = join!(reading, async {
                some_turns().await;
                (&there).write_all(b"abc").await.unwrap();
                rustix::net::send(&there, b"!", SendFlags::OOB).unwrap();
                (&there).write_all(b"def").await.unwrap(); // no end: nothing else wakes
            });
            assert_eq!(all, b"abcdef", "{how:?}");
        });
    }
}

#[test]
fn urgent_data_alone_does_not_spin_a_reader() {
    run(async {
        let (here, there) = tcp_pair().await;
        (&there).write_all(b"abc").await.unwrap();
        rustix::net::send(&there, b"!", SendFlags::OOB).unwrap();
        some_turns().await;
        let (mut rounds, mut received) = (0, 0);
        let reading = async {
            loop {
                here.readable().await.unwrap();
                received += here.try_read(&mut [0; 64]).unwrap_or(0);
                rounds += 1;
            }
        };
        let _: Result<(), _> = timeout(20 * MS, reading).await;
        assert_eq!(received, 3);
        assert!(rounds < 10, "{rounds}");
    });
}

#[test]
fn clones_of_a_stream_share_the_connection() {
    run(async {
        let (here, there) = tcp_pair().await;
        let (mut reader, mut writer) = (here.clone(), here.clone());
        writer.write_all(b"ahoy").await.unwrap();
        (&there).write_all(b"ahoy").await.unwrap();
        reader.read_exact(&mut [0; 4]).await.unwrap();
        assert!(here.into_std().is_err(), "the socket is still shared");
        drop(reader);
        let mut inner = writer.into_std().unwrap();
        inner.write_all(b"!").unwrap();
        let mut buf = [0; 5];
        (&there).read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"ahoy!");
    });
}

#[test]
fn std_conversions_move_sockets_across_threads() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let there = thread::spawn(move || {
        run(async {
            let listener = TcpListener::try_from(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            (listener.into_std().unwrap(), stream.into_std().unwrap())
        })
    });
    let mut client = TcpStream::try_from(std::net::TcpStream::connect(addr).unwrap()).unwrap();
    let (listener, stream) = there.join().unwrap();
    assert_eq!(listener.local_addr().unwrap(), addr);
    let mut stream = TcpStream::try_from(stream).unwrap();
    run(async {
        client.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
    });
}

#[test]
fn socket_options_are_set_and_returned() {
    run(async {
        let (here, there) = tcp_pair().await;
        for on in [true, false] {
            here.set_nodelay(on).unwrap();
            assert_eq!(here.nodelay().unwrap(), on);
            here.set_keepalive(on).unwrap();
        }
        here.set_ttl(42).unwrap();
        assert_eq!(here.ttl().unwrap(), 42);
        assert!(here.take_error().unwrap().is_none());
        assert_eq!(here.peer_addr().unwrap(), there.local_addr().unwrap());
        assert_eq!(here.local_addr().unwrap(), there.peer_addr().unwrap());
        assert!(format!("{here:?}").contains("TcpStream"));
    });
}

#[test]
fn concurrent_accepts_get_one_connection_each() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepts = join_all((0..100).map(|_| listener.accept()));
        let connects = join_all((0..100).map(|_| TcpStream::connect(addr)));
        let (accepted, connected) = join!(accepts, connects);
        let mut ours: Vec<_> = connected
            .iter()
            .map(|it| it.as_ref().unwrap().local_addr().unwrap())
            .collect();
        let mut theirs: Vec<_> = accepted.iter().map(|it| it.as_ref().unwrap().1).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
    });
}

#[test]
fn incoming_yields_connections() {
    run(async {
        let listener = TcpListener::bind("[::1]:0").await;
        let Ok(listener) = listener else { return }; // a machine without IPv6
        let addr = listener.local_addr().unwrap();
        let take = listener.incoming().take(3).collect::<Vec<_>>();
        let connects = join_all((0..3).map(|_| TcpStream::connect(addr)));
        let (taken, _connected) = join!(take, connects);
        assert!(taken.iter().all(|taken| taken.is_ok()));
    });
}

#[test]
fn dropped_accept_loses_no_connection() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut accept = Box::pin(listener.accept());
            assert!(timeout(Duration::ZERO, &mut accept).await.is_err());
            clients.push(TcpStream::connect(addr).await.unwrap());
            some_turns().await; // it is woken, and dropped before it's polled
            drop(accept);
            listener.accept().await.unwrap();
        }
    });
}

#[test]
fn port_can_be_bound_again_at_once() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = TcpStream::connect(addr).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        drop((server, listener)); // the server closes first: TIME_WAIT is at its port
        assert_eq!(How::Read.read_to_end(&client).await.unwrap(), b"");
        drop(client);
        TcpListener::bind(addr).await.unwrap();
    });
}

#[test]
fn bind_to_a_used_port_names_the_address() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let error = TcpListener::bind(addr).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
        let error = TcpListener::bind("192.0.2.1:80").await.unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:80"), "{error}");
    });
}

#[test]
fn refused_connection_names_the_address() {
    run(async {
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let error = TcpStream::connect(closed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&closed.to_string()), "{error}");
        // The source of the error is the system's own error.
        let source = std::error::Error::source(&error).unwrap();
        let source: &std::io::Error = source.downcast_ref().unwrap();
        let refused = rustix::io::Errno::CONNREFUSED.raw_os_error();
        assert_eq!(source.raw_os_error(), Some(refused));
    });
}

#[test]
fn unreachable_address_is_named() {
    run(async {
        let error = TcpStream::connect("255.255.255.255:9").await.unwrap_err();
        assert!(error.to_string().contains("255.255.255.255:9"), "{error}");
    });
}

#[test]
fn first_address_that_answers_is_used() {
    run(async {
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addrs = [closed, open.local_addr().unwrap()];
        let stream = TcpStream::connect(&addrs[..]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addrs[1]);
        let none: &[SocketAddr] = &[];
        assert_eq!(
            TcpStream::connect(none).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn to_addrs_accepts_all_forms_of_std() {
    run(async {
        let addr: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let v4: SocketAddrV4 = "127.0.0.1:7".parse().unwrap();
        let v6: SocketAddrV6 = "[::1]:7".parse().unwrap();
        assert_eq!(lookup_host(addr).await.unwrap(), [addr]);
        assert_eq!(lookup_host(&v4).await.unwrap(), [addr]);
        assert_eq!(lookup_host(v6).await.unwrap(), [v6.into()]);
        assert_eq!(lookup_host("127.0.0.1:7").await.unwrap(), [addr]);
        assert_eq!(
            lookup_host("[::1]:7".to_string()).await.unwrap(),
            [v6.into()]
        );
        assert_eq!(lookup_host(("127.0.0.1", 7)).await.unwrap(), [addr]);
        assert_eq!(
            lookup_host(("127.0.0.1".to_string(), 7)).await.unwrap(),
            [addr]
        );
        assert_eq!(lookup_host((*v4.ip(), 7)).await.unwrap(), [addr]);
        assert_eq!(lookup_host((addr.ip(), 7)).await.unwrap(), [addr]);
        assert!(
            lookup_host("localhost:7")
                .await
                .unwrap()
                .iter()
                .all(|it| it.port() == 7)
        );
    });
}

#[test]
fn invalid_address_is_named() {
    run(async {
        for nonsense in ["ahoy", "ahoy:", "ahoy:99999", ":x"] {
            let error = TcpStream::connect(nonsense).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(nonsense), "{error}");
        }
        let error = TcpStream::connect("no such host!:80").await.unwrap_err();
        assert!(error.to_string().contains("no such host!"), "{error}");
        let error = TcpListener::bind(("\0", 80)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn lookup_can_be_dropped() {
    run(async {
        for _ in 0..20 {
            let lookup = Box::pin(lookup_host("localhost:80"));
            match select(lookup, sleep(Duration::ZERO)).await {
                Either::Left((found, _)) => assert!(found.is_ok()),
                Either::Right(((), lookup)) => drop(lookup),
            }
        }
    });
}

#[test]
fn error_without_a_running_reactor_says_what_to_call() {
    let (here, _there) = run(tcp_pair());
    let error = futures::executor::block_on((&here).read(&mut [0]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("block_on") && error.contains("Reactor"),
        "{error}"
    );
}

#[test]
fn sockets_work_under_another_executor() {
    let reactor = Reactor::current().unwrap();
    let mut pool = futures::executor::LocalPool::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let peer = thread::spawn(move || listener.accept().unwrap().0.write_all(b"ahoy"));
    let mut text = String::new();
    let mut task = Box::pin(async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.read_to_string(&mut text).await
    });
    let mut done = false;
    while !done {
        done = pool.run_until(async { futures::poll!(&mut task).is_ready() });
        if !done {
            reactor.turn(Some(MS)).unwrap();
        }
    }
    drop(task);
    assert_eq!(text, "ahoy");
    peer.join().unwrap().unwrap();
}

#[test]
fn block_on_waits_for_a_slow_peer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        thread::sleep(20 * MS);
        stream.write_all(&byte).unwrap();
    });
    block_on(async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"x");
    });
    peer.join().unwrap();
}

/// Longer than any close takes on a busy machine.
#[cfg(unix)]
const LINGER: Duration = Duration::from_secs(20);

/// Drops one socket while it has unsent data. The other socket receives all of it.
#[cfg(unix)]
async fn drop_with_unsent_data(sender: TcpStream, mut receiver: TcpStream) {
    let mut sent = 0;
    while let Ok(n) = sender.try_write(&[7; 64 * 1024]) {
        sent += n;
    }
    let start = Instant::now();
    drop(sender);
    assert!(start.elapsed() < LINGER / 2, "{:?}", start.elapsed());
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), sent, "the rest is sent in the background");
}

#[cfg(unix)]
#[test]
fn dropping_a_lingering_stream_does_not_block() {
    run(async {
        let (here, there) = tcp_pair().await;
        there.set_linger(Some(LINGER)).unwrap();
        drop_with_unsent_data(there, here).await;
    });
}

#[cfg(unix)]
#[test]
fn linger_time_set_by_other_code_does_not_block() {
    run(async {
        // Set on the std socket, between two conversions.
        let (here, there) = tcp_pair().await;
        let there = there.into_std().unwrap();
        rustix::net::sockopt::set_socket_linger(&there, Some(LINGER)).unwrap();
        drop_with_unsent_data(there.try_into().unwrap(), here).await;
        // Set through the descriptor.
        let (here, there) = tcp_pair().await;
        rustix::net::sockopt::set_socket_linger(&here, Some(LINGER)).unwrap();
        drop_with_unsent_data(here, there).await;
        // Inherited from the listener.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        rustix::net::sockopt::set_socket_linger(&listener, Some(LINGER)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (accepted, connected) = join!(listener.accept(), TcpStream::connect(addr));
        drop_with_unsent_data(accepted.unwrap().0, connected.unwrap()).await;
    });
}

#[cfg(unix)]
#[test]
fn dropping_a_lingering_async_does_not_block() {
    run(async {
        let (here, there) = tcp_pair().await;
        let there = there.into_std().unwrap();
        rustix::net::sockopt::set_socket_linger(&there, Some(LINGER)).unwrap();
        let there = windlass_reactor::Async::new(there).unwrap();
        while there
            .try_write_with(|mut it| it.write(&[7; 64 * 1024]))
            .is_ok()
        {}
        let start = Instant::now();
        drop(there);
        assert!(start.elapsed() < LINGER / 2, "{:?}", start.elapsed());
        drop(here);
    });
}

#[cfg(unix)]
#[test]
fn into_std_keeps_the_linger_time() {
    run(async {
        let (_here, there) = tcp_pair().await;
        there.set_linger(Some(LINGER)).unwrap();
        let there = there.into_std().unwrap();
        let linger = rustix::net::sockopt::socket_linger(&there).unwrap();
        assert_eq!(linger, Some(LINGER));
    });
}

/// More buffers than one system call accepts (`IOV_MAX`).
#[test]
#[cfg_attr(windows, ignore = "wine hands all of them to one call of its host")]
fn vectored_io_beyond_the_system_limit_is_split() {
    run(async {
        let (mut here, mut there) = tcp_pair().await;
        let data = pattern(3000, 5);
        let sending = async {
            let mut rest = &data[..];
            while !rest.is_empty() {
                let bufs: Vec<_> = rest.chunks(1).map(IoSlice::new).collect();
                rest = &rest[there.write_vectored(&bufs).await.unwrap()..];
            }
        };
        let mut received = Vec::new();
        let receiving = async {
            while received.len() < data.len() {
                let mut bytes = vec![0; 3000];
                let mut bufs: Vec<_> = bytes.chunks_mut(1).map(IoSliceMut::new).collect();
                let n = here.read_vectored(&mut bufs).await.unwrap();
                received.extend_from_slice(&bytes[..n]);
            }
        };
        join!(sending, receiving);
        assert!(received == data);
    });
}

#[test]
fn small_writes_are_sent_at_once_by_default() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(client.nodelay().unwrap());
        assert!(server.nodelay().unwrap());
        server.set_nodelay(false).unwrap();
        assert!(!server.nodelay().unwrap());
    });
}

#[test]
fn converted_socket_keeps_its_options() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let listener = TcpListener::try_from(listener).unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(!server.nodelay().unwrap());
        assert!(!TcpStream::try_from(client).unwrap().nodelay().unwrap());
    });
}
