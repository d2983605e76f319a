//! Serves the metrics by HTTP on a Unix socket.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::message::Exchange;
use super::metrics::prometheus;
use crate::Task;
use crate::net::unix::UnixListener;
use crate::page_server::{Clients, Response, SocketFile};

/// The running server. Dropping it stops the server and removes the socket's file.
pub(super) struct MetricsServer {
    _file: SocketFile,
    _server: Task<()>,
}

pub(super) fn listen(path: &Path, exchange: Rc<Exchange>) -> io::Result<MetricsServer> {
    let (file, listener) = SocketFile::bind(path, None)?;
    let listener = UnixListener::try_from(listener)?;
    Ok(MetricsServer {
        _file: file,
        _server: crate::spawn(serve(listener, exchange)),
    })
}

/// Responds with the metrics, for any path.
async fn serve(listener: UnixListener, exchange: Rc<Exchange>) {
    let mut clients = Clients::default();
    loop {
        // After an error, the next call pauses before it tries again.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let exchange = exchange.clone();
        clients.serve(stream, move |_| {
            Response::new(
                "text/plain; version=0.0.4",
                prometheus(&exchange.figures.borrow()),
            )
        });
    }
}
