//! Tests that run in the world.

#[path = "../cancellation.rs"]
mod cancellation;
#[path = "../coroutine/io.rs"]
mod coroutine;
#[path = "../echo.rs"]
mod echo;
#[path = "../fairness.rs"]
mod fairness;
#[path = "../join_all.rs"]
mod join_all;
#[path = "../task/stop.rs"]
mod stop;
