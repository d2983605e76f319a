//! The smallest axum server, with limits for slow clients and a graceful shutdown.
//!
//! ```text
//! cargo run --release -p windlass-web --bin axum_hello   # an address may follow: -- 0.0.0.0:8084
//! curl localhost:8084/json                               # in a second terminal
//! curl --http2-prior-knowledge localhost:8084/
//! ```
//!
//! The benchmarks compare it with the same application on other runtimes (`axum_peers`).

use std::env;
use std::io;

use hyper_util::service::TowerToHyperService;
use windlass::net::TcpListener;
use windlass_web::http::{self, Http};
use windlass_web::server::{Limits, serve};
use windlass_web::{greeting, stop_at_signals};

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:8084");
    windlass::block_on(async {
        let stop = stop_at_signals()?;
        let listener = TcpListener::bind(addr).await?;
        println!("serving on {}", listener.local_addr()?);
        let service = TowerToHyperService::new(greeting::router());
        let http = Http::new(http::Limits::default());
        let cut_off = serve(listener, &stop, Limits::default(), |stream| {
            http.clone().serve(stream, stop.clone(), service.clone())
        })
        .await;
        println!("stopped; connections that were cut off: {cut_off}");
        Ok(())
    })
}
