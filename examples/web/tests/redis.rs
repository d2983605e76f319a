//! The Redis client with misbehaving servers.

use futures::FutureExt;
use futures::future::{join, join_all};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass_web::redis::{Client, Error, IN_FLIGHT, Reply};

async fn pair() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (client, accepted) = join(Client::connect(addr), listener.accept()).await;
    (client.unwrap(), accepted.unwrap().0)
}

/// Returns the results of that many calls to a server that sends this reply to anything and
/// disconnects.
async fn results_of(answers: &str, calls: usize) -> Vec<Result<Reply, Error>> {
    let (client, mut server) = pair().await;
    let answers = answers.to_owned();
    let _serving = windlass::spawn(async move {
        let mut asked = [0; 14];
        server.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"*1\r\n$4\r\nPING\r\n");
        server.write_all(answers.as_bytes()).await.unwrap();
        server.close().await.unwrap();
        let _ = server.read_to_end(&mut Vec::new()).await;
    });
    join_all((0..calls).map(|_| client.call(&["PING"]))).await
}

#[test]
fn all_types_of_replies_are_parsed() {
    let answers = ":-7\r\n$5\r\na\r\nb!\r\n$-1\r\n*-1\r\n*2\r\n*1\r\n:1\r\n$0\r\n\r\n+OK\r\n";
    let replies = windlass::block_on(results_of(answers, 6));
    let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    let nested = vec![Reply::List(vec![Reply::Integer(1)]), Reply::Bytes(vec![])];
    let expected = [
        Reply::Integer(-7),
        Reply::Bytes(b"a\r\nb!".to_vec()),
        Reply::Nil,
        Reply::Nil,
        Reply::List(nested),
        Reply::Status("OK".to_owned()),
    ];
    assert_eq!(replies, expected);
}

#[test]
fn an_error_reply_affects_only_its_command() {
    let mut replies = windlass::block_on(results_of("-ERR no\r\n+PONG\r\n", 2)).into_iter();
    let refused = replies.next().unwrap();
    assert!(
        matches!(&refused, Err(Error::Refused(text)) if text == "ERR no"),
        "{refused:?}"
    );
    assert_eq!(
        replies.next().unwrap().unwrap(),
        Reply::Status("PONG".to_owned())
    );
}

#[test]
fn a_disconnect_is_an_error_for_all_commands_in_flight() {
    let calls = IN_FLIGHT + 100; // some have not been sent yet
    let replies = windlass::block_on(results_of("+PONG\r\n+PO", calls));
    assert_eq!(replies.len(), calls);
    assert!(replies[0].is_ok());
    for reply in &replies[1..] {
        let text = reply.as_ref().unwrap_err().to_string();
        assert!(
            text.starts_with("the connection has ended: the server has disconnected"),
            "{text}"
        );
    }
}

#[test]
fn malformed_replies_end_the_connection_without_allocation() {
    let deep = "*1\r\n".repeat(100);
    let long = "+".repeat(100_000);
    let many = [
        "!\r\n",
        "$99999999999\r\n",
        "$-2\r\n",
        ":x\r\n",
        &deep,
        &long,
    ];
    for answers in many {
        let replies = windlass::block_on(results_of(answers, 1));
        let text = replies[0].as_ref().unwrap_err().to_string();
        assert!(text.contains("the server has sent"), "{text}");
    }
}

#[test]
fn the_number_of_commands_in_flight_is_limited() {
    windlass::block_on(async {
        let (client, mut server) = pair().await;
        let calls = join_all((0..2 * IN_FLIGHT).map(|_| client.call(&["PING"])));
        let serving = async move {
            let mut asked = vec![0; 14 * IN_FLIGHT];
            server.read_exact(&mut asked).await.unwrap();
            let more = server.read(&mut asked[..1]).now_or_never();
            assert!(more.is_none(), "the client sends no further command");
            for _ in 0..2 * IN_FLIGHT {
                server.write_all(b"+PONG\r\n").await.unwrap();
            }
            server
        };
        let (replies, _server) = join(calls, serving).await;
        assert!(replies.iter().all(Result::is_ok));
    });
}
