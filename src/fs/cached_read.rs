//! Reads of cached data, in the order of the operations of their file.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::File;
use super::cached::{self, Attempt, Cached, Target};
use super::handle::Handle;
use super::order::{Access, OperationGuard};
use super::position::Position;

impl File {
    /// Reads cached data, unless an earlier operation must complete before.
    ///
    /// A read that completes at once bypasses the queue. A read that waits for the next turn enters
    /// it, so that later operations take effect after it. Its guard is returned.
    pub(super) async fn read_cached(
        &self,
        mut target: Target<'_>,
        at: Position,
    ) -> (Cached, Option<OperationGuard>) {
        let first = poll_fn(|cx| Poll::Ready(self.try_read_cached(cx, &mut target, at))).await;
        match (first, at) {
            (Some(cached), _) => (cached, None),
            (None, Position::Offset(offset)) => self.read_next_turn(target, offset).await,
            (None, Position::Cursor) => (Cached::default(), None),
        }
    }

    /// Reads at once. Returns `None` if the read must wait for the next turn.
    #[inline]
    fn try_read_cached(
        &self,
        cx: &mut Context<'_>,
        target: &mut Target<'_>,
        at: Position,
    ) -> Option<Cached> {
        let (Some(handle), Position::Offset(offset)) = (&self.handle, at) else {
            return Some(Cached::default());
        };
        let wanted = target.reserve();
        let end = offset.saturating_add(wanted as u64);
        let can = self.can_read_cached.get();
        if !can || wanted == 0 || end > i64::MAX as u64 {
            return Some(Cached::default());
        }
        if !self.order.would_start(&Access::Read(offset..end)) {
            return Some(Cached::default());
        }
        let is_admitted = cached::try_admit(cx, wanted);
        is_admitted.then(|| self.read_admitted(handle, target, wanted, offset))
    }

    #[inline]
    fn read_admitted(
        &self,
        handle: &Handle,
        target: &mut Target<'_>,
        wanted: usize,
        offset: u64,
    ) -> Cached {
        let mut can = self.can_read_cached.get();
        let cached = cached::read_at(handle, target, wanted, offset, &mut can);
        self.can_read_cached.set(can);
        cached
    }

    async fn read_next_turn(
        &self,
        mut target: Target<'_>,
        offset: u64,
    ) -> (Cached, Option<OperationGuard>) {
        let wanted = target.reserve();
        let guard = self.guard_at(Position::Offset(offset), wanted, Access::Read);
        let Ok(guard) = guard else {
            return (Cached::default(), None);
        };
        let mut attempt = Attempt::default();
        let admitted = poll_fn(|cx| cached::poll_admit(cx, &mut attempt, wanted));
        let cached = match admitted.await {
            true => self.read_admitted(&guard, &mut target, wanted, offset),
            false => Cached::default(),
        };
        (cached, Some(guard))
    }
}
