//! Connections: kept alive, stale, cancelled, leaked.

use std::cell::Cell;
use std::fs;
use std::future::pending;
use std::rc::Rc;

use futures::{FutureExt, StreamExt, stream};
use windlass::http::{Body, Client, ErrorKind, Request};
use windlass::{block_on, spawn, yield_now};

use crate::server::{Server, read_head, text, write};
use crate::{client, until};

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nahoy";

async fn get(client: &Client, url: &str) -> String {
    let response = client.get(url).await.unwrap();
    response.into_body().text(1000).await.unwrap()
}

#[test]
fn sequential_requests_share_a_connection() {
    block_on(async {
        let server = Server::http1(|_| async { text("ahoy") }).await;
        let client = client();
        for _ in 0..50 {
            assert_eq!(get(&client, &server.url("/")).await, "ahoy");
        }
        assert_eq!(server.accepted.get(), 1);
        drop(client);
        until(|| server.open.get() == 0).await;
    });
}

#[test]
fn concurrent_requests_have_their_own_connections() {
    block_on(async {
        let server = Server::http1(|_| async {
            yield_now().await;
            text("ahoy")
        })
        .await;
        let client = Client::builder().pool_size(5).build().unwrap();
        for _ in 0..10 {
            let url = server.url("/");
            let requests = stream::iter(0..10).map(|_| get(&client, &url));
            requests.buffer_unordered(10).collect::<Vec<_>>().await;
            until(|| server.open.get() <= 5).await;
        }
        // At least five of each round's ten requests had a connection of the pool.
        assert!(
            server.accepted.get() <= 10 + 9 * 5,
            "{}",
            server.accepted.get()
        );
    });
}

#[test]
fn without_a_pool_each_request_connects() {
    block_on(async {
        let server = Server::http1(|_| async { text("ahoy") }).await;
        let client = Client::builder().pool_size(0).build().unwrap();
        for _ in 0..5 {
            get(&client, &server.url("/")).await;
        }
        assert_eq!(server.accepted.get(), 5);
        until(|| server.open.get() == 0).await;
    });
}

#[test]
fn an_unused_connection_is_closed_in_time() {
    block_on(async {
        let server = Server::http1(|_| async { text("ahoy") }).await;
        let limit = std::time::Duration::from_millis(100);
        let client = Client::builder().pool_idle_timeout(limit).build().unwrap();
        get(&client, &server.url("/")).await;
        until(|| server.open.get() == 0).await;
        get(&client, &server.url("/")).await;
        assert_eq!(server.accepted.get(), 2);
    });
}

/// The server closes each connection after one answer, without saying so.
#[test]
fn a_connection_that_was_closed_while_unused_is_replaced() {
    block_on(async {
        let server = Server::raw(|stream, _| async move {
            read_head(&stream).await?;
            write(&stream, ANSWER).await
        })
        .await;
        let client = client();
        for _ in 0..10 {
            assert_eq!(get(&client, &server.url("/")).await, "ahoy");
            until(|| server.open.get() == 0).await;
        }
        assert_eq!(server.accepted.get(), 10);
    });
}

/// The server closes the first connection when the second request arrives on it, as if it had
/// closed it just before.
async fn closes_at_the_second_request(requests: Rc<Cell<usize>>) -> Server {
    Server::raw(move |stream, number| {
        let requests = requests.clone();
        async move {
            while read_head(&stream).await?.is_some() {
                requests.set(requests.get() + 1);
                if number == 1 && requests.get() == 2 {
                    break;
                }
                write(&stream, ANSWER).await?;
            }
            Ok(())
        }
    })
    .await
}

#[test]
fn an_idempotent_request_on_a_stale_connection_is_sent_again() {
    block_on(async {
        let requests = Rc::new(Cell::new(0));
        let server = closes_at_the_second_request(requests.clone()).await;
        let client = client();
        for _ in 0..3 {
            assert_eq!(get(&client, &server.url("/")).await, "ahoy");
        }
        assert_eq!((requests.get(), server.accepted.get()), (4, 2));
    });
}

#[test]
fn a_post_on_a_stale_connection_fails_rather_than_running_twice() {
    block_on(async {
        let requests = Rc::new(Cell::new(0));
        let server = closes_at_the_second_request(requests.clone()).await;
        let client = client();
        get(&client, &server.url("/")).await;
        let post = Request::post(server.url("/")).body("").unwrap();
        let error = client.request(post).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert!(error.to_string().contains("may have processed"), "{error}");
        assert_eq!((requests.get(), server.accepted.get()), (2, 1));
    });
}

#[test]
fn a_new_connection_that_closes_is_not_retried() {
    block_on(async {
        let server = Server::raw(|stream, _| async move {
            read_head(&stream).await?;
            Ok(())
        })
        .await;
        let error = client().get(server.url("/").as_str()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn a_dropped_request_closes_its_connection() {
    block_on(async {
        let server = Server::http1(|_| pending()).await;
        let client = client();
        let url = server.url("/");
        let request = spawn({
            let client = client.clone();
            async move { client.get(url.as_str()).await.map(drop) }
        });
        until(|| server.open.get() == 1).await;
        drop(request);
        until(|| server.open.get() == 0).await;
    });
}

#[test]
fn a_request_dropped_while_it_connects_leaves_nothing() {
    block_on(async {
        let server = Server::http1(|_| async { text("ahoy") }).await;
        let client = client();
        for polls in 0..10 {
            let url = server.url("/");
            let mut request = Box::pin(client.get(url.as_str()));
            for _ in 0..polls {
                if (&mut request).now_or_never().is_some() {
                    break;
                }
                yield_now().await;
            }
            drop(request);
        }
        assert_eq!(get(&client, &server.url("/")).await, "ahoy");
        drop(client);
        until(|| server.open.get() == 0).await;
    });
}

#[test]
fn a_body_dropped_midway_closes_its_connection() {
    block_on(async {
        let server = Server::http1(|_| async {
            let endless = stream::iter(0..).then(|_| async {
                yield_now().await;
                std::io::Result::Ok("x".repeat(1000))
            });
            hyper::Response::new(Body::stream(endless))
        })
        .await;
        let client = client();
        let mut body = client
            .get(server.url("/").as_str())
            .await
            .unwrap()
            .into_body();
        assert!(body.next().await.unwrap().is_ok());
        assert_eq!(server.open.get(), 1);
        drop(body);
        until(|| server.open.get() == 0).await;
    });
}

#[test]
fn a_client_outlives_its_runtime() {
    let client = client();
    for _ in 0..3 {
        block_on(async {
            let server = Server::http1(|_| async { text("ahoy") }).await;
            assert_eq!(get(&client, &server.url("/")).await, "ahoy");
            assert_eq!(get(&client, &server.url("/")).await, "ahoy");
            assert_eq!(server.accepted.get(), 1);
        });
    }
}

#[test]
fn an_unused_connection_is_closed_in_the_next_runtime() {
    let limit = std::time::Duration::from_millis(100);
    let client = Client::builder().pool_idle_timeout(limit).build().unwrap();
    let serve = || Server::http1(|_| async { text("ahoy") });
    block_on(async { get(&client, &serve().await.url("/")).await });
    block_on(async {
        let server = serve().await;
        get(&client, &server.url("/")).await;
        until(|| server.open.get() == 0).await;
    });
}

#[cfg(all(feature = "tokio", unix))]
#[test]
fn a_task_of_tokio_uses_the_client() {
    windlass::tokio::block_on(async {
        let server = Server::http1(|_| async { text("ahoy") }).await;
        let url = server.url("/");
        let task = tokio::task::spawn_local(async move { get(&client(), &url).await });
        assert_eq!(task.await.unwrap(), "ahoy");
    });
}

#[test]
fn a_response_can_be_dropped_outside_of_the_runtime() {
    let client = client();
    let (response, request) = block_on(async {
        let server = Server::http1(|request| async move {
            match request.uri().path() {
                "/" => text("x".repeat(1_000_000)),
                _ => pending().await,
            }
        })
        .await;
        let response = client.get(server.url("/").as_str()).await.unwrap();
        let (client, url) = (client.clone(), server.url("/pending"));
        let mut request = Box::pin(async move { client.get(url.as_str()).await.map(drop) });
        assert!((&mut request).now_or_never().is_none());
        yield_now().await;
        (response, request)
    });
    drop((response, request));
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Alone in its process, because other tests open descriptors. See `leaks`.
#[test]
#[ignore = "run by `no_descriptor_is_leaked`"]
fn leaks() {
    block_on(async { yield_now().await }); // the thread keeps its reactor
    let before = descriptors();
    for round in 0..3 {
        block_on(async {
            let server = Server::http1(|request| async move {
                match request.uri().path() {
                    "/" => text("ahoy"),
                    "/endless" => {
                        let endless =
                            stream::repeat_with(|| std::io::Result::Ok("x".repeat(10_000)));
                        hyper::Response::new(Body::stream(endless))
                    }
                    _ => pending().await,
                }
            })
            .await;
            let client = client();
            let urls = ["/", "/endless", "/pending"].map(|path| server.url(path));
            let open = descriptors();
            let requests = stream::iter(0..300).map(|number| {
                let (client, url) = (&client, &urls[number % 3]);
                async move {
                    let mut request = Box::pin(client.get(url.as_str()));
                    for _ in 0..number % 20 {
                        if let Some(response) = (&mut request).now_or_never() {
                            let _ = response.unwrap().into_body().bytes(1000).await;
                            break;
                        }
                        yield_now().await;
                    }
                }
            });
            requests.buffer_unordered(30).collect::<()>().await;
            drop(client);
            until(|| server.open.get() == 0).await;
            assert_eq!(descriptors(), open, "in round {round}");
        });
    }
    assert_eq!(descriptors(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn no_descriptor_is_leaked() {
    let program = std::env::current_exe().unwrap();
    let mut alone = std::process::Command::new(program);
    alone.args(["--exact", "pool::leaks", "--ignored", "--test-threads=1"]);
    let output = alone.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "{printed}");
}
