//! The command line.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lexopt::{Arg, Parser, ValueExt};

use super::{
    contender::{ALL, Contender},
    plan::{PARTS, When, Work, plan},
};

pub(crate) const HELP: &str = "\
windlass beside its peers, measured.

usage: cargo run --release -p windlass-benches -- [part ...] [flags]
       cargo run --release -p windlass-benches -- services --help

  part             what to measure  [all; see --list]
  --list           show the parts, what is measured in them, and the contenders
  --rounds N       how often each is measured, interleaved  [5]
  --only A,B,..    these contenders alone
  --minutes N      begin no further sample after this time, but complete the first round
  --ms N           how long a sample is measured, after its warm-up  [400]
  --out DIR        where latest.md, latest.json and the charts go  [target/benches]
  --update-readme  put the tables into benches/README.md as well
  --from FILE      measure nothing: report what a latest.json holds; of several, the later one's
                   samples stand for the works that it has
  --quick          one short round to see that all works; fails if windlass does
  --help           show this
";

/// A window that only shows that a work runs. The results are meaningless.
const QUICK: Duration = Duration::from_millis(40);

#[derive(Debug)]
pub(crate) enum Command {
    Help,
    List,
    Run(Options),
}

#[derive(Debug)]
pub(crate) struct Options {
    /// All if `None`.
    pub(crate) parts: Vec<String>,
    /// All if `None`.
    only: Vec<Contender>,
    pub(crate) rounds: u32,
    /// No limit if `None`.
    pub(crate) time: Option<Duration>,
    pub(crate) window: Duration,
    pub(crate) out: PathBuf,
    pub(crate) updates_readme: bool,
    /// If there are any, nothing is measured.
    pub(crate) from: Vec<PathBuf>,
    pub(crate) is_quick: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            parts: Vec::new(),
            only: Vec::new(),
            rounds: 5,
            time: None,
            window: Duration::from_millis(400),
            out: "target/benches".into(),
            updates_readme: false,
            from: Vec::new(),
            is_quick: false,
        }
    }
}

impl Options {
    /// The selected part of the plan.
    pub(crate) fn works(&self) -> Vec<Work> {
        let chosen =
            |work: &Work| self.parts.is_empty() || self.parts.iter().any(|part| part == work.part);
        plan().into_iter().filter(chosen).collect()
    }

    /// Whether no further sample begins. The first round is completed, so each work has a sample.
    pub(crate) fn is_out_of_time(&self, round: u32, elapsed: Duration) -> bool {
        round > 1 && self.time.is_some_and(|time| elapsed > time)
    }

    /// The contenders to measure in a work in a round.
    pub(crate) fn who(&self, work: &Work, round: u32) -> Vec<Contender> {
        let is_due = match work.when {
            When::Always | When::Long => true,
            When::Once => round == 1,
            When::OnceAndSlow => round == 1 && !self.is_quick,
        };
        let is_short = work.when == When::Always || !self.is_quick;
        let is_wanted = |who: &Contender| {
            (self.only.is_empty() || self.only.contains(who)) && (is_short || who.is_ours())
        };
        work.who
            .iter()
            .copied()
            .filter(|who| is_due && is_wanted(who))
            .collect()
    }
}

pub(crate) fn parse(args: &[String]) -> Result<Command> {
    let mut options = Options::default();
    let mut flags = Parser::from_args(args);
    while let Some(flag) = flags.next()? {
        match flag {
            Arg::Value(part) => options.parts.push(self::part(part.string()?)?),
            Arg::Long("rounds") => options.rounds = number("--rounds", &mut flags, 1..=1_000)?,
            Arg::Long("minutes") => {
                let minutes: u64 = number("--minutes", &mut flags, 1..=1_000)?;
                options.time = Some(Duration::from_secs(60 * minutes));
            }
            Arg::Long("ms") => {
                let ms = number("--ms", &mut flags, 1..=60_000)?;
                options.window = Duration::from_millis(ms);
            }
            Arg::Long("only") => options.only = contenders(&flags.value()?.string()?)?,
            Arg::Long("out") => options.out = flags.value()?.into(),
            Arg::Long("from") => options.from.push(flags.value()?.into()),
            Arg::Long("update-readme") => options.updates_readme = true,
            Arg::Long("quick") => {
                options.is_quick = true;
                (options.rounds, options.window) = (1, QUICK);
            }
            Arg::Long("list") => return Ok(Command::List),
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            _ => return Err(flag.unexpected().into()),
        }
    }
    ensure!(
        !(options.is_quick && options.updates_readme),
        "--quick measures nothing worth a place in the README"
    );
    Ok(Command::Run(options))
}

fn part(name: String) -> Result<String> {
    if PARTS.iter().any(|(part, _)| *part == name) {
        return Ok(name);
    }
    bail!(
        "there is no part `{name}`; parts: {}",
        PARTS.map(|(part, _)| part).join(", ")
    )
}

fn contenders(list: &str) -> Result<Vec<Contender>> {
    let named = list.split(',').map(|name| {
        let names = ALL.map(Contender::name).join(", ");
        Contender::named(name)
            .ok_or_else(|| anyhow!("--only: there is no `{name}`; contenders: {names}"))
    });
    named.collect()
}

fn number<T>(flag: &str, flags: &mut Parser, range: RangeInclusive<T>) -> Result<T>
where
    T: FromStr + PartialOrd + Display,
{
    let text = flags.value()?.string()?;
    let number = text.parse().ok().filter(|number| range.contains(number));
    let (least, most) = (range.start(), range.end());
    number.with_context(|| format!("{flag}: `{text}` is not a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        parse(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    fn options(line: &str) -> Options {
        match parsed(line) {
            Ok(Command::Run(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parts_and_contenders_are_chosen() {
        let options = options("spawn yield --only tokio,windlass --rounds 3");
        let works = options.works();
        assert!(
            works
                .iter()
                .all(|work| ["spawn", "yield"].contains(&work.part))
        );
        assert_eq!(
            options.who(&works[0], 3),
            [Contender::Windlass, Contender::Tokio]
        );
    }

    #[test]
    fn what_repeats_exactly_is_measured_once() {
        let options = options("counts");
        let works = options.works();
        assert!(!options.who(&works[0], 1).is_empty());
        assert!(options.who(&works[0], 2).is_empty());
    }

    #[test]
    fn quick_leaves_no_work_of_windlass_out_but_the_build() {
        let options = options("--quick");
        for work in options.works() {
            let runs = options.who(&work, 1).iter().any(|who| who.is_ours());
            assert_eq!(runs, work.id != "build server", "{}", work.id);
        }
    }

    #[test]
    fn out_of_time_ends_all_rounds_but_the_first() {
        let options = options("--minutes 2");
        let (before, after) = (Duration::from_secs(119), Duration::from_secs(121));
        assert!(!options.is_out_of_time(1, after));
        assert!(!options.is_out_of_time(2, before));
        assert!(options.is_out_of_time(2, after));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, words) in [
            ("spwan", "there is no part `spwan`"),
            ("--only tokyo", "there is no `tokyo`"),
            ("--rounds 0", "`0` is not a number from 1 to 1000"),
            ("--rounds many", "`many` is not a number"),
            ("--rounds", "missing argument"),
            ("--fast", "invalid option '--fast'"),
            ("--quick --update-readme", "README"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
