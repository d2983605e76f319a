//! What the scripts share.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::sleep;

/// The results of a script.
pub(crate) type Results = io::Result<Vec<String>>;
pub(crate) type Running = Pin<Box<dyn Future<Output = Results>>>;
/// The scripts, by name.
pub(crate) type Scripts = &'static [(&'static str, fn(Place) -> Running)];

/// Lists scripts, which are functions of this module.
macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        pub(crate) const SCRIPTS: crate::script::Scripts = &[
            $((stringify!($name), |place| Box::pin($name(place))),)*
        ];
    };
}
pub(crate) use scripts;

/// The names of Unix sockets that a script may use.
pub(crate) struct Place {
    directory: PathBuf,
    unique: String,
}

impl Place {
    pub(crate) fn new(directory: PathBuf, unique: &str) -> Place {
        let unique = unique.to_owned();
        Place { directory, unique }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Returns a name without a file.
    pub(crate) fn abstract_name(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("\0{}-{name}", self.unique))
    }
}

/// Collects results.
#[derive(Default)]
pub(crate) struct Log(Vec<String>);

impl Log {
    pub(crate) fn add<T: Debug>(&mut self, what: &str, result: io::Result<T>) {
        self.0.push(format!("{what}: {}", told(result)));
    }

    /// Adds the success alone, for values that differ between systems.
    pub(crate) fn done<T>(&mut self, what: &str, result: io::Result<T>) {
        self.add(what, result.map(drop));
    }

    pub(crate) fn note(&mut self, what: &str, value: impl Debug) {
        self.0.push(format!("{what}: {value:?}"));
    }

    #[allow(clippy::unnecessary_wraps)] // the last line of a script
    pub(crate) fn end(self) -> Results {
        Ok(self.0)
    }
}

/// Returns the value, or the kind and the code of the error.
pub(crate) fn told<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => {
            let source = error.get_ref().and_then(|it| it.source());
            let source = source.and_then(|it| it.downcast_ref::<io::Error>());
            let code = error
                .raw_os_error()
                .or(source.and_then(io::Error::raw_os_error));
            format!("{:?} {code:?}", error.kind())
        }
    }
}

/// Returns two ends of a connection, the connecting one first.
pub(crate) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    connect(&listener).await
}

pub(crate) async fn connect(listener: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let connect = TcpStream::connect(listener.local_addr()?);
    let (near, far) = futures::try_join!(connect, listener.accept())?;
    Ok((near, far.0))
}

/// Waits until a condition is true.
pub(crate) async fn until(mut is_true: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_true() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("the condition never becomes true");
}

/// Calls an operation until it doesn't fail with `WouldBlock`.
pub(crate) async fn retried<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut last = None;
    until(|| {
        let result = operation();
        let is_done = !matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        last = Some(result);
        is_done
    })
    .await;
    last.expect("it was called")
}

/// Calls an operation until it fails, and returns this error.
pub(crate) async fn first_error<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut last = None;
    until(|| {
        last = Some(operation()).filter(Result::is_err);
        matches!(&last, Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock)
    })
    .await;
    last.expect("it has failed")
}

/// Polls a future once. Returns whether it has completed.
pub(crate) async fn completes_at_once(future: impl Future) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

/// Reads until the end or an error, and returns the bytes as a text.
pub(crate) async fn rest(mut stream: impl AsyncRead + Unpin) -> (String, Option<String>) {
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).await.err();
    let error = error.map(|error| told::<()>(Err(error)));
    (String::from_utf8_lossy(&bytes).into_owned(), error)
}

/// Bytes that are recognized when they are lost, doubled or out of order.
pub(crate) fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(next).collect()
}
