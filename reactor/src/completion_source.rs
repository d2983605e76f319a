//! The sources of completions that are registered with a reactor.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use crate::wake::discard_panic;

/// A source of completions. Its operations are submitted in batches, and complete later, outside of
/// the thread.
///
/// See [the module](crate::completion) for how a turn calls it.
pub trait CompletionSource: Any {
    /// Submits the operations that were queued since the last call, just before the reactor waits
    /// for events.
    ///
    /// Returns whether the reactor may block. The answer must be [`MayBlock::No`] while there are
    /// completions to collect, because a notification from before this call no longer keeps the
    /// reactor from blocking.
    ///
    /// Must not turn the reactor, because that turn would call this again.
    ///
    /// # Errors
    ///
    /// An error ends the turn, and a `block_on` that made the turn panics. It means that the source
    /// has failed for good. Errors of single operations belong to the futures of these operations.
    fn submit(&self) -> io::Result<MayBlock>;

    /// Moves completions to where the futures of the operations find them, and appends the wakers
    /// of these futures to `wakers`. The reactor calls the wakers at the end of the turn.
    ///
    /// Must neither call the wakers itself nor turn the reactor. A turn inside this call returns an
    /// error, because the outer turn has not called the wakers of its events yet.
    ///
    /// # Panics
    ///
    /// A panic propagates from the turn after the turn has called all wakers.
    fn collect(&self, wakers: &mut Vec<Waker>);

    /// Called at the end of each outermost `block_on` of the thread, and when the last
    /// [`Reactor`](crate::Reactor) is dropped, because no turn may follow. A source may wait here
    /// for operations in flight whose futures were dropped. A panic is discarded.
    fn finish(&self) {}
}

/// Whether a reactor may block, from the point of view of one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MayBlock {
    /// It may block until any event. The source will notify the reactor, with a file descriptor or
    /// with the waker of its [`Registrar`](crate::completion::Registrar).
    Yes,
    /// It may block until this point in time.
    Until(Instant),
    /// It must not block, because there are completions to collect, or operations to submit in the
    /// next turn.
    No,
}

/// The sources of one reactor, in order of registration. They stay until the reactor is dropped.
pub(crate) struct CompletionSources {
    entries: RefCell<Vec<Entry>>,
    /// The length of `entries`. While there is no source, a turn reads only this.
    len: Cell<usize>,
    is_collecting: Cell<bool>,
}

/// Both point to the same value.
struct Entry {
    source: Rc<dyn CompletionSource>,
    any: Rc<dyn Any>,
}

impl CompletionSources {
    pub(crate) const fn new() -> CompletionSources {
        CompletionSources {
            entries: RefCell::new(Vec::new()),
            len: Cell::new(0),
            is_collecting: Cell::new(false),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len.get() == 0
    }

    pub(crate) fn find<S: CompletionSource>(&self) -> Option<Rc<S>> {
        let entries = self.entries.borrow();
        let entry = entries.iter().find(|entry| (*entry.any).is::<S>())?;
        entry.any.clone().downcast().ok()
    }

    pub(crate) fn insert<S: CompletionSource>(&self, source: Rc<S>) {
        let mut entries = self.entries.borrow_mut();
        entries.push(Entry {
            source: source.clone(),
            any: source,
        });
        self.len.set(entries.len());
    }

    /// Iterates over the sources, including those that are registered during the iteration. Holds
    /// no borrow while a source runs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Rc<dyn CompletionSource>> {
        let mut indices = 0..;
        std::iter::from_fn(move || {
            let entries = self.entries.borrow();
            Some(entries.get(indices.next()?)?.source.clone())
        })
    }

    /// Submits to all sources. Returns whether the reactor may block, and until when.
    #[cold]
    pub(crate) fn submit(&self) -> io::Result<(bool, Option<Instant>)> {
        if self.is_collecting.get() {
            return Err(io::Error::other(
                "a completion source must not turn the reactor while it collects",
            ));
        }
        let (mut may_block, mut until) = (true, None);
        for source in self.iter() {
            match source.submit()? {
                MayBlock::Yes => {}
                MayBlock::Until(at) => until = Some(until.map_or(at, |until| at.min(until))),
                MayBlock::No => may_block = false,
            }
        }
        Ok((may_block, until))
    }

    /// Collects from all sources. Returns the first panic.
    #[cold]
    pub(crate) fn collect(&self, wakers: &mut Vec<Waker>) -> Option<Box<dyn Any + Send>> {
        let mut panic = None;
        self.is_collecting.set(true);
        for source in self.iter() {
            let collected = catch_unwind(AssertUnwindSafe(|| source.collect(wakers)));
            if let Err(payload) = collected {
                match panic {
                    None => panic = Some(payload),
                    Some(_) => discard_panic(|| drop(payload)),
                }
            }
        }
        self.is_collecting.set(false);
        panic
    }

    /// Calls `finish` of all sources.
    #[cold]
    pub(crate) fn finish(&self) {
        self.iter().for_each(|it| discard_panic(|| it.finish()));
    }
}

impl Drop for CompletionSources {
    fn drop(&mut self) {
        for entry in self.entries.take() {
            discard_panic(|| drop(entry));
        }
    }
}
