//! The HTTP client against servers on the same loop. `examples/ecosystem` tests it with TLS and
//! nginx.

mod errors;
mod pool;
mod proxy;
mod redirects;
mod server;
mod time;

use std::cell::RefCell;
use std::rc::Rc;

use futures::{StreamExt, TryStreamExt, stream};
use windlass::block_on;
use windlass::http::{Body, Bytes, Client, ErrorKind, FinalUri, Request};
use windlass::net::lookup_host;

use server::{Server, text};

/// A client without time limits, which a busy machine could exceed.
pub(crate) fn client() -> Client {
    Client::builder()
        .connect_timeout(None)
        .idle_timeout(None)
        .build()
        .unwrap()
}

/// Waits until a condition holds, for at most ten seconds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        windlass::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("the condition did not come true");
}

#[test]
fn a_response_has_status_headers_body_and_uri() {
    block_on(async {
        let server = Server::http1(|request| async move {
            let mut response = text(format!("{} {}", request.method(), request.uri()));
            *response.status_mut() = "404".parse().unwrap();
            response
        })
        .await;
        let response = client().get(server.url("/a?b").as_str()).await.unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-length"], "8");
        let uri = &response.extensions().get::<FinalUri>().unwrap().0;
        assert_eq!(uri.to_string(), server.url("/a?b"));
        assert_eq!(response.into_body().text(8).await.unwrap(), "GET /a?b");
    });
}

#[test]
fn requests_have_the_default_headers_unless_they_have_their_own() {
    block_on(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let kept = seen.clone();
        let server = Server::http1(move |request| {
            kept.borrow_mut().push(request.into_parts().0.headers);
            async { text("") }
        })
        .await;
        let client = Client::builder()
            .header("x-ship", "windlass")
            .build()
            .unwrap();
        client.get(server.url("/").as_str()).await.unwrap();
        let own = Request::get(server.url("/"))
            .header("x-ship", "capstan")
            .body(())
            .unwrap();
        client.request(own).await.unwrap();
        let seen = seen.borrow();
        assert_eq!(seen[0]["x-ship"], "windlass");
        assert_eq!(seen[0]["accept"], "*/*");
        assert_eq!(seen[0]["host"], server.addr.to_string());
        assert!(
            seen[0]["user-agent"]
                .to_str()
                .unwrap()
                .starts_with("windlass/")
        );
        assert_eq!(seen[1]["x-ship"], "capstan");
        assert_eq!(seen[1].get_all("x-ship").iter().count(), 1);
    });
}

#[test]
fn a_user_in_the_uri_becomes_a_header() {
    block_on(async {
        let server = Server::http1(|request| async move {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let auth = request.headers()["authorization"].to_str().unwrap();
            text(format!("{host} {auth}"))
        })
        .await;
        let url = format!("http://Aladdin:open%20sesame@{}/", server.addr);
        let body = client().get(url.as_str()).await.unwrap().into_body();
        let expected = format!("{} Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", server.addr);
        assert_eq!(body.text(1000).await.unwrap(), expected);
    });
}

#[test]
fn a_streamed_body_goes_both_ways() {
    block_on(async {
        // The server sends each piece back before the client has sent the last one.
        let server = Server::http1(|request| async move {
            let pieces = Body::new(request.into_body());
            hyper::Response::new(Body::stream(pieces))
        })
        .await;
        let (sender, receiver) = windlass::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let receiver = stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        let request = Request::post(server.url("/"))
            .body(Body::stream(receiver))
            .unwrap();
        let mut sender = Some(sender);
        sender
            .as_mut()
            .unwrap()
            .send(Ok(Bytes::from("0")))
            .await
            .unwrap();
        let mut body = client().request(request).await.unwrap().into_body();
        for number in 0..100 {
            let echoed = body.try_next().await.unwrap().unwrap();
            assert_eq!(echoed, number.to_string());
            match number {
                99 => drop(sender.take()),
                _ => {
                    let next = Bytes::from((number + 1).to_string());
                    sender.as_mut().unwrap().send(Ok(next)).await.unwrap();
                }
            }
        }
        assert!(body.try_next().await.unwrap().is_none());
    });
}

#[test]
fn a_failing_request_body_is_an_error_of_the_body() {
    block_on(async {
        let server = Server::http1(|request| async move {
            let _ = Body::new(request.into_body()).bytes(100).await;
            text("")
        })
        .await;
        let pieces = [Ok("a"), Err(std::io::Error::other("the disk is gone"))];
        let body = Body::stream(stream::iter(pieces));
        let request = Request::post(server.url("/")).body(body).unwrap();
        let error = client().request(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Body);
        assert!(error.to_string().contains("the disk is gone"), "{error}");
    });
}

#[test]
fn a_body_over_its_limit_is_an_error() {
    block_on(async {
        let server = Server::http1(|request| async move {
            match request.uri().path() {
                "/declared" => text("x".repeat(1001)),
                _ => {
                    let pieces = stream::iter(0..1001).map(|_| std::io::Result::Ok("x"));
                    hyper::Response::new(Body::stream(pieces))
                }
            }
        })
        .await;
        let client = client();
        for path in ["/declared", "/chunked"] {
            let body = client
                .get(server.url(path).as_str())
                .await
                .unwrap()
                .into_body();
            let error = body.bytes(1000).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BodyLimit);
            assert!(
                error.to_string().contains("more than 1000 bytes"),
                "{error}"
            );
            let body = client
                .get(server.url(path).as_str())
                .await
                .unwrap()
                .into_body();
            assert_eq!(body.bytes(1001).await.unwrap().len(), 1001);
        }
        // The connections with the unread rest are closed, and the others are unused.
        drop(client);
        until(|| server.open.get() == 0).await;
    });
}

#[test]
fn text_must_be_utf_8() {
    block_on(async {
        let server =
            Server::http1(|_| async { hyper::Response::new(Body::from(vec![0xff])) }).await;
        let body = client()
            .get(server.url("/").as_str())
            .await
            .unwrap()
            .into_body();
        let error = body.text(10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Body);
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    });
}

#[test]
fn http2_shares_one_connection() {
    block_on(async {
        let server = Server::http2(|request| async move {
            windlass::yield_now().await;
            text(request.uri().path())
        })
        .await;
        let client = Client::builder().http2_only().build().unwrap();
        let requests = stream::iter(0..100).map(|number| {
            let request = client.get(server.url(&format!("/{number}")));
            async move {
                let text = request.await.unwrap().into_body().text(100).await.unwrap();
                assert_eq!(text, format!("/{number}"));
            }
        });
        requests.buffer_unordered(20).collect::<()>().await;
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn a_name_with_several_addresses_is_tried_in_turn() {
    block_on(async {
        let server =
            Server::http1(
                |request| async move { text(request.headers()["host"].to_str().unwrap()) },
            )
            .await;
        let port = server.addr.port();
        if lookup_host(("localhost", port)).await.unwrap().len() < 2 {
            eprintln!("`localhost` has one address here");
        }
        let url = format!("http://localhost:{port}/");
        let body = client().get(url.as_str()).await.unwrap().into_body();
        assert_eq!(body.text(100).await.unwrap(), format!("localhost:{port}"));
    });
}
