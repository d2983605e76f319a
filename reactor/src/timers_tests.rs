//! Compares the timer wheel with a plain model, and tests its limits.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

const TICK: u64 = 1 << TICK_BITS;
const SECOND: u64 = 1_000_000_000;
const SLACK: u64 = 100_000;

fn fire<T>(timers: &mut Timers<T>, now: u64) -> Vec<T> {
    let mut fired = Vec::new();
    timers.fire(now, usize::MAX, &mut fired);
    fired
}

#[test]
fn an_empty_wheel_has_no_deadline() {
    let mut timers = Timers::<u32>::new(SLACK, 0);
    assert!(timers.is_empty());
    assert_eq!(timers.next_deadline(), None);
    assert_eq!(fire(&mut timers, u64::MAX), []);
    assert_eq!(timers.next_deadline(), None);
}

#[test]
fn an_entry_stays_small() {
    assert!(size_of::<Entry<std::task::Waker>>() <= 40);
}

#[test]
fn deadlines_of_zero_and_of_the_past_are_due_at_once() {
    let mut timers = Timers::new(SLACK, 0);
    timers.insert(0, "zero");
    assert_eq!(timers.next_deadline(), Some(0));
    assert_eq!(fire(&mut timers, 0), ["zero"]);

    fire(&mut timers, SECOND);
    timers.insert(SECOND + 1, "later in this tick");
    timers.insert(3, "past");
    timers.insert(SECOND, "now");
    assert_eq!(timers.next_deadline(), Some(SECOND));
    assert_eq!(fire(&mut timers, SECOND), ["past", "now"]);
    assert_eq!(timers.next_deadline(), Some(SECOND + 1));
    assert_eq!(fire(&mut timers, SECOND + 1), ["later in this tick"]);
}

#[test]
fn the_end_of_time_is_a_deadline_like_any_other() {
    let mut timers = Timers::new(0, 0);
    timers.insert(u64::MAX, "last");
    timers.insert(u64::MAX - 1, "last but one");
    assert_eq!(timers.next_deadline(), Some(u64::MAX - 1));
    assert_eq!(fire(&mut timers, u64::MAX - 2), [""; 0]);
    assert_eq!(fire(&mut timers, u64::MAX - 1), ["last but one"]);
    assert_eq!(timers.next_deadline(), Some(u64::MAX));
    assert_eq!(fire(&mut timers, u64::MAX), ["last"]);
    timers.insert(u64::MAX, "after the end");
    assert_eq!(fire(&mut timers, u64::MAX), ["after the end"]);
}

#[test]
fn a_lone_timer_costs_one_punctual_wake_up_on_any_level() {
    let ends = (0..u64::BITS).map(|bit| 1 << bit);
    for deadline in ends
        .flat_map(|end: u64| [end - 1, end, end + 1])
        .chain([u64::MAX])
    {
        let mut timers = Timers::new(SLACK, 0);
        timers.insert(deadline, deadline);
        assert_eq!(timers.next_deadline(), Some(deadline));
        if deadline > 0 {
            assert_eq!(fire(&mut timers, deadline - 1), []);
            assert_eq!(timers.next_deadline(), Some(deadline));
        }
        assert_eq!(fire(&mut timers, deadline), [deadline]);
        assert_eq!(timers.next_deadline(), None);
    }
}

#[test]
fn timers_within_the_slack_fire_at_their_latest_deadline() {
    for start in [1 << 20, 1 << 30, 1 << 50] {
        let mut timers = Timers::new(SLACK, 0);
        let late = [0, SLACK / 3, SLACK - 1, SLACK, SLACK + 1, SLACK + 2].map(|it| start + it);
        for deadline in late.into_iter().rev() {
            timers.insert(deadline, deadline);
        }
        fire(&mut timers, start - 1); // so that all are on the lowest level
        assert_eq!(timers.next_deadline(), Some(start + SLACK));
        let mut fired = fire(&mut timers, start + SLACK);
        fired.sort_unstable();
        assert_eq!(fired, late[..4]);
        assert_eq!(timers.next_deadline(), Some(late[5]));
        timers.set_slack(0);
        assert_eq!(timers.next_deadline(), Some(late[4]));
    }
}

#[test]
fn a_lone_timer_is_punctual_although_a_later_one_is_in_its_slot() {
    const MS: u64 = 1_000_000;
    for (slack, lone, later) in [
        (SLACK, 10 * MS, 12 * MS),
        (50 * MS, 60 * SECOND, 65 * SECOND),
        (10_000, 3 * TICK, 3 * TICK + 30_000),
    ] {
        let mut timers = Timers::new(slack, 0);
        timers.insert(later, later);
        timers.insert(lone, lone);
        assert_eq!(timers.next_deadline(), Some(lone));
        assert_eq!(fire(&mut timers, lone), [lone]);
        assert_eq!(timers.next_deadline(), Some(later));
    }
}

#[test]
fn a_timer_beyond_the_slack_fires_in_its_own_call() {
    let mut timers = Timers::new(SLACK, 0);
    let [one, two, three] = [9, 9 + SLACK / 2, 9 + 3 * SLACK];
    for deadline in [one, two, three] {
        timers.insert(deadline, deadline);
    }
    assert_eq!(timers.next_deadline(), Some(two));
    assert_eq!(fire(&mut timers, two), [one, two]);
    assert_eq!(timers.next_deadline(), Some(three));
    timers.set_slack(u64::MAX);
    timers.insert(u64::MAX, u64::MAX);
    assert!(timers.next_deadline() >= Some(three));
}

#[test]
fn equal_deadlines_fire_in_order_of_insertion_at_any_distance() {
    let deadline = 100 * SECOND;
    let mut timers = Timers::new(SLACK, 0);
    for (order, now) in [0, SECOND, 60 * SECOND, 99 * SECOND, deadline - 1]
        .iter()
        .enumerate()
    {
        fire(&mut timers, *now);
        timers.insert(deadline, 2 * order);
        timers.insert(deadline, 2 * order + 1);
    }
    assert_eq!(fire(&mut timers, deadline), (0..10).collect::<Vec<_>>());
}

#[test]
fn equal_deadlines_fire_in_order_after_some_have_moved_down() {
    let window = 1 << shift(2);
    let deadline = 2 * window + 7;
    let mut timers = Timers::new(SLACK, 0);
    for order in 0..AHEAD + 3 {
        timers.insert(deadline, order);
    }
    fire(&mut timers, window);
    let left = |timers: &Timers<_>| timers.slots_of(2).count();
    assert_eq!(left(&timers), 1, "some have moved down, not all");
    timers.insert(deadline, AHEAD + 3);
    fire(&mut timers, window + 1);
    assert_eq!(left(&timers), 0);
    timers.insert(deadline, AHEAD + 4);
    let fired = fire(&mut timers, deadline);
    assert_eq!(fired, (0..AHEAD + 5).collect::<Vec<_>>());
}

#[test]
fn distant_timers_move_down_before_the_first_is_due() {
    let window = 1 << shift(2);
    let mut timers = Timers::new(SLACK, 0);
    for i in 0..20 * AHEAD as u64 {
        timers.insert(2 * window + i, "far");
    }
    for i in 0..30 {
        fire(&mut timers, window + i * TICK);
    }
    let moved = |timers: &Timers<_>| timers.levels().all(|level| level < 2);
    assert!(moved(&timers));
    assert_eq!(fire(&mut timers, 2 * window), ["far"]);
}

#[test]
fn a_limit_leaves_the_others_due() {
    let mut timers = Timers::new(SLACK, 0);
    for deadline in 0..10 {
        timers.insert(deadline * TICK / 3, deadline);
    }
    let now = SECOND;
    let mut fired = vec![77];
    timers.fire(now, 4, &mut fired);
    assert_eq!(fired, [77, 0, 1, 2, 3]);
    assert!(timers.next_deadline() <= Some(now));
    timers.fire(now, 0, &mut fired);
    assert_eq!(fired.len(), 5);
    timers.fire(now, 6, &mut fired);
    assert_eq!(fired[5..], [4, 5, 6, 7, 8, 9]);
    assert_eq!(timers.next_deadline(), None);
}

#[test]
fn a_clock_that_goes_backwards_is_ignored() {
    let mut timers = Timers::new(SLACK, 0);
    fire(&mut timers, SECOND);
    timers.insert(SECOND + TICK, "later");
    assert_eq!(fire(&mut timers, 0), [""; 0]);
    timers.insert(SECOND, "now");
    assert_eq!(fire(&mut timers, 0), ["now"]);
    assert_eq!(fire(&mut timers, SECOND + TICK), ["later"]);
}

#[test]
fn a_key_is_invalid_once_its_timer_is_gone() {
    let mut timers = Timers::new(SLACK, 0);
    let removed = timers.insert(SECOND, "removed");
    assert_eq!(timers.remove(removed), Some("removed"));
    assert_eq!(timers.remove(removed), None);
    let fired = timers.insert(SECOND, "fired");
    assert_eq!(fired.index, removed.index);
    assert_eq!(timers.get_mut(removed), None);
    assert_eq!(timers.get_mut(fired), Some(&mut "fired"));
    assert_eq!(fire(&mut timers, SECOND), ["fired"]);
    assert_eq!(timers.get_mut(fired), None);
    let pending = timers.insert(2 * SECOND, "pending");
    assert_eq!(timers.remove(fired), None);
    assert_eq!(timers.len(), 1);
    assert_eq!(timers.remove(pending), Some("pending"));
}

#[test]
fn an_entry_is_left_unused_when_its_generations_run_out() {
    let mut timers = Timers::new(SLACK, 0);
    let first = timers.insert(SECOND, "first");
    timers.remove(first);
    timers.entries[0].generation = u32::MAX;
    let last = timers.insert(SECOND, "last");
    assert_eq!((last.index, last.generation), (0, u32::MAX));
    timers.remove(last);
    let stranger = timers.insert(SECOND, "stranger");
    assert_eq!(stranger.index, 1);
    assert_eq!(timers.remove(first), None);
    assert_eq!(timers.remove(last), None);
    assert_eq!(timers.remove(stranger), Some("stranger"));
}

#[test]
fn a_removed_timer_costs_at_most_one_wake_up() {
    let mut timers = Timers::new(SLACK, 0);
    // Both timers wait in one slot of a high level.
    let early = timers.insert(3600 * SECOND, "early");
    let late = 3600 * SECOND + SECOND / 2;
    timers.insert(late, "late");
    timers.remove(early);
    let stale = timers.next_deadline().unwrap();
    assert_eq!(fire(&mut timers, stale), [""; 0]);
    assert_eq!(timers.next_deadline(), Some(late));
}

#[test]
fn the_memory_stays_at_its_peak() {
    let mut timers = Timers::new(SLACK, 0);
    for round in 0..100 {
        let keys: Vec<_> = (0..10)
            .map(|i| timers.insert(round + i * SECOND, i))
            .collect();
        for key in keys {
            assert!(timers.remove(key).is_some());
        }
    }
    assert_eq!(timers.entries.len(), 10);
}

/// An operation on the timers, with times relative to `now`.
#[derive(Clone, Debug)]
enum Step {
    InsertIn(u64),
    InsertPast(u64),
    InsertLikeLast,
    InsertAtTheEnd,
    Remove(usize),
    Fire { later: u64, limit: usize },
}

/// Durations (ns) of every magnitude, most of them short.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        0..4 * TICK,
        0..SECOND,
        (0..u64::BITS, any::<u64>()).prop_map(|(bits, noise)| noise >> bits),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let later = prop_oneof![4 => 0..4 * TICK, 1 => span()];
    let limit = prop_oneof![3 => Just(usize::MAX), 2 => 0..5_usize];
    prop_oneof![
        6 => span().prop_map(Step::InsertIn),
        1 => span().prop_map(Step::InsertPast),
        2 => Just(Step::InsertLikeLast),
        1 => Just(Step::InsertAtTheEnd),
        3 => any::<usize>().prop_map(Step::Remove),
        5 => (later, limit).prop_map(|(later, limit)| Step::Fire { later, limit }),
    ]
}

/// The timers and their model, a list of pending ones by deadline and order of insertion.
struct Model {
    timers: Timers<u64>,
    now: u64,
    pending: BTreeMap<(u64, u64), (TimerKey, bool)>,
    gone: Vec<TimerKey>,
    deadlines: Vec<u64>,
}

impl Model {
    fn new() -> Self {
        Model {
            timers: Timers::new(SLACK, 0),
            now: 0,
            pending: BTreeMap::new(),
            gone: Vec::new(),
            deadlines: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::InsertIn(span) => self.insert(self.now.saturating_add(span)),
            Step::InsertPast(span) => self.insert(self.now.saturating_sub(span)),
            Step::InsertLikeLast => self.insert(*self.deadlines.last().unwrap_or(&0)),
            Step::InsertAtTheEnd => self.insert(u64::MAX),
            Step::Remove(choice) => self.remove(choice),
            Step::Fire { later, limit } => self.fire(self.now.saturating_add(later), limit),
        }
        self.check();
    }

    fn insert(&mut self, deadline: u64) {
        let id = self.deadlines.len() as u64;
        let key = self.timers.insert(deadline, id);
        self.pending
            .insert((deadline, id), (key, deadline > self.now));
        self.deadlines.push(deadline);
    }

    fn remove(&mut self, choice: usize) {
        if self.pending.is_empty() {
            return;
        }
        let (&name, &(key, _)) = self
            .pending
            .iter()
            .nth(choice % self.pending.len())
            .unwrap();
        assert_eq!(self.timers.get_mut(key), Some(&mut name.1.clone()));
        assert_eq!(self.timers.remove(key), Some(name.1));
        self.pending.remove(&name);
        self.gone.push(key);
    }

    fn fire(&mut self, now: u64, limit: usize) {
        self.now = now;
        let mut fired = Vec::new();
        self.timers.fire(now, limit, &mut fired);
        let due = self.pending.range(..=(now, u64::MAX)).count();
        assert_eq!(fired.len(), due.min(limit), "all due, up to the limit");

        let mut tick = 0;
        for id in fired {
            let deadline = self.deadlines[id as usize];
            assert!(deadline <= now, "early");
            let equals = self.pending.range((deadline, 0)..);
            assert_eq!(
                equals.map(|(name, _)| *name).next(),
                Some((deadline, id)),
                "FIFO"
            );
            let (key, on_time) = self.pending.remove(&(deadline, id)).unwrap();
            self.gone.push(key);
            if on_time {
                assert!(deadline >> TICK_BITS >= tick, "in tick order");
                tick = deadline >> TICK_BITS;
            }
        }
    }

    fn check(&mut self) {
        assert_eq!(self.timers.len(), self.pending.len());
        assert_eq!(self.timers.is_empty(), self.pending.is_empty());
        let next = self.timers.next_deadline();
        assert_eq!(next.is_none(), self.pending.is_empty());
        if let (Some(next), Some((earliest, _))) = (next, self.pending.keys().next()) {
            assert!(
                next <= earliest.saturating_add(SLACK).max(self.now),
                "later than the slack"
            );
            let is_due = *earliest <= self.now;
            assert!(
                !is_due || next <= self.now,
                "a due timer has a later deadline"
            );
        }
        for key in &self.gone {
            assert_eq!(self.timers.get_mut(*key), None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_wheel_behaves_like_a_sorted_map(steps in vec(step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        model.fire(u64::MAX, usize::MAX);
        model.check();
        prop_assert!(model.timers.is_empty());
    }

    #[test]
    fn firing_at_the_next_deadline_is_late_by_the_slack_at_most(
        slack in span(),
        timers_to_be in vec((span(), span()), 1..60),
    ) {
        // Each timer is inserted at its own time and runs for its own duration.
        let mut to_insert: Vec<_> = timers_to_be
            .into_iter()
            .map(|(at, span)| (at, at.saturating_add(span)))
            .collect();
        to_insert.sort_unstable_by(|a, b| b.cmp(a));
        let (mut timers, mut pending) = (Timers::new(slack, 0), Vec::new());
        let mut now = 0;
        loop {
            let insertion = to_insert.last().map(|timer| timer.0);
            match (timers.next_deadline(), insertion) {
                (None, None) => break,
                (Some(next), at) if at.is_none_or(|at| next <= at) => {
                    now = next.max(now);
                    let fired = fire(&mut timers, now);
                    prop_assert!(!fired.is_empty(), "no timer fired");
                    for deadline in fired {
                        prop_assert!(deadline <= now && now - deadline <= slack);
                    }
                    pending.sort_unstable();
                    let is_alone = pending.get(1).is_none_or(|it| it - pending[0] > slack);
                    prop_assert!(!is_alone || now == pending[0], "a lone timer is late");
                    pending.retain(|&deadline| deadline > now);
                }
                _ => {
                    let (at, deadline) = to_insert.pop().unwrap();
                    now = at;
                    timers.insert(deadline, deadline);
                    pending.push(deadline);
                }
            }
        }
    }
}
