//! Futures that know where they are awaited.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::future::FusedFuture;

use super::Place;

/// Returns whether a place in this file may be an `.await` of the program. A future that is polled
/// through a box or a `dyn Future` gets a place in the standard library or in this crate instead.
pub(crate) fn is_await(file: &str) -> bool {
    const OWN: &str = file!();
    const ROOT: usize = OWN.len() - "waits/poll_at.rs".len();
    is_await_outside(file, &OWN[..ROOT])
}

/// As `is_await`, for a program in which the sources of this crate are in the folder `root`.
pub(crate) fn is_await_outside(file: &str, root: &str) -> bool {
    let is_own = |path: &str| {
        ["sync", "task", "waits"].contains(&path.split(['/', '\\']).next().unwrap_or_default())
    };
    !file.strip_prefix(root).is_some_and(is_own) && !is_of_std(file)
}

fn is_of_std(file: &str) -> bool {
    // The second path is the one of the installed sources.
    file.starts_with("/rustc/")
        || file
            .replace('\\', "/")
            .contains("/rustlib/src/rust/library/")
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

/// As [`poll_at`], for futures that `select!` polls again after they have completed.
pub(crate) fn poll_fused_at<T, F>(poll: F) -> impl FusedFuture<Output = T>
where
    F: FnMut(&mut Context<'_>, Place) -> Poll<T>,
{
    PollFusedAt {
        poll,
        is_done: false,
    }
}

struct PollFusedAt<F> {
    poll: F,
    is_done: bool,
}

// The function is never pinned.
impl<F> Unpin for PollFusedAt<F> {}

impl<T, F: FnMut(&mut Context<'_>, Place) -> Poll<T>> Future for PollFusedAt<F> {
    type Output = T;

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        assert!(!self.is_done, "polled after completion");
        let polled = (self.poll)(cx, Location::caller());
        self.is_done = polled.is_ready();
        polled
    }
}

impl<T, F: FnMut(&mut Context<'_>, Place) -> Poll<T>> FusedFuture for PollFusedAt<F> {
    fn is_terminated(&self) -> bool {
        self.is_done
    }
}

impl<F> fmt::Debug for PollFusedAt<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollFusedAt").finish_non_exhaustive()
    }
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

#[cfg(test)]
mod tests {
    use super::{is_await, is_await_outside};

    #[test]
    fn places_in_std_and_in_this_crate_are_no_awaits() {
        const STD: &str = "/builds/lib/rustlib/src/rust/library/core/src/future/future.rs";
        assert!(!is_await(file!()));
        assert!(is_await("/builds/program/src/main.rs:1:2"));
        assert!(!is_await("/rustc/0123/library/core/src/future/future.rs"));
        assert!(!is_await(STD));
        assert!(!is_await(&STD.replace('/', "\\")));
    }

    #[test]
    fn the_folder_is_the_one_of_the_program() {
        let of_other = |file| is_await_outside(file, "/other/windlass/src/");
        assert!(of_other(file!()));
        assert!(of_other("/other/windlass/src/net/tcp.rs:1:2"));
        assert!(!of_other("/other/windlass/src/waits/poll_at.rs:1:2"));
    }
}
