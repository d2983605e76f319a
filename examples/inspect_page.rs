//! A server with a page on its state, which answers while the loop is stalled.
//!
//!     cargo run --example inspect_page
//!
//! It prints the addresses of the page and of the server. A request to the server with the path
//! `/stall` blocks the loop for some seconds, as a mistake would.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use windlass::inspect;
use windlass::net::{TcpListener, TcpStream};
use windlass::sync::{Mutex, mpsc};
use windlass::time::sleep;
use windlass::{spawn, spawn_blocking};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let page = args.next().unwrap_or("127.0.0.1:6060".into());
    inspect::watch(Duration::from_millis(50));
    let server = inspect::serve(&page)?;
    if let Some(addr) = server.local_addr() {
        println!("the page is at http://{addr}");
    }
    windlass::block_on(run())
}

async fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    println!("a request to http://{addr}/stall stalls the loop");
    let (orders, incoming) = mpsc::channel(4);
    let stock = Rc::new(Mutex::new(17));
    spawn(keep_books(incoming, stock.clone()))
        .named("bookkeeper")
        .detach();
    spawn(take_inventory(stock)).named("inventory").detach();
    spawn(report_hourly()).named("hourly report").detach();
    spawn(order_supplies(orders.clone()))
        .named("orders")
        .detach();
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(serve(stream)).named("client").detach();
    }
}

/// Sends an order from time to time.
async fn order_supplies(orders: mpsc::Sender<u32>) {
    for number in 1.. {
        sleep(Duration::from_millis(40)).await;
        if orders.send(number).await.is_err() {
            return;
        }
    }
}

async fn keep_books(mut incoming: mpsc::Receiver<u32>, stock: Rc<Mutex<u32>>) {
    while let Some(order) = incoming.recv().await {
        *stock.lock().await += order % 3;
    }
}

/// Holds the lock while it counts, so the bookkeeper waits.
async fn take_inventory(stock: Rc<Mutex<u32>>) {
    loop {
        let counted = stock.lock().await;
        sleep(Duration::from_millis(300)).await;
        drop(counted);
        sleep(Duration::from_millis(900)).await;
    }
}

/// Waits for a task that waits for another.
async fn report_hourly() {
    let collect = spawn(async {
        let shelves = spawn(sleep(Duration::from_secs(3600))).named("shelf sensor");
        shelves.await;
    })
    .named("collect figures");
    let archive = spawn(spawn_blocking(|| {
        std::thread::sleep(Duration::from_secs(3600))
    }));
    futures::join!(collect, archive.named("archive"));
}

async fn serve(mut stream: TcpStream) {
    let mut request = [0; 1024];
    let Ok(n) = stream.read(&mut request).await else {
        return;
    };
    if request[..n].starts_with(b"GET /stall") {
        spawn(price_everything()).named("price list").await;
    }
    let answer = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nahoy\n";
    stream.write_all(answer.as_bytes()).map(drop).await;
}

/// Blocks the loop, which an asynchronous task must not do.
async fn price_everything() {
    std::thread::sleep(Duration::from_secs(6));
}
