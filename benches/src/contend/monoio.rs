//! monoio with both of its drivers. Reads and writes own their buffers, as io_uring requires.

use std::{future::Future, io, time::Duration};

use anyhow::Result;
use monoio::{
    BufResult, IoUringDriver, LegacyDriver, RuntimeBuilder,
    buf::{Slice, SliceMut},
    io::{AsyncReadRent, AsyncReadRentExt, AsyncWriteRent, AsyncWriteRentExt},
    net::{ListenerOpts, TcpListener, UnixListener, udp::UdpSocket},
    spawn,
    task::JoinHandle,
    time::{TimeDriver, sleep, timeout},
};

use super::runtime::Runtime;
use super::server::{self, ANY, Proto, Server};

/// The driver on io_uring.
pub(crate) struct Uring;

/// The driver on epoll.
pub(crate) struct Epoll;

macro_rules! runtime {
    ($name:ident, $driver:ident) => {
        impl Runtime for $name {
            type Handle<T: 'static> = JoinHandle<T>;

            fn block_on<F: Future>(future: F) -> F::Output {
                let runtime = RuntimeBuilder::<$driver>::new().enable_timer().build();
                let mut runtime: monoio::Runtime<TimeDriver<$driver>> = runtime.expect("a runtime");
                runtime.block_on(future)
            }

            fn spawn<F>(future: F) -> JoinHandle<F::Output>
            where
                F: Future + 'static,
                F::Output: 'static,
            {
                spawn(future)
            }

            fn detach<T: 'static>(handle: JoinHandle<T>) {
                drop(handle);
            }

            async fn join<T: 'static>(handle: JoinHandle<T>) -> T {
                handle.await
            }

            fn sleep(duration: Duration) -> impl Future<Output = ()> {
                sleep(duration)
            }
        }
    };
}

runtime!(Uring, IoUringDriver);
runtime!(Epoll, LegacyDriver);

pub(crate) fn serve<R: Runtime>(server: &Server) -> Result<()> {
    server::run::<R, _, _, _>(server, tcp, unix, udp)
}

async fn tcp(server: Server) -> Result<()> {
    let listener = TcpListener::bind(ANY)?;
    server.listens(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connection(stream, &server);
    }
}

async fn unix(server: Server) -> Result<()> {
    // Newer kernels reject SO_REUSEPORT, which is its default, for Unix sockets.
    let options = ListenerOpts::default().reuse_port(false);
    let listener = UnixListener::bind_with_config(server.path(), &options)?;
    server.listens(server.path().display());
    loop {
        let (stream, _) = listener.accept().await?;
        connection(stream, &server);
    }
}

async fn udp(server: Server) -> Result<()> {
    let socket = UdpSocket::bind(ANY)?;
    server.listens(socket.local_addr()?);
    let mut buffer = vec![0; server.buffer()];
    loop {
        let (received, filled) = socket.recv_from(buffer).await;
        let (n, from) = received?;
        let (sent, slice) = socket.send_to(Slice::new(filled, 0, n), from).await;
        sent?;
        buffer = slice.into_inner();
    }
}

/// Spawns the task of a connection.
fn connection(stream: impl AsyncReadRent + AsyncWriteRent + 'static, server: &Server) {
    let size = server.buffer();
    match (server.proto, server.timeout) {
        (Proto::Churn, _) => drop(spawn(answer(stream, server.size))),
        (_, None) => drop(spawn(echo(stream, size))),
        (_, Some(limit)) => drop(spawn(echo_in_time(stream, size, limit))),
    }
}

/// One request of that many bytes.
async fn answer(mut stream: impl AsyncReadRent + AsyncWriteRent, size: usize) -> io::Result<()> {
    let buffer = vec![0; size];
    let (read, filled) = stream.read_exact(SliceMut::new(buffer, 0, size)).await;
    read?;
    let filled = Slice::new(filled.into_inner(), 0, size);
    let (written, _) = stream.write_all(filled).await;
    written.map(drop)
}

/// Until the peer closes.
async fn echo(mut stream: impl AsyncReadRent + AsyncWriteRent, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let (read, filled): BufResult<usize, Vec<u8>> = stream.read(buffer).await;
        let n = read?;
        if n == 0 {
            return Ok(());
        }
        let (written, slice) = stream.write_all(Slice::new(filled, 0, n)).await;
        written?;
        buffer = slice.into_inner();
    }
}

/// The same, with a timeout that is reset for each request.
async fn echo_in_time(
    mut stream: impl AsyncReadRent + AsyncWriteRent,
    size: usize,
    limit: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let (read, filled): BufResult<usize, Vec<u8>> = timeout(limit, stream.read(buffer)).await?;
        let n = read?;
        if n == 0 {
            return Ok(());
        }
        let (written, slice) = stream.write_all(Slice::new(filled, 0, n)).await;
        written?;
        buffer = slice.into_inner();
    }
}
