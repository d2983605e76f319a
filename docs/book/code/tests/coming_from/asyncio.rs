//! The code of "Coming from asyncio".

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::task::TaskGroup;
use windlass::time::timeout;
use windlass::{block_on, spawn, yield_now};

// ANCHOR: program
/// Reads a number from each server. The first error, or a server that takes longer than a second,
/// cancels the other reads.
async fn sum(servers: Vec<SocketAddr>) -> io::Result<i64> {
    let mut group = TaskGroup::new();
    for server in servers {
        group.spawn(async move { timeout(Duration::from_secs(1), read(server)).await? });
    }
    let mut sum = 0;
    while let Some(number) = group.join_next().await {
        sum += number?;
    }
    Ok(sum)
}

async fn read(server: SocketAddr) -> io::Result<i64> {
    let mut stream = TcpStream::connect(server).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    text.trim().parse().map_err(io::Error::other)
}
// ANCHOR_END: program

#[test]
fn numbers_are_read_at_the_same_time() {
    let serve = async |listener: TcpListener| -> io::Result<()> {
        let mut streams = Vec::new();
        // All clients are connected before the first is answered.
        for _ in 0..3 {
            streams.push(listener.accept().await?.0);
        }
        for mut stream in streams {
            stream.write_all(b"14\n").await?;
        }
        Ok(())
    };
    let result: io::Result<i64> = block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let servers = vec![listener.local_addr()?; 3];
        let server = spawn(async move { serve(listener).await });
        let sum = sum(servers).await;
        server.await?;
        sum
    });
    assert_eq!(result.unwrap(), 42);
}

// ANCHOR: cancel
/// Counts the sessions that are open. The `Drop` corresponds to `finally` in Python.
struct Open(Rc<Cell<u32>>);

impl Open {
    fn new(count: &Rc<Cell<u32>>) -> Open {
        count.set(count.get() + 1);
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn a_cancel_runs_the_drops_and_cannot_be_refused() {
    block_on(async {
        let count = Rc::new(Cell::new(0));
        let task = spawn({
            let count = count.clone();
            async move {
                let _open = Open::new(&count);
                loop {
                    yield_now().await;
                }
            }
        });
        yield_now().await;
        assert_eq!(count.get(), 1);
        drop(task);
        assert_eq!(count.get(), 0);
    });
}
// ANCHOR_END: cancel

// ANCHOR: forget
#[test]
fn a_task_without_an_owner_is_gone() {
    block_on(async {
        let runs = Rc::new(Cell::new(0));
        let add = |runs: &Rc<Cell<i32>>| {
            let runs = runs.clone();
            async move { runs.set(runs.get() + 1) }
        };
        drop(spawn(add(&runs)));
        yield_now().await;
        assert_eq!(runs.get(), 0);
        spawn(add(&runs)).detach();
        yield_now().await;
        assert_eq!(runs.get(), 1);
    });
}
// ANCHOR_END: forget

// ANCHOR: borrow
#[test]
fn a_shared_value_is_borrowed_between_two_awaits() {
    block_on(async {
        let names = Rc::new(RefCell::new(Vec::new()));
        let task = spawn({
            let names = names.clone();
            async move {
                names.borrow_mut().push("Ada");
                yield_now().await;
                names.borrow_mut().push("Grace");
            }
        });
        yield_now().await;
        assert_eq!(*names.borrow(), ["Ada"]);
        task.await;
        assert_eq!(*names.borrow(), ["Ada", "Grace"]);
    });
}
// ANCHOR_END: borrow
