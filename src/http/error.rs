//! The error of the client, with the request, the step that failed and the cause.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use ::http::{Method, Uri};

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// The error of a request, or of reading its response.
///
/// Its text has the method and the URI, the step that failed, and the cause. `source` returns the
/// error of the layer below, for example a `std::io::Error`.
///
/// # Examples
///
/// ```
/// use windlass::http::{Client, ErrorKind};
///
/// windlass::block_on(async {
///     let error = Client::new().get("http://127.0.0.1:1/").await.unwrap_err();
///     assert_eq!(error.kind(), ErrorKind::Connect);
///     assert!(error.to_string().starts_with("GET http://127.0.0.1:1/: can't connect"));
/// });
/// ```
pub struct Error(Box<Parts>);

struct Parts {
    kind: ErrorKind,
    text: String,
    target: Option<Arc<Target>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The steps at which a request can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client's configuration or the request is invalid. Nothing was sent.
    Invalid,
    /// No connection to the server or its proxy. Nothing was sent to this server, which after a
    /// redirect is not the first one.
    Connect,
    /// The TLS handshake failed, for example because the certificate is not trusted. Nothing was
    /// sent to this server.
    Tls,
    /// A time limit has expired.
    Timeout,
    /// The connection failed before the head of the response. The server may have processed the
    /// request.
    Request,
    /// A redirect cannot be followed.
    Redirect,
    /// The body of the request or of the response failed.
    Body,
    /// The body of the response is larger than the limit.
    BodyLimit,
}

/// The request that an error is about.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) method: Method,
    pub(super) uri: Uri,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error(Box::new(Parts {
            kind,
            text: text.into(),
            target: None,
            source: None,
        }))
    }

    pub(super) fn on(mut self, target: Option<Arc<Target>>) -> Error {
        self.0.target = self.0.target.or(target);
        self
    }

    pub(super) fn because(mut self, source: impl Into<BoxError>) -> Error {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    pub(super) fn copy(&self) -> Error {
        Error(Box::new(Parts {
            kind: self.0.kind,
            text: self.0.text.clone(),
            target: self.0.target.clone(),
            source: self.0.source.clone(),
        }))
    }

    /// Returns the error of hyper-util's client. An error of this type below it, of the connector
    /// or of the request's body, describes the failure better.
    pub(super) fn of_exchange(error: hyper_util::client::legacy::Error) -> Error {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(ours) = cause.downcast_ref::<Error>() {
                return ours.copy();
            }
            source = cause.source();
        }
        if error.is_connect() {
            return Error::new(ErrorKind::Connect, "can't connect").because(error);
        }
        let text = "the connection failed before the response (the server may have processed the \
                    request)";
        Error::new(ErrorKind::Request, text).because(error)
    }

    /// Returns the step that failed.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the URI of the request that failed, which after a redirect is not the first one.
    /// `None` for errors of a [`Builder`](super::Builder).
    pub fn uri(&self) -> Option<&Uri> {
        self.0.target.as_ref().map(|target| &target.uri)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.0;
        if let Some(target) = &parts.target {
            write!(f, "{} {}: ", target.method, target.uri)?;
        }
        f.write_str(&parts.text)?;
        let mut last = parts.text.clone();
        let mut source = self.source();
        while let Some(cause) = source {
            source = cause.source();
            let text = cause.to_string();
            // Layers that repeat their cause, and hyper-util's names of its steps.
            if !last.contains(&text) && !cause.is::<hyper_util::client::legacy::Error>() {
                write!(f, ": {text}")?;
                last = text;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("text", &self.to_string())
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.0.source.as_ref()?;
        Some(&**source)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind() {
            ErrorKind::Invalid => io::ErrorKind::InvalidInput,
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::BodyLimit => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
