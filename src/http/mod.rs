//! An HTTP client: HTTP/1.1 and HTTP/2, TLS, a pool of connections, redirects and proxies. It needs
//! the feature `http`.
//!
//! [`Client`] joins hyper's client and the pool of hyper-util with the sockets, timers and tasks of
//! windlass. Everything runs on the loop's thread, except for the lookup of names and the first
//! read of the system's certificates, which block a thread of the pool.
//!
//! ```no_run
//! use windlass::http::Client;
//!
//! # fn main() -> Result<(), windlass::http::Error> {
//! windlass::block_on(async {
//!     let client = Client::new();
//!     let response = client.get("https://www.rust-lang.org/").await?;
//!     println!("{}", response.status());
//!     println!("{}", response.into_body().text(1024 * 1024).await?);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Defaults
//!
//! | | default | option |
//! |---|---|---|
//! | time to connect | 10 s | [`connect_timeout`](Builder::connect_timeout) |
//! | time without progress | 60 s | [`idle_timeout`](Builder::idle_timeout) |
//! | time of a request and its response | no limit | [`timeout`](Builder::timeout) |
//! | size of a response's body | given where it is read | [`Body::bytes`], [`Body::text`] |
//! | unused connections | 64 per origin | [`pool_size`](Builder::pool_size) |
//! | time of a connection without use | 60 s | [`pool_idle_timeout`](Builder::pool_idle_timeout) |
//! | redirects | 10 | [`redirects`](Builder::redirects) |
//! | proxies | none | [`proxy`](Builder::proxy) |
//! | trusted roots | the system's | [`root_certificates`](Builder::root_certificates) |
//!
//! # Left out
//!
//! Cookies, caches, compression and multipart forms are left out. The client sends no
//! `Accept-Encoding`, so servers don't compress. Host names are ASCII, so an international name is
//! written in its `xn--` form. SOCKS proxies are not supported.

mod body;
mod builder;
mod client;
mod connector;
mod error;
mod limits;
mod pool;
mod redirect;
mod tls;

#[doc(no_inline)]
pub use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
pub use body::Body;
pub use builder::Builder;
#[doc(no_inline)]
pub use bytes::Bytes;
pub use client::{Client, FinalUri, Response};
pub use error::{Error, ErrorKind};
#[doc(no_inline)]
pub use futures_rustls::rustls;
