//! The files of a thread, as a source of completions of its reactor.

use std::cell::Cell;
use std::io;
use std::task::Waker;
use std::time::Duration;

use super::background::{Background, Progress};
use super::operation::{Ended, end_files};
use super::ring::Ring;
use crate::BlockingTask;
use windlass_reactor::completion::{CompletionSource, MayBlock, Registration};
use windlass_reactor::is_driven;
use windlass_reactor::wake::wake_all;

/// When the kernel, having been short of memory for files, is asked again: seldom enough to leave
/// the processor to whoever may end that.
pub(crate) const RETRY: Duration = Duration::from_millis(1);

/// How many bytes are read without waiting between two turns at most. The copy takes some 100 µs.
const CACHED_PER_TURN: usize = 1024 * 1024;

pub(crate) struct Files {
    /// None if there is no io_uring, or the program has chosen threads.
    ring: Option<Ring>,
    /// Operations that threads perform, and whose callers have gone on.
    background: Background,
    /// Whether there may be operations that the end of a loop waits for.
    has_work: Cell<bool>,
    /// How many bytes may be read without waiting until the next turn.
    cached_left: Cell<usize>,
}

impl Files {
    fn new(ring: Option<Ring>) -> Files {
        Files {
            ring,
            background: Background::new(),
            has_work: Cell::new(false),
            cached_left: Cell::new(CACHED_PER_TURN),
        }
    }

    /// Returns this thread's files. At the first call, chooses between io_uring and threads.
    pub(crate) fn here(wants_ring: bool) -> io::Result<Registration<Files>> {
        Registration::current(|registrar| {
            let ring = wants_ring.then(|| Ring::new(registrar).ok());
            Ok(Files::new(ring.flatten()))
        })
    }

    /// Returns this thread's files if something turns that could bring completions.
    #[inline]
    pub(crate) fn driven() -> Option<Registration<Files>> {
        match Registration::<Files>::existing() {
            Some(files) => files.is_driven().then_some(files),
            None => is_driven().then(|| Files::here(true).ok()).flatten(),
        }
    }

    /// Returns whether so many bytes may be read without waiting in this turn.
    #[inline]
    pub(crate) fn try_take_cached(&self, bytes: usize) -> bool {
        let left = self.cached_left.get().checked_sub(bytes);
        self.cached_left.set(left.unwrap_or(0));
        left.is_some()
    }

    pub(crate) fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// The end of the loop waits for the task.
    pub(crate) fn leave_to_thread(&self, task: BlockingTask<Ended>) {
        self.background.add(task);
        self.has_work.set(true);
    }

    /// An operation of the ring was begun.
    #[inline]
    pub(crate) fn begun(this: &Registration<Files>) {
        this.has_work.set(true);
        this.request_turn();
    }

    /// An operation of the ring goes on without its caller.
    pub(crate) fn leave_to_ring(this: &Registration<Files>) {
        Files::begun(this);
        // After the last loop has ended, no other end of a loop may come.
        if !this.is_driven() && !this.is_inherited() {
            this.finish();
        }
    }

    #[cold]
    fn finish_slowly(&self) {
        let mut progress = Progress::new();
        if let Some(ring) = &self.ring {
            let mut woken = Vec::new();
            while let Some(collected) = ring.finish(&mut woken, &mut progress) {
                collected.into_iter().for_each(|it| end_files(*it));
                wake_all(woken.drain(..));
            }
        }
        self.background.finish(&mut progress);
        // Those that are left may end by the next time.
        let has_work = self.ring.as_ref().is_some_and(Ring::has_work);
        self.has_work.set(has_work);
    }
}

impl CompletionSource for Files {
    fn submit(&self) -> io::Result<MayBlock> {
        self.cached_left.set(CACHED_PER_TURN);
        let Some(ring) = &self.ring else {
            return Ok(MayBlock::Yes);
        };
        Ok(match ring.submit()? {
            true => MayBlock::No,
            false if ring.is_held_back() => MayBlock::Until(windlass_reactor::time::now() + RETRY),
            false => MayBlock::Yes,
        })
    }

    fn collect(&self, woken: &mut Vec<Waker>) {
        let collected = self.ring.as_ref().and_then(|ring| ring.collect(woken));
        if let Some(collected) = collected {
            end_files(*collected);
        }
    }

    /// Waits for the operations whose callers have gone on: writes, closes, and operations that
    /// were dropped.
    ///
    /// As long as any of them ends within each second, it waits for the others. The rest go on
    /// without this thread, and no later call waits for them.
    fn finish(&self) {
        if self.has_work.get() {
            self.finish_slowly();
        }
    }
}
