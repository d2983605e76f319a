//! The handle of a completion source.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::task::Waker;

use crate::completion_source::CompletionSource;
use crate::current::{check_driven_by, current_reactor, existing_reactor};
use crate::inner::ReactorInner;

/// Connects a new completion source with its reactor.
pub struct Registrar<'a> {
    reactor: &'a ReactorInner,
}

impl Registrar<'_> {
    /// Returns a waker that ends a wait of the reactor, from any thread. It may outlive the
    /// reactor.
    pub fn waker(&self) -> Waker {
        self.reactor.park().waker()
    }

    /// Ends a wait of the reactor whenever the file descriptor becomes readable, until the
    /// descriptor is closed. It is registered edge-triggered, so `collect` must process all
    /// completions.
    ///
    /// # Errors
    ///
    /// Returns an error if the file descriptor cannot be polled, for example that of a regular
    /// file, or if it is registered already.
    #[cfg(target_os = "linux")]
    pub fn watch(&self, fd: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
        self.reactor.watch(fd)
    }
}

impl fmt::Debug for Registrar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").finish_non_exhaustive()
    }
}

/// A completion source and the reactor that it is registered with.
///
/// Dereferences to the source. It keeps the reactor alive, but does not turn it.
pub struct Registration<S: CompletionSource> {
    source: Rc<S>, // dropped before the reactor, which discards a panic of the last drop
    reactor: Rc<ReactorInner>,
}

impl<S: CompletionSource> Registration<S> {
    /// Returns the source of type `S` of this thread's reactor. If there is none, calls `make` and
    /// registers the result.
    ///
    /// # Errors
    ///
    /// Returns the error of `make`, or of the reactor if it cannot be created.
    pub fn current(make: impl FnOnce(&Registrar<'_>) -> io::Result<S>) -> io::Result<Self> {
        let reactor = current_reactor()?;
        if let Some(source) = reactor.completions().find() {
            return Ok(Registration { source, reactor });
        }
        let new = Rc::new(make(&Registrar { reactor: &reactor })?);
        // `make` is user code. If it has registered a source of this type, that one stays.
        if let Some(source) = reactor.completions().find() {
            return Ok(Registration { source, reactor });
        }
        let source = new;
        reactor.completions().insert(source.clone());
        reactor.park().request_turn();
        Ok(Registration { source, reactor })
    }

    /// Returns the source of type `S` of this thread's reactor, if it is registered.
    pub fn existing() -> Option<Self> {
        let reactor = existing_reactor()?;
        let source = reactor.completions().find()?;
        Some(Registration { source, reactor })
    }

    /// Makes sure that a turn follows, for an operation that was just queued. While a loop is on
    /// the stack, a turn follows anyway, and this call only reads a counter.
    pub fn request_turn(&self) {
        self.reactor.park().request_turn();
    }

    /// Returns whether something turns the reactor. Returns false in a forked child if the reactor
    /// belongs to the parent.
    pub fn is_driven(&self) -> bool {
        self.reactor.is_driven()
    }

    /// Returns an error if nothing turns the reactor, so that a future can fail instead of waiting
    /// forever.
    ///
    /// # Errors
    ///
    /// The error names the remedy. In a forked child it reports that the reactor belongs to the
    /// parent.
    pub fn check_driven(&self) -> io::Result<()> {
        check_driven_by(&self.reactor)
    }

    /// Returns true in a forked child if the reactor and the source belong to the parent.
    pub fn is_inherited(&self) -> bool {
        self.reactor.is_inherited()
    }
}

impl<S: CompletionSource> Clone for Registration<S> {
    fn clone(&self) -> Self {
        Registration {
            source: self.source.clone(),
            reactor: self.reactor.clone(),
        }
    }
}

impl<S: CompletionSource> Deref for Registration<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.source
    }
}

impl<S: CompletionSource + fmt::Debug> fmt::Debug for Registration<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Registration");
        debug.field("source", &self.source).finish_non_exhaustive()
    }
}
