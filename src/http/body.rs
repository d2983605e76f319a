//! Bodies of requests and responses.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::hyper::body::Incoming;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::{BoxError, Error, ErrorKind, Target};
use super::limits::{Limits, Progress};
use crate::task::Local;
use crate::time::{Sleep, now, sleep_until};

/// The body of a request or a response.
///
/// Text, bytes and `()` convert into the body of a request. Such a body can be sent again, so the
/// client can follow a redirect with it, or retry. A body that is a [`stream`](Body::stream) is
/// sent once.
///
/// The body of a response arrives while it is read, as a [`Stream`] of [`Bytes`] or as an
/// `http_body::Body`, which also has the trailers. [`bytes`](Body::bytes) and [`text`](Body::text)
/// read it to its end, up to a limit.
///
/// # Errors
///
/// Reading fails with an [`Error`] if the connection breaks before the end of the body, or if a
/// time limit of the client expires.
///
/// # Cancel safety
///
/// Dropping the body of a response before its end closes its connection (HTTP/1.1) or resets its
/// stream (HTTP/2). After the end, the connection is back in the pool.
///
/// # Examples
///
/// ```no_run
/// use futures::TryStreamExt;
/// use windlass::http::Client;
///
/// # fn main() -> Result<(), windlass::http::Error> {
/// windlass::block_on(async {
///     let mut body = Client::new().get("https://www.rust-lang.org/").await?.into_body();
///     while let Some(bytes) = body.try_next().await? {
///         println!("{} bytes", bytes.len());
///     }
///     Ok(())
/// })
/// # }
/// ```
pub struct Body {
    inner: Inner,
    /// The time of the last piece of a request's body, which the client reads.
    progress: Option<Arc<Progress>>,
}

enum Inner {
    /// `None` after the bytes were taken.
    Full(Option<Bytes>),
    Stream(Local<Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError>>>>),
    Incoming(Box<Received>),
}

/// The body of a response.
struct Received {
    incoming: Incoming,
    target: Arc<Target>,
    limits: Limits,
    /// Present while the body waits, if there is a limit.
    sleep: Option<Sleep>,
}

impl Body {
    /// Returns a body without bytes, as `Body::from(())` does.
    pub fn empty() -> Body {
        Body::from(Bytes::new())
    }

    /// Returns the body of a request that is made of the items of a stream. It need not be `Send`.
    ///
    /// The request is sent with `Transfer-Encoding: chunked`, or as the frames of HTTP/2. Set
    /// `Content-Length` if the length is known.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use futures::stream;
    /// use windlass::http::{Body, Client, Request};
    ///
    /// # fn main() -> Result<(), windlass::http::Error> {
    /// windlass::block_on(async {
    ///     let parts = ["ahoy, ", "windlass"].map(std::io::Result::Ok);
    ///     let body = Body::stream(stream::iter(parts));
    ///     let request = Request::post("http://localhost:7000/").body(body).unwrap();
    ///     Client::new().request(request).await?;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn stream<S, T, E>(stream: S) -> Body
    where
        S: Stream<Item = Result<T, E>> + 'static,
        T: Into<Bytes>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Body::new(Streamed { stream })
    }

    /// Returns the body of a request that is an `http_body::Body`, for example one with trailers or
    /// with a known length. It need not be `Send`.
    ///
    /// # Examples
    ///
    /// The body of a response becomes the body of a request:
    ///
    /// ```no_run
    /// use windlass::http::{Body, Client, Request};
    ///
    /// # fn main() -> Result<(), windlass::http::Error> {
    /// windlass::block_on(async {
    ///     let client = Client::new();
    ///     let source = client.get("http://localhost:7000/source").await?;
    ///     let body = Body::new(source.into_body());
    ///     client.request(Request::put("http://localhost:7000/copy").body(body).unwrap()).await?;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn new<B>(body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        Inner::Stream(Local::new(Box::pin(BoxErrors { body }))).into()
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::BodyLimit`] if the body has more than `limit` bytes. If the response
    /// declares its length, the error comes before the first read. Also fails as described at
    /// [`Body`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the bytes that were read, and closes the connection.
    ///
    /// # Examples
    ///
    /// ```
    /// use windlass::http::Body;
    ///
    /// # fn main() -> Result<(), windlass::http::Error> {
    /// windlass::block_on(async {
    ///     assert_eq!(Body::from("ahoy").bytes(4).await?, "ahoy");
    ///     assert!(Body::from("ahoy").bytes(3).await.is_err());
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, Error> {
        let declared = HttpBody::size_hint(&self).lower();
        if declared > limit as u64 {
            return Err(self.over(limit));
        }
        let Some(first) = self.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        let mut second = self.next().await.transpose()?;
        if second.is_none() && first.len() <= limit {
            return Ok(first); // without a copy
        }
        let mut all = BytesMut::with_capacity((declared as usize).max(first.len()));
        all.extend_from_slice(&first);
        while let Some(next) = second {
            if next.len() > limit.saturating_sub(all.len()) {
                return Err(self.over(limit));
            }
            all.extend_from_slice(&next);
            second = self.next().await.transpose()?;
        }
        match all.len() <= limit {
            true => Ok(all.freeze()),
            false => Err(self.over(limit)),
        }
    }

    /// Reads the body to its end as text in UTF-8.
    ///
    /// # Errors
    ///
    /// Fails as [`bytes`](Body::bytes) does, and with [`ErrorKind::Body`] if the text is not UTF-8.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the text that was read, and closes the connection.
    pub async fn text(self, limit: usize) -> Result<String, Error> {
        let target = self.target();
        let bytes = self.bytes(limit).await?;
        String::from_utf8(bytes.into()).map_err(|error| {
            let text = "the body is not UTF-8: read it by `bytes`";
            Error::new(ErrorKind::Body, text)
                .on(target)
                .because(error.utf8_error())
        })
    }

    /// Returns the next bytes.
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn over(&self, limit: usize) -> Error {
        let text = format!(
            "the body has more than {limit} bytes: read it as a stream, or raise the limit"
        );
        Error::new(ErrorKind::BodyLimit, text).on(self.target())
    }

    fn target(&self) -> Option<Arc<Target>> {
        match &self.inner {
            Inner::Incoming(received) => Some(received.target.clone()),
            _ => None,
        }
    }

    pub(super) fn received(incoming: Incoming, target: Arc<Target>, limits: Limits) -> Body {
        let received = Received {
            incoming,
            target,
            limits,
            sleep: None,
        };
        Inner::Incoming(Box::new(received)).into()
    }

    /// Returns the body once more, if it can be sent again.
    pub(super) fn again(&self) -> Option<Body> {
        match &self.inner {
            Inner::Full(Some(bytes)) => Some(Body::from(bytes.clone())),
            _ => None,
        }
    }

    pub(super) fn report_to(mut self, progress: &Arc<Progress>) -> Body {
        self.progress = Some(progress.clone());
        self
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match &mut self.inner {
            Inner::Full(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                bytes.map(|bytes| Ok(Frame::data(bytes)))
            }
            Inner::Stream(body) => ready!(body.as_mut().poll_frame(cx)).map(|frame| {
                let text = "the stream of the request's body failed";
                frame.map_err(|error| Error::new(ErrorKind::Body, text).because(error))
            }),
            Inner::Incoming(received) => ready!(received.poll_frame(cx)),
        };
        if let Some(progress) = &self.progress {
            progress.set();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Inner::Stream(body) => body.is_end_stream(),
            Inner::Incoming(received) => received.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Inner::Stream(body) => body.size_hint(),
            Inner::Incoming(received) => received.incoming.size_hint(),
        }
    }
}

impl Received {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.sleep = None;
                let frame = frame.map(|frame| {
                    frame.map_err(|error| {
                        let text = "the connection broke before the end of the response";
                        Error::new(ErrorKind::Body, text)
                            .on(Some(self.target.clone()))
                            .because(error)
                    })
                });
                return Poll::Ready(frame);
            }
            Poll::Pending => {}
        }
        if self.sleep.is_none() {
            self.sleep = self.limits.next(now()).map(sleep_until);
        }
        let Some(sleep) = &mut self.sleep else {
            return Poll::Pending;
        };
        ready!(Pin::new(sleep).poll(cx));
        self.sleep = None;
        let error = self.limits.error(now(), "the rest of the body");
        Poll::Ready(Some(Err(error.on(Some(self.target.clone())))))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, Error>;

    /// Skips the trailers.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Some(frame) = ready!(self.as_mut().poll_frame(cx)?) {
            if let Ok(bytes) = frame.into_data() {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
        Poll::Ready(None)
    }
}

impl From<Inner> for Body {
    fn from(inner: Inner) -> Body {
        Body {
            inner,
            progress: None,
        }
    }
}

impl From<()> for Body {
    fn from((): ()) -> Body {
        Body::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Inner::Full(Some(bytes)).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::from(Bytes::from(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::from(Bytes::from(text))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Body::from(Bytes::from_static(text.as_bytes()))
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("size", &HttpBody::size_hint(self))
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// A stream as a body.
    struct Streamed<S> {
        #[pin]
        stream: S,
    }
}

impl<S, T, E> HttpBody for Streamed<S>
where
    S: Stream<Item = Result<T, E>>,
    T: Into<Bytes>,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let item = ready!(self.project().stream.poll_next(cx));
        Poll::Ready(item.map(|item| item.map(|bytes| Frame::data(bytes.into()))))
    }
}

pin_project! {
    /// A body with its errors in boxes.
    struct BoxErrors<B> {
        #[pin]
        body: B,
    }
}

impl<B> HttpBody for BoxErrors<B>
where
    B: HttpBody,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        self.project().body.poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
