//! The figures, on a Unix socket.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::figures::prometheus;
use super::message::Exchange;
use crate::Task;
use crate::net::unix::{UnixListener, UnixStream};
use crate::task::TaskGroup;
use crate::time::timeout;

/// How long a client may take, and how many may be served at once.
const LIMIT: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 16;

/// Answers until this is dropped, which removes the file.
pub(super) struct Scraped {
    path: PathBuf,
    _answering: Task<()>,
}

impl Drop for Scraped {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // somebody else may have removed it
    }
}

pub(super) async fn listen(path: &Path, exchange: Rc<Exchange>) -> io::Result<Scraped> {
    let listener = match UnixListener::bind(path).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path).await?
        }
        bound => bound?,
    };
    Ok(Scraped {
        path: path.into(),
        _answering: crate::spawn(answer_all(listener, exchange)),
    })
}

/// Whether it's a socket on which nobody listens: a program that was killed leaves it there.
fn is_stale(path: &Path) -> bool {
    let refused = std::os::unix::net::UnixStream::connect(path).map_err(|error| error.kind());
    matches!(refused, Err(io::ErrorKind::ConnectionRefused))
}

async fn answer_all(listener: UnixListener, exchange: Rc<Exchange>) {
    let mut clients = TaskGroup::independent().limit(AT_ONCE);
    loop {
        clients.room().await;
        // After an error the next call rests before it tries again.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let text = prometheus(&exchange.figures.borrow());
        clients.spawn(async move {
            let _ = timeout(LIMIT, answer(stream, text)).await;
        });
    }
}

/// Whatever is asked, the answer is the figures.
async fn answer(stream: UnixStream, text: String) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    // To close a socket that holds unread bytes would be an error at the other side.
    while !request.ends_with(b"\r\n\r\n") && request.len() < 16 * 1024 {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => request.extend(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let head = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    super::link::write(&stream, (head + &text).as_bytes()).await
}
