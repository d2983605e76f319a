//! What other threads can see of a reactor: whether its loop sleeps, and its counters.

use std::fmt;
use std::sync::Arc;

use crate::counters::ReactorReading;
use crate::park::{LoopState, ParkState};

/// A handle with which any thread reads the state of a reactor. It may outlive the reactor.
///
/// # Examples
///
/// ```
/// use windlass_reactor::{LoopState, Reactor};
///
/// let reactor = Reactor::current()?;
/// let pulse = reactor.pulse();
/// assert_eq!(pulse.loop_state(), LoopState::Detached);
/// let awake = reactor.awake();
/// assert_eq!(pulse.loop_state(), LoopState::Awake);
/// # drop(awake);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ReactorPulse(Arc<ParkState>);

/// Handles are equal if they are of the same reactor.
impl PartialEq for ReactorPulse {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ReactorPulse {}

impl ReactorPulse {
    pub(crate) fn new(state: Arc<ParkState>) -> Self {
        ReactorPulse(state)
    }

    /// Returns whether the loop sleeps.
    pub fn loop_state(&self) -> LoopState {
        self.0.loop_state()
    }

    /// Returns the counters.
    pub fn read(&self) -> ReactorReading {
        self.0.counters().read()
    }

    /// Requests one call of `on_unpark`, on any thread, when the loop has stopped to sleep. All
    /// reactors of the process share the function of the first request.
    ///
    /// The caller checks [`loop_state`](ReactorPulse::loop_state) afterwards, because the loop may
    /// have stopped to sleep before the request.
    pub fn report_unpark(&self, on_unpark: fn()) {
        self.0.counters().request_report(on_unpark);
    }

    /// Returns whether a request of [`report_unpark`](ReactorPulse::report_unpark) is pending. The
    /// loop has neither slept nor been entered since then.
    pub fn is_unpark_requested(&self) -> bool {
        self.0.counters().is_report_requested()
    }
}

impl fmt::Debug for ReactorPulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorPulse")
            .field("loop_state", &self.loop_state())
            .finish_non_exhaustive()
    }
}
