//! Dropping a future releases its descriptors and timers, and loses no data.

mod common;

#[cfg(unix)]
use std::fs;
use std::future::pending;
use std::io;
#[cfg(unix)]
use std::net::SocketAddr;
use std::time::Duration;

use common::{Count, is_open, name_of, pair, run};
use futures::future::join_all;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, select};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::{sleep, timeout};
use windlass::{Runtime, spawn, yield_now};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn dropping_a_task_that_waits_for_a_socket_closes_the_socket() -> io::Result<()> {
    run(async {
        let (mut near, mut far) = pair().await?;
        let name = name_of(&far);
        let reader = spawn(async move { far.read(&mut [0]).await });
        sleep(Duration::ZERO).await; // the task waits now
        assert!(is_open(&name));
        drop(reader);
        assert!(!is_open(&name));
        assert_eq!(near.read(&mut [0]).await?, 0, "the peer sees the end");
        Ok(())
    })
}

#[test]
fn cancel_has_dropped_the_socket_when_it_returns() -> io::Result<()> {
    run(async {
        let (_near, mut far) = pair().await?;
        let name = name_of(&far);
        let reader = spawn(async move { far.read(&mut [0]).await });
        sleep(Duration::ZERO).await;
        assert!(reader.cancel().await.is_none());
        assert!(!is_open(&name));
        Ok(())
    })
}

#[test]
fn dropping_a_task_that_accepts_closes_the_listener() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (name, addr) = (name_of(&listener), listener.local_addr()?);
        let accepting = spawn(async move { listener.accept().await });
        sleep(Duration::ZERO).await;
        drop(accepting);
        assert!(!is_open(&name));
        let refused = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        Ok(())
    })
}

/// Returns the number of connections to the address that the system is establishing.
#[cfg(unix)]
fn connecting_to(addr: SocketAddr) -> usize {
    let connections = fs::read_to_string("/proc/self/net/tcp").expect("there is a /proc");
    let (peer, syn_sent) = (format!(":{:04X}", addr.port()), "02");
    let columns = connections.lines().map(|line| line.split_whitespace());
    columns
        .filter(|columns| {
            let mut columns = columns.clone().skip(2);
            columns.next().is_some_and(|column| column.ends_with(&peer))
                && columns.next() == Some(syn_sent)
        })
        .count()
}

#[test]
#[cfg(unix)] // reads connections from `/proc`
fn dropping_tasks_that_connect_closes_the_connections() -> io::Result<()> {
    run(async {
        // With the short queue full, further connections have to wait.
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        rustix::net::listen(&listener, 1)?;
        let addr = listener.local_addr()?;
        let connecting: Vec<_> = (0..10)
            .map(|_| spawn(async move { TcpStream::connect(addr).await }))
            .collect();
        for _ in 0..100 {
            yield_now().await;
        }
        assert!(connecting_to(addr) > 0, "no connection is pending");
        drop(connecting);
        assert_eq!(connecting_to(addr), 0);
        Ok(())
    })
}

#[test]
fn dropping_tasks_that_wait_for_timers_stops_the_timers() -> io::Result<()> {
    let runtime = Runtime::new()?;
    let sleepers: Vec<_> = (0..1000).map(|_| runtime.spawn(sleep(HOUR))).collect();
    let limited = runtime.spawn(timeout(HOUR, pending::<()>()));
    while runtime.turn(Some(Duration::ZERO))?.ready {}
    assert!(runtime.next_deadline().is_some());
    drop(sleepers);
    assert!(runtime.next_deadline().is_some(), "one timer is left");
    drop(limited);
    assert_eq!(runtime.next_deadline(), None);
    Ok(())
}

#[test]
fn an_elapsed_timeout_drops_its_future() -> io::Result<()> {
    run(async {
        let (_near, mut far) = pair().await?;
        let name = name_of(&far);
        let reading = async move { far.read(&mut [0]).await };
        assert!(timeout(Duration::ZERO, reading).await.is_err());
        assert!(!is_open(&name));
        Ok(())
    })
}

#[test]
fn a_read_that_loses_a_select_takes_no_bytes() -> io::Result<()> {
    run(async {
        let (mut near, mut far) = pair().await?;
        let mut buffer = [0; 8];
        for _ in 0..100 {
            select! {
                read = far.read(&mut buffer).fuse() => panic!("unexpected read: {read:?}"),
                () = sleep(Duration::ZERO).fuse() => {}
            }
        }
        near.write_all(b"ahoy").await?;
        far.read_exact(&mut buffer[..4]).await?;
        assert_eq!(&buffer[..4], b"ahoy");
        Ok(())
    })
}

#[test]
fn a_timer_that_loses_a_select_is_stopped() -> io::Result<()> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        select! {
            () = sleep(HOUR).fuse() => panic!("an hour has passed"),
            () = yield_now().fuse() => {}
        }
    });
    assert_eq!(runtime.next_deadline(), None);
    Ok(())
}

#[test]
fn a_dropped_accept_loses_no_connection() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        for _ in 0..10 {
            assert!(timeout(Duration::ZERO, listener.accept()).await.is_err());
        }
        let mut client = TcpStream::connect(addr).await?;
        client.write_all(b"!").await?;
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut [0]).await
    })
}

#[test]
fn dropping_one_waiter_keeps_the_others_registered() -> io::Result<()> {
    run(async {
        let (near, mut far) = pair().await?;
        let woken = Count::default();
        let mut waiters: Vec<_> = (0..100)
            .map(|_| {
                let (near, woken) = (near.clone(), woken.clone());
                spawn(async move {
                    near.readable().await?;
                    woken.add();
                    io::Result::Ok(())
                })
            })
            .collect();
        sleep(Duration::ZERO).await; // all wait
        waiters.drain(25..75).for_each(drop);
        far.write_all(b"!").await?;
        for waited in join_all(waiters).await {
            waited?;
        }
        assert_eq!(woken.get(), 50);
        Ok(())
    })
}

#[test]
fn the_last_clone_of_a_stream_closes_it() -> io::Result<()> {
    run(async {
        let (near, mut far) = pair().await?;
        let name = name_of(&near);
        let clones: Vec<_> = (0..3)
            .map(|_| {
                let near = near.clone();
                spawn(async move { near.readable().await })
            })
            .collect();
        drop(near);
        sleep(Duration::ZERO).await;
        assert!(is_open(&name));
        drop(clones);
        assert!(!is_open(&name));
        assert_eq!(far.read(&mut [0]).await?, 0);
        Ok(())
    })
}
