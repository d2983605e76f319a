//! The connection of one client.

use std::io;
use std::pin::pin;
use std::rc::Rc;

use futures::AsyncWriteExt;
use futures::future::{Either, select};
use windlass::net::TcpStream;

use super::clients::Client;
use super::exchange::{Exchange, Step};
use super::state::State;

/// Serves a client until it disconnects, quits, or sends an invalid request.
///
/// # Errors
///
/// Fails if the connection fails, if the buffers of all clients exceed their limit, or if the log
/// cannot be written.
pub(crate) async fn serve(state: &State, stream: TcpStream, client: Rc<Client>) -> io::Result<()> {
    let mut exchange = Exchange::new(client);
    let served = run(state, &stream, &mut exchange).await;
    exchange.session.end(state);
    served
}

async fn run(state: &State, mut stream: &TcpStream, exchange: &mut Exchange) -> io::Result<()> {
    while !exchange.is_over {
        if let Some(mailbox) = &exchange.session.mailbox {
            let messages = mailbox.take();
            stream.write_all(&messages).await?;
        }
        if !exchange.has_backlog && !is_readable(stream, exchange).await? {
            continue;
        }
        if let Step::Unsent(unsent) = exchange.step(state, stream)? {
            if let Some(journal) = &state.journal {
                journal.reached(unsent.position).await?;
            }
            stream.write_all(&unsent.replies).await?;
            exchange.reuse(state, unsent);
        }
    }
    Ok(())
}

/// Waits for input. Returns false if a subscriber has messages instead.
async fn is_readable(stream: &TcpStream, exchange: &Exchange) -> io::Result<bool> {
    let Some(mailbox) = &exchange.session.mailbox else {
        return stream.readable().await.map(|()| true);
    };
    match select(pin!(stream.readable()), pin!(mailbox.filled())).await {
        Either::Left((readable, _)) => readable.map(|()| true),
        Either::Right(_) => Ok(false),
    }
}
