//! tokio on one thread, with its `LocalRuntime`: no `Send`, and a thread-local queue.

use std::{future::Future, io, time::Duration};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UdpSocket, UnixListener},
    runtime::{Builder, LocalOptions},
    task::{JoinHandle, spawn_local},
    time::{sleep, timeout},
};

use super::runtime::Runtime;
use super::server::{self, ANY, Proto, Server, connection_tasks};

pub(crate) struct Tokio;

impl Runtime for Tokio {
    type Handle<T: 'static> = JoinHandle<T>;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        runtime.expect("a runtime").block_on(future)
    }

    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_local(future)
    }

    fn detach<T: 'static>(handle: JoinHandle<T>) {
        drop(handle);
    }

    async fn join<T: 'static>(handle: JoinHandle<T>) -> T {
        handle.await.expect("no task panics")
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        sleep(duration)
    }
}

pub(crate) fn serve(server: &Server) -> Result<()> {
    server::run::<Tokio, _, _, _>(server, tcp, unix, udp)
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
    let listener = UnixListener::bind(server.path())?;
    server.listens(server.path().display());
    loop {
        let (stream, _) = listener.accept().await?;
        connection(stream, &server);
    }
}

async fn udp(server: Server) -> Result<()> {
    let socket = UdpSocket::bind(ANY).await?;
    server.listens(socket.local_addr()?);
    let mut buffer = vec![0; server.buffer()];
    loop {
        let (n, from) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..n], from).await?;
    }
}

connection_tasks!(Tokio);

/// As `echo`, with a timeout that is reset for each request.
async fn echo_in_time(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    size: usize,
    limit: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let n = timeout(limit, stream.read(&mut buffer)).await??;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}
