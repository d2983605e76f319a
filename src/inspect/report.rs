//! How reports are written: their limit per minute, and their way to standard error.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use windlass_reactor::fork::PerProcess;

use super::stall::Stall;
use crate::io::write_stderr;

/// How many stalls are kept for a view of the program.
const KEPT: usize = 16;

/// Limits the reports of each minute.
#[derive(Debug)]
pub(crate) struct Limit {
    minute: Instant,
    reports: u32,
    suppressed: u32,
}

impl Limit {
    pub(crate) fn new() -> Limit {
        Limit {
            minute: Instant::now(),
            reports: 0,
            suppressed: 0,
        }
    }

    /// Returns the number of suppressed reports before this one, or `None` if this one is
    /// suppressed.
    pub(crate) fn admit(&mut self, per_minute: u32) -> Option<u32> {
        if self.minute.elapsed() >= Duration::from_secs(60) {
            (self.minute, self.reports) = (Instant::now(), 0);
        }
        if self.reports >= per_minute {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.reports += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Writes the first line with one system call. It takes no lock, also not that of the allocator.
pub(crate) fn write_summary(stall: &Stall) {
    let mut line = Line {
        bytes: [0; 1024],
        len: 0,
    };
    let _ = stall.write_summary(&mut line);
    line.end();
    // The watchdog has no other place for an error.
    let _ = write_stderr(&line.bytes[..line.len]);
}

/// Writes the stack, if there is one.
pub(crate) fn write_stack(stall: &Stall) {
    let mut text = String::new();
    let _ = stall.write_stack(&mut text);
    let _ = write_stderr(text.as_bytes());
}

/// A line of limited length. The rest of a longer text is cut off.
struct Line {
    bytes: [u8; 1024],
    len: usize,
}

impl Line {
    fn end(&mut self) {
        self.len = self.len.min(self.bytes.len() - 1);
        self.bytes[self.len] = b'\n';
        self.len += 1;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.bytes.len() - 1 - self.len;
        let mut len = text.len().min(free);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.bytes[self.len..][..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// The numbers of stalls of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StallTotals {
    pub(crate) stalls: u64,
    pub(crate) stalled: Duration,
}

static STALLS: AtomicU64 = AtomicU64::new(0);
static STALLED_NANOS: AtomicU64 = AtomicU64::new(0);

/// Returns how many stalls the watchdog has found, and how long they were in total. Stalls that
/// last are included.
pub(crate) fn stall_totals() -> StallTotals {
    StallTotals {
        stalls: STALLS.load(Relaxed),
        stalled: Duration::from_nanos(STALLED_NANOS.load(Relaxed)),
    }
}

pub(crate) fn count_stall() {
    STALLS.fetch_add(1, Relaxed);
}

pub(crate) fn count_stalled(time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    STALLED_NANOS.fetch_add(nanos, Relaxed);
}

/// A stall that is kept for a view of the program.
#[derive(Clone, Debug)]
pub(crate) struct RecentStall {
    /// Identifies the stall among those that are kept.
    pub(crate) number: u64,
    pub(crate) begun_at: SystemTime,
    /// The latest report.
    pub(crate) stall: Stall,
}

static RECENT: PerProcess<Mutex<VecDeque<RecentStall>>> = PerProcess::new();

fn recent() -> MutexGuard<'static, VecDeque<RecentStall>> {
    let recent = RECENT.get(Mutex::default).lock();
    recent.unwrap_or_else(PoisonError::into_inner)
}

/// Returns the last stalls, the newest last.
pub(crate) fn recent_stalls() -> Vec<RecentStall> {
    recent().iter().cloned().collect()
}

/// Keeps a report. It replaces the previous report of the same stall, whose stack is kept.
pub(crate) fn keep(stall: &Stall) {
    let mut recent = recent();
    let is_previous = |known: &Stall| {
        let is_of_same = known.executor == stall.executor && known.thread == stall.thread;
        !known.is_over && is_of_same && known.report < stall.report
    };
    let mut known = recent.iter_mut().rev();
    match known.find(|known| is_previous(&known.stall)) {
        Some(RecentStall { stall: known, .. }) => {
            let stack = stall.stack.clone().or_else(|| known.stack.take());
            *known = stall.clone();
            known.stack = stack;
        }
        None => {
            if recent.len() == KEPT {
                recent.pop_front();
            }
            let now = SystemTime::now();
            let newest = recent.back().map_or(0, |newest| newest.number);
            recent.push_back(RecentStall {
                number: newest + 1,
                begun_at: now.checked_sub(stall.duration).unwrap_or(now),
                stall: stall.clone(),
            });
        }
    }
}

/// Emits an event. The subscriber may wait for a lock that the stalled thread holds.
#[cfg(feature = "tracing")]
pub(crate) fn trace(stall: &Stall) {
    let task = stall.task.as_ref();
    ::tracing::warn!(
        target: "windlass",
        id = task.and_then(|task| task.id).map(::tracing::field::display),
        name = task.and_then(|task| task.name.as_deref()),
        spawned_at = task.and_then(|task| task.spawned_at).map(::tracing::field::display),
        executor = stall.executor,
        thread = stall.thread,
        is_over = stall.is_over,
        "{stall}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_beyond_the_limit_are_counted() {
        let mut limit = Limit::new();
        let admitted: Vec<_> = (0..4).map(|_| limit.admit(2)).collect();
        assert_eq!(admitted, [Some(0), Some(0), None, None]);
        let Some(minute) = limit.minute.checked_sub(Duration::from_secs(61)) else {
            return; // the machine was started a minute ago
        };
        limit.minute = minute;
        assert_eq!((limit.admit(2), limit.admit(2)), (Some(2), Some(0)));
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut line = Line {
            bytes: [0; 1024],
            len: 0,
        };
        line.write_str(&"ä".repeat(600)).unwrap();
        line.end();
        let text = std::str::from_utf8(&line.bytes[..line.len]).unwrap();
        assert_eq!(text, format!("{}\n", "ä".repeat(511)));
    }
}
