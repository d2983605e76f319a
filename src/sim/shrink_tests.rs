use super::choices::{Choice, Site};
use super::explore::mix;
use super::shrink::shrink;

/// A list with many hosts, sites and values.
fn list(length: u64) -> Vec<Choice> {
    let choice = |i| Choice {
        host: (i % 5) as u16,
        site: Site::ALL[i as usize % Site::ALL.len()],
        nth: i,
        value: 1 + (mix(1, i) % 100) as u32,
    };
    (0..length).map(choice).collect()
}

/// Returns how many of 20 random sets of three causes a search with these budgets leaves.
fn left(most_runs: u64, fails: impl Fn(&[Choice], &[u64; 3]) -> bool) -> Vec<(usize, u64)> {
    let search = |seed| {
        let causes = [0, 1, 2].map(|i| mix(seed, i) % 1_000);
        let mut fails = |list: &[Choice]| fails(list, &causes);
        let shrunk = shrink(list(1_000), most_runs, &mut || false, &mut fails);
        assert!(fails(&shrunk.list));
        (shrunk.list.len(), shrunk.runs)
    };
    (0..20).map(search).collect()
}

fn has(list: &[Choice], nth: u64) -> bool {
    list.iter().any(|choice| choice.nth == nth)
}

#[test]
fn three_causes_of_a_thousand_are_found() {
    let left = left(2_000, |list, causes| {
        causes.iter().all(|&nth| has(list, nth))
    });
    println!("{left:?}");
    assert!(
        left.iter()
            .all(|&(length, runs)| (1..=3).contains(&length) && runs <= 300)
    );
}

#[test]
fn causes_are_found_although_other_choices_hide_them() {
    // The failure needs its causes, and each removed choice may hide it.
    let fails = |list: &[Choice], causes: &[u64; 3]| {
        let all = causes.iter().all(|&nth| has(list, nth));
        let hash = list.iter().fold(7, |hash, choice| mix(hash, choice.nth));
        all && (list.len() > 999 || list.len() <= 4 || hash % 10 < 7)
    };
    let left = left(2_000, fails);
    println!("{left:?}");
    assert!(
        left.iter()
            .all(|&(length, runs)| (1..=5).contains(&length) && runs <= 2_000)
    );
}

#[test]
fn values_become_as_low_as_possible() {
    let mut fails = |list: &[Choice]| {
        let value = |nth| {
            list.iter()
                .find(|choice| choice.nth == nth)
                .map(|choice| choice.value)
        };
        value(3).is_some_and(|value| value >= 2) && value(60).is_some()
    };
    let mut start = list(100);
    start[3].value = 4_000_000_000;
    let shrunk = shrink(start, 2_000, &mut || false, &mut fails);
    let left: Vec<_> = shrunk
        .list
        .iter()
        .map(|choice| (choice.nth, choice.value))
        .collect();
    assert_eq!(left, [(3, 2), (60, 1)]);
}

#[test]
fn a_failure_without_choices_takes_one_run() {
    let shrunk = shrink(list(1_000), 2_000, &mut || false, &mut |_| true);
    assert_eq!((shrunk.list.len(), shrunk.runs), (0, 1));
    let shrunk = shrink(Vec::new(), 2_000, &mut || false, &mut |_| true);
    assert_eq!(shrunk.runs, 0);
}

#[test]
fn the_budgets_are_kept() {
    let mut runs = 0;
    let shrunk = shrink(list(1_000), 40, &mut || false, &mut |list| {
        runs += 1;
        has(list, 3) && has(list, 700)
    });
    assert_eq!((shrunk.runs, runs), (40, 40));
    assert!(has(&shrunk.list, 3) && has(&shrunk.list, 700) && shrunk.list.len() < 1_000);
    let mut checks = 0;
    let mut is_over = || {
        checks += 1;
        checks > 10
    };
    let shrunk = shrink(list(1_000), 2_000, &mut is_over, &mut |list| has(list, 3));
    assert_eq!(shrunk.runs, 10);
}
