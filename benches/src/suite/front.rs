//! The CPU time and lateness of timers: windlass at several slacks, and its peers.

use super::{
    contender::{ALL, Contender},
    plan::{SLACKS, SLEEPS_ID, Work, micros, with_slack},
    results::Results,
};

/// A contender's timers, with one of its settings.
pub(crate) struct Point {
    pub(crate) who: Contender,
    pub(crate) name: String,
    /// CPU time per timer (ns).
    pub(crate) cpu: f64,
    /// The lateness (ns) of the median and of the 99th percentile.
    pub(crate) late_p50: f64,
    pub(crate) late_p99: f64,
}

/// All contenders, and windlass at each slack.
pub(crate) fn points(works: &[Work], results: &Results) -> Vec<Point> {
    let point = |id: &str, who, name| {
        let work = works.iter().find(|work| work.id == id)?;
        let median = |figure| Some(results.summary(work, who, figure)?.median);
        Some(Point {
            who,
            name,
            cpu: median("cpu_ns")?,
            late_p50: median("late_p50_ns")?,
            late_p99: median("late_p99_ns")?,
        })
    };
    let defaults = ALL
        .into_iter()
        .filter_map(|who| point(SLEEPS_ID, who, who.name().to_owned()));
    let slacks = SLACKS
        .into_iter()
        .filter_map(|slack| point(&with_slack(slack), Contender::Windlass, micros(slack)));
    defaults.chain(slacks).collect()
}

/// For each peer, the least ratio of CPU time to it, among the slacks at which windlass is at most
/// as late (p99). If there is none, the least of the larger ratio, of CPU time or of lateness.
pub(crate) fn ratios(points: &[Point]) -> Vec<(Contender, f64)> {
    let (ours, others): (Vec<_>, Vec<_>) = points.iter().partition(|point| point.who.is_ours());
    let best = |peer: &Point| {
        let beside = |own: &&Point| match (own.cpu / peer.cpu, own.late_p99 / peer.late_p99) {
            (cpu, ..=1.0) => cpu,
            (cpu, late) => cpu.max(late),
        };
        ours.iter().map(beside).min_by(f64::total_cmp)
    };
    let peers = others.into_iter().filter(|point| point.who.is_peer());
    peers
        .filter_map(|peer| Some((peer.who, best(peer)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::contender::Contender::*;
    use super::*;

    fn at(who: Contender, cpu: f64, late_p99: f64) -> Point {
        Point {
            who,
            name: String::new(),
            cpu,
            late_p50: 0.0,
            late_p99,
        }
    }

    #[test]
    fn a_slack_that_is_later_than_the_peer_does_not_beat_it() {
        let ours = [at(Windlass, 2.0, 50.0), at(WindlassPrecise, 8.0, 20.0)];
        let beside = |cpu, late| {
            let [own, precise] = &ours;
            let copy = |own: &Point| at(own.who, own.cpu, own.late_p99);
            ratios(&[
                copy(own),
                copy(precise),
                at(Smol, cpu, late),
                at(Floor, 1.0, 1.0),
            ])
        };
        assert_eq!(beside(10.0, 100.0), [(Smol, 0.2)]);
        assert_eq!(beside(10.0, 40.0), [(Smol, 0.8)]);
        assert_eq!(beside(10.0, 10.0), [(Smol, 2.0)]);
        assert_eq!(beside(4.0, 40.0), [(Smol, 1.25)]);
    }
}
