//! Exercises of chapter 8. The tests are in `checks/ch08.rs`.

use std::rc::Rc;
use std::time::Duration;

use windlass_book::{ch08::program::Timers, hole};

/// 8.1: Moves a deadline, so that timers share the time when they fire. The result is never
/// earlier, is later by less than `slack`, and is a multiple of `slack`.
fn shared(deadline: Duration, slack: Duration) -> Duration {
    let _ = (deadline, slack);
    hole("round up")
}

/// 8.2: Deadlines at equal distances. All times are counted from the same start.
#[derive(Debug)]
struct Interval {
    period: Duration,
    last: Duration,
}

impl Interval {
    /// Returns the next deadline after `now`. It is a multiple of the period, however late the
    /// caller is, and deadlines that have been missed are skipped.
    fn next(&mut self, now: Duration) -> Duration {
        let _ = (now, self.period, self.last);
        hole("count from the last deadline, and skip what lies before now")
    }
}

/// 8.3: Calls the operation until it has a result, at most `most` times. It sleeps before each
/// call but the first, for `pause` at first, and for twice as long each time.
async fn retry<T>(
    timers: &Rc<Timers>,
    pause: Duration,
    most: u32,
    operation: impl FnMut() -> Option<T>,
) -> Option<T> {
    let _ = (timers, pause, most, operation);
    hole("call, sleep, and double the pause")
}

#[cfg(test)]
#[path = "../checks/ch08.rs"]
mod checks;
