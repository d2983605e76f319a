//! Slow, hostile and hasty clients against `serve` and `Http`.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::join_all;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use windlass::hyper::{Executor, Io, Timer};
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopSource, Task};
use windlass::time::{interval, timeout};
use windlass::{block_on, spawn};
use windlass_web::Upload;
use windlass_web::http::{self, Http};
use windlass_web::server::{Limits, serve};

/// A server that answers on request.
struct Server {
    addr: SocketAddr,
    stop: StopSource,
    /// Requests that wait for their response.
    waiting: Queue,
    task: Task<usize>,
}

impl Server {
    async fn start(limits: Limits, http: http::Limits) -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (stop, waiting) = (StopSource::new(), Rc::new(RefCell::new(Vec::new())));
        let queue = waiting.clone();
        let service = service_fn(move |request: Request<Upload>| answer(queue.clone(), request));
        let (http, token) = (Http::new(http), stop.token());
        let task = spawn(async move {
            let serve_one = |stream| http.clone().serve(stream, token.clone(), service.clone());
            serve(listener, &token, limits, serve_one).await
        });
        Ok(Server {
            addr,
            stop,
            waiting,
            task,
        })
    }

    async fn until_waiting(&self, count: usize) {
        until(|| self.waiting.borrow().len() == count).await;
    }

    fn answer_all(&self) {
        for release in self.waiting.take() {
            let _ = release.send(());
        }
    }
}

const ONE_PLACE: Limits = Limits {
    connections: 1,
    grace: Duration::from_secs(10),
};

/// Long enough for well-behaved clients, even on a busy machine.
fn impatient() -> http::Limits {
    http::Limits {
        time_limit: Duration::from_millis(250),
        ..http::Limits::default()
    }
}

type Queue = Rc<RefCell<Vec<oneshot::Sender<()>>>>;

type Answer = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(queue: Queue, request: Request<Upload>) -> Result<Response<Answer>, Infallible> {
    let until_released = || {
        let (release, released) = oneshot::channel();
        queue.borrow_mut().push(release);
        released.map(|_| Bytes::from_static(b"ahoy"))
    };
    let body = match request.uri().path() {
        "/wait" => Full::new(until_released().await).boxed_unsync(),
        "/wait/in/body" => {
            let frame = until_released().map(|text| Ok(Frame::data(text)));
            StreamBody::new(frame.into_stream()).boxed_unsync()
        }
        "/count" => match request.into_body().collect().await {
            Ok(body) => format!("{} bytes", body.to_bytes().len()).boxed_unsync(),
            Err(error) => format!("{:?}", error.kind()).boxed_unsync(),
        },
        "/long" => "ahoy".repeat(4 << 20).boxed_unsync(),
        _ => "ahoy".to_owned().boxed_unsync(),
    };
    Ok(Response::new(body))
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        windlass::time::sleep(Duration::from_millis(1)).await;
    }
}

fn get(addr: SocketAddr, path: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(format!("http://{addr}{path}")).header("host", "localhost");
    request.body(Empty::new()).unwrap()
}

type Answered = Result<Bytes, hyper::Error>;

async fn ask_http1(addr: SocketAddr, path: &'static str) -> Answered {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(Io::new(stream)).await?;
    let _connection = spawn(connection);
    let response = sender.send_request(get(addr, path)).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

async fn ask_http2(addr: SocketAddr, path: &'static str) -> Answered {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http2::handshake(Executor, Io::new(stream)).await?;
    let _connection = spawn(connection);
    let response = sender.send_request(get(addr, path)).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

/// Sends the bytes, and returns the server's output until it disconnects.
async fn converse(addr: SocketAddr, said: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(said).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Turns a hanging server into a failure.
fn run<F: Future<Output = io::Result<()>>>(test: F) {
    let ended = block_on(timeout(Duration::from_secs(120), test));
    ended.expect("it ended in time").unwrap();
}

#[test]
fn one_port_speaks_both_versions() {
    run(async {
        let server = Server::start(Limits::default(), http::Limits::default()).await?;
        assert_eq!(ask_http1(server.addr, "/").await.unwrap(), "ahoy");
        assert_eq!(ask_http2(server.addr, "/").await.unwrap(), "ahoy");
        Ok(())
    });
}

#[test]
fn a_shutdown_finishes_requests_and_refuses_connections() {
    run(async {
        let server = Server::start(Limits::default(), http::Limits::default()).await?;
        let old = join_all((0..20).map(|_| spawn(ask_http1(server.addr, "/wait"))));
        let new = join_all((0..20).map(|_| spawn(ask_http2(server.addr, "/wait"))));
        server.until_waiting(40).await;
        let mut idle = TcpStream::connect(server.addr).await?;
        server.stop.stop();
        assert_eq!(idle.read(&mut [0]).await?, 0, "it was idle");
        let refused = TcpStream::connect(server.addr).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        server.answer_all();
        for answer in [old.await, new.await].into_iter().flatten() {
            assert_eq!(answer.unwrap(), "ahoy");
        }
        assert_eq!(server.task.await, 0);
        Ok(())
    });
}

#[test]
fn a_shutdown_serves_the_whole_accept_queue() {
    const CLIENTS: usize = 120; // more than a poll of a task may accept
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let clients = join_all((0..CLIENTS).map(|_| TcpStream::connect(addr))).await;
        assert!(clients.iter().all(Result::is_ok));
        let (stop, served) = (StopSource::new(), Cell::new(0));
        stop.stop();
        serve(listener, &stop.token(), Limits::default(), |_| {
            served.set(served.get() + 1);
            async {}
        })
        .await;
        assert_eq!(served.get(), CLIENTS);
        Ok(())
    });
}

#[test]
fn an_endless_request_is_cancelled_after_the_grace_time() {
    run(async {
        let limits = Limits {
            grace: Duration::from_millis(20),
            ..Limits::default()
        };
        let server = Server::start(limits, http::Limits::default()).await?;
        let asking = [
            spawn(ask_http1(server.addr, "/wait")),
            spawn(ask_http2(server.addr, "/wait")),
        ];
        server.until_waiting(2).await;
        server.stop.stop();
        assert_eq!(server.task.await, 2);
        for answer in join_all(asking).await {
            assert!(answer.is_err());
        }
        // The handlers of HTTP/2 are separate tasks, and end with their connection.
        let waiting = server.waiting;
        until(|| waiting.borrow().iter().all(oneshot::Sender::is_canceled)).await;
        Ok(())
    });
}

#[test]
fn clients_with_slow_heads_are_disconnected() {
    run(async {
        let limits = http::Limits {
            head_time: Duration::from_millis(20),
            time_limit: Duration::from_millis(20),
            ..http::Limits::default()
        };
        let server = Server::start(Limits::default(), limits).await?;
        // The last two are the shortest recognizable prefixes of an HTTP/2 connection.
        for said in [
            "",
            "G",
            "GET / HTTP/1.1\r\nA: b\r\n",
            "P",
            "PRI * HTTP/2.0\r\n",
        ] {
            let answer = converse(server.addr, said.as_bytes()).await?;
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
                "{answer}"
            );
        }
        Ok(())
    });
}

#[test]
fn a_long_head_is_rejected_before_it_is_complete() {
    run(async {
        let limits = http::Limits {
            head_bytes: 16 * 1024,
            ..http::Limits::default()
        };
        let server = Server::start(Limits::default(), limits).await?;
        let mut stream = TcpStream::connect(server.addr).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nA: ").await?;
        let mut writer = stream.clone();
        // Ten megabytes, unless the server disconnects first.
        let endless = spawn(async move {
            for _ in 0..10 {
                writer.write_all(&[b'a'; 1024 * 1024]).await?;
            }
            io::Result::Ok(())
        });
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"HTTP/1.1 431");
        assert!(endless.await.is_err());
        Ok(())
    });
}

#[test]
fn connections_beyond_the_limit_are_queued() {
    run(async {
        let server = Server::start(ONE_PLACE, http::Limits::default()).await?;
        let first = spawn(ask_http1(server.addr, "/wait"));
        server.until_waiting(1).await;
        let mut second = spawn(ask_http1(server.addr, "/"));
        // Later clients of another server were answered.
        let other = Server::start(Limits::default(), http::Limits::default()).await?;
        assert_eq!(ask_http1(other.addr, "/").await.unwrap(), "ahoy");
        assert!((&mut second).now_or_never().is_none());
        server.answer_all();
        assert_eq!(first.await.unwrap(), "ahoy");
        assert_eq!(second.await.unwrap(), "ahoy");
        Ok(())
    });
}

#[test]
fn a_slow_upload_is_an_error_of_its_handler() {
    run(async {
        let server = Server::start(Limits::default(), impatient()).await?;
        let head = b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
        for is_trickle in [false, true] {
            let mut stream = TcpStream::connect(server.addr).await?;
            stream.write_all(head).await?;
            let mut writer = stream.clone();
            let _trickle = spawn(async move {
                let mut ticks = interval(Duration::from_millis(1));
                while is_trickle && writer.write_all(b"a").await.is_ok() {
                    ticks.tick().await;
                }
            });
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            assert!(answer.ends_with("\r\n\r\nTimedOut"), "{answer}");
        }

        let stream = TcpStream::connect(server.addr).await?;
        let (mut sender, connection) = http2::handshake(Executor, Io::new(stream)).await.unwrap();
        let _connection = spawn(connection);
        let (_sending, body) = mpsc::unbounded::<io::Result<Frame<Bytes>>>();
        let request = Request::post("http://localhost/count").body(StreamBody::new(body));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let answer = response.into_body().collect().await.unwrap();
        assert_eq!(answer.to_bytes(), "TimedOut");
        Ok(())
    });
}

#[test]
fn a_client_that_does_not_read_is_disconnected() {
    run(async {
        let server = Server::start(ONE_PLACE, impatient()).await?;
        let mut old = TcpStream::connect(server.addr).await?;
        old.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
            .await?;
        assert_eq!(ask_http1(server.addr, "/").await.unwrap(), "ahoy");

        // Reads the connection and answers pings, but doesn't read the body.
        let stream = TcpStream::connect(server.addr).await?;
        let (mut sender, connection) = http2::handshake(Executor, Io::new(stream)).await.unwrap();
        let _connection = spawn(connection);
        let unread = sender
            .send_request(get(server.addr, "/long"))
            .await
            .unwrap();
        assert_eq!(ask_http1(server.addr, "/").await.unwrap(), "ahoy");
        drop(unread);
        Ok(())
    });
}

#[test]
fn an_http2_connection_with_only_pings_is_shut_down() {
    run(async {
        let server = Server::start(Limits::default(), impatient()).await?;
        let stream = TcpStream::connect(server.addr).await?;
        stream.set_nodelay(true)?;
        let mut client = http2::Builder::new(Executor);
        client
            .timer(Timer)
            .keep_alive_interval(Duration::from_millis(10))
            .keep_alive_timeout(Duration::from_secs(60))
            .keep_alive_while_idle(true);
        let (mut sender, connection) = client.handshake(Io::new(stream)).await.unwrap();
        let connection = spawn(connection);
        sender.send_request(get(server.addr, "/")).await.unwrap();
        connection.await.unwrap(); // gracefully
        Ok(())
    });
}

#[test]
fn the_time_of_the_server_is_not_charged_to_clients() {
    run(async {
        let server = Server::start(Limits::default(), impatient()).await?;
        let paths = ["/wait", "/wait/in/body"];
        let old = join_all(paths.map(|path| spawn(ask_http1(server.addr, path))));
        let new = join_all(paths.map(|path| spawn(ask_http2(server.addr, path))));
        server.until_waiting(4).await;
        // Meanwhile, clients that started later are disconnected one after the other.
        for _ in 0..5 {
            let mut silent = TcpStream::connect(server.addr).await?;
            assert_eq!(silent.read(&mut [0]).await?, 0);
        }
        server.answer_all();
        for answer in [old.await, new.await].into_iter().flatten() {
            assert_eq!(answer.unwrap(), "ahoy");
        }
        Ok(())
    });
}
