//! The ends of connections over TCP: half-close, shutdown, reset.

use std::net::Shutdown;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::spawn;

use crate::script::{
    Log, Place, Results, completes_at_once, connect, first_error, pair, rest, retried, scripts,
    until,
};

scripts![
    half_close_by_the_client,
    half_close_by_the_server,
    simultaneous_close,
    read_after_the_end,
    write_after_the_peer_closed,
    read_after_a_failed_write,
    reset_by_unread_bytes,
    reset_behind_bytes,
    reset_of_a_pending_read,
    reset_of_a_pending_write,
    reset_after_half_close,
    lingering_for_no_time,
    lingering_for_a_second,
    error_after_reset,
    shutdown_of_reading,
    shutdown_of_reading_before_bytes,
    shutdown_of_writing,
    shutdown_of_both,
    shutdown_twice,
    shutdown_after_reset,
    shutdown_wakes_a_reader,
    addresses_after_reset,
    peek_after_reset,
    accept_after_the_client_has_gone,
    accept_after_the_client_has_reset,
    close_of_a_listener_with_connections,
    close_of_a_listener_beside_connections,
    bytes_before_the_end_arrive,
    readiness_after_the_end,
];

async fn half_close_by_the_client(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    near.write_all(b"request").await?;
    near.close().await?;
    log.note("request", rest(&far).await);
    far.write_all(b"answer").await?;
    log.add("read", near.read(&mut [0; 3]).await);
    far.close().await?;
    log.note("answer", rest(&near).await);
    log.add("write", near.write(b"x").await);
    log.end()
}

async fn half_close_by_the_server(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    far.write_all(b"greeting").await?;
    far.close().await?;
    log.note("greeting", rest(&near).await);
    for _ in 0..3 {
        log.add("write", near.write(b"more ").await);
        let mut buf = [0; 5];
        log.add("read", far.read_exact(&mut buf).await);
    }
    drop(near);
    log.note("rest", rest(&far).await);
    log.end()
}

async fn simultaneous_close(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    near.write_all(b"from near").await?;
    far.write_all(b"from far").await?;
    near.close().await?;
    far.close().await?;
    log.note("far", rest(&far).await);
    log.note("near", rest(&near).await);
    log.end()
}

async fn read_after_the_end(_: Place) -> Results {
    let mut log = Log::default();
    let (near, mut far) = pair().await?;
    drop(near);
    for _ in 0..3 {
        log.add("read", far.read(&mut [0; 4]).await);
        log.add("try_read", far.try_read(&mut [0; 4]));
    }
    log.add("error", far.take_error());
    log.end()
}

async fn write_after_the_peer_closed(_: Place) -> Results {
    let mut log = Log::default();
    let (near, mut far) = pair().await?;
    drop(near);
    log.add("read", far.read(&mut [0; 4]).await);
    log.add("write", far.write(b"one").await);
    log.add("write", first_error(|| far.try_write(b"x")).await);
    log.add("write", far.write(b"two").await);
    log.add("read", far.read(&mut [0; 4]).await);
    log.add("error", far.take_error());
    log.end()
}

async fn read_after_a_failed_write(_: Place) -> Results {
    let mut log = Log::default();
    let (near, mut far) = pair().await?;
    drop(near);
    log.add("write", first_error(|| far.try_write(b"x")).await);
    log.add("read", far.read(&mut [0; 4]).await);
    log.add("read", far.read(&mut [0; 4]).await);
    log.end()
}

async fn reset_by_unread_bytes(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair().await?;
    near.write_all(b"unread").await?;
    far.readable().await?;
    drop(far);
    log.add("read", near.read(&mut [0; 4]).await);
    log.add("read", near.read(&mut [0; 4]).await);
    log.add("write", near.write(b"x").await);
    log.add("write", near.write(b"x").await);
    log.end()
}

async fn reset_behind_bytes(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    near.write_all(b"unread").await?;
    far.readable().await?;
    far.write_all(b"bytes").await?;
    near.readable().await?;
    drop(far);
    log.note("rest", rest(&near).await);
    log.note("again", rest(&near).await);
    log.end()
}

async fn reset_of_a_pending_read(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair().await?;
    let reader = near.clone();
    let reader = spawn(async move { rest(&reader).await });
    near.write_all(b"unread").await?;
    far.readable().await?;
    drop(far);
    log.note("reader", reader.await);
    log.add("write", near.write(b"x").await);
    log.end()
}

async fn reset_of_a_pending_write(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    let writer = near.clone();
    let writer = spawn(async move {
        let block = vec![0; 64 * 1024];
        loop {
            if let Err(error) = (&writer).write(&block).await {
                break error.kind();
            }
        }
    });
    let block = vec![0; 64 * 1024];
    until(|| near.try_write(&block).is_err()).await;
    far.readable().await?;
    drop(far);
    log.note("writer", writer.await);
    log.end()
}

async fn reset_after_half_close(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair().await?;
    near.write_all(b"unread").await?;
    near.close().await?;
    far.readable().await?;
    drop(far);
    log.add("read", near.read(&mut [0; 4]).await);
    log.add("write", near.write(b"x").await);
    log.end()
}

async fn lingering_for_no_time(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    near.write_all(b"lost?").await?;
    far.readable().await?;
    near.set_linger(Some(Duration::ZERO))?;
    drop(near);
    // Arrived bytes can be read before the error.
    log.note("rest", rest(&far).await);
    log.add("read", far.read(&mut [0; 4]).await);
    log.add("write", far.write(b"x").await);
    log.end()
}

async fn lingering_for_a_second(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair().await?;
    near.set_linger(Some(Duration::from_secs(1)))?;
    near.write_all(b"kept").await?;
    drop(near);
    log.note("rest", rest(&far).await);
    log.end()
}

async fn error_after_reset(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    far.set_linger(Some(Duration::ZERO))?;
    log.add("error", near.take_error());
    drop(far);
    near.readable().await?;
    log.note("error", near.take_error()?.map(|error| error.kind()));
    log.add("error", near.take_error());
    log.add("try_read", near.try_read(&mut [0; 4]));
    log.add("try_write", near.try_write(b"x"));
    log.end()
}

async fn shutdown_of_reading(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    near.write_all(b"before").await?;
    far.readable().await?;
    log.add("shutdown", far.shutdown(Shutdown::Read));
    log.add("read", far.read(&mut [0; 10]).await);
    log.add("read", far.read(&mut [0; 10]).await);
    log.add("write", far.write(b"answer").await);
    log.add("read", near.read(&mut [0; 10]).await);
    log.end()
}

async fn shutdown_of_reading_before_bytes(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    log.add("shutdown", far.shutdown(Shutdown::Read));
    log.add("read", far.read(&mut [0; 10]).await);
    log.add("write", near.write(b"after").await);
    let mut buf = [0; 10];
    let read = async || {
        let mut len = 0;
        until(|| {
            len = far.try_read(&mut buf).unwrap_or(0);
            len > 0
        })
        .await;
        len
    };
    log.note("read", { read }().await);
    log.add("read", far.read(&mut [0; 10]).await);
    log.add("write", near.write(b"more").await);
    log.end()
}

async fn shutdown_of_writing(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    near.write_all(b"all").await?;
    log.add("shutdown", near.shutdown(Shutdown::Write));
    log.add("write", near.write(b"x").await);
    log.add("try_write", near.try_write(b"x"));
    log.add("writable", near.writable().await);
    log.note("rest", rest(&far).await);
    log.add("write", far.write(b"back").await);
    log.add("read", near.read(&mut [0; 10]).await);
    log.end()
}

async fn shutdown_of_both(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, mut far) = pair().await?;
    near.write_all(b"all").await?;
    log.add("shutdown", near.shutdown(Shutdown::Both));
    log.add("read", near.read(&mut [0; 10]).await);
    log.add("write", near.write(b"x").await);
    log.note("rest", rest(&far).await);
    // Nothing will read these bytes, so the peer answers with a reset.
    log.add("write", far.write(b"back").await);
    log.add("write", first_error(|| far.try_write(b"x")).await);
    log.end()
}

async fn shutdown_twice(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    for how in [
        Shutdown::Read,
        Shutdown::Read,
        Shutdown::Write,
        Shutdown::Write,
    ] {
        log.add("shutdown", near.shutdown(how));
    }
    log.add("shutdown", far.shutdown(Shutdown::Write));
    log.note("rest", rest(&near).await);
    log.note("rest", rest(&far).await);
    log.add("shutdown", far.shutdown(Shutdown::Write));
    log.end()
}

async fn shutdown_after_reset(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair().await?;
    far.set_linger(Some(Duration::ZERO))?;
    drop(far);
    log.add("read", near.read(&mut [0; 4]).await);
    for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
        log.add("shutdown", near.shutdown(how));
    }
    log.add("close", near.close().await);
    log.end()
}

async fn shutdown_wakes_a_reader(_: Place) -> Results {
    let mut log = Log::default();
    let (near, _far) = pair().await?;
    let reader = near.clone();
    let reader = spawn(async move { rest(&reader).await });
    windlass::yield_now().await;
    log.add("shutdown", near.shutdown(Shutdown::Read));
    log.note("reader", reader.await);
    log.end()
}

async fn addresses_after_reset(_: Place) -> Results {
    let mut log = Log::default();
    let (mut near, far) = pair().await?;
    let addr = near.local_addr()?;
    far.set_linger(Some(Duration::ZERO))?;
    drop(far);
    log.add("read", near.read(&mut [0; 4]).await);
    log.done("peer", near.peer_addr());
    log.note("local", near.local_addr()? == addr);
    log.end()
}

async fn peek_after_reset(_: Place) -> Results {
    let mut log = Log::default();
    let (near, far) = pair().await?;
    far.set_linger(Some(Duration::ZERO))?;
    drop(far);
    log.add("peek", near.peek(&mut [0; 4]).await);
    log.add("peek", near.peek(&mut [0; 4]).await);
    log.end()
}

async fn accept_after_the_client_has_gone(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut near = TcpStream::connect(listener.local_addr()?).await?;
    let addr = near.local_addr()?;
    near.write_all(b"gone").await?;
    drop(near);
    let (mut far, peer) = listener.accept().await?;
    log.note("peer", peer == addr);
    log.note("rest", rest(&far).await);
    log.add("write", far.write(b"x").await);
    log.add("write", first_error(|| far.try_write(b"x")).await);
    log.end()
}

async fn accept_after_the_client_has_reset(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let second = TcpStream::connect(listener.local_addr()?).await?;
    let addr = near.local_addr()?;
    near.set_linger(Some(Duration::ZERO))?;
    drop(near);
    let (mut far, peer) = listener.accept().await?;
    log.note("peer", peer == addr);
    log.add("read", far.read(&mut [0; 4]).await);
    log.add("write", far.write(b"x").await);
    let (_, peer) = listener.accept().await?;
    log.note("next", peer == second.local_addr()?);
    log.end()
}

async fn close_of_a_listener_with_connections(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut near = TcpStream::connect(listener.local_addr()?).await?;
    near.write_all(b"never read").await?;
    drop(listener);
    log.add("read", near.read(&mut [0; 4]).await);
    log.add("write", near.write(b"x").await);
    log.end()
}

async fn close_of_a_listener_beside_connections(_: Place) -> Results {
    let mut log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (mut near, far) = connect(&listener).await?;
    drop(listener);
    near.write_all(b"still here").await?;
    near.close().await?;
    log.note("rest", rest(&far).await);
    log.end()
}

async fn bytes_before_the_end_arrive(_: Place) -> Results {
    let mut log = Log::default();
    for len in [1, 1000, 100_000] {
        let (mut near, far) = pair().await?;
        let writer = spawn(async move { near.write_all(&vec![b'a'; len]).await });
        let (bytes, error) = rest(&far).await;
        log.note("received", (bytes.len(), error));
        writer.await?;
    }
    log.end()
}

async fn readiness_after_the_end(_: Place) -> Results {
    let mut log = Log::default();
    let (near, mut far) = pair().await?;
    log.note("at once", completes_at_once(far.readable()).await);
    drop(near);
    for _ in 0..2 {
        log.add("readable", far.readable().await);
        log.add("writable", far.writable().await);
        log.add("read", retried(|| far.try_read(&mut [0; 4])).await);
    }
    log.add("close", far.close().await);
    log.end()
}
