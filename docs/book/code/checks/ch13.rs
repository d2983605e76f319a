//! The tests of the exercises of chapter 13.

use std::io::ErrorKind;
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, repeat};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::{now, sleep};
use windlass::{block_on, sim, spawn};

use super::{Client, read_limited, session};

#[test]
fn exercise_1_a_long_line_is_refused() {
    block_on(async {
        let mut input = &b"12\n345\n6"[..];
        for line in ["12", "345", "6"] {
            assert_eq!(
                read_limited(&mut input, 3).await.unwrap(),
                Some(line.into())
            );
        }
        assert_eq!(read_limited(&mut input, 3).await.unwrap(), None);
        let error = read_limited(&mut &b"1234\n"[..], 3).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let mut endless = BufReader::new(repeat(b'1'));
        let error = read_limited(&mut endless, 1_000).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    });
}

/// Answers each line with the number of connections so far, and says bye in every second reply.
async fn short_sessions(listener: TcpListener) {
    for connections in 1.. {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut lines = BufReader::new(stream.clone());
        for end in ["\n", " bye\n"] {
            let mut line = String::new();
            if lines.read_line(&mut line).await.unwrap() == 0 {
                break;
            }
            let reply = format!("{} {connections}{end}", line.trim());
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    }
}

#[test]
fn exercise_2_the_client_connects_again_after_a_bye() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(short_sessions(listener));
        let mut client = Client {
            address,
            stream: None,
        };
        for (line, reply) in [
            ("5", "5 1"),
            ("6", "6 1"),
            ("7", "7 2"),
            ("8", "8 2"),
            ("9", "9 3"),
        ] {
            assert_eq!(client.request(line).await.unwrap(), reply);
        }
        drop(server);
    });
}

/// A client that sends a line each 29 seconds, for eight hours, and then falls silent.
async fn night() {
    let mut stream = TcpStream::connect("server:7000").await.unwrap();
    for _ in 0..8 * 3600 / 29 {
        stream.write_all(b"5\n").await.unwrap();
        sleep(Duration::from_secs(29)).await;
    }
    // Until the server closes the connection.
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

#[test]
fn exercise_3_a_night_takes_a_moment() {
    sim::check(0..5, |world| {
        world.host("server", || async {
            let listener = TcpListener::bind("0.0.0.0:7000").await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let start = now();
            let lines = session(stream, Duration::from_secs(30)).await.unwrap();
            assert_eq!(lines, 8 * 3600 / 29);
            let minutes = (now() - start).as_secs() / 60;
            assert_eq!(minutes, 8 * 60 - 1, "the session took {minutes} minutes");
        });
        world.host("client", night);
    });
}
