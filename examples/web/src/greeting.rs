//! The application of `axum_hello`: a line of text, and JSON that is serialized for each request.

use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

/// Routes `/` to a line of text and `/json` to a ship.
pub fn router() -> Router {
    Router::new()
        .route("/", get(async || "ahoy\n"))
        .route("/json", get(async || Json(ship())))
}

#[derive(Serialize)]
struct Ship {
    name: &'static str,
    knots: f64,
    crew: [Sailor; 2],
}

#[derive(Serialize)]
struct Sailor {
    name: &'static str,
    age: u32,
}

fn ship() -> Ship {
    let sailor = |name, age| Sailor { name, age };
    Ship {
        name: "Windlass",
        knots: 7.5,
        crew: [sailor("Anne", 29), sailor("Mary", 31)],
    }
}
