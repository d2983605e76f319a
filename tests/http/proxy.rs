//! Proxies. `examples/ecosystem` tests tunnels to TLS.

use std::cell::RefCell;
use std::process::Command;
use std::rc::Rc;

use windlass::block_on;
use windlass::http::{Client, ErrorKind};

use crate::server::{Server, read_head, text, write};

/// A proxy that answers by itself, and the requests that it gets.
async fn proxy() -> (Server, Rc<RefCell<Vec<String>>>) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let kept = seen.clone();
    let server = Server::http1(move |request| {
        let auth = request.headers().get("proxy-authorization").cloned();
        kept.borrow_mut()
            .push(format!("{} {auth:?}", request.uri()));
        async { text("by the proxy") }
    })
    .await;
    (server, seen)
}

#[test]
fn http_goes_through_the_proxy_with_absolute_uris() {
    block_on(async {
        let (proxy, seen) = proxy().await;
        let uri = format!("http://me:word@{}", proxy.addr);
        let client = Client::builder().proxy(&uri).build().unwrap();
        for _ in 0..2 {
            let body = client
                .get("http://harbour.invalid/a?b")
                .await
                .unwrap()
                .into_body();
            assert_eq!(body.text(100).await.unwrap(), "by the proxy");
        }
        let expected = "http://harbour.invalid/a?b Some(\"Basic bWU6d29yZA==\")";
        assert_eq!(*seen.borrow(), [expected, expected]);
        assert_eq!(proxy.accepted.get(), 1);
    });
}

#[test]
fn a_refused_tunnel_is_an_error_that_names_the_proxy() {
    block_on(async {
        let heads = Rc::new(RefCell::new(Vec::new()));
        let kept = heads.clone();
        let proxy = Server::raw(move |stream, _| {
            let kept = kept.clone();
            async move {
                let head = read_head(&stream).await?;
                kept.borrow_mut().extend(head);
                write(&stream, "HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await
            }
        })
        .await;
        let uri = format!("http://me:word@{}", proxy.addr);
        let client = Client::builder().proxy(&uri).build().unwrap();
        let error = client.get("https://harbour.invalid/").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        let text = error.to_string();
        assert!(text.contains(&proxy.addr.to_string()), "{text}");
        assert!(text.contains("proxy authorization required"), "{text}");
        assert!(!text.contains("word"), "{text}");
        let head = &heads.borrow()[0];
        assert!(
            head.starts_with("CONNECT harbour.invalid:443 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("Proxy-Authorization: Basic bWU6d29yZA=="),
            "{head}"
        );
    });
}

#[test]
fn a_proxy_that_is_down_is_an_error_that_names_it() {
    block_on(async {
        let client = Client::builder()
            .proxy("http://127.0.0.1:1")
            .build()
            .unwrap();
        for url in ["http://harbour.invalid/", "https://harbour.invalid/"] {
            let error = client.get(url).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connect);
            let text = error.to_string();
            assert!(
                text.contains("the proxy: can't connect to 127.0.0.1:1: "),
                "{text}"
            );
        }
    });
}

#[test]
fn proxies_of_other_kinds_are_refused() {
    let error = Client::builder()
        .proxy("socks5://localhost")
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// With the variables set. See `the_environment_is_used_on_request`.
#[test]
#[ignore = "run by the next test"]
fn in_the_environment() {
    block_on(async {
        let (direct, with) = (Client::new(), Client::builder().proxy_from_environment());
        let with = with.build().unwrap();
        let server = Server::http1(|_| async { text("directly") }).await;
        let url = server.url("/");
        let body = direct.get(url.as_str()).await.unwrap().into_body();
        assert_eq!(body.text(100).await.unwrap(), "directly");
        let error = with.get(url.as_str()).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the proxy: can't connect to 127.0.0.1:1: "),
            "{error}"
        );
        let url = format!("http://localhost:{}/", server.addr.port());
        let body = with.get(url.as_str()).await.unwrap().into_body();
        assert_eq!(body.text(100).await.unwrap(), "directly");
    });
}

#[test]
fn the_environment_is_used_on_request() {
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", "proxy::in_the_environment", "--ignored"]);
    alone
        .env("http_proxy", "http://127.0.0.1:1")
        .env("no_proxy", "localhost");
    alone
        .env_remove("HTTP_PROXY")
        .env_remove("NO_PROXY")
        .env_remove("REQUEST_METHOD");
    let output = alone.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "{printed}");
}
