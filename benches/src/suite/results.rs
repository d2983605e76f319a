//! The results, as stored in the JSON, and derived values.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{contender::Contender, machine::Machine, noise::Noise, plan::Work};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rounds: u32,
    /// The duration of a sample, in milliseconds.
    pub(crate) window_ms: u64,
    /// Remarks for the reader, for example about missing tools or an interruption.
    pub(crate) notes: Vec<String>,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) work: String,
    pub(crate) contender: Contender,
    pub(crate) outcome: Outcome,
    pub(crate) noise: Noise,
    /// A cache line's round trip between the two cores, just before.
    pub(crate) distance_ns: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Figures(BTreeMap<String, f64>),
    Unsupported(String),
    Failed(String),
}

/// The samples of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// The median absolute deviation.
    pub(crate) deviation: f64,
    /// Based on samples that were disturbed, or taken at another distance of the cores than the
    /// rest of its row.
    pub(crate) doubtful: bool,
}

/// Between the round trip of a cache line within a part of a socket and one across parts. Hosts
/// move virtual cores between the two, which changes the cost of a wake by half.
const FAR_NS: f64 = 200.0;

impl Results {
    /// `None` if there is no such value.
    pub(crate) fn summary(&self, work: &Work, who: Contender, figure: &str) -> Option<Summary> {
        let far = work.spans_cores().then(|| self.is_mostly_far(&work.id));
        let own = self.of(&work.id, who);
        let taken: Vec<_> = own
            .filter_map(|sample| Some((sample, sample.figure(figure)?)))
            .collect();
        let good = taken.iter().filter(|(sample, _)| {
            sample.noise.is_quiet() && far.is_none_or(|far| sample.is_far() == far)
        });
        let good: Vec<f64> = good.map(|&(_, value)| value).collect();
        // Two quiet samples are too few, so all samples are used instead.
        let doubtful = good.len() < taken.len().min(3);
        let all = || taken.iter().map(|&(_, value)| value).collect();
        Summary::of(if doubtful { all() } else { good }, doubtful)
    }

    /// Adopts the samples of works that were measured again, or only there.
    pub(crate) fn update(&mut self, later: Results) -> Result<()> {
        let (one, other) = (&self.machine, &later.machine);
        ensure!(
            (&one.cpu, one.cores, &one.kernel, &one.rustc, &one.versions)
                == (
                    &other.cpu,
                    other.cores,
                    &other.kernel,
                    &other.rustc,
                    &other.versions
                ),
            "--from: these were measured on different machines, or with other versions"
        );
        let again: BTreeSet<_> = later.samples.iter().map(|sample| &sample.work).collect();
        self.samples.retain(|sample| !again.contains(&sample.work));
        self.notes.retain(|note| !later.notes.contains(note));
        self.rounds = self.rounds.max(later.rounds);
        self.window_ms = self.window_ms.max(later.window_ms);
        self.machine = later.machine;
        self.notes.extend(later.notes);
        self.samples.extend(later.samples);
        Ok(())
    }

    pub(crate) fn of<'a>(
        &'a self,
        work: &'a str,
        who: Contender,
    ) -> impl Iterator<Item = &'a Sample> {
        let own = move |sample: &&Sample| sample.work == work && sample.contender == who;
        self.samples.iter().filter(own)
    }

    /// The best of the peers in this value.
    pub(crate) fn best_peer(&self, work: &Work, figure: &str) -> Option<(Contender, f64)> {
        let peers = work.who.iter().filter(|who| who.is_peer());
        let medians = peers.filter_map(|&who| Some((who, self.summary(work, who, figure)?.median)));
        medians.min_by(|one, other| one.1.total_cmp(&other.1))
    }

    fn is_mostly_far(&self, work: &str) -> bool {
        let own = self.samples.iter().filter(|sample| sample.work == work);
        let (far, near): (Vec<_>, Vec<_>) = own.partition(|sample| sample.is_far());
        far.len() > near.len()
    }
}

impl Sample {
    fn figure(&self, name: &str) -> Option<f64> {
        match &self.outcome {
            Outcome::Figures(figures) => figures.get(name).copied(),
            _ => None,
        }
    }

    fn is_far(&self) -> bool {
        self.distance_ns.is_some_and(|distance| distance > FAR_NS)
    }
}

impl Summary {
    fn of(values: Vec<f64>, doubtful: bool) -> Option<Summary> {
        let median = median(values.clone())?;
        let distances = values.iter().map(|value| (value - median).abs()).collect();
        let deviation = self::median(distances)?;
        Some(Summary {
            median,
            deviation,
            doubtful,
        })
    }
}

/// `None` for no samples.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The samples of one value of one work: `(contender, value, is it disturbed, distance)`.
    pub(crate) fn results(
        work: &str,
        figure: &str,
        taken: &[(Contender, f64, bool, f64)],
    ) -> Results {
        let sample = |&(contender, value, disturbed, distance)| Sample {
            round: 1,
            work: work.to_owned(),
            contender,
            outcome: Outcome::Figures([(figure.to_owned(), value)].into()),
            noise: Noise {
                foreign: if disturbed { 1.0 } else { 0.0 },
                ..Noise::default()
            },
            distance_ns: Some(distance),
        };
        Results {
            machine: Machine::default(),
            rounds: 1,
            window_ms: 1,
            notes: Vec::new(),
            samples: taken.iter().map(sample).collect(),
        }
    }

    fn work(id: &str) -> Work {
        super::super::plan::plan()
            .into_iter()
            .find(|work| work.id == id)
            .unwrap()
    }

    #[test]
    fn a_later_run_stands_for_the_works_that_it_has() {
        let take = |work: &str, value| {
            let taken = [(Contender::Tokio, value, false, 70.0)];
            results(work, "cpu_ns", &taken)
        };
        let mut both = take("select", 1.0);
        both.samples.extend(take("spawn batch=1", 2.0).samples);
        both.update(take("select", 3.0)).unwrap();
        let values = both.samples.iter().map(|sample| sample.figure("cpu_ns"));
        assert_eq!(values.collect::<Vec<_>>(), [Some(2.0), Some(3.0)]);

        let mut elsewhere = take("select", 4.0);
        elsewhere.machine.cores = 64;
        assert!(both.update(elsewhere).is_err());
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn disturbed_samples_count_only_where_there_are_too_few_others() {
        let of = |taken: &[(f64, bool)]| {
            let taken: Vec<_> = taken
                .iter()
                .map(|&(v, bad)| (Contender::Tokio, v, bad, 70.0))
                .collect();
            let results = results("select", "cpu_ns", &taken);
            results
                .summary(&work("select"), Contender::Tokio, "cpu_ns")
                .unwrap()
        };
        let quiet = of(&[(1.0, false), (2.0, false), (3.0, false), (90.0, true)]);
        assert_eq!(
            quiet,
            Summary {
                median: 2.0,
                deviation: 1.0,
                doubtful: false
            }
        );
        let noisy = of(&[(1.0, false), (2.0, true), (3.0, true)]);
        assert_eq!((noisy.median, noisy.doubtful), (2.0, true));
        assert!(!of(&[(1.0, false)]).doubtful, "one round, and quiet");
    }

    #[test]
    fn samples_at_two_distances_of_the_cores_are_not_mixed() {
        let taken = [
            (5.0, 70.0),
            (5.2, 70.0),
            (5.4, 70.0),
            (8.0, 480.0),
            (8.1, 480.0),
        ];
        let taken = taken.map(|(value, far)| (Contender::Tokio, value, false, far));
        let results = results("wake loop=parked", "cpu_ns", &taken);
        let summary = results.summary(&work("wake loop=parked"), Contender::Tokio, "cpu_ns");
        assert_eq!(summary.unwrap().median, 5.2);
    }

    #[test]
    fn the_best_peer_is_neither_windlass_nor_threads_nor_the_floor() {
        use Contender::*;
        let taken = [
            (Floor, 1.0),
            (Windlass, 2.0),
            (Threads, 3.0),
            (Smol, 5.0),
            (Tokio, 4.0),
        ];
        let taken = taken.map(|(who, value)| (who, value, false, 70.0));
        let results = results("select", "cpu_ns", &taken);
        assert_eq!(
            results.best_peer(&work("select"), "cpu_ns"),
            Some((Tokio, 4.0))
        );
    }
}
