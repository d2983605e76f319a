//! Coroutines that wait for sockets and timers between their yields.

#[path = "../common/mod.rs"]
mod common;

use std::io;
use std::time::Duration;

use common::{name_of, pair, run};
use futures::channel::oneshot;
use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use windlass::coroutine::AsyncCoroutine;
use windlass::coroutine::State::{Complete, Yielded};
use windlass::net::TcpStream;
use windlass::time::timeout;

#[test]
fn a_stream_of_lines_reads_the_socket_between_its_yields() -> io::Result<()> {
    run(async {
        let (mut near, far) = pair().await?;
        let mut lines = AsyncCoroutine::new(async |co, ()| {
            let mut far = futures::io::BufReader::new(&far);
            let mut line = String::new();
            while far.read_line(&mut line).await? > 0 {
                co.yield_(std::mem::take(&mut line)).await;
            }
            io::Result::Ok("the end")
        });
        near.write_all(b"one\ntw").await?;
        assert_eq!(lines.next().await.as_deref(), Some("one\n"));
        assert_eq!(lines.next().now_or_never(), None, "half a line");
        near.write_all(b"o\n").await?;
        assert_eq!(lines.next().await.as_deref(), Some("two\n"));
        drop(near);
        assert_eq!(lines.next().await, None);
        assert_eq!(lines.into_result().unwrap()?, "the end");
        Ok(())
    })
}

#[test]
fn sent_values_reach_the_peer_and_replies_return() -> io::Result<()> {
    run(async {
        let (near, mut far) = pair().await?;
        let doubling = windlass::spawn(async move {
            let mut byte = [0];
            while far.read_exact(&mut byte).await.is_ok() {
                far.write_all(&[byte[0] * 2]).await?;
            }
            io::Result::Ok(())
        });
        async fn request(mut stream: &TcpStream, byte: u8) -> io::Result<u8> {
            let mut answer = [0];
            stream.write_all(&[byte]).await?;
            stream.read_exact(&mut answer).await?;
            Ok(answer[0])
        }
        let mut client = AsyncCoroutine::new(async |co, mut byte: u8| {
            while byte != 0 {
                byte = co.yield_(request(&near, byte).await?).await;
            }
            drop(near);
            io::Result::Ok(())
        });
        assert!(matches!(client.send(3).await, Yielded(6)));
        assert!(matches!(client.send(21).await, Yielded(42)));
        assert!(matches!(client.send(0).await, Complete(Ok(()))));
        doubling.await
    })
}

#[test]
fn a_timed_out_send_can_still_be_answered() {
    run(async {
        let (fetched, fetching) = oneshot::channel();
        let mut slow = AsyncCoroutine::new(async |co, name: &str| {
            let word = fetching.await.unwrap();
            co.yield_(format!("{word} {name}")).await;
        });
        let limit = Duration::from_millis(1);
        assert!(timeout(limit, slow.send("Ann")).await.is_err());
        fetched.send("ahoy").unwrap();
        assert_eq!(slow.answer().await, Yielded("ahoy Ann".to_owned()));
    });
}

#[test]
fn dropping_a_waiting_coroutine_closes_its_socket() -> io::Result<()> {
    run(async {
        let (mut near, mut far) = pair().await?;
        let name = name_of(&far);
        let mut bytes = AsyncCoroutine::new(async move |co, ()| {
            let mut byte = [0];
            while far.read_exact(&mut byte).await.is_ok() {
                co.yield_(byte[0]).await;
            }
        });
        near.write_all(b"a").await?;
        assert_eq!(bytes.next().await, Some(b'a'));
        assert_eq!(bytes.next().now_or_never(), None);
        assert!(common::is_open(&name));
        drop(bytes);
        assert!(!common::is_open(&name));
        Ok(())
    })
}
