//! Futures that know where they are awaited.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Place;

/// Returns whether a place in this file may be an `.await` of the program. A future that is polled
/// through a box or a `dyn Future` gets a place in the standard library or in this crate instead.
pub(crate) fn is_await(file: &str) -> bool {
    const OWN: &str = file!();
    const ROOT: usize = OWN.len() - "waits/poll_at.rs".len();
    let is_own = |path: &str| {
        ["sync", "task", "waits"].contains(&path.split(['/', '\\']).next().unwrap_or_default())
    };
    let in_crate = file.get(..ROOT).filter(|root| *root == &OWN[..ROOT]);
    let is_ours = in_crate.is_some_and(|root| is_own(&file[root.len()..]));
    !is_ours && !file.starts_with("/rustc/")
}

/// Returns a future that polls by `poll`, which gets the place of the `.await` as well.
///
/// The compiler passes the place as a constant. So it costs nothing until `poll` stores it.
pub(crate) fn poll_at<T, F>(poll: F) -> impl Future<Output = T>
where
    F: FnMut(&mut Context<'_>, Place) -> Poll<T>,
{
    PollAt(poll)
}

struct PollAt<F>(F);

// The function is never pinned.
impl<F> Unpin for PollAt<F> {}

impl<T, F: FnMut(&mut Context<'_>, Place) -> Poll<T>> Future for PollAt<F> {
    type Output = T;

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        (self.0)(cx, Location::caller())
    }
}

impl<F> fmt::Debug for PollAt<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollAt").finish_non_exhaustive()
    }
}
