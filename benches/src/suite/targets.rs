//! The targets, and whether they are met. Computed from the results, so that the table cannot be
//! wrong.

use super::{
    contender::Contender::{self, *},
    front,
    plan::{How, SLEEPS_ID, Unit, Work, plan},
    results::Results,
    table::{times, with_unit},
};

struct Target {
    work: &'static str,
    says: &'static str,
    checks: Vec<Check>,
}

/// A bound on a value, in each of some works.
struct Check {
    who: Contender,
    works: Vec<String>,
    figure: &'static str,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    Peers(f64),
    Of(Contender, f64),
    AtMost(f64, Unit),
    /// A multiple of another value of its own.
    Own(&'static str, f64),
    /// The value of each peer, at a slack at which the timers of windlass are at most as late.
    Front,
}

/// A value beside its bound.
struct Found {
    title: String,
    value: f64,
    limit: f64,
    met: bool,
}

fn targets() -> Vec<Target> {
    let mut targets = own_work();
    targets.extend(requests());
    targets.extend(size());
    targets
}

fn own_work() -> Vec<Target> {
    let cpu = |works: &[&str], bound| check(Windlass, works, "cpu_ns", bound);
    let wakes = ["wake loop=parked", "wake loop=busy"];
    let yields = ["yield tasks=1", "yield tasks=1000"];
    vec![
        target(
            "spawn + await, one at a time",
            "≤ 0.55 × best peer",
            [cpu(&["spawn batch=1"], Bound::Peers(0.55))],
        ),
        target(
            "spawn + await, batches of 1,000",
            "≤ 0.75 × best peer",
            [cpu(&["spawn batch=1000"], Bound::Peers(0.75))],
        ),
        target(
            "yield, 1 and 1,000 tasks",
            "≤ 0.45 × best peer, ≤ 2.5 × the bare deque",
            [
                cpu(&yields, Bound::Peers(0.45)),
                cpu(&yields, Bound::Of(Floor, 2.5)),
            ],
        ),
        target(
            "ping-pong",
            "≤ 0.75 × best peer",
            [cpu(&["ping_pong"], Bound::Peers(0.75))],
        ),
        target(
            "wake from another thread",
            "≤ 1.1 × the bare epoll loop, below every peer",
            [
                cpu(&wakes, Bound::Of(Floor, 1.1)),
                cpu(&wakes, Bound::Peers(1.0)),
            ],
        ),
        target(
            "timer create + drop, 100,000 pending",
            "≤ 0.6 × best peer",
            [cpu(&["timer_drop pending=100000"], Bound::Peers(0.6))],
        ),
        target(
            "100,000 sleeps over 1 s",
            "for each peer, a slack that is as punctual (p99) for less CPU; never early",
            [
                check(Windlass, &[SLEEPS_ID], "cpu_ns", Bound::Front),
                never_early(Windlass),
                never_early(WindlassPrecise),
            ],
        ),
    ]
}

fn never_early(who: Contender) -> Check {
    check(who, &[SLEEPS_ID], "early", Bound::AtMost(0.0, Unit::Count))
}

fn requests() -> Vec<Target> {
    let echo = || ids(|work| matches!(work.how, How::Served(_)) && work.part == "echo");
    let instructions = ids(|work| work.id.starts_with("instructions echo"));
    let calls = |work: &str, bound| check(Windlass, &[work], "calls", bound);
    let (one, many) = (
        "calls echo c=1 depth=1 size=64",
        "calls echo c=64 depth=1 size=64",
    );
    let beside = "calls echo c=1 depth=1 size=64 idle_timers=100000";
    vec![
        target(
            "echo, instructions",
            "≤ 0.5 × tokio's",
            [Check {
                who: Windlass,
                works: instructions,
                figure: "instructions",
                bound: Bound::Of(Tokio, 0.5),
            }],
        ),
        target(
            "echo, system calls",
            "the bare loop's: 3.00 at C=1, ≤ 2.3 at C=64",
            [
                calls(one, Bound::AtMost(3.005, Unit::Count)),
                calls(many, Bound::AtMost(2.3, Unit::Count)),
                calls(beside, Bound::AtMost(3.005, Unit::Count)),
            ],
        ),
        target(
            "echo, CPU",
            "≤ 1.05 × the bare loop",
            [Check {
                who: Windlass,
                works: echo(),
                figure: "cpu_ns",
                bound: Bound::Of(Floor, 1.05),
            }],
        ),
        target(
            "echo, CPU",
            "at or below every peer",
            [Check {
                who: Windlass,
                works: echo(),
                figure: "cpu_ns",
                bound: Bound::Peers(1.0),
            }],
        ),
        target(
            "connection churn",
            "at or below every peer",
            [Check {
                who: Windlass,
                works: ids(|work| work.part == "churn"),
                figure: "cpu_ns",
                bound: Bound::Peers(1.0),
            }],
        ),
    ]
}

fn size() -> Vec<Target> {
    let grows = |figure, small| check(Windlass, &["million"], figure, Bound::Own(small, 2.2));
    vec![
        target(
            "idle task",
            "≤ 48 B beyond its future",
            [check(
                Windlass,
                &["idle_task n=100000"],
                "heap_bytes",
                Bound::AtMost(48.0, Unit::Bytes),
            )],
        ),
        target(
            "idle connection",
            "≤ 300 B beyond the buffer, with or without one",
            [check(
                Windlass,
                &["idle c=1000", "idle c=1000 buffer=shared"],
                "heap_bytes",
                Bound::AtMost(300.0, Unit::Bytes),
            )],
        ),
        target(
            "a million tasks and timers",
            "≤ 2.2 × the cost at 1,000",
            [
                grows("spawn_ns", "spawn_1000_ns"),
                grows("wake_ns", "wake_1000_ns"),
                grows("drop_ns", "drop_1000_ns"),
                grows("timer_start_ns", "timer_start_1000_ns"),
                grows("timer_drop_ns", "timer_drop_1000_ns"),
            ],
        ),
        target(
            "clean build",
            "≤ 1.2 × tokio's",
            [
                check(
                    Windlass,
                    &["build server"],
                    "wall_ns",
                    Bound::Of(Tokio, 1.2),
                ),
                check(
                    Windlass,
                    &["build server"],
                    "build_cpu_ns",
                    Bound::Of(Tokio, 1.2),
                ),
            ],
        ),
    ]
}

fn target<const N: usize>(work: &'static str, says: &'static str, checks: [Check; N]) -> Target {
    Target {
        work,
        says,
        checks: checks.into(),
    }
}

fn check(who: Contender, works: &[&str], figure: &'static str, bound: Bound) -> Check {
    let works = works.iter().map(|&work| work.to_owned()).collect();
    Check {
        who,
        works,
        figure,
        bound,
    }
}

fn ids(is_wanted: fn(&Work) -> bool) -> Vec<String> {
    plan()
        .into_iter()
        .filter(is_wanted)
        .map(|work| work.id)
        .collect()
}

pub(crate) fn table(results: &Results) -> String {
    let plan = plan();
    let mut text = "| work | target | measured | |\n|---|---|---|---|\n".to_owned();
    for target in targets() {
        let found: Vec<_> = target
            .checks
            .iter()
            .map(|check| (check, check.find(&plan, results)))
            .collect();
        let all = target
            .checks
            .iter()
            .map(|check| check.works.len())
            .sum::<usize>();
        let told: Vec<_> = found
            .iter()
            .filter(|(_, found)| !found.is_empty())
            .map(|(check, found)| check.tell(&plan, found))
            .collect();
        let found: Vec<_> = found.iter().flat_map(|(_, found)| found).collect();
        let verdict = match (found.iter().all(|found| found.met), found.len()) {
            (false, _) => "**missed**",
            (true, 0) => "not measured",
            (true, n) if n < all => "met as far as measured",
            (true, _) => "met",
        };
        let told = told.join("; ");
        text += &format!(
            "| {} | {} | {told} | {verdict} |\n",
            target.work, target.says
        );
    }
    text
}

impl Found {
    fn beside((peer, ratio): (Contender, f64)) -> Found {
        Found {
            title: peer.name().to_owned(),
            value: ratio,
            limit: 1.0,
            met: ratio < 1.0,
        }
    }
}

impl Check {
    /// Where both the value and its reference were measured.
    fn find(&self, plan: &[Work], results: &Results) -> Vec<Found> {
        if let Bound::Front = self.bound {
            let ratios = front::ratios(&front::points(plan, results));
            return ratios.into_iter().map(Found::beside).collect();
        }
        let works = self
            .works
            .iter()
            .filter_map(|id| plan.iter().find(|work| work.id == *id));
        works
            .filter_map(|work| self.find_one(work, results))
            .collect()
    }

    fn find_one(&self, work: &Work, results: &Results) -> Option<Found> {
        let of = |who, figure| {
            results
                .summary(work, who, figure)
                .map(|summary| summary.median)
        };
        let value = of(self.who, self.figure)?;
        let limit = match self.bound {
            Bound::Peers(times) => times * results.best_peer(work, self.figure)?.1,
            Bound::Of(who, times) => times * of(who, self.figure)?,
            Bound::Own(figure, times) => times * of(self.who, figure)?,
            Bound::AtMost(limit, _) => limit,
            Bound::Front => return None,
        };
        Some(Found {
            title: work.title.clone(),
            value,
            limit,
            met: value <= limit,
        })
    }

    /// The result in words, with the range over several works, and the worst.
    fn tell(&self, plan: &[Work], found: &[Found]) -> String {
        let tell = |found: &Found| match self.bound {
            Bound::Peers(times) | Bound::Of(_, times) | Bound::Own(_, times) => {
                format!("{} ×", self::times(found.value / found.limit * times))
            }
            Bound::Front => format!("{} ×", self::times(found.value)),
            Bound::AtMost(_, unit) => with_unit(found.value, unit),
        };
        let mut ranked: Vec<_> = found.iter().collect();
        ranked
            .sort_by(|one, other| (one.value / one.limit).total_cmp(&(other.value / other.limit)));
        let figures = match ranked.as_slice() {
            [best, _, .., worst] if ranked.len() > 2 => {
                let missed = ranked.iter().filter(|found| !found.met).count();
                let missed = format!("{missed} of {} missed", ranked.len());
                format!(
                    "{} to {} ({missed}; worst: {})",
                    tell(best),
                    tell(worst),
                    worst.title
                )
            }
            _ => found.iter().map(tell).collect::<Vec<_>>().join(" and "),
        };
        format!("{} {figures}{}", self.label(plan), self.against())
    }

    fn label(&self, plan: &[Work]) -> &'static str {
        let figures = plan.iter().filter(|work| self.works.contains(&work.id));
        let mut figures = figures.flat_map(|work| work.figures);
        figures
            .find(|figure| figure.name == self.figure)
            .map_or("", |figure| figure.label)
    }

    fn against(&self) -> String {
        match self.bound {
            Bound::Peers(_) => " the best peer".to_owned(),
            Bound::Of(who, _) => format!(" {who}"),
            Bound::Own(..) => " that at 1,000".to_owned(),
            Bound::Front => " each peer".to_owned(),
            Bound::AtMost(..) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn every_target_is_about_planned_works_and_figures_that_they_have() {
        let plan = plan();
        for target in targets() {
            for check in &target.checks {
                assert!(!check.works.is_empty(), "{}", target.work);
                for id in &check.works {
                    let work = plan.iter().find(|work| work.id == *id).expect(id);
                    let has = |name: &str| work.figures.iter().any(|figure| figure.name == name);
                    assert!(has(check.figure), "{id} has no {}", check.figure);
                    assert!(
                        work.who.contains(&check.who),
                        "{id} is not for {}",
                        check.who
                    );
                    if let Bound::Own(other, _) = check.bound {
                        assert!(has(other), "{id} has no {other}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_target_is_met_or_missed_by_the_figures() {
        let line = |own: f64| {
            let taken = [(Windlass, own, false, 70.0), (Glommio, 100.0, false, 70.0)];
            let table = table(&results("spawn batch=1", "cpu_ns", &taken));
            table.lines().nth(2).unwrap().to_owned()
        };
        let says = "| spawn + await, one at a time | ≤ 0.55 × best peer |";
        assert_eq!(
            line(55.0),
            format!("{says} CPU 0.55 × the best peer | met |")
        );
        assert_eq!(
            line(56.0),
            format!("{says} CPU 0.56 × the best peer | **missed** |")
        );
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let none = table(&results("select", "cpu_ns", &[]));
        assert!(
            none.lines()
                .skip(2)
                .all(|line| line.ends_with("| not measured |")),
            "{none}"
        );
        let half = table(&results(
            "yield tasks=1",
            "cpu_ns",
            &[(Windlass, 1.0, false, 70.0), (Floor, 1.0, false, 70.0)],
        ));
        assert!(
            half.lines()
                .nth(4)
                .unwrap()
                .ends_with("| met as far as measured |"),
            "{half}"
        );
    }
}
