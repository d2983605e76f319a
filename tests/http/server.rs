//! Servers for the tests: one of hyper, and one that speaks raw bytes.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use futures::{AsyncReadExt, AsyncWriteExt};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, server};
use windlass::http::Body;
use windlass::hyper::{Executor, Io};
use windlass::net::{TcpListener, TcpStream};
use windlass::{Task, spawn};

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    /// How many connections it has accepted, and how many of them are open.
    pub(crate) accepted: Rc<Cell<usize>>,
    pub(crate) open: Rc<Cell<usize>>,
    _task: Task<()>,
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Serves each connection by `serve`.
    pub(crate) async fn raw<F>(serve: impl Fn(TcpStream, usize) -> F + 'static) -> Server
    where
        F: Future<Output = io::Result<()>> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (accepted, open) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (counted, counted_open) = (accepted.clone(), open.clone());
        let task = spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.set(counted.get() + 1);
                let serving = serve(stream, counted.get());
                let open = counted_open.clone();
                open.set(open.get() + 1);
                spawn(async move {
                    let _ = serving.await;
                    open.set(open.get() - 1);
                })
                .detach();
            }
        });
        Server {
            addr,
            accepted,
            open,
            _task: task,
        }
    }

    /// Serves HTTP/1.1.
    pub(crate) async fn http1<F>(handler: impl Fn(Request<Incoming>) -> F + 'static) -> Server
    where
        F: Future<Output = Response<Body>> + 'static,
    {
        let handler = Rc::new(handler);
        Server::raw(move |stream, _| {
            let handler = handler.clone();
            let service = service_fn(move |request| {
                let response = handler(request);
                async { Ok::<_, Infallible>(response.await) }
            });
            let connection =
                server::conn::http1::Builder::new().serve_connection(Io::new(stream), service);
            async { connection.await.map_err(io::Error::other) }
        })
        .await
    }

    /// Serves HTTP/2 without TLS.
    pub(crate) async fn http2<F>(handler: impl Fn(Request<Incoming>) -> F + 'static) -> Server
    where
        F: Future<Output = Response<Body>> + 'static,
    {
        let handler = Rc::new(handler);
        Server::raw(move |stream, _| {
            let handler = handler.clone();
            let service = service_fn(move |request| {
                let response = handler(request);
                async { Ok::<_, Infallible>(response.await) }
            });
            let connection = server::conn::http2::Builder::new(Executor)
                .serve_connection(Io::new(stream), service);
            async { connection.await.map_err(io::Error::other) }
        })
        .await
    }
}

/// Reads one head from a raw connection. `None` at its end.
pub(crate) async fn read_head(stream: &TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    let mut stream = stream;
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8(head).unwrap()))
}

pub(crate) async fn write(mut stream: &TcpStream, bytes: &str) -> io::Result<()> {
    stream.write_all(bytes.as_bytes()).await
}

pub(crate) fn text(text: impl Into<String>) -> Response<Body> {
    Response::new(Body::from(text.into()))
}

pub(crate) fn redirect(status: u16, location: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("location", location)
        .body(Body::from("moved"))
        .unwrap()
}
