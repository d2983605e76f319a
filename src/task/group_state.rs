//! The children and the outputs of a group.

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use super::child::{Caught, Payload, SpawnedAt, drop_each};
use super::listed_group::Running;
use crate::sync::shrink::shrink_queue;

/// Nothing here runs user code, apart from the drops of [`Cancelled`] and [`Contents`]. The methods
/// are inlined into `group.rs`, which saves 90 instructions per child.
pub(super) struct State<R> {
    pub(super) running: Running,
    /// The children that wait until fewer than `limit` children run.
    pub(super) waiting: VecDeque<(SpawnedAt, Caught<'static, R>)>,
    pub(super) limit: usize,
    pub(super) next_id: u64,
    /// Outputs that were not joined yet. An output that is a failure is the last.
    pub(super) ended: VecDeque<R>,
    /// The panic that has ended the group. It came after all outputs in `ended`.
    pub(super) panic: Option<Payload>,
    /// The group was dropped, or a failure has ended it.
    pub(super) closed: bool,
    /// The last child that was dropped inside of `spawn_at`. Unless that call panics, the executor
    /// of the child is being dropped.
    pub(super) lost: Option<u64>,
    /// The stream of outputs has ended, and no child was spawned since.
    pub(super) is_exhausted: bool,
}

impl<R> State<R> {
    pub(super) fn new() -> State<R> {
        State {
            running: Running::new(),
            waiting: VecDeque::new(),
            limit: usize::MAX,
            next_id: 0,
            ended: VecDeque::new(),
            panic: None,
            closed: false,
            lost: None,
            is_exhausted: false,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.running.len() >= self.limit
    }

    /// Moves the next waiting child to the running ones, if the limit allows it.
    #[inline]
    pub(super) fn start_next(&mut self) -> Option<(u64, SpawnedAt, Caught<'static, R>)> {
        if self.is_full() {
            return None;
        }
        shrink_queue(&mut self.waiting);
        let (spawned_at, future) = self.waiting.pop_front()?;
        let id = self.next_id;
        self.next_id += 1;
        self.running.push(id, MaybeUninit::uninit(), None);
        Some((id, spawned_at, future))
    }

    /// Returns the next output, or the panic that has ended the group.
    #[inline]
    pub(super) fn next_ended(&mut self) -> Option<Result<R, Payload>> {
        shrink_queue(&mut self.ended);
        match self.ended.pop_front() {
            Some(returned) => Some(Ok(returned)),
            None => self.panic.take().map(Err),
        }
    }

    /// Closes the group and returns all children, to be dropped without a borrow.
    #[inline]
    pub(super) fn cancel(&mut self) -> Cancelled<R> {
        self.closed = true;
        self.take_children()
    }

    #[inline]
    pub(super) fn take_children(&mut self) -> Cancelled<R> {
        Cancelled {
            running: std::mem::take(&mut self.running),
            waiting: std::mem::take(&mut self.waiting),
        }
    }
}

pub(super) struct Cancelled<R> {
    pub(super) running: Running,
    pub(super) waiting: VecDeque<(SpawnedAt, Caught<'static, R>)>,
}

impl<R> Cancelled<R> {
    pub(super) fn drop_each(&mut self) {
        drop_each(std::mem::take(&mut self.running).into_values());
        drop_each(std::mem::take(&mut self.waiting));
    }
}

/// The contents of a dropped group.
pub(super) struct Contents<R> {
    pub(super) cancelled: Cancelled<R>,
    pub(super) ended: VecDeque<R>,
    pub(super) panic: Option<Payload>,
}

impl<R> Drop for Contents<R> {
    fn drop(&mut self) {
        self.cancelled.drop_each();
        drop_each(std::mem::take(&mut self.ended));
        drop_each(self.panic.take());
    }
}
