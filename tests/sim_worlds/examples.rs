//! The servers of the examples, with clients, on the system and as hosts of a world.
//!
//! `main` of an example binds its listener and accepts connections in a loop. Here, `accept_all`
//! does so. Everything behind it is the source of the example.

#![allow(dead_code, clippy::print_stdout, clippy::print_stderr)]

#[path = "../../examples/chat.rs"]
mod chat;
#[path = "../../examples/echo.rs"]
mod echo;
#[path = "../../examples/graceful.rs"]
mod graceful;
#[path = "../../examples/proxy.rs"]
mod proxy;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use windlass::net::{TcpListener, TcpStream};
use windlass::sim::check;
use windlass::spawn;
use windlass::task::StopSource;
use windlass::time::{sleep, timeout};

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// The functions of an example by the names of their hosts, servers first. The program ends with
/// the last one, the client.
type Hosts = &'static [(&'static str, fn(Names) -> Running)];

/// The addresses of the servers.
#[derive(Clone, Copy)]
struct Names {
    /// The name of a host, or `localhost` if all are on one.
    of: fn(&'static str) -> &'static str,
    ports: u16,
}

impl Names {
    fn addr(&self, host: &'static str, port: u16) -> String {
        format!("{}:{}", (self.of)(host), self.ports + port)
    }

    async fn listen(&self, port: u16) -> TcpListener {
        let addr = format!("0.0.0.0:{}", self.ports + port);
        let listener = TcpListener::bind(&*addr).await;
        listener.expect("the port is free")
    }

    /// Connects as soon as the server listens.
    async fn connect(&self, host: &'static str, port: u16) -> TcpStream {
        loop {
            match TcpStream::connect(&*self.addr(host, port)).await {
                Ok(stream) => break stream,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("{error}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn accept_all<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            spawn(serve(stream)).detach();
        }
    }
}

/// Runs the hosts as tasks on the system, and as hosts of worlds.
fn both(hosts: Hosts, ports: u16) {
    let here = Names {
        of: |_| "127.0.0.1",
        ports,
    };
    let (client, servers) = hosts.split_last().expect("there is a client");
    windlass::block_on(async {
        let _servers: Vec<_> = servers.iter().map(|server| spawn(server.1(here))).collect();
        let client = timeout(Duration::from_secs(60), client.1(here));
        client.await.expect("the client ends in time");
    });
    check(0..50, |world| {
        let names = Names {
            of: |name| name,
            ports,
        };
        for (name, run) in hosts {
            world.host(name, move || run(names));
        }
    });
}

async fn echo_server(names: Names) {
    let buffer = Rc::new(RefCell::new(vec![0; 64 * 1024]));
    let listener = names.listen(0).await;
    let serve = |stream| {
        let buffer = buffer.clone();
        async move {
            echo::echo(stream, &buffer)
                .await
                .expect("the client is there")
        }
    };
    accept_all(listener, serve).await;
}

/// Sends bytes, and reads them back.
async fn send_and_compare(mut stream: TcpStream) {
    for len in [1, 1000, 100_000] {
        let sent: Vec<u8> = (0..len).map(|at: usize| at as u8).collect();
        let mut received = vec![0; len];
        let mut reader = stream.clone();
        let write = stream.write_all(&sent);
        let read = reader.read_exact(&mut received);
        futures::try_join!(write, read).expect("the server is there");
        assert!(received == sent);
    }
    stream.close().await.expect("the server is there");
    let end = stream.read(&mut [0]).await;
    assert_eq!(end.expect("the server closes in order"), 0);
}

#[test]
fn echo_runs_in_both_worlds() {
    both(
        &[
            ("server", |names| Box::pin(echo_server(names))),
            ("client", |names| {
                Box::pin(async move { send_and_compare(names.connect("server", 0).await).await })
            }),
        ],
        27_100,
    );
}

#[test]
fn proxy_runs_in_both_worlds() {
    both(
        &[
            ("server", |names| Box::pin(echo_server(names))),
            ("proxy", |names| {
                Box::pin(async move {
                    let listener = names.listen(1).await;
                    let serve = |client: TcpStream| async move {
                        loop {
                            let there = names.addr("server", 0);
                            match proxy::relay(&client, &there).await {
                                // The server may not listen yet.
                                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                                relayed => {
                                    relayed.expect("both ends are there");
                                    break;
                                }
                            }
                            sleep(Duration::from_millis(10)).await;
                        }
                    };
                    accept_all(listener, serve).await;
                })
            }),
            ("client", |names| {
                Box::pin(async move { send_and_compare(names.connect("proxy", 1).await).await })
            }),
        ],
        27_110,
    );
}

#[test]
fn chat_runs_in_both_worlds() {
    both(
        &[
            ("server", |names| {
                Box::pin(async move {
                    let room = Rc::new(RefCell::new(chat::Room::default()));
                    let listener = names.listen(0).await;
                    let serve = |stream: TcpStream| {
                        let room = room.clone();
                        async move {
                            chat::serve(&stream, room)
                                .await
                                .expect("it leaves in order")
                        }
                    };
                    accept_all(listener, serve).await;
                })
            }),
            ("client", |names| {
                Box::pin(async move {
                    let anna = names.connect("server", 0).await;
                    let mut hears = BufReader::new(&anna).lines();
                    (&anna)
                        .write_all(b"anna\n")
                        .await
                        .expect("the server is there");
                    // Nobody else is there to hear that anna has joined, so wait until she is in.
                    let bert = names.connect("server", 0).await;
                    sleep(Duration::from_secs(5)).await;
                    (&bert)
                        .write_all(b"bert\nahoy\n")
                        .await
                        .expect("the server is there");
                    (&bert).close().await.expect("the server is there");
                    for expected in [
                        "Your name? * bert has joined",
                        "bert: ahoy",
                        "* bert has left",
                    ] {
                        let line = futures::StreamExt::next(&mut hears).await;
                        assert_eq!(
                            line.expect("it goes on").expect("the server is there"),
                            expected
                        );
                    }
                })
            }),
        ],
        27_120,
    );
}

#[test]
fn graceful_runs_in_both_worlds() {
    both(
        &[("client", |names| {
            Box::pin(async move {
                let stop = StopSource::new();
                let listener = names.listen(0).await;
                let server = spawn(graceful::serve(listener, stop.token()));
                let mut open = names.connect("client", 0).await;
                let request = b"GET /slow HTTP/1.1\r\n\r\n";
                open.write_all(request).await.expect("the server is there");
                sleep(Duration::from_secs(1)).await;
                stop.stop();
                let mut answer = String::new();
                let read = open.read_to_string(&mut answer).await;
                read.expect("the server answers what it has read");
                assert!(answer.ends_with("that took a while\n"), "{answer}");
                server.await.expect("it ends in order");
                let refused = TcpStream::connect(&*names.addr("client", 0)).await;
                let refused = refused.map(drop).map_err(|error| error.kind());
                assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused));
            })
        })],
        27_130,
    );
}
