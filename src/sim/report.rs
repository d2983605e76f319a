//! What a run was: its figures, and the story of its failure.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::context::Seconds;
use super::problem::Problem;
use super::run::Run;
use super::site::Site;

/// The most lines of a story. A failure that was not shrunk may have thousands of decisions.
const MOST_LINES: usize = 60;

/// The figures of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    seed: u64,
    hash: u64,
    steps: u64,
    decisions: u64,
    choices: u64,
    elapsed: Duration,
}

impl Report {
    pub(super) fn of(run: &Run) -> Report {
        Report {
            seed: run.choices.seed(),
            hash: run.trace.hash(),
            steps: run.trace.steps(),
            decisions: run.choices.count(),
            choices: run.choices.made().len() as u64,
            elapsed: Duration::from_nanos(run.context.now()),
        }
    }

    /// Returns the seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the hash of everything that happened. Two runs of the same program with the same
    /// seed have the same hash, also on another machine and in another build.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the number of events, which include polls, wakes and system calls.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns the number of decisions that had an alternative.
    pub fn decisions(&self) -> u64 {
        self.decisions
    }

    /// Returns the number of decisions that were not the benign one.
    pub fn choices(&self) -> u64 {
        self.choices
    }

    /// Returns the virtual time between the start of the world and the end of the run.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elapsed = Seconds(self.elapsed.as_nanos() as u64);
        write!(
            f,
            "seed {}, hash {:016x}, {elapsed}, {} steps, {} decisions, {} of them not benign",
            self.seed, self.hash, self.steps, self.decisions, self.choices
        )
    }
}

/// The kind of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FailureKind {
    /// The program or an assertion panicked.
    Panic,
    /// The future of a host returned an error.
    Error,
    /// No task was ready, and no timer was set.
    Deadlock,
    /// The program did not finish within a limit of virtual time or steps.
    NoProgress,
    /// Two runs with the same decisions differed.
    Nondeterminism,
}

/// The failure of a run.
///
/// Its text is a story, with one line for each decision that was not benign. The last line of the
/// text is the command that replays the run. `Debug` prints the same text for `unwrap`.
#[derive(Clone)]
pub struct Failure {
    // A result has the size of its error.
    inner: Box<FailureInner>,
}

#[derive(Clone)]
struct FailureInner {
    problem: Problem,
    report: Report,
    story: Vec<String>,
    notes: Vec<String>,
    command: String,
}

impl Failure {
    /// Describes how a run failed. The command replays it.
    pub(super) fn of(run: &Run, problem: Problem, command: String) -> Failure {
        let inner = FailureInner {
            problem,
            report: Report::of(run),
            story: story(run),
            notes: Vec::new(),
            command,
        };
        Failure {
            inner: Box::new(inner),
        }
    }

    /// Adds a line before the command.
    pub(super) fn note(&mut self, note: String) {
        self.inner.notes.push(note);
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> FailureKind {
        match self.inner.problem {
            Problem::Panic { .. } => FailureKind::Panic,
            Problem::Error { .. } => FailureKind::Error,
            Problem::Deadlock { .. } => FailureKind::Deadlock,
            Problem::NoProgress { .. } => FailureKind::NoProgress,
            Problem::Nondeterminism(_) => FailureKind::Nondeterminism,
        }
    }

    /// Returns the figures of the run.
    pub fn report(&self) -> &Report {
        &self.inner.report
    }

    /// Returns the lines of the story, one for each decision that was not benign.
    pub fn story(&self) -> &[String] {
        &self.inner.story
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailureInner {
            problem,
            report,
            story,
            notes,
            command,
        } = &*self.inner;
        writeln!(f, "the simulation failed: {problem}")?;
        writeln!(f, "run: {report}")?;
        match story.len() {
            0 => writeln!(f, "story: the plain run, in which each decision is benign")?,
            _ => writeln!(f, "story:")?,
        }
        let skipped = story.len().saturating_sub(MOST_LINES);
        if skipped > 0 {
            writeln!(f, "    ({skipped} earlier decisions)")?;
        }
        for line in &story[skipped..] {
            writeln!(f, "    {line}")?;
        }
        for note in notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "replay:")?;
        f.write_str(command)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failure {}

/// Returns a line for each decision of a run that was not benign, in their order.
pub(super) fn story(run: &Run) -> Vec<String> {
    let mut explanations = run.choices.explanations().into_iter().peekable();
    let mut lines = Vec::new();
    for (i, made) in run.choices.made().iter().enumerate() {
        let explanation = explanations.next_if(|(of, _)| *of == i);
        let plain = || made.choice.site.meaning(made.choice.value);
        let meaning = explanation.map_or_else(plain, |(_, explanation)| explanation);
        let host = made.choice.host;
        let task = run.context.task_name(host, made.task);
        let task = task.map_or(String::new(), |task| format!(", in task {task}"));
        let at = Seconds(made.moment.at);
        lines.push(match made.choice.site {
            // The decisions of the world.
            Site::Host | Site::Plan => format!("{at} {meaning}"),
            _ => format!("{at} {}: {meaning}{task}", run.context.host_name(host)),
        });
    }
    lines
}
