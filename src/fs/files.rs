//! The files of a thread, as a completion source of its reactor.

use std::cell::Cell;
use std::io;
use std::task::Waker;
use std::time::Duration;

use super::background::{Background, Progress};
#[cfg(target_os = "linux")]
use super::cached_queue::{Attempt, CachedQueue};
use super::operation::{OpOutput, drop_or_retry};
use super::ring::Ring;
use crate::BlockingTask;
use windlass_reactor::completion::{CompletionSource, MayBlock, Registration};
use windlass_reactor::is_driven;
use windlass_reactor::wake::wake_all;

/// How long to wait before a retry when the kernel is short of memory for operations. Other
/// processes, which may release memory, need the processor in the meantime.
pub(crate) const RETRY: Duration = Duration::from_millis(1);

/// The most bytes of cached data that are read between two turns. The copy takes about 100 µs.
const CACHED_PER_TURN: usize = 1024 * 1024;

thread_local! {
    /// The bytes that are left in this turn. A field would cost each cached read a search for the
    /// source. A thread that makes no turns uses them up once.
    static CACHED_LEFT: Cell<usize> = const { Cell::new(CACHED_PER_TURN) };
}

/// Takes this number of bytes of cached data from the turn's limit. Returns false beyond the limit.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn try_take_cached(bytes: usize) -> bool {
    let left = CACHED_LEFT.get().checked_sub(bytes);
    if let Some(left) = left {
        CACHED_LEFT.set(left);
    }
    left.is_some()
}

/// Returns bytes that were taken from the limit and not copied.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn return_cached(bytes: usize) {
    CACHED_LEFT.set(CACHED_LEFT.get().saturating_add(bytes).min(CACHED_PER_TURN));
}

pub(crate) struct Files {
    /// `None` if io_uring is unavailable, or the program has disabled it.
    ring: Option<Ring>,
    /// The attempts to use cached data that wait for a later turn.
    #[cfg(target_os = "linux")]
    cached_queue: CachedQueue,
    /// Detached operations of the pool.
    background: Background,
    /// Whether there may be operations for which the end of a loop waits.
    has_work: Cell<bool>,
}

impl Files {
    fn new(ring: Option<Ring>) -> Files {
        Files {
            ring,
            #[cfg(target_os = "linux")]
            cached_queue: CachedQueue::default(),
            background: Background::new(),
            has_work: Cell::new(false),
        }
    }

    /// Returns this thread's files. At the first call, chooses between io_uring and threads.
    pub(crate) fn get_or_register(wants_ring: bool) -> io::Result<Registration<Files>> {
        Registration::current(|registrar| {
            let ring = wants_ring.then(|| Ring::new(registrar).ok());
            Ok(Files::new(ring.flatten()))
        })
    }

    /// Returns this thread's files if a reactor turns that could collect completions.
    #[inline]
    pub(crate) fn driven() -> Option<Registration<Files>> {
        match Registration::<Files>::existing() {
            Some(files) => files.is_driven().then_some(files),
            None => is_driven()
                .then(|| Files::get_or_register(true).ok())
                .flatten(),
        }
    }

    pub(crate) fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// Takes a detached task of the pool. The end of the loop waits for it.
    pub(crate) fn detach_on_thread(&self, task: BlockingTask<OpOutput>) {
        self.background.add(task);
        self.has_work.set(true);
    }

    /// Puts an attempt into the queue for later turns.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait_for_turn(
        this: &Registration<Files>,
        attempt: &mut Attempt,
        bytes: usize,
        waker: Waker,
    ) {
        this.cached_queue.push(attempt, bytes, waker);
        this.request_turn();
    }

    /// Returns whether attempts wait for the next turn.
    fn has_waiting(&self) -> bool {
        #[cfg(target_os = "linux")]
        return !self.cached_queue.is_empty();
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Makes sure that a turn submits an operation that was just started.
    #[inline]
    pub(crate) fn request_submit(this: &Registration<Files>) {
        this.has_work.set(true);
        this.request_turn();
    }

    /// Makes sure that a detached operation of the ring completes.
    pub(crate) fn detach_on_ring(this: &Registration<Files>) {
        Files::request_submit(this);
        // After the last loop has ended, this may be the last chance to wait.
        if !this.is_driven() && !this.is_inherited() {
            this.finish();
        }
    }

    #[cold]
    fn finish_background(&self) {
        let mut progress = Progress::new();
        if let Some(ring) = &self.ring {
            let mut wakers = Vec::new();
            while let Some(collected) = ring.finish(&mut wakers, &mut progress) {
                collected.into_iter().for_each(|it| drop_or_retry(*it));
                wake_all(wakers.drain(..));
            }
        }
        self.background.finish(&mut progress);
        // The operations that are left may complete by the next call.
        let has_work = self.ring.as_ref().is_some_and(Ring::has_work);
        self.has_work.set(has_work);
    }
}

impl CompletionSource for Files {
    fn submit(&self) -> io::Result<MayBlock> {
        CACHED_LEFT.set(CACHED_PER_TURN);
        let Some(ring) = &self.ring else {
            return Ok(match self.has_waiting() {
                true => MayBlock::No,
                false => MayBlock::Yes,
            });
        };
        Ok(match ring.submit()? {
            true => MayBlock::No,
            false if self.has_waiting() => MayBlock::No,
            false if ring.is_short_of_memory() => {
                MayBlock::Until(windlass_reactor::time::now() + RETRY)
            }
            false => MayBlock::Yes,
        })
    }

    fn collect(&self, wakers: &mut Vec<Waker>) {
        #[cfg(target_os = "linux")]
        self.cached_queue.admit(wakers, try_take_cached);
        let collected = self.ring.as_ref().and_then(|ring| ring.collect(wakers));
        if let Some(collected) = collected {
            drop_or_retry(*collected);
        }
    }

    /// Waits for detached operations, which are writes, closes and dropped operations.
    ///
    /// It waits as long as one of them completes each second. The others continue without this
    /// thread, and later calls ignore them.
    fn finish(&self) {
        if self.has_work.get() {
            self.finish_background();
        }
    }
}
