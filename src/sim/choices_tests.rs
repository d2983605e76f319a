use std::rc::Rc;

use super::choices::{Choice, Choices, Site};
use super::context::{Context, Seconds};
use super::explore::Explorer;
use super::site::Family;

fn explore(seed: u64, explorer: Explorer) -> Choices {
    Choices::explore(seed, explorer, Rc::new(Context::new()))
}

fn replay(list: &[Choice]) -> Choices {
    Choices::replay(0, list, Rc::new(Context::new()))
}

/// Makes decisions at three sites of three hosts.
fn draw(choices: &Choices, rounds: u32) -> Vec<u32> {
    let sites = [
        (Site::Task, 1, 3),
        (Site::Loss, 10, 2),
        (Site::Transfer, 4, 100_000),
    ];
    let mut values = Vec::new();
    for round in 0..rounds {
        for (site, rarity, limit) in sites {
            values.push(choices.choose((round % 3) as u16, site, rarity, limit));
        }
    }
    values
}

#[test]
fn the_seed_determines_the_values() {
    let explorers = [
        Explorer::Random,
        Explorer::Swarm,
        Explorer::Deviations { most: 9 },
    ];
    for explorer in explorers {
        let runs = [1, 1, 2].map(|seed| draw(&explore(seed, explorer.clone()), 200));
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2], "{explorer}");
    }
}

#[test]
fn a_seed_means_the_same_in_each_release() {
    let values = draw(&Choices::new(7), 4);
    assert_eq!(values, [1, 0, 0, 0, 0, 5907, 1, 0, 0, 0, 0, 52281]);
}

#[test]
fn other_sites_and_hosts_do_not_move_a_value() {
    let (alone, among) = (Choices::new(3), Choices::new(3));
    for nth in 0..100 {
        among.choose(0, Site::Latency, 1, 1000);
        among.choose(5, Site::Task, 1, 7);
        let [a, b] = [&alone, &among].map(|choices| choices.choose(2, Site::Task, 2, 50));
        assert_eq!(a, b, "decision {nth}");
    }
}

#[test]
fn a_rarity_is_the_rate_of_values_other_than_zero() {
    let choices = Choices::new(11);
    let mut counts = [0; 4];
    for _ in 0..40_000 {
        counts[choices.choose(0, Site::Loss, 10, 4) as usize] += 1;
    }
    assert!((3_700..4_300).contains(&(40_000 - counts[0])), "{counts:?}");
    assert!(
        counts[1..]
            .iter()
            .all(|count| (1_200..1_470).contains(count)),
        "{counts:?}"
    );
    let mut counts = [0; 4];
    for _ in 0..40_000 {
        counts[choices.choose(0, Site::Task, 1, 4) as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (9_500..10_500).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn values_stay_below_the_limit() {
    let choices = Choices::new(5);
    for limit in [2, 3, 1 << 31, u32::MAX] {
        for rarity in [0, 1, 2, u32::MAX] {
            for _ in 0..1_000 {
                assert!(choices.choose(1, Site::Event, rarity, limit) < limit);
            }
        }
    }
}

#[test]
fn a_decision_without_alternative_is_not_counted() {
    let (with, without) = (Choices::new(9), Choices::new(9));
    for _ in 0..50 {
        assert_eq!(with.choose(0, Site::Task, 1, 1), 0);
        assert_eq!(with.choose(0, Site::Task, 1, 0), 0);
        let [a, b] = [&with, &without].map(|choices| choices.choose(0, Site::Task, 1, 9));
        assert_eq!(a, b);
    }
    assert_eq!(with.count(), 50);
}

#[test]
fn a_replay_repeats_the_values() {
    for seed in 0..50 {
        let choices = explore(seed, Explorer::of_seed(seed));
        let values = draw(&choices, 100);
        let again = replay(&choices.list());
        assert_eq!(draw(&again, 100), values);
        assert_eq!(again.list(), choices.list());
    }
}

#[test]
fn a_replay_without_a_choice_is_otherwise_equal() {
    let choices = Choices::new(1);
    let values = draw(&choices, 100);
    let mut list = choices.list();
    let removed = list.remove(17);
    let again = draw(&replay(&list), 100);
    let differs: Vec<_> = (0..values.len())
        .filter(|&i| values[i] != again[i])
        .collect();
    assert_eq!(differs.len(), 1, "{removed:?}: {differs:?}");
    assert_eq!(again[differs[0]], 0);
}

#[test]
fn a_replay_ignores_superfluous_choices_and_clamps() {
    let choice = |site, nth, value| Choice {
        host: 0,
        site,
        nth,
        value,
    };
    let list = [
        choice(Site::Task, 1, 9),
        choice(Site::Task, 1_000, 2),
        choice(Site::Loss, 0, 1),
        Choice {
            host: 900,
            ..choice(Site::Task, 0, 1)
        },
    ];
    let choices = replay(&list);
    let values: Vec<_> = (0..4)
        .map(|_| choices.choose(0, Site::Task, 1, 3))
        .collect();
    assert_eq!(values, [0, 2, 0, 0]);
    assert_eq!(choices.list(), [choice(Site::Task, 1, 2)]);
}

#[test]
fn fifo_is_zero() {
    assert!(
        draw(&explore(4, Explorer::Fifo), 100)
            .iter()
            .all(|&value| value == 0)
    );
}

#[test]
fn deviations_are_few_and_everywhere() {
    let mut places = [0; 300];
    for seed in 0..20_000 {
        let choices = explore(seed, Explorer::Deviations { most: 3 });
        let values = draw(&choices, 100);
        assert!(choices.list().len() <= 3);
        for (place, value) in places.iter_mut().zip(values) {
            *place += u32::from(value != 0);
        }
    }
    assert!(places.iter().all(|&count| count > 0), "{places:?}");
}

#[test]
fn swarm_switches_families_off() {
    let mut seen = [0; 4];
    for seed in 0..1_000 {
        let choices = explore(seed, Explorer::Swarm);
        draw(&choices, 100);
        let has = |family| {
            choices
                .list()
                .iter()
                .any(|choice| choice.site.family() == family)
        };
        seen[usize::from(has(Family::Order)) + 2 * usize::from(has(Family::Transfer))] += 1;
    }
    assert!(
        seen.iter().all(|count| (180..320).contains(count)),
        "{seen:?}"
    );
}

#[test]
fn bytes_are_consumed_as_choices() {
    let bytes: Rc<[u8]> = vec![1, 5, 0, 1, 1, 0, 1, 1, 0].into();
    let choices = explore(0, Explorer::Bytes(bytes));
    let limits = [2, 3, 2, 0x1_0000, 0x1_0001, 300, 5];
    let values = limits.map(|limit| choices.choose(0, Site::Transfer, 1_000, limit));
    assert_eq!(values, [1, 2, 0, 0x101, 0x1_0100 % 0x1_0001, 0, 0]);
}

#[test]
fn a_choice_has_its_moment_and_explanation() {
    let context = Rc::new(Context::with_names());
    let list = [Choice {
        host: 1,
        site: Site::Task,
        nth: 1,
        value: 1,
    }];
    let choices = Choices::replay(0, &list, context.clone());
    context.set_host(1);
    for now in [7, 8, 9] {
        context.set_now(now);
        context.set_task(now as u32 * 2);
        choices.choose(1, Site::Task, 1, 2);
        choices.explain(Site::Event, |_| unreachable!());
        choices.explain(Site::Task, |value| format!("{value} at {now}"));
        choices.explain(Site::Task, |_| unreachable!());
    }
    let made = choices.made();
    assert_eq!((made[0].moment.at, made[0].task, made[0].limit), (8, 16, 2));
    assert_eq!(choices.explanations(), [(0, "1 at 8".to_owned())]);
}

#[test]
fn seconds_have_at_least_milliseconds() {
    let texts = [0, 1_203_000_000, 1_000_000, 13_000_000_001].map(|at| Seconds(at).to_string());
    assert_eq!(texts, ["0.000 s", "1.203 s", "0.001 s", "13.000000001 s"]);
}
