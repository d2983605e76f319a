//! Datagrams over UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use windlass::net::UdpSocket;
use windlass::time::timeout;

use crate::script::{
    Log, Place, Results, completes_at_once, first_error, pattern, retried, scripts,
};

scripts![
    send_and_receive,
    truncation,
    too_long,
    too_long_over_ipv6,
    empty_datagrams,
    order,
    peek_from,
    addresses,
    address_in_use,
    address_not_available,
    connected_filter,
    connect_keeps_queued_datagrams,
    connected_to_a_closed_port,
    refused_send,
    unconnected_to_a_closed_port,
    send_without_a_peer,
    send_to_by_a_connected_socket,
    second_connect,
    other_families,
    dual_stack,
    port_zero,
    unspecified_destination,
    options,
    broadcast_without_permission,
    try_would_block,
    readiness,
    timeout_of_receive,
    to_oneself,
    sender_has_gone,
];

async fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let (near, far) = (bound().await?, bound().await?);
    near.connect(far.local_addr()?).await?;
    far.connect(near.local_addr()?).await?;
    Ok((near, far))
}

async fn bound() -> io::Result<UdpSocket> {
    UdpSocket::bind("127.0.0.1:0").await
}

async fn send_and_receive(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = (bound().await?, bound().await?);
    log.add("send_to", near.send_to(b"hello", far.local_addr()?).await);
    let mut buf = [0; 16];
    let (len, from) = far.recv_from(&mut buf).await?;
    log.note("received", (&buf[..len], from == near.local_addr()?));
    log.add("send_to", far.send_to(b"answer", from).await);
    log.add("recv", near.recv(&mut buf).await);
    log.end()
}

async fn truncation(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    near.send(b"0123456789").await?;
    near.send(b"next").await?;
    let mut buf = [0; 4];
    log.add("recv", far.recv(&mut buf).await);
    log.note("bytes", buf);
    log.add("recv", far.recv_from(&mut buf).await.map(|it| it.0));
    log.note("bytes", buf);
    near.send(b"abc").await?;
    log.add("recv nothing", far.recv(&mut []).await);
    log.add("try_recv", far.try_recv(&mut buf));
    log.end()
}

async fn too_long(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    let bytes = pattern(70_000, 1);
    for len in [65_508, 65_507, 70_000] {
        log.add("send", near.send(&bytes[..len]).await);
    }
    let mut buf = vec![0; 70_000];
    log.add("recv", far.recv(&mut buf).await);
    log.note("equal", buf[..65_507] == bytes[..65_507]);
    log.add("try_recv", far.try_recv(&mut buf));
    log.end()
}

async fn too_long_over_ipv6(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = (
        UdpSocket::bind("[::1]:0").await?,
        UdpSocket::bind("[::1]:0").await?,
    );
    let bytes = pattern(70_000, 1);
    for len in [65_528, 65_527, 65_508] {
        log.add("send", near.send_to(&bytes[..len], far.local_addr()?).await);
    }
    let mut buf = vec![0; 70_000];
    log.add("recv", far.recv(&mut buf).await);
    log.end()
}

async fn empty_datagrams(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    log.add("send", near.send(b"").await);
    log.add("send", near.send(b"x").await);
    log.add("send_to", far.send_to(b"", near.local_addr()?).await);
    log.add("recv", far.recv(&mut [0; 4]).await);
    log.add("recv", far.recv(&mut [0; 4]).await);
    log.add("recv", near.recv_from(&mut [0; 4]).await.map(|it| it.0));
    log.end()
}

async fn order(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    for number in 0..20_u8 {
        near.send(&[number]).await?;
    }
    for _ in 0..20 {
        let mut buf = [0; 4];
        let len = far.recv(&mut buf).await?;
        log.note("received", &buf[..len]);
    }
    log.end()
}

async fn peek_from(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    near.send(b"abcdef").await?;
    let mut buf = [0; 8];
    let (len, from) = far.peek_from(&mut buf).await?;
    log.note("peeked", (len, from == near.local_addr()?));
    log.add(
        "peek_from",
        far.peek_from(&mut buf[..2]).await.map(|it| it.0),
    );
    log.add("recv", far.recv(&mut buf).await);
    log.note("at once", completes_at_once(far.peek_from(&mut buf)).await);
    log.end()
}

async fn addresses(_: Place) -> Results {
    let mut log = Log::default();
    let near = bound().await?;
    let wildcard = UdpSocket::bind("0.0.0.0:0").await?;
    log.note("local", near.local_addr()?.ip());
    log.note("port", near.local_addr()?.port() != 0);
    log.done("peer", near.peer_addr());
    log.note("wildcard", wildcard.local_addr()?.ip());
    wildcard.connect(near.local_addr()?).await?;
    log.note("peer", wildcard.peer_addr()? == near.local_addr()?);
    log.note("wildcard", wildcard.local_addr()?.ip());
    log.end()
}

async fn address_in_use(_: Place) -> Results {
    let mut log = Log::default();
    let first = bound().await?;
    let port = first.local_addr()?.port();
    for ip in [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::new(127, 0, 0, 2),
    ] {
        log.done("second", UdpSocket::bind((ip, port)).await);
    }
    log.done("IPv6", UdpSocket::bind((Ipv6Addr::LOCALHOST, port)).await);
    log.done(
        "both families",
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).await,
    );
    drop(first);
    log.done("after close", UdpSocket::bind(("127.0.0.1", port)).await);
    log.end()
}

async fn address_not_available(_: Place) -> Results {
    let mut log = Log::default();
    log.done("IPv4", UdpSocket::bind("192.0.2.1:0").await);
    log.done("IPv6", UdpSocket::bind("[2001:db8::1]:0").await);
    log.end()
}

async fn connected_filter(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    let stranger = bound().await?;
    log.add(
        "send_to",
        stranger.send_to(b"stranger", far.local_addr()?).await,
    );
    near.send(b"peer").await?;
    let mut buf = [0; 16];
    log.add("recv", far.recv(&mut buf).await);
    log.add("try_recv", far.try_recv(&mut buf));
    log.end()
}

async fn connect_keeps_queued_datagrams(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far, stranger) = (bound().await?, bound().await?, bound().await?);
    stranger.send_to(b"early", far.local_addr()?).await?;
    far.readable().await?;
    far.connect(near.local_addr()?).await?;
    near.send_to(b"peer", far.local_addr()?).await?;
    let mut buf = [0; 16];
    log.add("recv", far.recv(&mut buf).await);
    log.add("recv", far.recv(&mut buf).await);
    log.end()
}

async fn connected_to_a_closed_port(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    drop(far);
    log.add("send", near.send(b"lost").await);
    log.add("recv", near.recv(&mut [0; 4]).await);
    log.add("try_recv", near.try_recv(&mut [0; 4]));
    log.add("error", near.take_error());
    log.end()
}

async fn refused_send(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    drop(far);
    log.add("send", first_error(|| near.try_send(b"lost")).await);
    near.send(b"lost").await?;
    near.readable().await?;
    log.note("error", near.take_error()?.map(|error| error.kind()));
    log.add("try_recv", near.try_recv(&mut [0; 4]));
    log.end()
}

async fn unconnected_to_a_closed_port(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = (bound().await?, bound().await?);
    let closed = far.local_addr()?;
    drop(far);
    for _ in 0..3 {
        log.add("send_to", near.send_to(b"lost", closed).await);
    }
    let mine = near.local_addr()?;
    near.send_to(b"mine", mine).await?;
    log.add("recv", near.recv(&mut [0; 8]).await);
    log.add("error", near.take_error());
    log.end()
}

async fn send_without_a_peer(_: Place) -> Results {
    let mut log = Log::default();
    let near = bound().await?;
    log.add("send", near.send(b"x").await);
    log.add("try_send", near.try_send(b"x"));
    let near = UdpSocket::bind("[::1]:0").await?;
    log.add("send over IPv6", near.send(b"x").await);
    log.end()
}

async fn send_to_by_a_connected_socket(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    let other = bound().await?;
    log.add("send_to", near.send_to(b"aside", other.local_addr()?).await);
    let (len, from) = other.recv_from(&mut [0; 16]).await?;
    log.note("received", (len, from == near.local_addr()?));
    log.add("send", near.send(b"peer").await);
    log.add("recv", far.recv(&mut [0; 16]).await);
    log.end()
}

async fn second_connect(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    let other = bound().await?;
    log.add("connect", near.connect(other.local_addr()?).await);
    log.note("peer", near.peer_addr()? == other.local_addr()?);
    near.send(b"to the other").await?;
    log.add("recv", other.recv(&mut [0; 16]).await);
    log.add("try_recv", far.try_recv(&mut [0; 16]));
    log.end()
}

async fn other_families(_: Place) -> Results {
    let mut log = Log::default();
    let v4 = bound().await?;
    let v6 = UdpSocket::bind("[::1]:0").await?;
    log.add("to IPv6", v4.send_to(b"x", v6.local_addr()?).await);
    log.add("to IPv4", v6.send_to(b"x", v4.local_addr()?).await);
    log.add("connect to IPv6", v4.connect(v6.local_addr()?).await);
    log.add("connect to IPv4", v6.connect(v4.local_addr()?).await);
    log.end()
}

async fn dual_stack(_: Place) -> Results {
    let mut log = Log::default();
    let both = UdpSocket::bind("[::]:0").await?;
    let port = both.local_addr()?.port();
    let v4 = bound().await?;
    log.add(
        "to both",
        v4.send_to(b"v4", (Ipv4Addr::LOCALHOST, port)).await,
    );
    let (len, from) = both.recv_from(&mut [0; 8]).await?;
    log.note("received", (len, from.ip()));
    log.add("back", both.send_to(b"mapped", from).await);
    log.add("recv", v4.recv_from(&mut [0; 8]).await.map(|it| it.1.ip()));
    log.add("plain", both.send_to(b"plain", v4.local_addr()?).await);
    log.add("recv", v4.recv_from(&mut [0; 8]).await.map(|it| it.1.ip()));
    log.end()
}

async fn port_zero(_: Place) -> Results {
    let mut log = Log::default();
    let near = bound().await?;
    log.add("send_to", near.send_to(b"x", "127.0.0.1:0").await);
    log.add("connect", near.connect("127.0.0.1:0").await);
    log.done("peer", near.peer_addr());
    // No socket has the port 0.
    log.add("send", near.send(b"x").await);
    log.add("recv", near.recv(&mut [0; 4]).await);
    log.end()
}

async fn unspecified_destination(_: Place) -> Results {
    let mut log = Log::default();
    let near = UdpSocket::bind("0.0.0.0:0").await?;
    let port = near.local_addr()?.port();
    log.add(
        "send_to",
        near.send_to(b"x", (Ipv4Addr::UNSPECIFIED, port)).await,
    );
    log.add(
        "recv",
        near.recv_from(&mut [0; 4]).await.map(|it| it.1.ip()),
    );
    log.add("connect", near.connect((Ipv4Addr::UNSPECIFIED, port)).await);
    log.add("peer", near.peer_addr().map(|it| it.ip()));
    log.end()
}

async fn options(_: Place) -> Results {
    let mut log = Log::default();
    let near = bound().await?;
    log.add("broadcast", near.broadcast());
    log.add("ttl", near.ttl());
    for on in [true, false] {
        log.add("set broadcast", near.set_broadcast(on));
        log.add("broadcast", near.broadcast());
    }
    for ttl in [1, 255, 0, 256] {
        log.add("set ttl", near.set_ttl(ttl));
        log.add("ttl", near.ttl());
    }
    log.end()
}

async fn broadcast_without_permission(_: Place) -> Results {
    let mut log = Log::default();
    let near = UdpSocket::bind("0.0.0.0:0").await?;
    let to = SocketAddr::from(([127, 255, 255, 255], 9));
    log.add("send_to", near.send_to(b"x", to).await);
    log.add("set broadcast", near.set_broadcast(true));
    let port = near.local_addr()?.port();
    let to = SocketAddr::from(([127, 255, 255, 255], port));
    log.add("send_to", near.send_to(b"x", to).await);
    log.add(
        "recv",
        near.recv_from(&mut [0; 4]).await.map(|it| it.1.ip()),
    );
    log.end()
}

async fn try_would_block(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    let mut buf = [0; 8];
    log.add("try_recv", far.try_recv(&mut buf));
    log.done("try_recv_from", far.try_recv_from(&mut buf));
    log.add("try_send", near.try_send(b"abc"));
    let to = far.local_addr()?;
    log.add("try_send_to", near.try_send_to(b"defg", to));
    log.add("try_recv", retried(|| far.try_recv(&mut buf)).await);
    let received = retried(|| far.try_recv_from(&mut buf)).await;
    log.add("try_recv_from", received.map(|it| it.0));
    log.add("try_recv", far.try_recv(&mut buf));
    log.end()
}

async fn readiness(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    log.add("writable", near.writable().await);
    log.note("readable", completes_at_once(far.readable()).await);
    near.send(b"one").await?;
    near.send(b"two").await?;
    for _ in 0..2 {
        log.add("readable", far.readable().await);
        log.add("recv", far.recv(&mut [0; 8]).await);
    }
    log.add("try_recv", far.try_recv(&mut [0; 8]));
    log.note("readable", completes_at_once(far.readable()).await);
    log.end()
}

async fn timeout_of_receive(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    for _ in 0..2 {
        let received = timeout(Duration::from_millis(2), far.recv(&mut [0; 8])).await;
        log.note("timeout", received.is_err());
    }
    near.send(b"late").await?;
    log.add("recv", far.recv(&mut [0; 8]).await);
    log.end()
}

async fn to_oneself(_: Place) -> Results {
    let mut log = Log::default();
    let near = bound().await?;
    near.connect(near.local_addr()?).await?;
    log.add("send", near.send(b"echo").await);
    log.add("recv", near.recv(&mut [0; 8]).await);
    log.end()
}

async fn sender_has_gone(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = (bound().await?, bound().await?);
    let addr = near.local_addr()?;
    near.send_to(b"left behind", far.local_addr()?).await?;
    drop(near);
    let (len, from) = far.recv_from(&mut [0; 16]).await?;
    log.note("received", (len, from == addr));
    log.end()
}
