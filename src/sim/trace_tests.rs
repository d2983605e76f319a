use std::rc::Rc;

use super::context::Context;
use super::trace::{EventKind, Trace, Watch};

fn trace(watch: Watch, steps: u64) -> Trace {
    let trace = Trace::new(Rc::new(Context::new()), watch);
    for step in 0..steps {
        trace.record(
            step * 10,
            (step % 3) as u16,
            EventKind::Call,
            step,
            step * step,
        );
    }
    trace
}

#[test]
fn each_part_of_an_event_is_in_the_hash() {
    let hash = |now, host, kind, a, b| {
        let trace = Trace::new(Rc::new(Context::new()), Watch::NOTHING);
        trace.record(now, host, kind, a, b);
        assert_eq!(trace.steps(), 1);
        trace.hash()
    };
    let hashes = [
        hash(1, 2, EventKind::Call, 3, 4),
        hash(2, 2, EventKind::Call, 3, 4),
        hash(1, 3, EventKind::Call, 3, 4),
        hash(1, 2, EventKind::Poll, 3, 4),
        hash(1, 2, EventKind::Call, 4, 4),
        hash(1, 2, EventKind::Call, 3, 5),
        hash(0, 0, EventKind::Poll, 0, 0),
    ];
    for (i, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..i].contains(hash), "{i}: {hashes:x?}");
    }
}

#[test]
fn a_hash_is_the_same_on_each_machine() {
    assert_eq!(
        trace(Watch::NOTHING, 1_000).hash(),
        1_061_139_538_626_772_208
    );
}

#[test]
fn the_order_is_in_the_hash() {
    let hash = |order: [u64; 2]| {
        let trace = Trace::new(Rc::new(Context::new()), Watch::NOTHING);
        for a in order {
            trace.record(5, 0, EventKind::Call, a, 0);
        }
        trace.hash()
    };
    assert_ne!(hash([1, 2]), hash([2, 1]));
}

#[test]
fn hashes_of_a_long_run_stay_few() {
    let trace = trace(Watch::HASHES, 100_000);
    let hashes = trace.hashes();
    assert!((1_024..4_098).contains(&hashes.len()), "{}", hashes.len());
    assert_eq!(hashes[0].step, 0);
    assert_eq!(hashes.last().map(|last| last.step), Some(100_000));
    let distance = hashes[1].step;
    let is_even = |pair: &[super::trace::Checkpoint]| pair[1].step - pair[0].step == distance;
    assert!(hashes[..hashes.len() - 1].windows(2).all(is_even));
}

#[test]
fn a_watch_keeps_the_events_of_its_steps() {
    let watch = Watch {
        from: 50,
        to: 60,
        keeps_events: true,
    };
    let trace = trace(watch, 100);
    let events = trace.events();
    assert_eq!(
        events.iter().map(|event| event.a).collect::<Vec<_>>(),
        (50..60).collect::<Vec<_>>()
    );
    assert_eq!(
        trace.text(&events[1]),
        "0.00000051 s host 0: system call 51 returns 2601"
    );
    assert_eq!(trace.hash(), self::trace(Watch::NOTHING, 100).hash());
}
