//! Connections over TCP, while they are open.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, TryStreamExt};
use windlass::io::{copy, copy_bidirectional};
use windlass::net::{TcpListener, TcpStream, lookup_host};
use windlass::spawn;
use windlass::time::timeout;

use crate::script::{
    Log, Place, Results, completes_at_once, connect, pair, pattern, rest, retried, scripts,
};

scripts![
    connect_refused,
    refused_over_ipv6,
    address_in_use,
    address_in_use_by_wildcard,
    address_in_use_by_both_families,
    address_not_available,
    bind_after_connections,
    queue_of_connections,
    addresses,
    addresses_of_both_families,
    connect_to_unspecified,
    connect_to_port_zero,
    connect_to_one_of_several,
    connect_race_of_two_families,
    no_addresses,
    lookups,
    unknown_names,
    options,
    invalid_options,
    read_and_write,
    empty_transfers,
    try_would_block,
    readiness,
    full_buffer,
    peek,
    vectored,
    many_buffers,
    cloned_streams,
    two_readers,
    incoming,
    timeout_of_accept,
    timeout_of_read,
    cancelled_connect,
    copies,
    copies_in_both_directions,
    large_transfers,
];

async fn connect_refused(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    log.done("connect", TcpStream::connect(addr).await);
    drop(listener);
    log.done("connect after close", TcpStream::connect(addr).await);
    log.done("again", TcpStream::connect(addr).await);
    log.end()
}

async fn refused_over_ipv6(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("[::1]:0").await?;
    let addr = listener.local_addr()?;
    log.done("connect", connect(&listener).await);
    drop(listener);
    log.done("connect after close", TcpStream::connect(addr).await);
    log.end()
}

async fn address_in_use(_: Place) -> Results {
    let mut log = Log::default();
    let first = TcpListener::bind("127.0.0.1:0").await?;
    let addr = first.local_addr()?;
    log.done("second listener", TcpListener::bind(addr).await);
    drop(first);
    log.done("after close", TcpListener::bind(addr).await);
    log.end()
}

async fn address_in_use_by_wildcard(_: Place) -> Results {
    let mut log = Log::default();
    let first = TcpListener::bind("127.0.0.1:0").await?;
    let port = first.local_addr()?.port();
    let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    log.done("wildcard", TcpListener::bind(wildcard).await);
    let other = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
    log.done("other address", TcpListener::bind(other).await);
    let first = TcpListener::bind("0.0.0.0:0").await?;
    let port = first.local_addr()?.port();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    log.done("address below wildcard", TcpListener::bind(addr).await);
    log.end()
}

async fn address_in_use_by_both_families(_: Place) -> Results {
    let mut log = Log::default();
    let first = TcpListener::bind("[::]:0").await?;
    let port = first.local_addr()?.port();
    for ip in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        log.done("IPv4", TcpListener::bind((ip, port)).await);
    }
    log.done("IPv6", TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await);
    let first = TcpListener::bind("[::1]:0").await?;
    let port = first.local_addr()?.port();
    let both = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    log.done("loopback of the other family", both);
    log.end()
}

async fn address_not_available(_: Place) -> Results {
    let mut log = Log::default();
    log.done("IPv4", TcpListener::bind("192.0.2.1:0").await);
    log.done("IPv6", TcpListener::bind("[2001:db8::1]:0").await);
    log.done("other loopback", TcpListener::bind("127.9.9.9:0").await);
    log.end()
}

async fn bind_after_connections(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (near, far) = connect(&listener).await?;
    drop(listener);
    let second = TcpListener::bind(addr).await;
    log.done("while a connection is open", second);
    drop(far);
    log.note("rest", rest(&near).await);
    drop(near);
    log.done("after its end", TcpListener::bind(addr).await);
    log.end()
}

async fn queue_of_connections(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut clients = Vec::new();
    for number in 0..20_u8 {
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        client.write_all(&[number]).await?;
        clients.push(client);
    }
    for number in 0..20_u8 {
        let (mut stream, peer) = listener.accept().await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        let client = clients[usize::from(number)].local_addr()?;
        log.note("accepted", (byte, peer == client));
    }
    log.note("more", completes_at_once(listener.accept()).await);
    log.end()
}

async fn addresses(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let near = TcpStream::connect(addr).await?;
    let (far, peer) = listener.accept().await?;
    log.note("ports", addr.port() != near.local_addr()?.port());
    log.note("listener", addr.ip());
    log.note("peer", near.peer_addr()? == addr);
    log.note("local", near.local_addr()?.ip());
    log.note("accepted", peer == near.local_addr()?);
    log.note("peer of accepted", far.peer_addr()? == peer);
    log.note("local of accepted", far.local_addr()? == addr);
    drop(far);
    log.note("rest", rest(&near).await);
    log.done("peer after its end", near.peer_addr());
    log.end()
}

async fn addresses_of_both_families(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("[::]:0").await?;
    let port = listener.local_addr()?.port();
    log.note("listener", listener.local_addr()?.ip());
    for ip in ["127.0.0.1", "::1"] {
        let near = TcpStream::connect((ip, port)).await?;
        let (far, peer) = listener.accept().await?;
        log.note("peer", (near.peer_addr()?.ip(), peer.ip()));
        log.note("local", (far.local_addr()?.ip(), near.local_addr()?.ip()));
    }
    log.end()
}

async fn connect_to_unspecified(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("0.0.0.0:0").await?;
    let port = listener.local_addr()?.port();
    let near = TcpStream::connect((Ipv4Addr::UNSPECIFIED, port)).await?;
    let (far, peer) = listener.accept().await?;
    log.note("peer", (near.peer_addr()?.ip(), peer.ip()));
    log.note("local", far.local_addr()?.ip());
    let other = TcpStream::connect((Ipv4Addr::new(127, 1, 2, 3), port)).await?;
    let (far, _) = listener.accept().await?;
    log.note("other", (other.peer_addr()?.ip(), far.local_addr()?.ip()));
    log.end()
}

async fn connect_to_port_zero(_: Place) -> Results {
    let mut log = Log::default();
    log.done("IPv4", TcpStream::connect("127.0.0.1:0").await);
    log.done("IPv6", TcpStream::connect("[::1]:0").await);
    log.end()
}

async fn connect_to_one_of_several(_: Place) -> Results {
    let mut log = Log::default();
    let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    for addrs in [[closed, addr], [addr, closed]] {
        let stream = TcpStream::connect(&addrs[..]).await?;
        log.note("connected", stream.peer_addr()? == addr);
        let (_, peer) = listener.accept().await?;
        log.note("accepted", peer == stream.local_addr()?);
    }
    let refused = TcpStream::connect(&[closed, closed][..]).await;
    log.done("none", refused);
    log.note("more", completes_at_once(listener.accept()).await);
    log.end()
}

async fn connect_race_of_two_families(_: Place) -> Results {
    let mut log = Log::default();
    for listening in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(listening).await?;
        let port = listener.local_addr()?.port();
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        for addrs in [[v4, v6], [v6, v4]] {
            let stream = TcpStream::connect(&addrs[..]).await?;
            log.note("peer", stream.peer_addr()?.ip());
            let (far, _) = listener.accept().await?;
            drop(stream);
            log.note("rest", rest(&far).await);
        }
        log.note("more", completes_at_once(listener.accept()).await);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let stream = TcpStream::connect(("localhost", port)).await?;
    log.note("by name", stream.peer_addr()?.ip());
    log.end()
}

async fn no_addresses(_: Place) -> Results {
    let mut log = Log::default();
    log.done("connect", TcpStream::connect(&[][..]).await);
    log.done("bind", TcpListener::bind(&[][..]).await);
    log.end()
}

async fn lookups(_: Place) -> Results {
    let mut log = Log::default();
    for name in ["127.0.0.1:80", "[::1]:443", "0.0.0.0:0"] {
        log.add(name, lookup_host(name).await);
    }
    let found = lookup_host("localhost:80").await?;
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    log.note("localhost", found.contains(&v4));
    for name in [
        "127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        ":80x",
        "a:b:c",
    ] {
        log.done(name, lookup_host(name).await);
    }
    log.end()
}

async fn unknown_names(_: Place) -> Results {
    let mut log = Log::default();
    let name = "no-such-host.invalid:80";
    let lookup = lookup_host(name).await;
    log.note("lookup", lookup.map_err(|error| error.kind()));
    let connected = TcpStream::connect(name).await;
    log.note("connect", connected.map(drop).map_err(|error| error.kind()));
    let bound = TcpListener::bind(name).await;
    log.note("bind", bound.map(drop).map_err(|error| error.kind()));
    log.end()
}

async fn options(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    for stream in [&near, &far] {
        log.add("nodelay", stream.nodelay());
        log.add("ttl", stream.ttl());
        for on in [true, false] {
            log.add("set nodelay", stream.set_nodelay(on));
            log.add("nodelay", stream.nodelay());
            log.add("set keepalive", stream.set_keepalive(on));
        }
        for ttl in [1, 255, 64] {
            log.add("set ttl", stream.set_ttl(ttl));
            log.add("ttl", stream.ttl());
        }
        for seconds in [Some(0), Some(10), None] {
            let linger = seconds.map(Duration::from_secs);
            log.add("set linger", stream.set_linger(linger));
        }
        log.add("error", stream.take_error());
    }
    log.end()
}

async fn invalid_options(_: Place) -> Results {
    let mut log = Log::default();
    let (near, _far) = pair().await?;
    for ttl in [0, 256, 1000] {
        log.add("set ttl", near.set_ttl(ttl));
    }
    log.add("ttl", near.ttl());
    log.end()
}

async fn read_and_write(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    log.add("write", near.write(b"hello").await);
    let mut buf = [0; 16];
    log.add("read", far.read(&mut buf).await);
    log.note("bytes", &buf[..5]);
    log.add("write", far.write(b"answer").await);
    let mut small = [0; 4];
    log.add("read", near.read(&mut small).await);
    log.add("read", near.read(&mut small).await);
    log.note("bytes", small);
    log.add("flush", near.flush().await);
    log.end()
}

async fn empty_transfers(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    log.add("write", near.write(b"").await);
    log.add("try_write", near.try_write(b""));
    let read = completes_at_once(far.read(&mut [])).await;
    log.note("read before bytes", read);
    near.write_all(b"x").await?;
    far.readable().await?;
    log.add("read", far.read(&mut []).await);
    log.add("try_read", far.try_read(&mut []));
    log.add("peek", far.peek(&mut []).await);
    log.add("read", far.read(&mut [0; 2]).await);
    near.close().await?;
    log.add("read at the end", far.read(&mut []).await);
    log.add("write after close", near.write(b"").await);
    log.end()
}

async fn try_would_block(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair().await?;
    let mut buf = [0; 8];
    log.add("try_read", far.try_read(&mut buf));
    log.add("try_write", near.try_write(b"abc"));
    log.add("try_read", retried(|| far.try_read(&mut buf)).await);
    log.add("try_read", far.try_read(&mut buf));
    near.close().await?;
    log.add("try_read", retried(|| far.try_read(&mut buf)).await);
    log.add("try_read", far.try_read(&mut buf));
    log.add("try_write", far.try_write(b"abc"));
    log.end()
}

async fn readiness(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    log.add("writable", near.writable().await);
    log.note("readable", completes_at_once(far.readable()).await);
    near.write_all(b"ab").await?;
    log.add("readable", far.readable().await);
    log.add("read", far.read(&mut [0; 1]).await);
    log.add("readable", far.readable().await);
    log.add("read", far.read(&mut [0; 1]).await);
    log.add("try_read", far.try_read(&mut [0; 1]));
    log.note("readable", completes_at_once(far.readable()).await);
    drop(near);
    log.add("readable", far.readable().await);
    log.add("read", far.read(&mut [0; 1]).await);
    log.end()
}

async fn full_buffer(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    let (mut sent, block) = (0_usize, pattern(64 * 1024, 1));
    // The system moves bytes from one buffer to the other meanwhile.
    for _ in 0..3 {
        loop {
            match near.try_write(&block) {
                Ok(bytes) => sent += bytes,
                Err(error) => break log.note("error", error.kind()),
            }
        }
        log.note("writable", completes_at_once(near.writable()).await);
    }
    let write = completes_at_once(near.write(&block)).await;
    log.note("write", write);
    let mut received = 0;
    let mut buf = vec![0; 64 * 1024];
    while received < sent {
        received += far.read(&mut buf).await?;
    }
    log.note("received", received == sent);
    log.add("writable", near.writable().await);
    log.note("write", near.write(&block).await? > 0);
    near.close().await?;
    log.end()
}

async fn peek(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    let mut buf = [0; 8];
    log.note("at once", completes_at_once(far.peek(&mut buf)).await);
    near.write_all(b"abcdef").await?;
    log.add("peek", far.peek(&mut buf[..2]).await);
    log.note("bytes", &buf[..2]);
    log.add("peek", far.peek(&mut buf).await);
    log.add("read", far.read(&mut buf[..4]).await);
    log.add("peek", far.peek(&mut buf).await);
    log.note("bytes", &buf[..2]);
    near.close().await?;
    log.add("read", far.read(&mut buf).await);
    log.add("peek at the end", far.peek(&mut buf).await);
    log.add("peek again", far.peek(&mut buf).await);
    log.end()
}

async fn vectored(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    let parts = [&b"one"[..], b"", b"three", b"5"].map(IoSlice::new);
    log.add("write", near.write_vectored(&parts).await);
    log.add("write nothing", near.write_vectored(&[]).await);
    let (mut first, mut second, mut third) = ([0; 2], [0; 4], [0; 10]);
    let bufs = &mut [&mut first[..], &mut [], &mut second, &mut third].map(IoSliceMut::new);
    log.add("read", far.read_vectored(bufs).await);
    log.note("bytes", (first, second, third));
    near.write_all(b"x").await?;
    log.add("read nothing", far.read_vectored(&mut []).await);
    near.close().await?;
    log.note("rest", rest(&far).await);
    log.end()
}

async fn many_buffers(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    let bytes = pattern(3000, 2);
    let parts: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
    log.add("write", near.write_vectored(&parts).await);
    log.add("write", near.write_vectored(&parts[1024..]).await);
    near.write_all(&bytes[2048..]).await?;
    near.close().await?;
    let mut received = vec![0; 3000];
    far.read_exact(&mut received).await?;
    log.note("equal", received == bytes);
    log.note("rest", rest(&far).await);
    log.end()
}

async fn cloned_streams(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    let mut other = near.clone();
    near.write_all(b"one ").await?;
    drop(near);
    far.readable().await?;
    log.add("read", far.read(&mut []).await);
    other.write_all(b"two").await?;
    let mut buf = [0; 7];
    far.read_exact(&mut buf).await?;
    log.note("bytes", buf);
    log.add("try_read", far.try_read(&mut buf));
    let mut last = other.clone();
    last.close().await?;
    log.add("write by the other", other.write(b"x").await);
    log.note("rest", rest(&far).await);
    log.end()
}

async fn two_readers(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair().await?;
    let read = |far: TcpStream| async move {
        let mut buf = [0; 1];
        (&far).read_exact(&mut buf).await.map(|()| buf)
    };
    let readers = [spawn(read(far.clone())), spawn(read(far.clone()))];
    windlass::yield_now().await;
    near.write_all(b"a").await?;
    near.write_all(b"b").await?;
    for reader in readers {
        log.add("reader", reader.await);
    }
    let readers = [spawn(rest(far.clone())), spawn(rest(far))];
    near.close().await?;
    for reader in readers {
        log.note("end", reader.await);
    }
    log.end()
}

async fn incoming(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let clients = spawn(async move {
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(TcpStream::connect(addr).await?);
        }
        io::Result::Ok(clients)
    });
    let accepted: Vec<_> = listener.incoming().take(5).try_collect().await?;
    for (near, far) in clients.await?.iter().zip(&accepted) {
        log.note("accepted", near.local_addr()? == far.peer_addr()?);
    }
    log.end()
}

async fn timeout_of_accept(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    for _ in 0..2 {
        let accept = timeout(Duration::from_millis(5), listener.accept()).await;
        log.note("timeout", accept.is_err());
    }
    log.done("connect", connect(&listener).await);
    log.end()
}

async fn timeout_of_read(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    for _ in 0..3 {
        let read = timeout(Duration::from_millis(2), far.read(&mut [0; 4])).await;
        log.note("timeout", read.is_err());
    }
    near.write_all(b"late").await?;
    let mut buf = [0; 4];
    far.read_exact(&mut buf).await?;
    log.note("bytes", buf);
    log.end()
}

async fn cancelled_connect(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    // The connection may be complete already, and is closed then.
    completes_at_once(TcpStream::connect(addr)).await;
    let near = TcpStream::connect(addr).await?;
    let mine = near.local_addr()?;
    loop {
        let (stream, peer) = listener.accept().await?;
        if peer == mine {
            break log.note("peer", stream.peer_addr()? == mine);
        }
        rest(&stream).await;
    }
    log.end()
}

async fn copies(_: Place) -> Results {
    let mut log = Log::default();
    for len in [0, 10, 100_000, 1 << 20] {
        let (near, inlet) = pair().await?;
        let (outlet, far) = pair().await?;
        let bytes = pattern(len, 3);
        let copied = async {
            let copied = copy(&inlet, &outlet).await;
            (&outlet).close().await?;
            copied
        };
        let write = async {
            (&near).write_all(&bytes).await?;
            (&near).close().await
        };
        let mut received = Vec::new();
        let mut reader = &far;
        let read = reader.read_to_end(&mut received);
        let (copied, (), _) = futures::try_join!(copied, write, read)?;
        log.note("copied", (copied, received == bytes));
    }
    log.end()
}

async fn copies_in_both_directions(_: Place) -> Results {
    let mut log = Log::default();
    let (near, inlet) = pair().await?;
    let (outlet, far) = pair().await?;
    let proxy = spawn(async move { copy_bidirectional(&inlet, &outlet).await });
    (&near).write_all(b"question").await?;
    (&near).close().await?;
    log.note("at the server", rest(&far).await);
    (&far).write_all(b"the answer").await?;
    (&far).close().await?;
    log.note("at the client", rest(&near).await);
    log.add("proxy", proxy.await);
    log.end()
}

async fn large_transfers(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    let exchange = |stream: TcpStream, seed: u32| async move {
        let (mine, theirs) = (pattern(1 << 20, seed), pattern(1 << 20, 3 - seed));
        let write = async {
            (&stream).write_all(&mine).await?;
            (&stream).close().await
        };
        let mut received = Vec::new();
        let mut reader = &stream;
        let read = reader.read_to_end(&mut received);
        futures::try_join!(write, read)?;
        io::Result::Ok(received == theirs)
    };
    let (near, far) = (spawn(exchange(near, 1)), spawn(exchange(far, 2)));
    log.add("near", near.await);
    log.add("far", far.await);
    log.end()
}
