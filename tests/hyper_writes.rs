//! The number of writes per response of hyper, with and without vectored writes.

#![cfg(unix)]

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures::future::poll_fn;
use futures::io::{AsyncRead, AsyncWrite};
use hyper::body::{Body, Incoming};
use hyper::rt::Write;
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use windlass::block_on;
use windlass::hyper::{Executor, Io};
use windlass::net::unix::UnixStream;

/// A stream that counts its writes, with or without vectored writes.
struct Counted<T> {
    stream: T,
    passes_on: bool,
    writes: Rc<Cell<usize>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.writes
            .set(self.writes.get() + usize::from(written.is_ready()));
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.passes_on {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| buf));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.writes
            .set(self.writes.get() + usize::from(written.is_ready()));
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// A response with the length given in the path.
async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let length = request.uri().path()[1..].parse().unwrap();
    Ok(Response::new("a".repeat(length)))
}

async fn length(response: Response<Incoming>) -> usize {
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        length += frame.unwrap().data_ref().map_or(0, |data| data.len());
    }
    length
}

fn request(length: usize) -> Request<String> {
    let request = Request::builder().uri(format!("/{length}"));
    request.header("host", "ship").body(String::new()).unwrap()
}

/// Sockets with buffers that hold a whole response, so every write is complete.
fn wide_pair() -> (UnixStream, UnixStream) {
    let pair = UnixStream::pair().unwrap();
    for end in [&pair.0, &pair.1] {
        rustix::net::sockopt::set_socket_send_buffer_size(end, 4 << 20).unwrap();
    }
    pair
}

/// Returns the number of writes of each response, over HTTP/1.1.
fn writes_per_response(passes_on: bool, lengths: &[usize]) -> Vec<usize> {
    block_on(async {
        let (theirs, ours) = wide_pair();
        let writes = Rc::new(Cell::new(0));
        let stream = Counted {
            stream: theirs,
            passes_on,
            writes: writes.clone(),
        };
        let io = Io::new(stream);
        let io = if passes_on { io.vectored() } else { io };
        let server = server::conn::http1::Builder::new();
        let _server = windlass::spawn(server.serve_connection(io, service_fn(answer)));
        let client = client::conn::http1::handshake(Io::new(ours)).await;
        let (mut sender, connection) = client.unwrap();
        let _client = windlass::spawn(connection);
        let mut counts = Vec::new();
        for &expected in lengths {
            let before = writes.get();
            let response = sender.send_request(request(expected)).await.unwrap();
            assert_eq!(length(response).await, expected);
            counts.push(writes.get() - before);
        }
        counts
    })
}

#[test]
fn head_and_body_of_a_response_take_one_write() {
    let lengths = [4, 4_000, 70_000, 150_000];
    assert_eq!(writes_per_response(false, &lengths), [1; 4]);
    assert_eq!(writes_per_response(true, &lengths), [1; 4]);
}

#[test]
fn the_rest_of_a_long_response_is_not_split_small() {
    for length in [FLAT_BYTES, FLAT_BYTES + 1, 10 * FLAT_BYTES] {
        let (head, tail) = ([1; 100], [3; 7]);
        let body = vec![2; length];
        let written = Rc::new(RefCell::new(Vec::new()));
        let mut io = Io::new(Chunks(written.clone()));
        let whole = [&head[..], &body, &tail].concat();
        let mut rest = &whole[..];
        while !rest.is_empty() {
            // hyper passes the rest of each buffer
            let body_left = rest.len().saturating_sub(tail.len()).min(body.len());
            let (mut parts, mut from) = (Vec::new(), rest);
            for part in [rest.len().saturating_sub(length + tail.len()), body_left] {
                let (part, others) = from.split_at(part);
                parts.push(IoSlice::new(part));
                from = others;
            }
            parts.push(IoSlice::new(from));
            let write = poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &parts));
            rest = &rest[block_on(write).unwrap()..];
        }
        let written = written.borrow();
        assert!(written.concat() == whole);
        let shortest = written.iter().map(Vec::len).min().unwrap();
        assert!(shortest >= FLAT_BYTES / 4, "{shortest}");
    }
}

const FLAT_BYTES: usize = 512 * 1024;

/// Records the data of each write.
struct Chunks(Rc<RefCell<Vec<Vec<u8>>>>);

impl AsyncWrite for Chunks {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().push(buf.to_vec());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn few_bytes_are_joined_for_vectored_streams_too() {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut io = Io::new(Calls(calls.clone())).vectored();
    for body in [4, COPIED_BYTES - 100, COPIED_BYTES - 99] {
        let (head, body) = ([1; 100], vec![2; body]);
        let parts = [IoSlice::new(&head), IoSlice::new(&body)];
        let write = poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &parts));
        assert_eq!(block_on(write).unwrap(), head.len() + body.len());
    }
    assert_eq!(*calls.borrow(), ["write", "write", "write_vectored"]);
}

const COPIED_BYTES: usize = 4 * 1024;

/// Records the kind of each write.
struct Calls(Rc<RefCell<Vec<&'static str>>>);

impl AsyncWrite for Calls {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().push("write");
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().push("write_vectored");
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn http_2_frames_take_one_write() {
    block_on(async {
        let (theirs, ours) = wide_pair();
        let writes = Rc::new(Cell::new(0));
        let stream = Counted {
            stream: theirs,
            passes_on: false,
            writes: writes.clone(),
        };
        let server = server::conn::http2::Builder::new(Executor);
        let _server = windlass::spawn(server.serve_connection(Io::new(stream), service_fn(answer)));
        let client = client::conn::http2::handshake(Executor, Io::new(ours));
        let (mut sender, connection) = client.await.unwrap();
        let _client = windlass::spawn(connection);
        // The first response is written together with the settings and their acknowledgement.
        for number in 0..4 {
            let before = writes.get();
            let response = sender.send_request(request(5_000)).await.unwrap();
            assert_eq!(length(response).await, 5_000);
            assert!(number == 0 || writes.get() - before == 1);
        }
    });
}
