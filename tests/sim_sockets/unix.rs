//! Unix sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use windlass::io::{copy, copy_bidirectional};
use windlass::net::unix::{UnixDatagram, UnixListener, UnixStream};
use windlass::spawn;
use windlass::time::timeout;

use crate::script::{Log, Place, Results, completes_at_once, pattern, rest, scripts};

scripts![
    pair_of_streams,
    half_close_of_a_pair,
    paths,
    path_in_use,
    path_without_a_listener,
    path_of_datagrams,
    abstract_names,
    invalid_paths,
    addresses,
    queue_of_connections,
    incoming,
    close_of_a_listener_with_connections,
    timeout_of_accept,
    reset_by_unread_bytes,
    write_after_the_peer_closed,
    shutdown_of_reading,
    shutdown_of_writing,
    shutdown_of_both,
    empty_transfers,
    try_would_block,
    full_buffer,
    vectored,
    cloned_streams,
    copies,
    large_transfers,
    pair_of_datagrams,
    datagrams_by_path,
    datagrams_without_a_receiver,
    datagrams_without_a_peer,
    datagram_truncation,
    too_long_datagrams,
    datagram_filter,
    closed_peer_of_datagrams,
    full_queue_of_datagrams,
    readiness_of_datagrams,
];

fn pair() -> io::Result<(UnixStream, UnixStream)> {
    UnixStream::pair()
}

/// Describes a name, without the part that differs between runs.
fn shown(addr: &SocketAddr) -> String {
    match (addr.as_pathname(), addr.as_abstract_name()) {
        (Some(path), _) => format!("path {:?}", path.file_name()),
        (_, Some(_)) => "abstract".to_owned(),
        _ => "unnamed".to_owned(),
    }
}

async fn pair_of_streams(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    log.add("write", near.write(b"hello").await);
    let mut buf = [0; 16];
    log.add("read", far.read(&mut buf[..3]).await);
    log.add("read", far.read(&mut buf).await);
    log.add("write", far.write(b"back").await);
    log.add("read", near.read(&mut buf).await);
    log.add("error", near.take_error());
    drop(far);
    log.note("rest", rest(&near).await);
    log.end()
}

async fn half_close_of_a_pair(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    near.write_all(b"request").await?;
    near.close().await?;
    log.note("request", rest(&far).await);
    far.write_all(b"answer").await?;
    far.close().await?;
    log.note("answer", rest(&near).await);
    log.add("write", near.write(b"x").await);
    log.end()
}

async fn paths(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("listener");
    let listener = UnixListener::bind(&path).await?;
    let mut near = UnixStream::connect(&path).await?;
    let (mut far, _) = listener.accept().await?;
    near.write_all(b"by path").await?;
    log.add("read", far.read(&mut [0; 16]).await);
    drop(near);
    log.note("rest", rest(&far).await);
    log.end()
}

async fn path_in_use(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("listener");
    let listener = UnixListener::bind(&path).await?;
    log.done("second listener", UnixListener::bind(&path).await);
    log.done("datagrams", UnixDatagram::bind(&path).await);
    drop(listener);
    log.done("after close", UnixListener::bind(&path).await);
    log.end()
}

async fn path_without_a_listener(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("listener");
    log.done("no file", UnixStream::connect(&path).await);
    drop(UnixListener::bind(&path).await?);
    log.done("closed", UnixStream::connect(&path).await);
    let name = place.abstract_name("nothing");
    log.done("abstract", UnixStream::connect(&name).await);
    log.end()
}

async fn path_of_datagrams(place: Place) -> Results {
    let mut log = Log::default();
    let (stream, datagram) = (place.path("stream"), place.path("datagram"));
    let _listener = UnixListener::bind(&stream).await?;
    let _receiver = UnixDatagram::bind(&datagram).await?;
    log.done("stream", UnixStream::connect(&datagram).await);
    let sender = UnixDatagram::unbound()?;
    log.done("datagram", sender.send_to(b"x", &stream).await);
    log.done("connect", sender.connect(&stream).await);
    log.end()
}

async fn abstract_names(place: Place) -> Results {
    let mut log = Log::default();
    let name = place.abstract_name("listener");
    let listener = UnixListener::bind(&name).await?;
    log.note("local", shown(&listener.local_addr()?));
    log.done("second", UnixListener::bind(&name).await);
    let near = UnixStream::connect(&name).await?;
    log.note("peer", shown(&near.peer_addr()?));
    let (far, peer) = listener.accept().await?;
    log.note("accepted", (shown(&peer), shown(&far.local_addr()?)));
    drop(listener);
    log.done("connect after close", UnixStream::connect(&name).await);
    log.done("bind after close", UnixListener::bind(&name).await);
    log.end()
}

async fn invalid_paths(place: Place) -> Results {
    let mut log = Log::default();
    for path in ["", "with\0zero"].map(PathBuf::from) {
        log.done("connect", UnixStream::connect(&path).await);
    }
    let long = place.path(&"x".repeat(200));
    log.done("bind", UnixListener::bind(&long).await);
    log.done("connect", UnixStream::connect(&long).await);
    let missing = place.path("missing").join("listener");
    log.done("no directory", UnixStream::connect(&missing).await);
    log.end()
}

async fn addresses(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("listener");
    let listener = UnixListener::bind(&path).await?;
    log.note("listener", shown(&listener.local_addr()?));
    let near = UnixStream::connect(&path).await?;
    log.note("local", shown(&near.local_addr()?));
    log.note("peer", shown(&near.peer_addr()?));
    let (far, peer) = listener.accept().await?;
    log.note("accepted", shown(&peer));
    log.note("local", shown(&far.local_addr()?));
    log.note("peer", shown(&far.peer_addr()?));
    drop(far);
    log.note("rest", rest(&near).await);
    log.note(
        "peer after its end",
        near.peer_addr().map(|it| shown(&it)).is_ok(),
    );
    let (one, _two) = pair()?;
    log.note(
        "pair",
        (shown(&one.local_addr()?), shown(&one.peer_addr()?)),
    );
    let datagram = UnixDatagram::unbound()?;
    log.note("unbound", shown(&datagram.local_addr()?));
    log.done("peer", datagram.peer_addr());
    log.end()
}

async fn queue_of_connections(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("listener");
    let listener = UnixListener::bind(&path).await?;
    let mut clients = Vec::new();
    for number in 0..20_u8 {
        let mut client = UnixStream::connect(&path).await?;
        client.write_all(&[number]).await?;
        clients.push(client);
    }
    for _ in 0..20 {
        let (mut stream, _) = listener.accept().await?;
        let mut byte = [0];
        log.add("read", stream.read(&mut byte).await);
        log.note("byte", byte);
    }
    log.note("more", completes_at_once(listener.accept()).await);
    log.end()
}

async fn incoming(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("listener");
    let listener = UnixListener::bind(&path).await?;
    let client = spawn(async move {
        for text in ["one", "two", "three"] {
            let mut stream = UnixStream::connect(&path).await?;
            stream.write_all(text.as_bytes()).await?;
        }
        io::Result::Ok(())
    });
    let mut incoming = listener.incoming().take(3);
    while let Some(stream) = incoming.next().await {
        log.note("client", rest(&stream?).await);
    }
    log.add("clients", client.await);
    log.end()
}

async fn close_of_a_listener_with_connections(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("listener");
    let listener = UnixListener::bind(&path).await?;
    let mut near = UnixStream::connect(&path).await?;
    near.write_all(b"never read").await?;
    drop(listener);
    log.add("read", near.read(&mut [0; 4]).await);
    log.add("read", near.read(&mut [0; 4]).await);
    log.add("write", near.write(b"x").await);
    log.end()
}

async fn timeout_of_accept(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("listener");
    let listener = UnixListener::bind(&path).await?;
    let accept = timeout(Duration::from_millis(5), listener.accept()).await;
    log.note("timeout", accept.is_err());
    log.done("connect", UnixStream::connect(&path).await);
    let (far, _) = listener.accept().await?;
    log.note("rest", rest(&far).await);
    log.end()
}

async fn reset_by_unread_bytes(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair()?;
    near.write_all(b"unread").await?;
    drop(far);
    log.add("read", near.read(&mut [0; 4]).await);
    log.add("read", near.read(&mut [0; 4]).await);
    log.add("write", near.write(b"x").await);
    let (mut near, mut far) = pair()?;
    near.write_all(b"unread").await?;
    far.write_all(b"bytes").await?;
    drop(far);
    log.add("write", near.write(b"x").await);
    log.note("rest", rest(&near).await);
    log.note("again", rest(&near).await);
    log.end()
}

async fn write_after_the_peer_closed(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    far.write_all(b"left").await?;
    drop(far);
    log.add("write", near.write(b"x").await);
    log.add("try_write", near.try_write(b"x"));
    log.note("rest", rest(&near).await);
    log.add("error", near.take_error());
    log.add("shutdown", near.shutdown(Shutdown::Write));
    log.end()
}

async fn shutdown_of_reading(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    near.write_all(b"before").await?;
    log.add("shutdown", far.shutdown(Shutdown::Read));
    log.add("read", far.read(&mut [0; 10]).await);
    log.add("read", far.read(&mut [0; 10]).await);
    log.add("write to it", near.write(b"after").await);
    log.add("write", far.write(b"answer").await);
    log.add("read", near.read(&mut [0; 10]).await);
    log.end()
}

async fn shutdown_of_writing(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    near.write_all(b"all").await?;
    log.add("shutdown", near.shutdown(Shutdown::Write));
    log.add("shutdown", near.shutdown(Shutdown::Write));
    log.add("write", near.write(b"x").await);
    log.note("rest", rest(&far).await);
    log.add("write", far.write(b"back").await);
    log.add("read", near.read(&mut [0; 10]).await);
    log.end()
}

async fn shutdown_of_both(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    near.write_all(b"all").await?;
    log.add("shutdown", near.shutdown(Shutdown::Both));
    log.add("read", near.read(&mut [0; 10]).await);
    log.add("write", near.write(b"x").await);
    log.note("rest", rest(&far).await);
    log.add("write", far.write(b"back").await);
    log.end()
}

async fn empty_transfers(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    log.add("write", near.write(b"").await);
    let read = completes_at_once(far.read(&mut [])).await;
    log.note("read before bytes", read);
    near.write_all(b"x").await?;
    log.add("read", far.read(&mut []).await);
    log.add("read", far.read(&mut [0; 2]).await);
    drop(near);
    log.add("read at the end", far.read(&mut []).await);
    log.add("write to nothing", far.write(b"").await);
    log.end()
}

async fn try_would_block(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair()?;
    let mut buf = [0; 8];
    log.add("try_read", far.try_read(&mut buf));
    log.add("try_write", near.try_write(b"abc"));
    log.add("try_read", far.try_read(&mut buf));
    log.add("try_read", far.try_read(&mut buf));
    log.note("readable", completes_at_once(far.readable()).await);
    drop(near);
    log.add("readable", far.readable().await);
    log.add("try_read", far.try_read(&mut buf));
    log.add("try_write", far.try_write(b"abc"));
    log.end()
}

async fn full_buffer(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    let (mut sent, block) = (0_usize, pattern(64 * 1024, 1));
    loop {
        match near.try_write(&block) {
            Ok(bytes) => sent += bytes,
            Err(error) => break log.note("error", error.kind()),
        }
    }
    log.note("writable", completes_at_once(near.writable()).await);
    log.note("write", completes_at_once(near.write(&block)).await);
    let mut received = 0;
    let mut buf = vec![0; 64 * 1024];
    while received < sent {
        received += far.read(&mut buf).await?;
    }
    log.note("received", received == sent);
    log.add("writable", near.writable().await);
    log.note("write", near.write(&block).await? > 0);
    log.end()
}

async fn vectored(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    let parts = [&b"one"[..], b"", b"three", b"5"].map(IoSlice::new);
    log.add("write", near.write_vectored(&parts).await);
    let (mut first, mut second, mut third) = ([0; 2], [0; 4], [0; 10]);
    let bufs = &mut [&mut first[..], &mut [], &mut second, &mut third].map(IoSliceMut::new);
    log.add("read", far.read_vectored(bufs).await);
    log.note("bytes", (first, second, third));
    drop(near);
    log.note("rest", rest(&far).await);
    log.end()
}

async fn cloned_streams(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair()?;
    let mut other = near.clone();
    near.write_all(b"one ").await?;
    drop(near);
    other.write_all(b"two").await?;
    let mut buf = [0; 7];
    far.read_exact(&mut buf).await?;
    log.note("bytes", buf);
    log.add("try_read", far.try_read(&mut buf));
    drop(other);
    log.note("rest", rest(&far).await);
    log.end()
}

async fn copies(_: Place) -> Results {
    let mut log = Log::default();
    for len in [0, 10, 100_000, 1 << 20] {
        let ((near, inlet), (outlet, far)) = (pair()?, pair()?);
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
    let ((near, inlet), (outlet, far)) = (pair()?, pair()?);
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
    let (near, far) = pair()?;
    let exchange = |stream: UnixStream, seed: u32| async move {
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

async fn pair_of_datagrams(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = UnixDatagram::pair()?;
    let mut buf = [0; 8];
    log.add("try_recv", far.try_recv(&mut buf));
    log.add("send", near.send(b"one").await);
    log.add("send", near.send(b"").await);
    log.add("send", near.send(b"three").await);
    for _ in 0..3 {
        log.add("recv", far.recv(&mut buf).await);
    }
    log.add("try_recv", far.try_recv(&mut buf));
    log.add("send", far.send(b"back").await);
    let (len, from) = near.recv_from(&mut buf).await?;
    log.note("received", (len, shown(&from)));
    log.end()
}

async fn datagrams_by_path(place: Place) -> Results {
    let mut log = Log::default();
    let (here, there) = (place.path("here"), place.path("there"));
    let receiver = UnixDatagram::bind(&there).await?;
    let sender = UnixDatagram::bind(&here).await?;
    let unbound = UnixDatagram::unbound()?;
    log.add("send_to", sender.send_to(b"named", &there).await);
    log.add("try_send_to", unbound.try_send_to(b"unnamed", &there));
    for _ in 0..2 {
        let (len, from) = receiver.recv_from(&mut [0; 16]).await?;
        log.note("received", (len, shown(&from)));
    }
    log.add("connect", unbound.connect(&there).await);
    log.note("peer", shown(&unbound.peer_addr()?));
    log.add("send", unbound.send(b"connected").await);
    log.add("recv", receiver.recv(&mut [0; 16]).await);
    let name = place.abstract_name("datagrams");
    let other = UnixDatagram::bind(&name).await?;
    log.add("abstract", other.send_to(b"x", &there).await);
    let (_, from) = receiver.recv_from(&mut [0; 16]).await?;
    log.note("from", shown(&from));
    log.add("to abstract", receiver.send_to(b"y", &name).await);
    log.add("recv", other.recv(&mut [0; 16]).await);
    log.end()
}

async fn datagrams_without_a_receiver(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("receiver");
    let sender = UnixDatagram::unbound()?;
    log.done("no file", sender.send_to(b"x", &path).await);
    log.done("connect", sender.connect(&path).await);
    drop(UnixDatagram::bind(&path).await?);
    log.done("closed", sender.send_to(b"x", &path).await);
    log.done("connect", sender.connect(&path).await);
    log.done(
        "abstract",
        sender.send_to(b"x", place.abstract_name("none")).await,
    );
    log.end()
}

async fn datagrams_without_a_peer(_: Place) -> Results {
    let mut log = Log::default();
    let sender = UnixDatagram::unbound()?;
    log.add("send", sender.send(b"x").await);
    log.add("try_send", sender.try_send(b"x"));
    log.add("try_recv", sender.try_recv(&mut [0; 4]));
    log.end()
}

async fn datagram_truncation(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = UnixDatagram::pair()?;
    near.send(b"0123456789").await?;
    near.send(b"next").await?;
    let mut buf = [0; 4];
    log.add("recv", far.recv(&mut buf).await);
    log.note("bytes", buf);
    log.add("recv", far.recv_from(&mut buf).await.map(|it| it.0));
    log.note("bytes", buf);
    log.end()
}

async fn too_long_datagrams(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = UnixDatagram::pair()?;
    let bytes = vec![1; 1 << 20];
    log.add("send", near.send(&bytes).await);
    log.add("send", near.send(&bytes[..100_000]).await);
    let mut buf = vec![0; 1 << 20];
    log.add("recv", far.recv(&mut buf).await);
    log.end()
}

async fn datagram_filter(place: Place) -> Results {
    let mut log = Log::default();
    let (here, there) = (place.path("here"), place.path("there"));
    let near = UnixDatagram::bind(&here).await?;
    let far = UnixDatagram::bind(&there).await?;
    far.connect(&here).await?;
    let stranger = UnixDatagram::unbound()?;
    log.add("stranger", stranger.send_to(b"x", &there).await);
    log.add("connect", stranger.connect(&there).await);
    log.add("peer", near.send_to(b"peer", &there).await);
    log.add("recv", far.recv(&mut [0; 16]).await);
    log.end()
}

async fn closed_peer_of_datagrams(place: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = UnixDatagram::pair()?;
    far.send(b"left").await?;
    drop(far);
    log.add("send", near.send(b"x").await);
    log.add("send", near.send(b"x").await);
    log.add("try_recv", near.try_recv(&mut [0; 16]));
    let path = place.path("receiver");
    let receiver = UnixDatagram::bind(&path).await?;
    let sender = UnixDatagram::unbound()?;
    sender.connect(&path).await?;
    drop(receiver);
    log.add("send", sender.send(b"x").await);
    log.add("send", sender.send(b"x").await);
    log.end()
}

async fn full_queue_of_datagrams(place: Place) -> Results {
    let mut log = Log::default();
    let path = place.path("receiver");
    let receiver = UnixDatagram::bind(&path).await?;
    let sender = UnixDatagram::unbound()?;
    sender.connect(&path).await?;
    let mut sent = 0_u32;
    loop {
        match sender.try_send(&sent.to_le_bytes()) {
            Ok(_) => sent += 1,
            Err(error) => break log.note("error", error.kind()),
        }
    }
    log.note("writable", completes_at_once(sender.writable()).await);
    let waiting = spawn(async move { sender.send(b"last").await });
    windlass::yield_now().await;
    log.note("finished", waiting.is_finished());
    for number in 0..sent {
        let mut buf = [0; 8];
        receiver.recv(&mut buf).await?;
        assert_eq!(buf[..4], number.to_le_bytes());
    }
    log.add("send", waiting.await);
    log.add("recv", receiver.recv(&mut [0; 8]).await);
    log.end()
}

async fn readiness_of_datagrams(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = UnixDatagram::pair()?;
    log.add("writable", near.writable().await);
    log.note("readable", completes_at_once(far.readable()).await);
    near.send(b"x").await?;
    log.add("readable", far.readable().await);
    log.add("recv", far.recv(&mut [0; 4]).await);
    log.note("readable", completes_at_once(far.readable()).await);
    log.end()
}
