//! The tests of the exercises of chapter 8.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use windlass_book::ch07::program::Reactor;
use windlass_book::ch08::program::{Timers, block_on};

use super::{Interval, retry, shared};

const MS: Duration = Duration::from_millis(1);

#[test]
fn exercise_1_timers_share_their_time_and_none_is_early() {
    let mut times = BTreeSet::new();
    for micros in 1..=100_000 {
        let deadline = Duration::from_micros(micros);
        let time = shared(deadline, 25 * MS);
        assert!(time >= deadline, "{time:?} is before {deadline:?}");
        assert!(time < deadline + 25 * MS, "{time:?} is late");
        times.insert(time);
    }
    assert_eq!(times.len(), 4, "{times:?}");
    assert_eq!(shared(50 * MS, 25 * MS), 50 * MS);
}

#[test]
fn exercise_2_an_interval_does_not_drift() {
    let period = 100 * MS;
    let mut interval = Interval {
        period,
        last: Duration::ZERO,
    };
    assert_eq!(interval.next(Duration::ZERO), 100 * MS);
    // The caller was late and has worked for a while.
    assert_eq!(interval.next(130 * MS), 200 * MS);
    assert_eq!(interval.next(299 * MS), 300 * MS);
    assert_eq!(interval.next(575 * MS), 600 * MS);
    assert_eq!(interval.next(600 * MS), 700 * MS);
    assert_eq!(interval.next(800 * MS), 900 * MS, "it is after now");
}

#[test]
fn exercise_3_pauses_double() {
    let timers = Timers::new(MS);
    let reactor = Reactor::new().unwrap();
    let mut calls = 0;
    let start = Instant::now();
    let fourth = retry(&timers, 10 * MS, 9, || {
        calls += 1;
        (calls == 4).then_some("ready")
    });
    let result = block_on(&reactor, &timers, fourth).unwrap();
    assert_eq!((result, calls), (Some("ready"), 4));
    // Pauses of 10, 20 and 40 ms.
    assert!(start.elapsed() >= 70 * MS, "{:?}", start.elapsed());

    calls = 0;
    let never = retry(&timers, MS, 3, || {
        calls += 1;
        None::<()>
    });
    assert_eq!(block_on(&reactor, &timers, never).unwrap(), None);
    assert_eq!(calls, 3);
}
