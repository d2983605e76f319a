//! The limit of real time for one run.
//!
//! Virtual time stands still in an endless loop, so a thread outside of the world watches.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Watches the runs of one check while it exists.
#[derive(Debug)]
pub(super) struct TimeLimit {
    epoch: Instant,
    /// The start of the run in nanoseconds after `epoch`, plus one. Zero between runs.
    started: Arc<AtomicU64>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl TimeLimit {
    /// Starts to watch. `abort` is called with a reason when a run takes longer than the limit.
    pub(super) fn new(limit: Duration, abort: impl Fn(&str) + Send + 'static) -> TimeLimit {
        let epoch = Instant::now();
        let started = Arc::new(AtomicU64::new(0));
        let (sender, receiver) = channel::<()>();
        let watched = started.clone();
        let watch = move || loop {
            let now = epoch.elapsed();
            // A run that starts later has time until then.
            let mut end = now.saturating_add(limit);
            let started = watched.load(Relaxed);
            if started != 0 {
                end = Duration::from_nanos(started - 1).saturating_add(limit);
            }
            if end <= now {
                abort(&format!("a run has taken {limit:?} of real time"));
            }
            // The limit ends with its check.
            match receiver.recv_timeout(end.saturating_sub(now)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        };
        let thread = std::thread::Builder::new().name("windlass-sim-limit".to_owned());
        // Without the thread there is no limit.
        let thread = thread.spawn(watch).ok().map(|thread| (sender, thread));
        TimeLimit {
            epoch,
            started,
            thread,
        }
    }

    /// Marks the start of a run.
    pub(super) fn start(&self) {
        self.started
            .store(self.epoch.elapsed().as_nanos() as u64 + 1, Relaxed);
    }

    /// Marks the end of a run.
    pub(super) fn stop(&self) {
        self.started.store(0, Relaxed);
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // It panics only if the limit was exceeded, and then the process has ended.
            let _ = thread.join();
        }
    }
}
