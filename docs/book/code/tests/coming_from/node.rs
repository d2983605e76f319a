//! The code of "Coming from Node".

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncBufReadExt, AsyncWriteExt, StreamExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::timeout;
use windlass::{block_on, spawn, yield_now};

// ANCHOR: program
/// Answers each line of a client with its length. One client that fails does not stop the server.
async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(async move {
            if let Err(error) = answer(stream).await {
                eprintln!("{error}");
            }
        })
        .detach();
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.clone()).lines();
    while let Some(line) = lines.next().await {
        let reply = format!("{}\n", line?.len());
        stream.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}
// ANCHOR_END: program

#[test]
fn lines_are_answered_with_their_length() {
    let result: io::Result<String> = block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let _server = spawn(serve(listener));
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        stream.write_all(b"ahoy\n").await?;
        let mut reply = String::new();
        stream.read_line(&mut reply).await?;
        Ok(reply)
    });
    assert_eq!(result.unwrap(), "4\n");
}

// ANCHOR: lazy
#[test]
fn a_future_does_nothing_until_it_is_polled() {
    block_on(async {
        let runs = Rc::new(Cell::new(0));
        let run = async || runs.set(runs.get() + 1);
        let first = run();
        yield_now().await;
        assert_eq!(runs.get(), 0);
        first.await;
        assert_eq!(runs.get(), 1);
    });
}
// ANCHOR_END: lazy

// ANCHOR: race
#[test]
fn the_loser_of_a_race_stops() {
    block_on(async {
        let alive = Rc::new(());
        let work = {
            let alive = alive.clone();
            async move {
                let _alive = alive;
                pending::<()>().await
            }
        };
        let result = timeout(Duration::from_millis(1), work).await;
        assert!(result.is_err());
        assert_eq!(Rc::strong_count(&alive), 1);
    });
}
// ANCHOR_END: race

// ANCHOR: exit
#[test]
fn the_program_ends_with_its_main_future() {
    let runs = Rc::new(Cell::new(0));
    block_on({
        let runs = runs.clone();
        async move {
            spawn(async move {
                loop {
                    runs.set(runs.get() + 1);
                    yield_now().await;
                }
            })
            .detach();
            yield_now().await;
        }
    });
    // The task that ran forever is dropped.
    assert!(runs.get() > 0);
    assert_eq!(Rc::strong_count(&runs), 1);
}
// ANCHOR_END: exit
