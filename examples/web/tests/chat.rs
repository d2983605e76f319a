//! The chat, as its pages see it.

use std::net::SocketAddr;
use std::rc::Rc;

use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, client_async};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use windlass::Task;
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopSource, StopToken};
use windlass_web::chat;
use windlass_web::rooms::{Join, Rooms, Seat};
use windlass_web::server::{Limits, serve};

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

struct Page(WebSocketStream<TcpStream>);

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

    async fn send(&mut self, value: Value) {
        self.0.send(Message::text(value.to_string())).await.unwrap();
    }

    async fn say(&mut self, text: &str) {
        self.send(json!({"kind": "say", "text": text})).await;
    }

    async fn hear(&mut self) -> Value {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The next line that is said; who comes and goes is skipped.
    async fn hear_line(&mut self) -> String {
        loop {
            let event = self.hear().await;
            if event["kind"] == "line" {
                return format!("{}: {}", event["name"], event["text"]).replace('"', "");
            }
        }
    }

    /// The code with which the server ends it, and why.
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

#[test]
fn a_line_reaches_all_in_the_room_and_nobody_else() {
    windlass::block_on(async {
        let server = start().await;
        let mut ann = Page::join(&server, "harbour", "Ann", "a").await;
        assert_eq!(
            ann.hear().await,
            json!({"kind": "welcome", "names": ["Ann"], "lines": []})
        );
        let mut cid = Page::join(&server, "galley", "Cid", "c").await;
        cid.hear().await;
        let mut ben = Page::join(&server, "harbour", "Ben", "b").await;
        ben.hear().await;
        assert_eq!(ann.hear().await, json!({"kind": "joined", "name": "Ben"}));
        ann.say("ahoy").await;
        assert_eq!(ann.hear_line().await, "Ann: ahoy");
        assert_eq!(ben.hear_line().await, "Ann: ahoy");
        drop(ben);
        assert_eq!(ann.hear().await, json!({"kind": "left", "name": "Ben"}));
        cid.say("soup").await;
        let first = cid.hear().await;
        assert_eq!(
            first["text"], "soup",
            "nothing came from the harbour before"
        );
    });
}

#[test]
fn who_comes_later_gets_the_last_lines_and_who_comes_back_only_the_new_ones() {
    let rooms = Rc::new(Rooms::new());
    let join = |name: &str, after| {
        let (room, key) = ("harbour".to_owned(), name.to_owned());
        rooms
            .join(Join {
                room,
                name: name.to_owned(),
                key,
                after,
            })
            .unwrap()
    };
    let numbers = |welcome: &str| -> Vec<u64> {
        let welcome: Value = serde_json::from_str(welcome).unwrap();
        let lines = welcome["lines"].as_array().unwrap();
        lines
            .iter()
            .map(|line| line["number"].as_u64().unwrap())
            .collect()
    };
    let next = |seat: &Seat| seat.hear().now_or_never().unwrap().unwrap();
    let ann = join("Ann", 0);
    for _ in 0..60 {
        ann.say("ahoy");
    }
    let ben = join("Ben", 0);
    let all = numbers(&next(&ben));
    assert_eq!(all.len(), 50);
    let back = join("Ben", all[47]);
    assert_eq!(numbers(&next(&back)), all[48..]);
}

#[test]
fn a_name_belongs_to_whoever_has_its_key() {
    windlass::block_on(async {
        let server = start().await;
        let mut ann = Page::join(&server, "harbour", "Ann", "a").await;
        ann.hear().await;
        let thief = Page::join(&server, "harbour", "Ann", "t").await;
        assert_eq!(
            thief.end().await,
            (CloseCode::Policy, "that name is taken".to_owned())
        );
        let mut back = Page::join(&server, "harbour", "Ann", "a").await;
        assert_eq!(back.hear().await["names"], json!(["Ann"]));
        ann.end().await; // the old seat counts no more
        back.say("here again").await;
        assert_eq!(back.hear_line().await, "Ann: here again");
    });
}

#[test]
fn a_member_who_reads_too_slowly_is_shown_out_and_the_others_go_on() {
    let rooms = Rc::new(Rooms::new());
    let join = |name: &str| {
        let (name, room) = (name.to_owned(), "harbour".to_owned());
        rooms
            .join(Join {
                room,
                key: name.clone(),
                name,
                after: 0,
            })
            .unwrap()
    };
    let (ann, ben) = (join("Ann"), join("Ben"));
    for _ in 0..1_000 {
        ann.say("ahoy");
        while ann.hear().now_or_never().is_some() {}
    }
    let mut kept = 0;
    while ben.hear().now_or_never().unwrap().is_some() {
        kept += 1;
    }
    assert_eq!(kept, 64, "no more than that was kept, and that was all");
    drop(ben);
    let last = ann.hear().now_or_never().unwrap().unwrap();
    assert_eq!(&*last, r#"{"kind":"left","name":"Ben"}"#);
}

#[test]
fn nonsense_and_lines_that_are_too_long_end_the_connection() {
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
fn who_comes_late_is_told_of_the_longest_lines_too() {
    windlass::block_on(async {
        let server = start().await;
        let mut ann = Page::join(&server, "harbour", "Ann", "a").await;
        ann.hear().await;
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
        let welcome = late.hear().await;
        assert_eq!(welcome["lines"].as_array().unwrap().len(), 50);
    });
}

#[test]
fn pages_of_other_sites_are_refused() {
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
fn a_server_that_stops_says_goodbye_to_all_and_takes_nobody_any_more() {
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
        ann.hear().await;
        // One that has just begun with a request, and one that waits for the next.
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
            "what was under way came whole"
        );
        assert_eq!(serving.await, 0, "nobody was cut off");
        assert!(TcpStream::connect(addr).await.is_err());
    });
}

#[test]
fn a_header_that_is_too_long_is_refused_before_it_has_come_whole() {
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
