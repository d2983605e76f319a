//! An axum application on one thread.
//!
//! ```text
//! cargo run --release -p windlass-web --bin axum_app      # an address may follow: -- 0.0.0.0:8082
//! curl localhost:8082/visits/gangway                      # in a second terminal
//! curl 'localhost:8082/slow?millis=500'
//! ```
//!
//! axum requires handlers, their futures and their state to be `Send`, although they never leave
//! their thread here. Most handlers meet this. Their state uses `Arc`, `Mutex` and atomics instead
//! of `Rc` and `RefCell`, and the locks are uncontended. Tasks and sockets of windlass are not
//! `Send`. There are two ways to use them, both shown below:
//!
//! * [`SendWrapper`] around the future, if the handler itself uses them. It is `Send`, and panics
//!   when it is polled or dropped on another thread, which never happens here.
//! * A task that owns the values that are not `Send`, and a channel to it, if they outlive the
//!   request.
//!
//! hyper without axum accepts handlers that aren't `Send`, as `http_server` shows.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use futures::channel::{mpsc, oneshot};
use futures::{SinkExt, StreamExt};
use hyper_util::service::TowerToHyperService;
use send_wrapper::SendWrapper;
use serde::{Deserialize, Serialize};
use windlass::net::TcpListener;
use windlass::time::sleep;
use windlass_web::http::{self, Http};
use windlass_web::server::{Limits, serve};
use windlass_web::stop_at_signals;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:8082");
    windlass::block_on(async {
        let stop = stop_at_signals()?;
        let (visits, asked) = mpsc::channel(64);
        let _counting = windlass::spawn(count_visits(asked));
        let app = App {
            requests: Arc::default(),
            visits,
        };
        let router = Router::new()
            .route("/", get(front_page))
            .route("/slow", get(slow))
            .route("/visits/{place}", get(visit))
            .with_state(app);
        let listener = TcpListener::bind(addr).await?;
        println!("serving on {}", listener.local_addr()?);
        let service = TowerToHyperService::new(router);
        let http = Http::new(http::Limits::default());
        let cut_off = serve(listener, &stop, Limits::default(), |stream| {
            http.clone().serve(stream, stop.clone(), service.clone())
        })
        .await;
        println!("stopped; connections that were cut off: {cut_off}");
        Ok(())
    })
}

#[derive(Clone)]
struct App {
    requests: Arc<AtomicU64>,
    visits: mpsc::Sender<Visit>,
}

async fn front_page(State(app): State<App>) -> String {
    let before = app.requests.fetch_add(1, Ordering::Relaxed);
    format!("ahoy, number {}\n", before + 1)
}

#[derive(Deserialize)]
struct Slow {
    millis: u64,
}

/// Uses a task, which isn't `Send`, within the handler.
async fn slow(Query(Slow { millis }): Query<Slow>) -> String {
    SendWrapper::new(async move {
        let work = windlass::spawn(sleep(Duration::from_millis(millis)));
        work.await;
        format!("that took {millis} ms\n")
    })
    .await
}

/// A request to the counting task, with a channel for the reply.
struct Visit {
    place: String,
    answer: oneshot::Sender<Visits>,
}

#[derive(Serialize)]
struct Visits {
    place: String,
    visits: u64,
}

async fn visit(
    State(mut app): State<App>,
    Path(place): Path<String>,
) -> Result<Json<Visits>, StatusCode> {
    let gone = StatusCode::SERVICE_UNAVAILABLE;
    let (answer, answered) = oneshot::channel();
    app.visits
        .send(Visit { place, answer })
        .await
        .map_err(|_| gone)?;
    answered.await.map(Json).map_err(|_| gone)
}

/// Owns the counts, so no lock is needed, and they may be of types that aren't `Send`.
async fn count_visits(mut asked: mpsc::Receiver<Visit>) {
    let mut counts = BTreeMap::new();
    while let Some(Visit { place, answer }) = asked.next().await {
        let visits = counts.entry(place.clone()).or_insert(0);
        *visits += 1;
        // Fails if the requester was dropped.
        let _ = answer.send(Visits {
            place,
            visits: *visits,
        });
    }
}
