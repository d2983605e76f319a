//! In the rounds every contender runs every work, repeatedly, in varying order.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::{
    contender::Contender,
    counts, interrupt,
    machine::{Cores, Machine},
    measure::Bench,
    noise::{Watch, distance, wait_for_quiet},
    options::Options,
    plan::{How, Work},
    results::{Outcome, Results, Sample},
};

/// Maximum delay of a sample while other processes are busy.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(options: &Options, works: &[Work]) -> Result<Results> {
    interrupt::listen()?;
    let cores = Cores::choose();
    let bench = Bench {
        cores,
        window: options.window,
        is_quick: options.is_quick,
    };
    let mut results = Results {
        machine: Machine::describe(&cores),
        rounds: options.rounds,
        window_ms: options.window.as_millis() as u64,
        notes: Vec::new(),
        samples: Vec::new(),
    };
    let works = without_missing_tools(works, &mut results.notes);
    if cores.load.is_none() {
        results
            .notes
            .push("there is one core only: server and load share it".to_owned());
    }
    let schedule = schedule(options, &works);
    let mut progress = Progress::new(&bench, &schedule);
    for (done, &(round, work, who)) in schedule.iter().enumerate() {
        if options.is_out_of_time(round, progress.began.elapsed()) {
            let note = format!("out of time after {done} of {} samples", schedule.len());
            results.notes.push(note);
            results.rounds = round;
            break;
        }
        progress.begin(round, work, who);
        // A contender that fails once usually hangs, and would use up its time limit in each round.
        let failed = |sample: &Sample| matches!(sample.outcome, Outcome::Failed(_));
        if results.of(&work.id, who).any(failed) {
            progress.skip();
            continue;
        }
        let sample = sample(&bench, round, work, who);
        if interrupt::happened() {
            let note = format!("interrupted after {done} of {} samples", schedule.len());
            results.notes.push(note);
            break;
        }
        progress.end(work, &sample);
        results.samples.push(sample);
    }
    progress.clear();
    counts::clean_up();
    Ok(results)
}

fn without_missing_tools<'a>(works: &'a [Work], notes: &mut Vec<String>) -> Vec<&'a Work> {
    let counts = works.iter().any(|work| work.part == "counts");
    let missing = if counts {
        counts::missing_tools()
    } else {
        Vec::new()
    };
    let has = |words: &str| !missing.iter().any(|note| note.starts_with(words));
    let can = |work: &&Work| match work.how {
        How::Instructions { .. } => has("instructions"),
        How::Calls { .. } => has("system calls"),
        _ => true,
    };
    let works = works.iter().filter(can).collect();
    notes.extend(missing);
    works
}

/// Each round shuffles the works, and the contenders within a work. These stay together, so that
/// they run under similar conditions of the machine.
fn schedule<'a>(options: &Options, works: &[&'a Work]) -> Vec<(u32, &'a Work, Contender)> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut schedule = Vec::new();
    for round in 1..=options.rounds {
        let mut works = works.to_vec();
        random.shuffle(&mut works);
        for work in works {
            let mut who = options.who(work, round);
            random.shuffle(&mut who);
            schedule.extend(who.into_iter().map(|who| (round, work, who)));
        }
    }
    schedule
}

fn sample(bench: &Bench, round: u32, work: &Work, who: Contender) -> Sample {
    let patience = if bench.is_quick {
        Duration::ZERO
    } else {
        PATIENCE
    };
    let waited_s = wait_for_quiet(patience);
    let distance_ns = distance(&bench.cores);
    let watch = Watch::begin(waited_s);
    let outcome = bench.sample(work, who);
    Sample {
        round,
        work: work.id.clone(),
        contender: who,
        outcome,
        noise: watch.end(),
        distance_ns,
    }
}

/// Xorshift, for the same order in each run.
struct Random(u64);

impl Random {
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A bar on a terminal, one line per sample elsewhere.
struct Progress {
    /// Drawn only between samples, because a thread that redraws would disturb them.
    bar: ProgressBar,
    began: Instant,
    /// The expected duration of each sample of the schedule, in milliseconds.
    expected: Vec<u64>,
    done: usize,
    current: String,
}

impl Progress {
    fn new(bench: &Bench, schedule: &[(u32, &Work, Contender)]) -> Progress {
        let window = bench.window.as_millis() as u64;
        let expected = schedule
            .iter()
            .map(|(_, work, _)| expected_ms(work, window))
            .collect();
        let bar = ProgressBar::new(schedule.len() as u64);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress {
            bar,
            began: Instant::now(),
            expected,
            done: 0,
            current: String::new(),
        }
    }

    fn begin(&mut self, round: u32, work: &Work, who: Contender) {
        self.current = format!("round {round}: {}, {who}", work.title);
        self.bar
            .set_message(format!("{} left. {}", self.left(), self.current));
    }

    /// The expected duration, scaled by the speed so far.
    fn left(&self) -> String {
        let (done, ahead) = self.expected.split_at(self.done);
        let sum = |of: &[u64]| of.iter().sum::<u64>() as f64 / 1e3;
        let pace = if self.done < 5 {
            1.0
        } else {
            self.began.elapsed().as_secs_f64() / sum(done)
        };
        HumanDuration(Duration::from_secs_f64(sum(ahead) * pace)).to_string()
    }

    fn end(&mut self, work: &Work, sample: &Sample) {
        self.skip();
        if !stderr().is_terminal() {
            eprintln!("{}: {}", self.current, gist(work, &sample.outcome));
        } else if let Outcome::Failed(_) = sample.outcome {
            self.bar
                .println(format!("{}: {}", self.current, gist(work, &sample.outcome)));
        }
    }

    fn skip(&mut self) {
        self.done += 1;
        self.bar.set_position(self.done as u64);
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Rough; the progress corrects itself.
fn expected_ms(work: &Work, window: u64) -> u64 {
    match &work.how {
        How::Work(args) if args.starts_with("timers") || args == "million" => 4_000,
        How::Work(_) | How::Served(_) => 300 + 3 * window / 2,
        How::Idle { connections, .. } => 200 + u64::from(*connections) / 10,
        How::Cold => 200,
        How::Calls { .. } => 600,
        How::Instructions { .. } => 5_000,
        How::Build => 20_000,
    }
}

fn gist(work: &Work, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Figures(figures) => {
            let first = figures
                .get(work.figures[0].name)
                .copied()
                .unwrap_or(f64::NAN);
            format!("{} {first:.1}", work.figures[0].name)
        }
        Outcome::Unsupported(why) => format!("unsupported: {why}"),
        Outcome::Failed(why) => format!("fails: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_all_in_another_order_and_contenders_side_by_side() {
        let super::super::options::Command::Run(options) =
            super::super::options::parse(&["spawn".into(), "--rounds=2".into()]).unwrap()
        else {
            panic!()
        };
        let works = options.works();
        let schedule = schedule(&options, &works.iter().collect::<Vec<_>>());
        let names = |round| {
            let own = schedule.iter().filter(move |(of, ..)| *of == round);
            own.map(|(_, work, who)| (work.id.clone(), *who))
                .collect::<Vec<_>>()
        };
        let (mut first, mut second) = (names(1), names(2));
        assert_ne!(first, second);
        let (front, back) = first.split_at(first.len() / 2);
        assert!(front.iter().all(|(id, _)| *id == front[0].0));
        assert!(back.iter().all(|(id, _)| *id == back[0].0));
        first.sort();
        second.sort();
        assert_eq!(first, second);
    }
}
