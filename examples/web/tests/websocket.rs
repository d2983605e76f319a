//! A WebSocket end with misbehaving peers.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, client_async};
use futures::StreamExt;
use futures::future::{join, select};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass_web::frame_stream::{FrameStream, Sent};
use windlass_web::websocket::{Limits, WebSocket, close_frame, close_frame_for, text_frame};

type Client = WebSocketStream<TcpStream>;

async fn pair(limits: Limits) -> (WebSocket<TcpStream>, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        WebSocket::accept(stream, limits).await.unwrap()
    };
    let connecting = async {
        let stream = TcpStream::connect(addr).await.unwrap();
        client_async("ws://localhost/", stream).await.unwrap().0
    };
    join(accepting, connecting).await
}

/// Returns the server's reaction to a misbehaving client. The client keeps sending, so that the
/// server has unread bytes at the end.
async fn last_words(mut server: WebSocket<TcpStream>, mut client: Client) -> Option<CloseFrame> {
    let serving = async {
        let error = server.recv().await.unwrap_err();
        server.close(close_frame_for(&error).unwrap()).await;
    };
    let hearing = async move {
        let _ = client.get_mut().write_all(&[0; 50_000]).await;
        match client.next().await {
            Some(Ok(Message::Close(frame))) => frame,
            other => panic!("{other:?}"),
        }
    };
    join(serving, hearing).await.1
}

const SMALL: Limits = Limits {
    message: 1024,
    sent: 1024,
    handshake: Duration::from_secs(5),
    idle: Duration::from_secs(30),
    pong: Duration::from_secs(10),
    send: Duration::from_secs(10),
};

#[test]
fn a_message_over_the_limit_ends_the_connection_with_1009() {
    windlass::block_on(async {
        let (mut server, mut client) = pair(SMALL).await;
        client.send(Message::binary(vec![7; 1024])).await.unwrap();
        let longest = server.recv().await.unwrap().unwrap();
        assert_eq!(longest.len(), 1024);
        client.send(Message::binary(vec![7; 1025])).await.unwrap();
        let frame = last_words(server, client).await.unwrap();
        assert_eq!(frame.code, CloseCode::Size);
    });
}

#[test]
fn an_oversized_frame_is_rejected_by_its_header() {
    windlass::block_on(async {
        let (server, mut client) = pair(SMALL).await;
        // Final, binary; masked, with a length of 2^62 bytes; the mask.
        let header = [&[0x82, 0xff][..], &(1_u64 << 62).to_be_bytes(), &[0; 4]].concat();
        client.get_mut().write_all(&header).await.unwrap();
        let frame = last_words(server, client).await.unwrap();
        assert_eq!(frame.code, CloseCode::Size);
    });
}

#[test]
fn fragments_are_limited_by_their_total() {
    windlass::block_on(async {
        let (server, mut client) = pair(SMALL).await;
        let mut opcode = 0x02; // binary, followed by continuations without a final one
        for _ in 0..100 {
            let frame = [&[opcode, 0x80 | 100, 0, 0, 0, 0][..], &[7; 100]].concat();
            client.get_mut().write_all(&frame).await.unwrap();
            opcode = 0x00;
        }
        let frame = last_words(server, client).await.unwrap();
        assert_eq!(frame.code, CloseCode::Size);
    });
}

#[test]
fn text_that_is_not_utf_8_is_1007_and_a_frame_without_a_mask_1002() {
    windlass::block_on(async {
        let (server, mut client) = pair(SMALL).await;
        client
            .get_mut()
            .write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff])
            .await
            .unwrap();
        assert_eq!(
            last_words(server, client).await.unwrap().code,
            CloseCode::Invalid
        );

        let (server, mut client) = pair(SMALL).await;
        client
            .get_mut()
            .write_all(&[0x81, 0x01, b'a'])
            .await
            .unwrap();
        assert_eq!(
            last_words(server, client).await.unwrap().code,
            CloseCode::Protocol
        );
    });
}

fn is_time_out(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::TimedOut)
}

#[test]
fn an_idle_peer_is_pinged_then_disconnected() {
    let limits = Limits {
        idle: Duration::from_millis(1),
        pong: Duration::from_millis(1),
        ..SMALL
    };
    windlass::block_on(async {
        let (mut server, mut client) = pair(limits).await;
        let error = server.recv().await.unwrap_err();
        assert!(is_time_out(&error), "{error}");
        drop(server);
        assert_eq!(
            client.next().await.unwrap().unwrap(),
            Message::Ping(vec![].into())
        );
    });
}

#[test]
fn a_peer_that_answers_pings_stays_connected() {
    let limits = Limits {
        idle: Duration::from_millis(1),
        ..SMALL
    };
    windlass::block_on(async {
        let (mut server, mut client) = pair(limits).await;
        let pings = async {
            for _ in 0..20 {
                // Reading also sends the pong.
                assert!(client.next().await.unwrap().unwrap().is_ping());
            }
            client.send(Message::text("still here")).await.unwrap();
        };
        let (received, ()) = join(server.recv(), pings).await;
        assert_eq!(received.unwrap(), Some(Message::text("still here")));
    });
}

#[test]
fn a_peer_that_does_not_read_is_disconnected() {
    let limits = Limits {
        send: Duration::from_millis(20),
        ..SMALL
    };
    windlass::block_on(async {
        let (mut server, _client) = pair(limits).await;
        let error = loop {
            if let Err(error) = server.send(Message::binary(vec![7; 1024])).await {
                break error;
            }
        };
        assert!(is_time_out(&error), "{error}");
    });
}

#[test]
fn a_ping_that_the_peer_does_not_read_times_out() {
    let limits = Limits {
        idle: Duration::from_millis(1),
        pong: Duration::from_millis(20),
        send: Duration::from_millis(20),
        ..SMALL
    };
    windlass::block_on(async {
        let (mut server, _client) = pair(limits).await;
        while server.send(Message::binary(vec![7; 1024])).await.is_ok() {}
        let error = server.recv().await.unwrap_err();
        assert!(is_time_out(&error), "{error}");
    });
}

#[test]
fn both_ends_send_a_close_frame() {
    windlass::block_on(async {
        let (server, mut client) = pair(SMALL).await;
        let leaving = server.close(close_frame(CloseCode::Away, "the server stops"));
        let hearing = async {
            let last = client.next().await.unwrap().unwrap();
            assert_eq!(
                last,
                Message::Close(Some(close_frame(CloseCode::Away, "the server stops")))
            );
            assert!(client.next().await.is_none(), "that was all");
            drop(client);
        };
        join(leaving, hearing).await;

        let (mut server, mut client) = pair(SMALL).await;
        let leaving = async {
            client.close(None).await.unwrap();
            while let Some(Ok(_)) = client.next().await {}
            drop(client);
        };
        let hearing = async {
            assert_eq!(server.recv().await.unwrap(), None);
            server.close(close_frame(CloseCode::Normal, "")).await;
        };
        join(leaving, hearing).await;
    });
}

#[test]
fn a_stalled_handshake_times_out() -> io::Result<()> {
    let limits = Limits {
        handshake: Duration::from_millis(1),
        ..SMALL
    };
    windlass::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await?;
        let error = WebSocket::accept(listener.accept().await?.0, limits)
            .await
            .unwrap_err();
        assert!(is_time_out(&error), "{error}");
        Ok(())
    })
}

async fn shared_stream() -> (FrameStream, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    (FrameStream::new(stream), client)
}

#[test]
fn frames_stay_whole_if_the_system_takes_a_part() {
    windlass::block_on(async {
        let (stream, mut client) = shared_stream().await;
        let mut server = WebSocket::upgraded(stream.clone(), Vec::new(), SMALL).await;
        let text = "x".repeat(1_000_003);
        let (frame, mut sent) = (text_frame(&text), 1);
        while stream.try_send(&frame) == Sent::All {
            sent += 1;
        }
        assert_eq!(stream.try_send(&frame), Sent::Nothing, "a part is queued");
        // The server has nothing to write, so a read has to send the rest.
        let receiving = async {
            for _ in 0..sent {
                let received = client.next().await.unwrap().unwrap();
                assert_eq!(received.to_text().unwrap(), text);
            }
        };
        select(pin!(receiving), pin!(server.recv())).await;
        assert_eq!(stream.try_send(&text_frame("ahoy")), Sent::All);
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("ahoy"));
    });
}

#[test]
fn frames_of_other_tasks_wait_for_a_message_that_is_sent_in_part() {
    let limits = Limits {
        send: Duration::from_millis(20),
        ..SMALL
    };
    windlass::block_on(async {
        let (stream, mut client) = shared_stream().await;
        let mut server = WebSocket::upgraded(stream.clone(), Vec::new(), limits).await;
        let (message, mut sent) = (vec![7; 10_003], 0);
        while server.send(Message::binary(message.clone())).await.is_ok() {
            sent += 1;
        }
        // Now the system has room, but the rest of the message comes first.
        let mut read = vec![0; sent * message.len()];
        client.get_mut().read_exact(&mut read).await.unwrap();
        assert_eq!(stream.try_send(&text_frame("ahoy")), Sent::Nothing);
        server.send(Message::text("the last")).await.unwrap();
        assert_eq!(stream.try_send(&text_frame("ahoy")), Sent::All);
    });
}
