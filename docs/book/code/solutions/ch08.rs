//! Solutions of chapter 8.

use std::rc::Rc;
use std::time::Duration;

use windlass_book::ch08::program::{Timers, sleep};

fn shared(deadline: Duration, slack: Duration) -> Duration {
    let times = deadline.as_nanos().div_ceil(slack.as_nanos());
    slack * times as u32
}

#[derive(Debug)]
struct Interval {
    period: Duration,
    last: Duration,
}

impl Interval {
    fn next(&mut self, now: Duration) -> Duration {
        self.last += self.period;
        while self.last <= now {
            self.last += self.period;
        }
        self.last
    }
}

async fn retry<T>(
    timers: &Rc<Timers>,
    mut pause: Duration,
    most: u32,
    mut operation: impl FnMut() -> Option<T>,
) -> Option<T> {
    for call in 0..most {
        if call > 0 {
            sleep(timers, pause).await;
            pause *= 2;
        }
        let result = operation();
        if result.is_some() {
            return result;
        }
    }
    None
}

#[cfg(test)]
#[path = "../checks/ch08.rs"]
mod checks;
