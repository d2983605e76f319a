//! The example of "Coming from tokio": a server and a client with the idioms of either runtime.

// The servers of tokio have not run under wine.
#![cfg(unix)]

mod common;

#[path = "../examples/from_tokio/with_tokio.rs"]
mod with_tokio;
#[path = "../examples/from_tokio/with_windlass.rs"]
mod with_windlass;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use common::watchdog;
use tokio::sync::watch;
use windlass::task::StopSource;

/// A server on a thread of its own, which stops when this is joined.
struct Server {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Server {
    fn join(self) {
        self.stop.send(true).unwrap();
        self.thread.join().unwrap();
    }

    fn of_tokio() -> Server {
        let (stop, stopped) = watch::channel(false);
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            tokio_runtime().block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                with_tokio::serve(listener, stopped).await.unwrap();
            });
        });
        let addr = receiver.recv().unwrap();
        Server { addr, stop, thread }
    }

    fn of_windlass() -> Server {
        let (stop, mut stopped) = watch::channel(false);
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            windlass::block_on(async {
                let listener = windlass::net::TcpListener::bind("127.0.0.1:0")
                    .await
                    .unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let source = StopSource::new();
                let token = source.token();
                let _stopping = windlass::spawn(async move {
                    stopped.wait_for(|&stop| stop).await.unwrap();
                    source.stop();
                });
                with_windlass::serve(listener, token).await.unwrap();
            });
        });
        let addr = receiver.recv().unwrap();
        Server { addr, stop, thread }
    }
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn each_client_gets_the_sum_of_each_server() {
    let _watchdog = watchdog();
    for server in [Server::of_tokio(), Server::of_windlass()] {
        let sum = windlass::block_on(with_windlass::add(server.addr, &[1, 2, 3])).unwrap();
        assert_eq!(sum, 6);
        let sum = tokio_runtime().block_on(with_tokio::add(server.addr, &[10, 20]));
        assert_eq!(sum.unwrap(), 36);
        server.join();
    }
}

#[test]
fn an_idle_connection_does_not_delay_the_shutdown() {
    let _watchdog = watchdog();
    for server in [Server::of_tokio(), Server::of_windlass()] {
        let _idle = std::net::TcpStream::connect(server.addr).unwrap();
        let sum = windlass::block_on(with_windlass::add(server.addr, &[1]));
        assert_eq!(sum.unwrap(), 1);
        server.join();
    }
}

#[test]
fn both_programs_run() {
    let _watchdog = watchdog();
    with_tokio::main().unwrap();
    with_windlass::main().unwrap();
}

/// Both runtimes on one thread.
#[test]
#[cfg(all(feature = "tokio", unix))]
fn both_servers_run_on_one_thread() {
    let _watchdog = watchdog();
    windlass::tokio::block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let theirs = tokio::spawn(with_tokio::serve(listener, stopped));
        assert_eq!(with_windlass::add(addr, &[1, 2]).await.unwrap(), 3);
        stop.send(true).unwrap();
        theirs.await.unwrap().unwrap();

        let listener = windlass::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap();
        let addr = listener.local_addr().unwrap();
        let source = StopSource::new();
        let ours = windlass::spawn(with_windlass::serve(listener, source.token()));
        assert_eq!(with_tokio::add(addr, &[1, 2]).await.unwrap(), 3);
        source.stop();
        ours.await.unwrap();
    });
}

/// The page shows the programs as they are tested here.
#[test]
fn the_page_shows_the_tested_programs() {
    let page = include_str!("../docs/coming-from-tokio.md");
    for program in [
        include_str!("../examples/from_tokio/with_tokio.rs"),
        include_str!("../examples/from_tokio/with_windlass.rs"),
    ] {
        // Without the comment on top, which the page has as a sentence.
        let (_, program) = program.split_once("\n\n").unwrap();
        assert!(
            page.contains(&format!("```rust,ignore\n{program}```\n")),
            "the page lacks this program:\n{program}"
        );
    }
}
