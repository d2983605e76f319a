//! Saved lists of decisions, and the variable that selects one.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use super::choices::{Choice, MadeAt};
use super::site::Site;

/// The first line of a file.
const FORMAT: &str = "windlass simulation 1";

/// The version of this crate. Another version may make other decisions.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A saved list of decisions.
///
/// The format is text, with one decision per line. After `#`, a line has the moment and the meaning
/// of its decision, which a replay ignores.
///
/// ```text
/// windlass simulation 1
/// version 0.1.0
/// test tests::survives_a_partition
/// seed 17
/// explorer swarm
///
/// # host, site, count, value, time, count at that time
/// 0 Task 15 2 1203000000 0  # 1.203 s client: task `reader` (src/client.rs:5) runs before 2 others
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SavedList {
    /// The version of the crate that wrote the file.
    pub(super) version: String,
    pub(super) test: String,
    pub(super) seed: u64,
    pub(super) explorer: String,
    /// The decisions. A replay finds them by their moments if the program has changed.
    pub(super) list: Vec<(Choice, MadeAt)>,
}

impl SavedList {
    /// Returns the text of a file. `meanings` has a line for each decision.
    pub(super) fn text(&self, meanings: &[String]) -> String {
        let mut text = format!("{FORMAT}\nversion {}\ntest {}\n", self.version, self.test);
        let _ = writeln!(text, "seed {}\nexplorer {}\n", self.seed, self.explorer);
        let _ = writeln!(text, "# host, site, count, value, time, count at that time");
        for (i, (choice, moment)) in self.list.iter().enumerate() {
            let Choice {
                host,
                site,
                nth,
                value,
            } = choice;
            let _ = write!(text, "{host} {} {nth} {value}", site.name());
            let _ = write!(text, " {} {}", moment.at, moment.nth);
            if let Some(meaning) = meanings.get(i) {
                let _ = write!(text, "  # {}", meaning.replace('\n', " "));
            }
            text.push('\n');
        }
        text
    }
}

impl FromStr for SavedList {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<SavedList, ParseError> {
        let mut lines = text.lines().enumerate();
        if lines
            .next()
            .is_none_or(|(_, line)| line.trim_end() != FORMAT)
        {
            let problem = format!("the first line is not `{FORMAT}`");
            return Err(ParseError { line: 1, problem });
        }
        let (mut version, mut test, mut explorer) = Default::default();
        let mut seed = None;
        let mut list = Vec::new();
        for (i, line) in lines {
            let error = |problem| ParseError {
                line: i + 1,
                problem,
            };
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.split_once(' ').unwrap_or((line, "")) {
                ("", _) => {}
                ("version", value) => version = value.trim().to_owned(),
                ("test", value) => test = value.trim().to_owned(),
                ("explorer", value) => explorer = value.trim().to_owned(),
                ("seed", value) => seed = Some(number(value.trim(), "seed").map_err(error)?),
                _ => list.push(choice(line).map_err(error)?),
            }
        }
        let seed = seed.ok_or_else(|| ParseError {
            line: text.lines().count(),
            problem: "the seed is missing".to_owned(),
        })?;
        Ok(SavedList {
            version,
            test,
            seed,
            explorer,
            list,
        })
    }
}

fn choice(line: &str) -> Result<(Choice, MadeAt), String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [host, site, nth, value, at, nth_at] = words[..] else {
        return Err(format!(
            "`{line}` is not a decision: a host, a site, a count, a value, a time and a count"
        ));
    };
    let choice = Choice {
        host: number(host, "host")?,
        site: Site::from_name(site).ok_or_else(|| format!("there is no site `{site}`"))?,
        nth: number(nth, "count")?,
        value: number(value, "value")?,
    };
    let moment = MadeAt {
        at: number(at, "time")?,
        nth: number(nth_at, "count")?,
    };
    Ok((choice, moment))
}

fn number<T: FromStr>(word: &str, what: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    let error = |error| format!("the {what} `{word}` is not a number in range: {error}");
    word.parse().map_err(error)
}

/// A line of a saved list that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ParseError {
    /// The number of the line, from one.
    line: usize,
    problem: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// What `WINDLASS_SIM` selects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Selection {
    Seed(u64),
    File(PathBuf),
}

impl Selection {
    /// Parses the value of the variable: a number is a seed, also in hexadecimal after `0x`.
    /// Everything else is the path of a file. Nothing selects nothing.
    pub(super) fn parse(value: &str) -> Option<Selection> {
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        let seed = match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => value.parse(),
        };
        Some(seed.map_or_else(|_| Selection::File(value.into()), Selection::Seed))
    }
}
