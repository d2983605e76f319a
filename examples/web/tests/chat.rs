//! The chat, from the side of its pages.

use std::future::Future;
use std::iter;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Wake};

use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::protocol::Role;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, client_async};
use futures::future::join;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures::{FutureExt, StreamExt};
use futures_rustls::pki_types::ServerName;
use send_wrapper::SendWrapper;
use serde_json::{Value, json};
use windlass::Task;
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopSource, StopToken};
use windlass_web::chat;
use windlass_web::frame_stream::FrameStream;
use windlass_web::rooms::{Join, Membership, Rooms};
use windlass_web::server::{Limits, serve};
use windlass_web::tls::{Acceptor, Identity, connector};
use windlass_web::websocket::WebSocket;

struct Server {
    addr: SocketAddr,
    stop: StopSource,
    serving: Task<usize>,
}

async fn start() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, stop) = (listener.local_addr().unwrap(), StopSource::new());
    let serving = windlass::spawn(run(listener, stop.token()));
    Server {
        addr,
        stop,
        serving,
    }
}

async fn run(listener: TcpListener, stop: StopToken) -> usize {
    let rooms = Rc::new(Rooms::new());
    let serve_one = |stream| chat::serve(stream, rooms.clone(), stop.clone(), chat::limits());
    serve(listener, &stop, Limits::default(), serve_one).await
}

struct Page<S = TcpStream>(WebSocketStream<S>);

impl Page {
    async fn connect(server: &Server) -> Page {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let url = format!("ws://{}/socket", server.addr);
        Page(client_async(url, stream).await.unwrap().0)
    }

    async fn join(server: &Server, room: &str, name: &str, key: &str) -> Page {
        let mut page = Page::connect(server).await;
        page.send(json!({"kind": "join", "room": room, "name": name, "key": key}))
            .await;
        page
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Page<S> {
    async fn send(&mut self, value: Value) {
        self.0.send(Message::text(value.to_string())).await.unwrap();
    }

    async fn say(&mut self, text: &str) {
        self.send(json!({"kind": "say", "text": text})).await;
    }

    async fn next_event(&mut self) -> Value {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Returns the next line, skipping joins and leaves.
    async fn hear_line(&mut self) -> String {
        loop {
            let event = self.next_event().await;
            if event["kind"] == "line" {
                return format!("{}: {}", event["name"], event["text"]).replace('"', "");
            }
        }
    }

    /// Returns the code and reason of the server's close frame.
    async fn end(mut self) -> (CloseCode, String) {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code, frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn take_seat(rooms: &Rc<Rooms>, name: &str, after: u64) -> Membership {
    let join = Join {
        room: "harbour".to_owned(),
        name: name.to_owned(),
        key: name.to_owned(),
        after,
    };
    rooms.join(join).unwrap()
}

/// Messages that were sent to a member and not received yet.
fn hear_all(member: &Membership) -> Vec<String> {
    let next = || member.next_event().now_or_never().flatten();
    iter::from_fn(|| next().map(|text| text.to_string())).collect()
}

#[test]
fn a_line_reaches_exactly_the_members_of_the_room() {
    windlass::block_on(async {
        let server = start().await;
        let mut ann = Page::join(&server, "harbour", "Ann", "a").await;
        assert_eq!(
            ann.next_event().await,
            json!({"kind": "welcome", "names": ["Ann"], "lines": []})
        );
        let mut cid = Page::join(&server, "galley", "Cid", "c").await;
        cid.next_event().await;
        let mut ben = Page::join(&server, "harbour", "Ben", "b").await;
        ben.next_event().await;
        assert_eq!(
            ann.next_event().await,
            json!({"kind": "joined", "name": "Ben"})
        );
        ann.say("ahoy").await;
        assert_eq!(ann.hear_line().await, "Ann: ahoy");
        assert_eq!(ben.hear_line().await, "Ann: ahoy");
        drop(ben);
        assert_eq!(
            ann.next_event().await,
            json!({"kind": "left", "name": "Ben"})
        );
        cid.say("soup").await;
        let first = cid.next_event().await;
        assert_eq!(
            first["text"], "soup",
            "nothing came from the harbour before"
        );
    });
}

#[test]
fn new_members_get_the_latest_lines_and_returning_ones_the_new() {
    let rooms = Rc::new(Rooms::new());
    let numbers = |welcome: &str| -> Vec<u64> {
        let welcome: Value = serde_json::from_str(welcome).unwrap();
        let lines = welcome["lines"].as_array().unwrap();
        lines
            .iter()
            .map(|line| line["number"].as_u64().unwrap())
            .collect()
    };
    let ann = take_seat(&rooms, "Ann", 0);
    for _ in 0..60 {
        ann.say("ahoy");
    }
    let ben = take_seat(&rooms, "Ben", 0);
    let all = numbers(&hear_all(&ben)[0]);
    assert_eq!(all.len(), 50);
    let back = take_seat(&rooms, "Ben", all[47]);
    assert_eq!(numbers(&hear_all(&back)[0]), all[48..]);
}

#[test]
fn a_name_belongs_to_the_owner_of_its_key() {
    windlass::block_on(async {
        let server = start().await;
        let mut ann = Page::join(&server, "harbour", "Ann", "a").await;
        ann.next_event().await;
        let thief = Page::join(&server, "harbour", "Ann", "t").await;
        assert_eq!(
            thief.end().await,
            (CloseCode::Policy, "that name is taken".to_owned())
        );
        let mut back = Page::join(&server, "harbour", "Ann", "a").await;
        assert_eq!(back.next_event().await["names"], json!(["Ann"]));
        ann.end().await; // the old membership has ended
        back.say("here again").await;
        assert_eq!(back.hear_line().await, "Ann: here again");
    });
}

#[test]
fn a_slow_reader_is_removed_without_delaying_others() {
    let rooms = Rc::new(Rooms::new());
    let (ann, ben) = (take_seat(&rooms, "Ann", 0), take_seat(&rooms, "Ben", 0));
    for _ in 0..1_000 {
        ann.say("ahoy");
        hear_all(&ann);
    }
    assert_eq!(hear_all(&ben).len(), 64, "the queue is bounded");
    assert_eq!(
        ben.next_event().now_or_never(),
        Some(None),
        "and that was all"
    );
    drop(ben);
    assert_eq!(hear_all(&ann), [r#"{"kind":"left","name":"Ben"}"#]);
}

#[test]
fn malformed_and_long_lines_end_the_connection() {
    windlass::block_on(async {
        let server = start().await;
        let mut page = Page::connect(&server).await;
        page.say("before joining").await;
        assert_eq!(page.end().await.0, CloseCode::Policy);

        let mut page = Page::join(&server, "harbour", "Ann", "a").await;
        page.0.send(Message::text("no JSON")).await.unwrap();
        assert_eq!(page.end().await.0, CloseCode::Policy);

        let mut page = Page::join(&server, "harbour", "Ann", "a").await;
        page.say(&"x".repeat(100_000)).await;
        assert_eq!(page.end().await.0, CloseCode::Size);

        let nameless = Page::join(&server, "harbour", " \n ", "a").await;
        assert_eq!(nameless.end().await.0, CloseCode::Policy);
    });
}

#[test]
fn a_late_member_receives_the_longest_lines() {
    windlass::block_on(async {
        let server = start().await;
        let mut ann = Page::join(&server, "harbour", "Ann", "a").await;
        ann.next_event().await;
        let (line, mut others) = ("⚓".repeat(1_000), Vec::new());
        for name in ["Ben", "Cid", "Dan", "Eve", "Fay"] {
            let mut other = Page::join(&server, "harbour", name, name).await;
            for _ in 0..10 {
                other.say(&line).await;
            }
            others.push(other);
        }
        for _ in 0..50 {
            ann.hear_line().await;
        }
        let mut late = Page::join(&server, "harbour", "Gil", "g").await;
        let welcome = late.next_event().await;
        assert_eq!(welcome["lines"].as_array().unwrap().len(), 50);
    });
}

#[test]
fn pages_of_other_sites_are_rejected() {
    windlass::block_on(async {
        let server = start().await;
        for (origin, is_welcome) in [("http://evil.example", false), ("", true)] {
            let stream = TcpStream::connect(server.addr).await.unwrap();
            let own = format!("http://{}", server.addr);
            let origin = if origin.is_empty() { &own } else { origin };
            let url = format!("ws://{}/socket", server.addr);
            let mut request = url.into_client_request().unwrap();
            request
                .headers_mut()
                .insert("origin", origin.parse().unwrap());
            match client_async(request, stream).await {
                Ok(_) => assert!(is_welcome),
                Err(Error::Http(response)) => assert!(!is_welcome && response.status() == 403),
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn a_stopping_server_closes_all_and_accepts_none() {
    windlass::block_on(async {
        let Server {
            addr,
            stop,
            serving,
        } = start().await;
        let server = Server {
            addr,
            stop: stop.clone(),
            serving: windlass::spawn(async { 0 }),
        };
        let mut ann = Page::join(&server, "harbour", "Ann", "a").await;
        ann.next_event().await;
        // One connection that has started a request, and one that is idle.
        let mut reading = TcpStream::connect(addr).await.unwrap();
        reading
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut start = [0; 15];
        reading.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        stop.stop();
        assert_eq!(
            ann.end().await,
            (CloseCode::Restart, "the server stops".to_owned())
        );
        let mut rest = String::new();
        reading.read_to_string(&mut rest).await.unwrap();
        assert!(
            rest.trim_end().ends_with("</html>"),
            "the open response is complete"
        );
        assert_eq!(serving.await, 0, "no connection was cancelled");
        assert!(TcpStream::connect(addr).await.is_err());
    });
}

#[test]
fn a_long_header_is_rejected_before_it_is_complete() {
    windlass::block_on(async {
        let server = start().await;
        let mut client = TcpStream::connect(server.addr).await.unwrap();
        let mut sending = client.clone();
        let flood = windlass::spawn(async move {
            sending.write_all(b"GET / HTTP/1.1\r\nx: ").await?;
            sending.write_all(&vec![b'x'; 10 << 20]).await
        });
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await; // a reset, if bytes were left
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "));
        assert!(flood.await.is_err(), "not all of it was taken");
    });
}

/// Sends a line when it is woken, once.
struct Parrot {
    member: SendWrapper<Membership>,
    is_silent: AtomicBool,
}

impl Wake for Parrot {
    fn wake(self: Arc<Self>) {
        if !self.is_silent.swap(true, Relaxed) {
            self.member.say("ahoy");
        }
    }
}

#[test]
fn a_waker_can_send_and_all_receive_one_order() {
    let rooms = Rc::new(Rooms::new());
    let (ann, ben) = (take_seat(&rooms, "Ann", 0), take_seat(&rooms, "Ben", 0));
    let parrot = Arc::new(Parrot {
        member: SendWrapper::new(take_seat(&rooms, "Parrot", 0)),
        is_silent: AtomicBool::new(true),
    });
    hear_all(&ann);
    hear_all(&ben);
    let waker = parrot.clone().into();
    let mut cid = None;
    for wakes in ["who comes", "what is said", "who leaves"] {
        let mut receiving = [Box::pin(ann.next_event()), Box::pin(ben.next_event())];
        for receiving in &mut receiving {
            let polled = receiving.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        parrot.is_silent.store(false, Relaxed);
        match wakes {
            "who comes" => cid = Some(take_seat(&rooms, "Cid", 0)),
            "what is said" => ann.say("hush"),
            _ => cid = None,
        }
        drop(receiving);
        let heard = hear_all(&ann);
        assert_eq!(heard.len(), 2, "{wakes}, and a line: {heard:?}");
        assert_eq!(hear_all(&ben), heard);
    }
    drop(cid);
}

#[test]
fn the_chat_works_over_tls() {
    let identity = Identity::self_signed().unwrap();
    let connector = connector([identity.chain[0].clone()], &["http/1.1"]).unwrap();
    let acceptor = Acceptor::new(identity, &["http/1.1"]).unwrap();
    windlass::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let (rooms, stop) = (Rc::new(Rooms::new()), StopSource::new());
            chat::serve_tls(stream, rooms, stop.token(), chat::limits()).await;
        };
        let chatting = async {
            let stream = TcpStream::connect(addr).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector.connect(name, stream).await.unwrap();
            let mut page = Page(
                client_async("wss://localhost/socket", stream)
                    .await
                    .unwrap()
                    .0,
            );
            page.send(json!({"kind": "join", "room": "harbour", "name": "Ann", "key": "a"}))
                .await;
            assert_eq!(page.next_event().await["kind"], "welcome");
            page.say("ahoy").await;
            assert_eq!(page.hear_line().await, "Ann: ahoy");
            page.0.close(None).await.unwrap();
            while let Some(Ok(_)) = page.0.next().await {}
        };
        join(serving, chatting).await;
    });
}

#[test]
fn a_member_that_reads_late_receives_each_line_in_order() {
    windlass::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let stream = FrameStream::new(listener.accept().await.unwrap().0);
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (mut page, limits) = (Page(client), chat::limits());
        let mut socket = WebSocket::upgraded(stream.clone(), Vec::new(), limits).await;
        let rooms = Rc::new(Rooms::new());
        let (ann, ben) = (take_seat(&rooms, "Ann", 0), take_seat(&rooms, "Ben", 0));
        hear_all(&ben);
        ben.connect(stream);
        // Until the system takes no more, and a line is queued.
        let (mut said, padding) = (0, "⚓".repeat(990));
        let queued = loop {
            ann.say(&format!("{said} {padding}"));
            said += 1;
            hear_all(&ann);
            if let Some(line) = ben.next_event().now_or_never() {
                break line.unwrap();
            }
        };
        assert!(said > 1, "lines were sent without their member's task");
        ann.say(&format!("{said} {padding}"));
        let sending = async {
            socket.send(Message::Text(queued)).await.unwrap();
            let last = ben.next_event().await.unwrap();
            socket.send(Message::Text(last)).await.unwrap();
        };
        let hearing = async {
            for number in 0..=said {
                assert_eq!(page.hear_line().await, format!("Ann: {number} {padding}"));
            }
        };
        join(sending, hearing).await;
        ann.say("ahoy");
        assert_eq!(ben.next_event().now_or_never(), None, "it is sent at once");
        assert_eq!(page.hear_line().await, "Ann: ahoy");
    });
}
