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
use super::server::{self, ANY, Proto, Server, connection_tasks};

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
    server::run::<Glommio, _, _, _>(server, tcp, unix, udp)
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

connection_tasks!(Glommio);

/// As `echo`, with a timeout that is reset for each request.
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
