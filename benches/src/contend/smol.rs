//! smol's crates for one thread, a `LocalExecutor` of async-executor under async-io's `block_on`.

use std::{
    future::Future,
    io,
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    time::Duration,
};

use anyhow::Result;
use async_executor::{LocalExecutor, Task};
use async_io::{Async, Timer};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};

use super::runtime::Runtime;
use super::server::{ANY, HOUR, Proto, Server, connection_tasks};

pub(crate) struct Smol;

thread_local! {
    static EXECUTOR: &'static LocalExecutor<'static> = Box::leak(Box::new(LocalExecutor::new()));
}

impl Runtime for Smol {
    type Handle<T: 'static> = Task<T>;

    /// The root future is a task as well. Outside of a task it would be polled in each turn.
    fn block_on<F: Future>(future: F) -> F::Output {
        let executor = EXECUTOR.with(|executor| *executor);
        async_io::block_on(executor.run(future))
    }

    fn spawn<F>(future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        EXECUTOR.with(|executor| executor.spawn(future))
    }

    fn detach<T: 'static>(task: Task<T>) {
        task.detach();
    }

    async fn join<T: 'static>(task: Task<T>) -> T {
        task.await
    }

    async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }
}

pub(crate) fn serve(server: &Server) -> Result<()> {
    for _ in 0..server.idle_timers {
        Smol::spawn(Smol::sleep(HOUR)).detach();
    }
    let server = server.clone();
    // In its own task, so that it is polled only when it was woken.
    let serving = Smol::spawn(async move {
        match server.proto {
            Proto::Echo | Proto::Churn => tcp(server).await,
            Proto::Unix => unix(server).await,
            Proto::Udp => udp(server).await,
        }
    });
    Smol::block_on(serving)
}

async fn tcp(server: Server) -> Result<()> {
    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0))?;
    server.listens(listener.get_ref().local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.get_ref().set_nodelay(true)?;
        connection(stream, &server);
    }
}

async fn unix(server: Server) -> Result<()> {
    let listener = Async::<UnixListener>::bind(server.path())?;
    server.listens(server.path().display());
    loop {
        let (stream, _) = listener.accept().await?;
        connection(stream, &server);
    }
}

async fn udp(server: Server) -> Result<()> {
    let socket = Async::new(UdpSocket::bind(ANY)?)?;
    server.listens(socket.get_ref().local_addr()?);
    let mut buffer = vec![0; server.buffer()];
    loop {
        let (n, from) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..n], from).await?;
    }
}

connection_tasks!(Smol);

/// As `echo`, with a timeout that is reset for each request.
async fn echo_in_time(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    size: usize,
    limit: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let n = {
            let late = async {
                Timer::after(limit).await;
                Err(io::ErrorKind::TimedOut.into())
            };
            stream.read(&mut buffer).or(late).await?
        };
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}
