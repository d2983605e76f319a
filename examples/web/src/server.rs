//! A server's connections: how many, and how they end.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use windlass::net::{TcpListener, TcpStream};
use windlass::sync::Semaphore;
use windlass::task::{StopToken, TaskGroup};
use windlass::time::timeout;

/// How long connections may go on once the server was told to stop: longer than a WebSocket waits
/// for its peer to say goodbye.
pub const GRACE: Duration = Duration::from_secs(10);

/// How many connections there may be. More than these wait in the system's queue.
pub const CONNECTIONS: usize = 1_000;

/// Serves until it's told to stop. Then no connection is taken any more; those that are open, which
/// have the same token, may end in good order within [`GRACE`], and what is left is cancelled.
pub async fn serve<F>(
    listener: TcpListener,
    stop: &StopToken,
    serve_one: impl Fn(TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    let places = Rc::new(Semaphore::new(CONNECTIONS));
    // If the handler of one panics, that is no reason to hang up on the others.
    let connections = TaskGroup::independent();
    let next = async || {
        let place = places.clone().acquire_owned(1).await;
        Ok::<_, io::Error>((place, listener.accept().await?.0))
    };
    while let Some(accepted) = stop.run(next()).await {
        match accepted {
            Ok((place, stream)) => {
                let serving = serve_one(stream);
                connections.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => eprintln!("{error}"), // no descriptor left, say
        }
    }
    drop(listener);
    Ok(timeout(GRACE, connections.close()).await?)
}
