//! The texts of errors.

use std::error::Error as _;
use std::io;

use windlass::block_on;
use windlass::http::{Client, ErrorKind, Request};

use crate::client;
use crate::server::{Server, write};

#[test]
fn an_error_names_the_request_the_step_and_the_cause() {
    block_on(async {
        let post = Request::post("http://127.0.0.1:1/a").body("").unwrap();
        let error = client().request(post).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        let text = error.to_string();
        assert!(
            text.starts_with("POST http://127.0.0.1:1/a: can't connect to 127.0.0.1:1"),
            "{text}"
        );
        assert_eq!(text.matches("refused").count(), 1, "{text}");
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn passwords_are_not_printed() {
    block_on(async {
        let error = client()
            .get("http://me:word@127.0.0.1:1/")
            .await
            .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("word"), "{error}");
    });
}

#[test]
fn invalid_requests_send_nothing() {
    block_on(async {
        for uri in [
            "",
            "/path",
            "ftp://host/",
            "http://",
            "mailto:a@b",
            "http://a b/",
            "http://127.0.0.1:65536/",
            "http://me:w@rd@127.0.0.1/",
        ] {
            let error = client().get(uri).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{uri} {error}");
        }
    });
}

#[test]
fn invalid_options_fail_at_build() {
    for builder in [
        Client::builder().header("a b", "c"),
        Client::builder().header("a", "b\n"),
        Client::builder().proxy("harbour"),
        Client::builder().root_certificates(b"no PEM"),
        Client::builder().root_certificates(b"-----BEGIN CERTIFICATE-----\n?"),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn an_answer_that_is_no_http_is_an_error_of_the_request() {
    block_on(async {
        let server =
            Server::raw(|stream, _| async move { write(&stream, "220 mail\r\n\r\n").await });
        let server = server.await;
        let error = client().get(server.url("/").as_str()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert!(
            error.to_string().contains("invalid HTTP version"),
            "{error}"
        );
    });
}
