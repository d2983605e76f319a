//! The accept loop of a server, and its graceful shutdown.

use std::future::Future;
use std::time::Duration;

use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopToken, TaskGroup};
use windlass::time::timeout;

/// Limits of a server's connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of concurrent connections. Further ones wait in the accept queue, which holds
    /// 4,096 by Linux's default (`net.core.somaxconn`). That is less than this limit, so a client
    /// behind a crowd of stalled connections waits at most until those time out. The process needs
    /// as many file descriptors (`ulimit -n`).
    pub connections: usize,
    /// Time limit of the shutdown. Longer than a WebSocket waits for its peer's close frame.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            grace: Duration::from_secs(10),
        }
    }
}

/// Serves until stopped. Then it accepts no more connections and waits for the open ones, which
/// have the same token, up to [`Limits::grace`]. The rest is cancelled. Returns the number of
/// cancelled connections.
///
/// # Cancel safety
///
/// If the future is dropped, all connections are dropped.
pub async fn serve<F>(
    listener: TcpListener,
    stop: &StopToken,
    limits: Limits,
    serve_one: impl Fn(TcpStream) -> F,
) -> usize
where
    F: Future<Output = ()> + 'static,
{
    // A panic of one handler must not end the other connections.
    let mut connections = TaskGroup::independent().limit(limits.connections);
    let accept = async |connections: &mut TaskGroup<()>| {
        connections.room().await;
        listener.accept().await
    };
    let start = |connections: &TaskGroup<()>, stream: TcpStream| {
        connections.spawn(serve_one(stream));
    };
    while let Some(accepted) = stop.run(accept(&mut connections)).await {
        match accepted {
            Ok((stream, _)) => start(&connections, stream),
            // for example out of file descriptors; accept pauses by itself
            Err(error) => eprintln!("{error}"),
        }
    }
    // Also serves connections that the system has completed. The budget of a poll, which does not
    // apply to `try_accept`, would leave some of them in the accept queue.
    while connections.len() < limits.connections {
        let Ok((stream, _)) = listener.try_accept() else {
            break;
        };
        start(&connections, stream);
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(limits.grace, all).await;
    connections.len()
}
