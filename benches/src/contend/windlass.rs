//! windlass, through its public API.

use std::{cell::RefCell, future::Future, io, rc::Rc, time::Duration};

use anyhow::Result;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use windlass::{
    Task,
    net::{
        TcpListener, TcpStream, UdpSocket,
        unix::{UnixListener, UnixStream},
    },
    spawn,
    time::{sleep, timeout},
};

use super::runtime::Runtime;
use super::server::{self, ANY, Proto, Server, connection_tasks};

pub(crate) struct Windlass;

/// With timers that don't wait for one another.
pub(crate) struct Precise;

macro_rules! runtime {
    ($name:ident, $block_on:expr) => {
        impl Runtime for $name {
            type Handle<T: 'static> = Task<T>;

            fn block_on<F: Future>(future: F) -> F::Output {
                $block_on(future)
            }

            fn block_on_with_slack<F: Future>(slack: Option<Duration>, future: F) -> F::Output {
                match slack {
                    Some(slack) => with_slack(slack, future),
                    None => Self::block_on(future),
                }
            }

            fn spawn<F>(future: F) -> Task<F::Output>
            where
                F: Future + 'static,
                F::Output: 'static,
            {
                spawn(future)
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
    };
}

runtime!(Windlass, windlass::block_on);
runtime!(Precise, |future| with_slack(Duration::ZERO, future));

fn with_slack<F: Future>(slack: Duration, future: F) -> F::Output {
    let runtime = windlass::Runtime::builder().timer_slack(slack).build();
    runtime.expect("a runtime").block_on(future)
}

pub(crate) fn serve(server: &Server) -> Result<()> {
    server::run::<Windlass, _, _, _>(server, tcp, unix, udp)
}

async fn tcp(server: Server) -> Result<()> {
    let listener = TcpListener::bind(ANY).await?;
    server.listens(listener.local_addr()?);
    let shared = Rc::new(RefCell::new(vec![0; server.buffer()]));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        if server.is_shared {
            spawn(echo_without_buffer(stream, shared.clone())).detach();
        } else {
            connection(stream, &server);
        }
    }
}

async fn unix(server: Server) -> Result<()> {
    let listener = UnixListener::bind(server.path()).await?;
    server.listens(server.path().display());
    loop {
        let (stream, _): (UnixStream, _) = listener.accept().await?;
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

connection_tasks!(Windlass);

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

async fn echo_without_buffer(stream: TcpStream, shared: Rc<RefCell<Vec<u8>>>) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let (n, written) = {
            let mut buffer = shared.borrow_mut();
            match stream.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(0) => return Ok(()),
                Ok(n) => (n, stream.try_write(&buffer[..n])?),
                Err(error) => return Err(error),
            }
        };
        // The messages here are small, and the socket's own buffer is empty.
        assert_eq!(n, written, "a message did not fit into the socket");
    }
}
