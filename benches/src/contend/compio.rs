//! compio on its io_uring driver. Reads and writes own their buffers.

use std::{future::Future, io, time::Duration};

use anyhow::Result;
use compio::{
    BufResult,
    buf::IntoInner,
    buf::IoBuf,
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UdpSocket, UnixListener},
    runtime::{JoinHandle, spawn},
    time::{sleep, timeout},
};

use super::runtime::Runtime;
use super::server::{self, ANY, Proto, Server};

pub(crate) struct Compio;

impl Runtime for Compio {
    type Handle<T: 'static> = JoinHandle<T>;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = compio::runtime::Runtime::new();
        runtime.expect("a runtime").block_on(future)
    }

    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn(future)
    }

    fn detach<T: 'static>(handle: JoinHandle<T>) {
        handle.detach();
    }

    async fn join<T: 'static>(handle: JoinHandle<T>) -> T {
        handle.await.expect("no task panics")
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        sleep(duration)
    }
}

pub(crate) fn serve(server: &Server) -> Result<()> {
    server::run::<Compio, _, _, _>(server, tcp, unix, udp)
}

async fn tcp(server: Server) -> Result<()> {
    let listener = TcpListener::bind(ANY).await?;
    server.listens(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connection(stream, &server);
    }
}

async fn unix(server: Server) -> Result<()> {
    let listener = UnixListener::bind(server.path()).await?;
    server.listens(server.path().display());
    loop {
        let (stream, _) = listener.accept().await?;
        connection(stream, &server);
    }
}

async fn udp(server: Server) -> Result<()> {
    let socket = UdpSocket::bind(ANY).await?;
    server.listens(socket.local_addr()?);
    let mut buffer = Vec::with_capacity(server.buffer());
    loop {
        let BufResult(received, filled) = socket.recv_from(buffer).await;
        let (n, from) = received?;
        let BufResult(sent, slice) = socket.send_to(filled.slice(..n), from).await;
        sent?;
        buffer = slice.into_inner();
    }
}

/// Spawns the task of a connection.
fn connection(stream: impl AsyncRead + AsyncWrite + 'static, server: &Server) {
    let size = server.buffer();
    match (server.proto, server.timeout) {
        (Proto::Churn, _) => spawn(answer(stream, server.size)).detach(),
        (_, None) => spawn(echo(stream, size)).detach(),
        (_, Some(limit)) => spawn(echo_in_time(stream, size, limit)).detach(),
    }
}

/// One request of that many bytes.
async fn answer(mut stream: impl AsyncRead + AsyncWrite, size: usize) -> io::Result<()> {
    let buffer = Vec::with_capacity(size);
    let BufResult(read, filled) = stream.read_exact(buffer).await;
    read?;
    let BufResult(written, _) = stream.write_all(filled).await;
    written
}

/// Until the peer closes.
async fn echo(mut stream: impl AsyncRead + AsyncWrite, size: usize) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(size);
    loop {
        let BufResult(read, filled) = stream.read(buffer).await;
        let n = read?;
        if n == 0 {
            return Ok(());
        }
        let BufResult(written, slice) = stream.write_all(filled.slice(..n)).await;
        written?;
        buffer = slice.into_inner();
    }
}

/// The same, with a timeout that is reset for each request.
async fn echo_in_time(
    mut stream: impl AsyncRead + AsyncWrite,
    size: usize,
    limit: Duration,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(size);
    loop {
        let BufResult(read, filled) = match timeout(limit, stream.read(buffer)).await {
            Ok(read) => read,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        let n = read?;
        if n == 0 {
            return Ok(());
        }
        let BufResult(written, slice) = stream.write_all(filled.slice(..n)).await;
        written?;
        buffer = slice.into_inner();
    }
}
