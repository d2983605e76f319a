//! Redirects, as servers see them.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use futures::stream;
use hyper::HeaderMap;
use windlass::block_on;
use windlass::http::{Body, Client, ErrorKind, FinalUri, Request};
use windlass::time::timeout;

use crate::client;
use crate::server::{Server, read_head, redirect, text, write};

/// What a server sees of a request: the method, the path, the headers and the body.
type Seen = Rc<RefCell<Vec<(String, HeaderMap, String)>>>;

/// A server that sends `/STATUS/REST` on to `/REST`, or to the other server.
async fn moving(other: Option<String>) -> (Server, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let server = Server::http1(move |request| {
        let (kept, other) = (kept.clone(), other.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = Body::new(body).text(1000).await.unwrap();
            let path = head.uri.path().to_owned();
            let line = format!("{} {path}", head.method);
            kept.borrow_mut().push((line, head.headers, body));
            match path[1..].split_once('/') {
                Some((status, rest)) if status.parse::<u16>().is_ok() => {
                    let target = format!("{}/{rest}", other.unwrap_or_default());
                    redirect(status.parse().unwrap(), &target)
                }
                _ => text("arrived"),
            }
        }
    })
    .await;
    (server, seen)
}

fn post(url: String) -> Request<&'static str> {
    let request = Request::post(url)
        .header("content-type", "text/plain")
        .header("authorization", "secret")
        .header("cookie", "secret")
        .header("x-other", "kept");
    request.body("cargo").unwrap()
}

#[test]
fn the_status_decides_on_the_method_and_the_body() {
    block_on(async {
        for (status, expected, body) in [
            (301, "GET /x", ""),
            (302, "GET /x", ""),
            (303, "GET /x", ""),
            (307, "POST /x", "cargo"),
            (308, "POST /x", "cargo"),
        ] {
            let (server, seen) = moving(None).await;
            let response = client()
                .request(post(server.url(&format!("/{status}/x"))))
                .await;
            let response = response.unwrap();
            let uri = &response.extensions().get::<FinalUri>().unwrap().0;
            assert_eq!(uri.to_string(), server.url("/x"));
            assert_eq!(response.into_body().text(100).await.unwrap(), "arrived");
            let (line, headers, sent) = seen.borrow_mut().remove(1);
            assert_eq!((&*line, &*sent), (expected, body), "{status}");
            assert_eq!(headers.contains_key("content-type"), !body.is_empty());
            assert_eq!(headers["authorization"], "secret");
            assert_eq!(headers["x-other"], "kept");
            assert_eq!(server.accepted.get(), 1, "{status}");
        }
    });
}

#[test]
fn head_stays_head() {
    block_on(async {
        let (server, seen) = moving(None).await;
        let head = Request::head(server.url("/303/x")).body(()).unwrap();
        client().request(head).await.unwrap();
        assert_eq!(seen.borrow()[1].0, "HEAD /x");
    });
}

#[test]
fn secrets_stay_with_their_origin() {
    block_on(async {
        let (second, seen) = moving(None).await;
        let (first, _) = moving(Some(second.url(""))).await;
        client().request(post(first.url("/307/x"))).await.unwrap();
        let (line, headers, body) = seen.borrow_mut().remove(0);
        assert_eq!((&*line, &*body), ("POST /x", "cargo"));
        assert!(!headers.contains_key("authorization"));
        assert!(!headers.contains_key("cookie"));
        assert_eq!(headers["x-other"], "kept");
        assert_eq!(headers["host"], second.addr.to_string());
    });
}

#[test]
fn an_endless_redirect_ends_on_one_connection() {
    block_on(async {
        let server = Server::http1(|_| async { redirect(302, "/again") }).await;
        let client = Client::builder().redirects(7).build().unwrap();
        let error = client.get(server.url("/").as_str()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Redirect);
        assert!(
            error.to_string().contains("more than 7 redirects"),
            "{error}"
        );
        assert_eq!(error.uri().unwrap().path(), "/again");
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn a_redirect_is_followed_before_the_end_of_its_body() {
    block_on(async {
        let target = Server::http1(|_| async { text("arrived") }).await;
        let location = target.url("/");
        let server = Server::raw(move |stream, _| {
            let location = location.clone();
            async move {
                read_head(&stream).await?;
                let head = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\n");
                write(&stream, &format!("{head}content-length: 5\r\n\r\n")).await?;
                pending().await
            }
        })
        .await;
        let client = Client::builder().idle_timeout(None).build().unwrap();
        let url = server.url("/");
        let response = timeout(Duration::from_secs(20), client.get(url.as_str())).await;
        let response = response.expect("the redirect is followed").unwrap();
        assert_eq!(response.into_body().text(100).await.unwrap(), "arrived");
    });
}

#[test]
fn a_limit_of_zero_returns_the_redirect() {
    block_on(async {
        let server = Server::http1(|_| async { redirect(302, "/again") }).await;
        let client = Client::builder().redirects(0).build().unwrap();
        let response = client.get(server.url("/").as_str()).await.unwrap();
        assert_eq!(response.status(), 302);
        assert_eq!(response.headers()["location"], "/again");
    });
}

#[test]
fn a_streamed_body_cannot_be_sent_again() {
    block_on(async {
        let (server, seen) = moving(None).await;
        let body = Body::stream(stream::iter(["cargo"].map(std::io::Result::Ok)));
        let request = Request::post(server.url("/307/x")).body(body).unwrap();
        let error = client().request(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Redirect);
        assert!(
            error.to_string().contains("requires the body again"),
            "{error}"
        );
        assert_eq!(seen.borrow().len(), 1);
    });
}

#[test]
fn https_only_refuses_requests_over_http() {
    block_on(async {
        let client = Client::builder().https_only().build().unwrap();
        let error = client.get("http://localhost:1/").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    });
}
