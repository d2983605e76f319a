//! libcurl as a guest of windlass.

#[allow(unexpected_cfgs)] // the feature `sim` is one of windlass
#[path = "../../../tests/common/mod.rs"]
mod common;

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use common::run;
use futures::future::try_join_all;
use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::{spawn, yield_now};
use windlass_guests::curl::Curl;

/// From this machine, without a proxy.
async fn fetch(curl: &Curl, url: &str) -> anyhow::Result<Vec<u8>> {
    curl.fetch(url, |easy| easy.noproxy("*")).await
}

/// Reads the head of a request, and returns its path.
async fn asked(stream: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    Ok(head.split(' ').nth(1).unwrap_or_default().to_owned())
}

async fn answer(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

/// A body that exceeds the buffers of a socket, and that is unique to its path.
fn body(path: &str) -> Vec<u8> {
    path.bytes().cycle().take(1_000_000).collect()
}

#[test]
fn concurrent_transfers_return_complete_bodies() -> anyhow::Result<()> {
    const TRANSFERS: usize = 20;
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let there = Rc::new(Cell::new(0));
        let server = spawn(async move {
            for _ in 0..TRANSFERS {
                let (mut stream, _) = listener.accept().await?;
                let there = there.clone();
                let serve = async move {
                    let path = asked(&mut stream).await?;
                    // None is answered before all have arrived.
                    there.set(there.get() + 1);
                    while there.get() < TRANSFERS {
                        yield_now().await;
                    }
                    answer(&mut stream, &body(&path)).await?;
                    stream.read(&mut [0]).await // libcurl keeps the connection
                };
                spawn(serve).detach();
            }
            io::Result::Ok(())
        });
        let curl = Curl::new()?;
        let paths: Vec<_> = (0..TRANSFERS).map(|number| format!("/{number}")).collect();
        let fetch = async |path: &String| fetch(&curl, &format!("http://{addr}{path}")).await;
        let bodies = try_join_all(paths.iter().map(fetch)).await?;
        server.await?;
        for (path, got) in paths.iter().zip(bodies) {
            assert!(got == body(path), "{path}");
        }
        Ok(())
    })
}

#[test]
fn a_dropped_transfer_closes_only_its_connection() -> anyhow::Result<()> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let curl = Curl::new()?;
        let [dropped, kept] = ["dropped", "kept"].map(|path| {
            let (curl, url) = (curl.clone(), format!("http://{addr}/{path}"));
            spawn(async move { fetch(&curl, &url).await })
        });
        let mut streams = HashMap::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await?;
            streams.insert(asked(&mut stream).await?, stream);
        }
        drop(dropped);
        let mut stream = streams.remove("/dropped").expect("it was requested");
        assert_eq!(stream.read(&mut [0]).await?, 0, "the client is gone");
        let mut stream = streams.remove("/kept").expect("it was requested");
        answer(&mut stream, b"ahoy").await?;
        assert_eq!(kept.await?, b"ahoy");
        Ok(())
    })
}

#[test]
fn a_failure_is_an_error() -> anyhow::Result<()> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        drop(listener);
        let curl = Curl::new()?;
        let error = fetch(&curl, &format!("http://{addr}/")).await.unwrap_err();
        assert!(
            error
                .downcast_ref::<::curl::Error>()
                .is_some_and(|error| { error.is_couldnt_connect() })
        );
        Ok(())
    })
}
