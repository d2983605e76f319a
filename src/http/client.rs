//! The client: requests with retries, redirects and time limits, over hyper-util's pool.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{AUTHORIZATION, HeaderMap, PROXY_AUTHORIZATION};
use ::http::uri::Authority;
use ::http::{Extensions, Request, Response as HttpResponse, Uri, request};
use ::hyper::body::Incoming;
use ::hyper::rt;
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use tower_service::Service;

use super::body::Body;
use super::connector::{Used, has_valid_port};
use super::error::{Error, ErrorKind, Target};
use super::limits::{Limits, Progress};
use super::pool::Pool;
use super::redirect;
use crate::Runtime;
use crate::time::{now, timeout, timeout_at};

/// A response, with a body that arrives while it is read.
///
/// Its extensions have the [`FinalUri`].
pub type Response = HttpResponse<Body>;

/// The URI of a response after redirects, among the extensions of a [`Response`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalUri(pub Uri);

/// An HTTP client with a pool of connections. Clones share the pool.
///
/// A client belongs to a thread, and its connections to the runtime that polled their requests.
/// When that runtime ends, they are closed, and the client opens new ones in the next.
///
/// # Examples
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use windlass::http::Client;
/// use windlass::net::TcpListener;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// windlass::block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let url = format!("http://{}/", listener.local_addr()?);
///     let server = windlass::spawn(async move {
///         let (mut stream, _) = listener.accept().await?;
///         stream.read(&mut [0; 1024]).await?;
///         stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nahoy").await
///     });
///
///     let response = Client::new().get(url.as_str()).await?;
///     assert_eq!(response.status(), 200);
///     assert_eq!(response.into_body().text(1024).await?, "ahoy");
///     server.await?;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pool: Rc<Pool>,
    options: Rc<Options>,
}

pub(super) struct Options {
    pub(super) timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) redirects: usize,
    pub(super) https_only: bool,
    pub(super) headers: HeaderMap,
    pub(super) proxies: Option<Arc<Matcher>>,
}

/// How many bytes of a redirect's body are read, so that its connection can be used again.
const REDIRECT_BODY: usize = 16 * 1024;

/// How long this may take. Beyond it, a new connection is faster. A server that stops in the body
/// must not delay the redirect.
const REDIRECT_TIME: Duration = Duration::from_millis(200);

const BODY_AGAIN: &str = "the redirect requires the body again, which is a stream: send it to the \
                          new URI with a new request";

impl Client {
    pub(super) fn with(pool: Pool, options: Options) -> Client {
        Client {
            pool: Rc::new(pool),
            options: Rc::new(options),
        }
    }

    /// Sends a `GET` request. See [`request`](Client::request).
    ///
    /// # Errors
    ///
    /// Fails as [`request`](Client::request) does, and if the URI is invalid.
    ///
    /// # Cancel safety
    ///
    /// As [`request`](Client::request).
    pub async fn get<U>(&self, uri: U) -> Result<Response, Error>
    where
        U: TryInto<Uri>,
        U::Error: Into<::http::Error>,
    {
        match Request::get(uri).body(Body::empty()) {
            Ok(request) => self.request(request).await,
            Err(error) => Err(Error::new(ErrorKind::Invalid, "invalid URI").because(error)),
        }
    }

    /// Sends a request and waits for the head of its response. A response with any status is `Ok`.
    ///
    /// The URI is absolute, with `http` or `https`. A user name and password in it become an
    /// `Authorization` header. Over TLS the client uses HTTP/2 if the server offers it.
    ///
    /// A connection of the pool may have been closed by the server. A request that finds this
    /// before it is sent starts over on another connection. If the connection closes after that,
    /// the request is sent once more if its method is idempotent and its body is in memory.
    /// Otherwise it fails, because the server may have processed it.
    ///
    /// Redirects are followed as browsers do. A `POST` becomes a `GET` after 301 and 302, and any
    /// method but `HEAD` after 303. `Authorization` and `Cookie` are sent to the first origin only.
    ///
    /// # Errors
    ///
    /// Fails if the request is invalid, no connection can be made, the connection breaks before the
    /// head of the response, a time limit expires, or a redirect can't be followed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request. Its connection is closed (HTTP/1.1), or its stream
    /// is reset (HTTP/2). The server may have processed the request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use windlass::http::{Client, Request};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// windlass::block_on(async {
    ///     let request = Request::post("https://example.org/ships")
    ///         .header("content-type", "application/json")
    ///         .body(r#"{"name": "Windlass"}"#)?;
    ///     let response = Client::new().request(request).await?;
    ///     println!("{}", response.status());
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn request<B: Into<Body>>(&self, request: Request<B>) -> Result<Response, Error> {
        let limits = self.limits();
        let (mut head, body) = request.into_parts();
        let mut body: Body = body.into();
        move_user_to_header(&mut head.uri, &mut head.headers)?;
        for (name, value) in &self.options.headers {
            head.headers.entry(name).or_insert_with(|| value.clone());
        }
        let mut redirects = 0;
        loop {
            let target = Arc::new(Target {
                method: head.method.clone(),
                uri: head.uri.clone(),
            });
            let step = self.step(&mut head, body, limits, &target, redirects);
            match step.await.map_err(|error| error.on(Some(target)))? {
                ControlFlow::Break(response) => return Ok(response),
                ControlFlow::Continue(next) => body = next,
            }
            redirects += 1;
        }
    }

    fn limits(&self) -> Limits {
        let deadline = |limit| Some((limit, now().checked_add(limit)?));
        Limits {
            whole: self.options.timeout.and_then(deadline),
            idle: self.options.idle_timeout,
        }
    }

    /// Returns the response, or after a redirect the body of the next request, with its head in
    /// `head`.
    async fn step(
        &self,
        head: &mut request::Parts,
        body: Body,
        limits: Limits,
        target: &Arc<Target>,
        redirects: usize,
    ) -> Result<ControlFlow<Response, Body>, Error> {
        self.check(&head.uri)?;
        let again = body.again();
        let response = self.exchange(head, body, limits).await?;
        let limit = self.options.redirects;
        let next = match limit {
            0 => None,
            _ => redirect::target(&response, &head.uri, self.options.https_only)?,
        };
        let Some(next) = next else {
            let (mut head, incoming) = response.into_parts();
            head.extensions.insert(FinalUri(target.uri.clone()));
            let body = Body::received(incoming, target.clone(), limits);
            return Ok(ControlFlow::Break(HttpResponse::from_parts(head, body)));
        };
        let failed = |text| Err(Error::new(ErrorKind::Redirect, text));
        if redirects == limit {
            return failed(format!("more than {limit} redirects, the next to {next}"));
        }
        let is_bodiless = redirect::follow(response.status(), &next, head);
        let body = match again {
            _ if is_bodiless => Body::empty(),
            Some(body) => body,
            None => return failed(format!("{BODY_AGAIN} (redirect to {next})")),
        };
        // So that the connection is used again. An error only means that it isn't.
        let rest = Body::received(response.into_body(), target.clone(), limits);
        let _ = timeout(REDIRECT_TIME, rest.bytes(REDIRECT_BODY)).await;
        Ok(ControlFlow::Continue(body))
    }

    /// Sends one request, and a second time if a connection of the pool was stale.
    async fn exchange(
        &self,
        head: &request::Parts,
        body: Body,
        limits: Limits,
    ) -> Result<HttpResponse<Incoming>, Error> {
        let second = match head.method.is_idempotent() {
            true => body.again(),
            false => None,
        };
        let request = Request::from_parts(head.clone(), body);
        let error = match self.send(request, limits).await? {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let mut extras = Extensions::new();
        if let Some(connection) = error.connect_info() {
            connection.get_extras(&mut extras);
        }
        let was_used = extras.get::<Used>().is_some_and(Used::get);
        match second {
            Some(body) if was_used => {
                let request = Request::from_parts(head.clone(), body);
                self.send(request, limits)
                    .await?
                    .map_err(Error::of_exchange)
            }
            _ => Err(Error::of_exchange(error)),
        }
    }

    /// Sends a request, with the time limits.
    async fn send(
        &self,
        request: Request<Body>,
        limits: Limits,
    ) -> Result<Result<HttpResponse<Incoming>, legacy::Error>, Error> {
        let progress = Arc::new(Progress::new());
        let mut request = request.map(|body| body.report_to(&progress));
        if request.uri().scheme_str() == Some("http") {
            // A tunnel has the header in its own request.
            let proxies = self.options.proxies.as_ref();
            let proxy = proxies.and_then(|proxies| proxies.intercept(request.uri()));
            if let Some(auth) = proxy.as_ref().and_then(|proxy| proxy.basic_auth()) {
                request
                    .headers_mut()
                    .insert(PROXY_AUTHORIZATION, auth.clone());
            }
        }
        let mut response = pin!(self.pool.get().request(request));
        let mut response = loop {
            let Some(end) = limits.next(progress.get()) else {
                break response.await;
            };
            match timeout_at(end, response.as_mut()).await {
                Ok(response) => break response,
                Err(_) => {
                    // The body of the request may have been read meanwhile.
                    if limits.next(progress.get()).is_none_or(|end| end <= now()) {
                        return Err(limits.error(now(), "the response"));
                    }
                }
            }
        };
        if let Ok(response) = &mut response {
            if let Some(used) = response.extensions_mut().remove::<Used>() {
                used.set();
            }
        }
        Ok(response)
    }

    fn check(&self, uri: &Uri) -> Result<(), Error> {
        let text = match uri.scheme_str() {
            _ if !has_valid_port(uri) => "the port of the URI is larger than 65535",
            Some("https") => return Ok(()),
            Some("http") if !self.options.https_only => return Ok(()),
            Some("http") => redirect::HTTPS_ONLY,
            _ => "the URI must be absolute and start with http:// or https://",
        };
        Err(Error::new(ErrorKind::Invalid, text))
    }
}

/// For the layers of tower, and for generated clients, for example by tonic.
///
/// A body of another type is converted before, for example by tower's `map_request` with
/// [`Body::new`].
impl<B: Into<Body> + 'static> Service<Request<B>> for Client {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Error>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.request(request).await })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Moves the user name and the password of a URI into a header.
fn move_user_to_header(uri: &mut Uri, headers: &mut HeaderMap) -> Result<(), Error> {
    let Some((user, host)) = uri
        .authority()
        .and_then(|all| all.as_str().rsplit_once('@'))
    else {
        return Ok(());
    };
    if user.contains('@') {
        let text = "the user name or the password in the URI has an `@`: write it as %40";
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    // hyper-util encodes the user of a proxy in the same way.
    let encoder = Matcher::builder().all(uri.to_string()).build();
    let encoded = encoder.intercept(&Uri::from_static("http://any/"));
    let auth = encoded.as_ref().and_then(|encoded| encoded.basic_auth());
    if let Some(auth) = auth {
        headers.entry(AUTHORIZATION).or_insert_with(|| auth.clone());
    }
    let invalid =
        |error: ::http::Error| Error::new(ErrorKind::Invalid, "invalid URI").because(error);
    let authority: Authority = host
        .parse()
        .map_err(|error| invalid(::http::Error::from(error)))?;
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(authority);
    *uri = Uri::from_parts(parts).map_err(|error| invalid(error.into()))?;
    Ok(())
}

/// Spawns the tasks of the pool on the current runtime, also in a task of tokio that it hosts. The
/// pool also spawns where a connection is dropped, which may be outside of the runtime or at its
/// end. The connection is closed there.
#[derive(Clone)]
pub(super) struct Spawner;

impl rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for Spawner {
    fn execute(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        if let Some(runtime) = Runtime::try_current().filter(|runtime| !runtime.is_closed()) {
            runtime.spawn(future).detach();
        }
    }
}
