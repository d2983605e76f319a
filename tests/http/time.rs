//! Time limits. The limits that have to expire are short, and all others are absent.

use std::future::pending;
use std::time::Duration;

use futures::{StreamExt, stream};
use windlass::block_on;
use windlass::http::{Body, Builder, Client, ErrorKind, Request};
use windlass::time::sleep;

use crate::server::{Server, redirect, text};
use crate::until;

const SHORT: Duration = Duration::from_millis(50);

fn unlimited() -> Builder {
    Client::builder().connect_timeout(None).idle_timeout(None)
}

#[test]
fn a_server_without_an_answer_times_out() {
    block_on(async {
        let server = Server::http1(|_| pending()).await;
        for client in [unlimited().idle_timeout(SHORT), unlimited().timeout(SHORT)] {
            let client = client.build().unwrap();
            let error = client.get(server.url("/").as_str()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(
                error.to_string().contains("the response did not arrive"),
                "{error}"
            );
        }
        until(|| server.open.get() == 0).await;
    });
}

#[test]
fn a_body_that_stops_times_out() {
    block_on(async {
        let server = Server::http1(|_| async {
            let stops = stream::iter(["a"].map(std::io::Result::Ok)).chain(stream::pending());
            hyper::Response::new(Body::stream(stops))
        })
        .await;
        for client in [unlimited().idle_timeout(SHORT), unlimited().timeout(SHORT)] {
            let client = client.build().unwrap();
            let body = client
                .get(server.url("/").as_str())
                .await
                .unwrap()
                .into_body();
            let error = body.bytes(100).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(
                error.to_string().contains("the rest of the body"),
                "{error}"
            );
        }
        until(|| server.open.get() == 0).await;
    });
}

#[test]
fn a_slow_exchange_with_progress_is_not_idle() {
    block_on(async {
        // Each side takes five times the limit in all, and a fifth of it per piece.
        let limit = Duration::from_secs(2);
        let pieces = || {
            stream::iter(0..25).then(move |_| async move {
                sleep(limit / 5).await;
                std::io::Result::Ok("x")
            })
        };
        let server = Server::http1(move |request| async move {
            let length = Body::new(request.into_body())
                .bytes(100)
                .await
                .unwrap()
                .len();
            text(length.to_string())
        })
        .await;
        let client = unlimited().idle_timeout(limit).build().unwrap();
        let request = Request::post(server.url("/"))
            .body(Body::stream(pieces().take(10)))
            .unwrap();
        let body = client.request(request).await.unwrap().into_body();
        assert_eq!(body.text(100).await.unwrap(), "10");
    });
}

#[test]
fn the_whole_limit_covers_redirects() {
    block_on(async {
        let server = Server::http1(|_| async {
            sleep(Duration::from_millis(5)).await;
            redirect(302, "/again")
        })
        .await;
        let client = unlimited()
            .redirects(1_000_000)
            .timeout(SHORT)
            .build()
            .unwrap();
        let error = client.get(server.url("/").as_str()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    });
}

#[test]
fn a_silent_handshake_is_a_timeout_of_the_connection() {
    block_on(async {
        let server = Server::raw(|stream, _| async move {
            let _stream = stream;
            pending().await
        })
        .await;
        let client = unlimited().connect_timeout(SHORT).build().unwrap();
        let url = format!("https://{}/", server.addr);
        let error = client.get(url.as_str()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("`connect_timeout`"), "{error}");
    });
}
