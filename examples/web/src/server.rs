//! A server's loop: from a listener to its connections' good end.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopToken, TaskGroup};
use windlass::time::{sleep, timeout};

/// How many connections there may be, and how they end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many are served at once. Further ones wait in the system's queue. That holds 4,096 at
    /// most, fewer than are served: so whoever stands behind a crowd that is about to be given up
    /// waits until it is, and no longer. The process has to be allowed as many descriptors
    /// (`ulimit -n`), or else these are the limit.
    pub connections: usize,
    /// How long they may go on once the server was told to stop: longer than a WebSocket waits for
    /// its peer to say goodbye.
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

/// Serves until it's told to stop. Then no connection is taken any more; those that are open, which
/// have the same token, may end in good order until [`Limits::grace`] is over, and what is left is
/// cut off. Gives the number of those.
///
/// # Cancel safety
///
/// When the future is dropped, so are all connections.
pub async fn serve<F>(
    listener: TcpListener,
    stop: &StopToken,
    limits: Limits,
    serve_one: impl Fn(TcpStream) -> F,
) -> usize
where
    F: Future<Output = ()> + 'static,
{
    // If the handler of one panics, that is no reason to hang up on the others.
    let mut connections = TaskGroup::independent().limit(limits.connections);
    let accept = async |connections: &mut TaskGroup<()>| {
        connections.room().await;
        listener.accept().await
    };
    let start = |connections: &TaskGroup<()>, stream: TcpStream| {
        // Or what is small, a ping say, might wait for the client to confirm what came before.
        let _ = stream.set_nodelay(true); // fails if it has been reset already
        connections.spawn(serve_one(stream));
    };
    while let Some(accepted) = stop.run(accept(&mut connections)).await {
        match accepted {
            Ok((stream, _)) => start(&connections, stream),
            Err(error) => eprintln!("{error}"), // no descriptor left, say: accept rests by itself
        }
    }
    // Those that the system has already said yes to are served as well, as many as one turn of the
    // reactor takes: after it, the listener knows of them.
    sleep(Duration::ZERO).await;
    while let Some(Ok((stream, _))) = accept(&mut connections).now_or_never() {
        start(&connections, stream);
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(limits.grace, all).await;
    connections.len()
}
