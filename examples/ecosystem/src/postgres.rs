//! PostgreSQL by tokio-postgres, on windlass's sockets.
//!
//! `connect_raw` takes any stream with tokio's traits, which the feature `compat` of tokio-util
//! puts on a stream of windlass. The connection is a task. No runtime of tokio exists.

use std::future::poll_fn;
use std::net::SocketAddr;

use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Error, NoTls, Notification};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use windlass::net::TcpStream;

/// Connects, and returns the notifications (`LISTEN`, `NOTIFY`) of the connection.
pub async fn connect(
    config: &Config,
    addr: SocketAddr,
) -> anyhow::Result<(Client, UnboundedReceiver<Notification>)> {
    let stream = TcpStream::connect(addr).await?;
    let (client, mut connection) = config.connect_raw(stream.compat(), NoTls).await?;
    let (sender, receiver) = unbounded();
    windlass::spawn(async move {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(message))) => {
                    drop(sender.unbounded_send(message))
                }
                Some(Ok(_)) => {}
                // The client's calls fail with the error.
                Some(Err(_)) | None => return,
            }
        }
    })
    .detach();
    Ok((client, receiver))
}

/// Cancels the query that runs on the client of the token.
pub async fn cancel(token: CancelToken, addr: SocketAddr) -> anyhow::Result<()> {
    let stream = TcpStream::connect(addr).await?;
    let cancelled: Result<(), Error> = token.cancel_query_raw(stream.compat(), NoTls).await;
    Ok(cancelled?)
}
