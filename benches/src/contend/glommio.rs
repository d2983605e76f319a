//! glommio's single-threaded executor, without its own pinning, because the suite pins the process.

use std::{future::Future, io, time::Duration};

use anyhow::{Result, anyhow};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use glommio::{
    GlommioError, LocalExecutorBuilder, Placement, Task,
    net::{TcpListener, UdpSocket, UnixListener},
    spawn_local,
    timer::{sleep, timeout},
};

use super::runtime::Runtime;
use super::server::{ANY, HOUR, Proto, Server};

pub(crate) struct Glommio;

impl Runtime for Glommio {
    type Handle<T: 'static> = Task<T>;

    fn block_on<F: Future>(future: F) -> F::Output {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).make();
        executor.expect("an executor").run(future)
    }

    fn spawn<F>(future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_local(future)
    }

    fn detach<T: 'static>(task: Task<T>) {
        task.detach();
    }

    async fn join<T: 'static>(task: Task<T>) -> T {
        task.await
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        sleep(duration)
    }
}

pub(crate) fn serve(server: &Server) -> Result<()> {
    let server = server.clone();
    Glommio::block_on(async {
        for _ in 0..server.idle_timers {
            spawn_local(sleep(HOUR)).detach();
        }
        match server.proto {
            Proto::Echo | Proto::Churn => tcp(server).await,
            Proto::Unix => unix(server).await,
            Proto::Udp => udp(server).await,
        }
    })
}

async fn tcp(server: Server) -> Result<()> {
    let listener = TcpListener::bind(ANY).map_err(plain)?;
    server.listens(listener.local_addr().map_err(plain)?);
    loop {
        let stream = listener.accept().await.map_err(plain)?;
        stream.set_nodelay(true).map_err(plain)?;
        connection(stream, &server);
    }
}

async fn unix(server: Server) -> Result<()> {
    let listener = UnixListener::bind(server.path()).map_err(plain)?;
    server.listens(server.path().display());
    loop {
        let stream = listener.accept().await.map_err(plain)?;
        connection(stream, &server);
    }
}

async fn udp(server: Server) -> Result<()> {
    let socket = UdpSocket::bind(ANY).map_err(plain)?;
    server.listens(socket.local_addr().map_err(plain)?);
    let mut buffer = vec![0; server.buffer()];
    loop {
        let (n, from) = socket.recv_from(&mut buffer).await.map_err(plain)?;
        socket.send_to(&buffer[..n], from).await.map_err(plain)?;
    }
}

/// Its errors are not `Send`.
fn plain(error: GlommioError<()>) -> anyhow::Error {
    anyhow!("{error}")
}

/// Spawns the task of a connection.
fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, server: &Server) {
    let size = server.buffer();
    match (server.proto, server.timeout) {
        (Proto::Churn, _) => drop(spawn_local(answer(stream, server.size)).detach()),
        (_, None) => drop(spawn_local(echo(stream, size)).detach()),
        (_, Some(limit)) => drop(spawn_local(echo_in_time(stream, size, limit)).detach()),
    }
}

/// One request of that many bytes.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; size];
    stream.read_exact(&mut buffer).await?;
    stream.write_all(&buffer).await
}

/// Until the peer closes.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

/// The same, with a timeout that is reset for each request.
async fn echo_in_time(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    size: usize,
    limit: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let n = {
            let read = async { stream.read(&mut buffer).await.map_err(GlommioError::from) };
            let read = timeout(limit, read).await;
            read.map_err(|_: GlommioError<()>| io::ErrorKind::TimedOut)?
        };
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}
