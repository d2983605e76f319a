//! `spawn` with spans.

use std::future::Future;
use std::panic::Location;

use windlass_executor::Task;

use super::span::traced;

/// Spawns a task on the executor that runs on this thread.
///
/// Neither the future nor its output need be `Send`. The loop polls it later, never at once.
///
/// # Panics
///
/// Panics outside of a running executor. There, use [`Runtime::spawn`](crate::Runtime::spawn).
///
/// # Examples
///
/// ```
/// use windlass::{block_on, spawn};
///
/// block_on(async {
///     assert_eq!(spawn(async { 7 }).await, 7);
/// });
/// ```
#[track_caller]
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    spawn_at(Location::caller(), future)
}

/// Spawns a task on behalf of other code. `Debug` and panic messages report `spawned_at` as the
/// place where it was spawned.
///
/// # Panics
///
/// Panics as [`spawn`] does.
///
/// # Examples
///
/// ```
/// use std::panic::Location;
/// use windlass::{Task, block_on, spawn, spawn_at};
///
/// /// Spawned later, but `Debug` and panic messages name the caller.
/// #[track_caller]
/// fn later() -> impl FnOnce() -> Task<u32> {
///     let caller = Location::caller();
///     move || spawn_at(caller, async { 7 })
/// }
///
/// block_on(async {
///     assert_eq!(later()().await, 7);
/// });
/// ```
#[track_caller]
pub fn spawn_at<F>(spawned_at: &'static Location<'static>, future: F) -> Task<F::Output>
where
    F: Future + 'static,
{
    windlass_executor::spawn_at(spawned_at, traced(spawned_at, future))
}
