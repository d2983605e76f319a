//! Runs a program with many seeds, and shrinks and explains the first failure.

use std::any::type_name;
use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::choices::{Choice, MadeAt};
use super::command::Command;
use super::compare::first_difference;
use super::context::Context;
use super::explore::{Explorer, mix};
use super::last_line::LastLine;
use super::panics::catch;
use super::problem::Problem;
use super::replay::{SavedList, Selection, VERSION};
use super::report::{Failure, story};
use super::run::{Plan, Run};
use super::shrink::shrink;
use super::time_limit::TimeLimit;
use super::trace::{EventKind, Watch};
use super::world::World;
use crate::io::write_stderr;

/// How many seeds at the start run twice, and the distance of the others that do.
const FIRST_TWICE: u64 = 3;
const TWICE: u64 = 16;

/// The most runs for shrinking a list, and the most time of the processor. A busy machine shrinks
/// as far as an idle one.
const SHRINK_RUNS: u64 = 2_000;
const SHRINK_TIME: Duration = Duration::from_secs(10);

/// The most runs near a saved one that does not fail, and how far they move a decision.
const NEAR_RUNS: u64 = 4_000;
const WIDEST: u64 = 64;

/// The real time that one run may take.
const RUN_TIME: Duration = Duration::from_secs(60);

/// A program in a world that is made around a run.
pub(super) type Program<'a> = &'a dyn Fn(&Rc<Run>) -> Result<(), Problem>;

/// What the environment selects.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// `WINDLASS_SIM`: a seed or a file.
    pub(super) selection: Option<Selection>,
    /// `WINDLASS_SIM_DIR`: the folder of replay files.
    pub(super) folder: PathBuf,
    /// `WINDLASS_SIM_TIMEOUT`: the real time of one run, in seconds. Zero is no limit.
    pub(super) limit: Option<Duration>,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Panics
    ///
    /// If the limit is not a number.
    pub(super) fn from_env() -> Settings {
        let variable = |name| std::env::var(name).ok();
        let selection = variable("WINDLASS_SIM").and_then(|value| Selection::parse(&value));
        let folder = variable("WINDLASS_SIM_DIR").filter(|folder| !folder.is_empty());
        let limit = match variable("WINDLASS_SIM_TIMEOUT") {
            Some(seconds) => Duration::from_secs(seconds.trim().parse().unwrap_or_else(|error| {
                panic!("WINDLASS_SIM_TIMEOUT={seconds} is not a number of seconds: {error}")
            })),
            // A replay may run in a debugger.
            None if selection.is_some() => Duration::ZERO,
            None => RUN_TIME,
        };
        Settings {
            selection,
            folder: folder.map_or_else(default_folder, PathBuf::from),
            limit: Some(limit).filter(|limit| !limit.is_zero()),
        }
    }
}

/// Returns the folder `sim` of cargo's target directory, which contains the test's executable.
fn default_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let is_target = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
    let target = program.ancestors().skip(1).find(is_target);
    target.unwrap_or(Path::new("target")).join("sim")
}

/// Runs a program in a world for each seed. `setup` adds the hosts, and may plan what happens to
/// them. It may run the world, too. Otherwise [`World::run`] follows.
///
/// A failure is shrunk to the decisions that matter and printed as a story. The last line of the
/// output is the command that replays it: `WINDLASS_SIM` is a seed, or the file of a shrunk run.
/// The command lacks the options of cargo. Add `--features` and `--package` if the test needs them.
///
/// The first seeds, and each 16th from then on, run twice. The program is nondeterministic if these
/// runs differ, which fails the check.
///
/// # Panics
///
/// Panics if a run fails.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::net::UdpSocket;
/// use windlass::sim;
/// use windlass::time::timeout;
///
/// sim::check(0..100, |world| {
///     world.host("server", || async {
///         let socket = UdpSocket::bind("0.0.0.0:53").await?;
///         let mut buf = [0; 512];
///         loop {
///             let (len, from) = socket.recv_from(&mut buf).await?;
///             socket.send_to(&buf[..len], from).await?;
///         }
///         #[allow(unreachable_code)]
///         std::io::Result::Ok(())
///     });
///     world.host("client", || async {
///         let socket = UdpSocket::bind("0.0.0.0:0").await?;
///         loop {
///             socket.send_to(b"ahoy", "server:53").await?;
///             let mut buf = [0; 512];
///             let answer = timeout(Duration::from_secs(1), socket.recv(&mut buf)).await;
///             if answer.is_ok() {
///                 return std::io::Result::Ok(()); // a datagram may be lost
///             }
///         }
///     });
/// });
/// ```
pub fn check<S: Fn(&World)>(seeds: impl IntoIterator<Item = u64>, setup: S) {
    check_program(type_name::<S>(), seeds, &|run| {
        World::with(run.clone()).complete(&setup)
    });
}

/// Runs a program in a world once, with the bytes of a fuzzer as its decisions. One byte after
/// another determines a decision, and zero is the benign one. After the last byte, all are benign.
///
/// A failure is shrunk and saved as in [`check`]. No seed replays a run that was not saved, for
/// example because the process aborted. Call this function with the same bytes then.
///
/// # Panics
///
/// Panics if the run fails.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::{sim, time::sleep};
///
/// // The body of a fuzz target.
/// fn run(bytes: &[u8]) {
///     sim::check_bytes(bytes, |world| {
///         world.host("sleeper", || sleep(Duration::from_secs(1)));
///     });
/// }
///
/// run(&[0, 3, 1, 0, 7]);
/// ```
pub fn check_bytes<S: Fn(&World)>(bytes: &[u8], setup: S) {
    let plan = Plan::Explore {
        seed: 0,
        explorer: Explorer::Bytes(bytes.into()),
    };
    let command = Command::current(type_name::<S>()).with_bytes();
    run_check(command, &mut [plan].into_iter(), &|run| {
        World::with(run.clone()).complete(&setup)
    });
}

/// Runs a program with each seed, or with what `WINDLASS_SIM` selects. `type_name` is the type of a
/// closure in the test.
///
/// # Panics
///
/// If a run fails. The text of the failure is printed and is the payload.
pub(super) fn check_program(
    type_name: &str,
    seeds: impl IntoIterator<Item = u64>,
    program: Program<'_>,
) {
    let mut plans = seeds.into_iter().map(Plan::of_seed);
    run_check(Command::current(type_name), &mut plans, program);
}

fn run_check(command: Command, plans: &mut dyn Iterator<Item = Plan>, program: Program<'_>) {
    let result = find_failure(command, &Settings::from_env(), plans, program);
    if let Err(failure) = result {
        let text = failure.to_string();
        eprintln!("{text}");
        // Without a call of the panic hook, which would print a hint after the command.
        resume_unwind(Box::new(text));
    }
}

/// Runs a program with each plan, or with what the settings select, until a run fails.
///
/// # Panics
///
/// If there is no plan, or if a selected file is not a saved list.
pub(super) fn find_failure(
    command: Command,
    settings: &Settings,
    plans: &mut dyn Iterator<Item = Plan>,
    program: Program<'_>,
) -> Result<(), Failure> {
    let last_line = match &settings.selection {
        Some(Selection::File(file)) => LastLine::of_file(&command, &file.to_string_lossy()),
        _ => LastLine::of_seeds(&command),
    };
    let limit = settings
        .limit
        .map(|limit| TimeLimit::new(limit, last_line.abort()));
    let checker = Checker {
        command,
        settings,
        program,
        last_line,
        limit,
    };
    match &settings.selection {
        Some(Selection::File(file)) => checker.replay(file),
        Some(Selection::Seed(seed)) => checker.explore(&mut [Plan::of_seed(*seed)].into_iter()),
        None => checker.explore(plans),
    }
}

struct Checker<'a> {
    command: Command,
    settings: &'a Settings,
    program: Program<'a>,
    last_line: LastLine,
    limit: Option<TimeLimit>,
}

/// One run that has ended.
struct Attempt {
    run: Rc<Run>,
    problem: Option<Problem>,
}

impl Attempt {
    fn equals(&self, other: &Attempt) -> bool {
        let figures = |attempt: &Attempt| (attempt.run.trace.hash(), attempt.run.trace.steps());
        figures(self) == figures(other)
    }

    fn is_like(&self, problem: &Problem) -> bool {
        self.problem
            .as_ref()
            .is_some_and(|other| other.is_like(problem))
    }
}

impl Checker<'_> {
    fn explore(&self, plans: &mut dyn Iterator<Item = Plan>) -> Result<(), Failure> {
        let is_quiet = self.settings.selection.is_none();
        let mut count = 0;
        for plan in plans {
            let attempt = || self.attempt(&plan, Watch::NOTHING, is_quiet, false);
            if count == 0 {
                // Statics of the program are initialized in the first run of a process.
                let mut first = attempt();
                if first.problem.is_some() {
                    let second = self.attempt(&plan, Watch::NOTHING, true, false);
                    if second.problem.is_some() {
                        first = second;
                    }
                }
                self.passes(&plan, first)?;
            }
            let first = self.passes(&plan, attempt())?;
            if count < FIRST_TWICE || count % TWICE == 0 {
                let second = attempt();
                if !first.equals(&second) {
                    return Err(self.nondeterminism(&plan, &plan, second));
                }
            }
            count += 1;
        }
        assert!(count > 0, "a check needs at least one seed");
        Ok(())
    }

    /// Replays a saved list.
    fn replay(&self, file: &Path) -> Result<(), Failure> {
        let path = file.display();
        let text = fs::read_to_string(file).unwrap_or_else(|error| {
            panic!("WINDLASS_SIM is neither a seed nor a file: {path}: {error}")
        });
        let saved: SavedList = text
            .parse()
            .unwrap_or_else(|error| panic!("WINDLASS_SIM is not a saved list: {path}: {error}"));
        let list: Vec<_> = saved.list.iter().map(|(choice, _)| *choice).collect();
        let strict = self.attempt(&replay(saved.seed, &list), Watch::NOTHING, false, true);
        let (attempt, is_strict) = match strict.problem.is_some() || list.is_empty() {
            true => (strict, true),
            false => (self.replay_times(saved.seed, &saved.list), false),
        };
        let Attempt { run, problem } = attempt;
        let version = (saved.version != VERSION).then(|| {
            let saved = saved.version;
            format!("{path} is of version {saved}, and this is {VERSION}")
        });
        let Some(problem) = problem else {
            let runs = self.search_near(saved.seed, &list)?;
            eprintln!("the run of {path} does not fail, and {runs} similar ones do not");
            version
                .into_iter()
                .for_each(|version| eprintln!("note: {version}"));
            return Ok(());
        };
        let command = self.command.replay(&file.to_string_lossy());
        let mut failure = Failure::of(&run, problem, command);
        if !is_strict {
            let note = "the program has changed, so the decisions are found by their time";
            failure.note(note.to_owned());
        }
        version
            .into_iter()
            .for_each(|version| failure.note(version));
        Err(failure)
    }

    /// Replays a list whose decisions another version of the program has made.
    fn replay_times(&self, seed: u64, list: &[(Choice, MadeAt)]) -> Attempt {
        let list = list.into();
        let plan = Plan::ReplayTimes { seed, list };
        self.attempt(&plan, Watch::NOTHING, false, true)
    }

    /// Searches for a failure among runs that are near a saved list. Another version
    /// of the program may have a few decisions more or less before each of them. Returns the number
    /// of runs.
    fn search_near(&self, seed: u64, list: &[Choice]) -> Result<u64, Failure> {
        let start = cpu_time();
        for i in 0..NEAR_RUNS {
            if list.is_empty() || cpu_time() - start >= SHRINK_TIME {
                return Ok(i);
            }
            let near = near(list, i);
            let Attempt { run, problem } =
                self.attempt(&replay(seed, &near), Watch::NOTHING, true, false);
            if let Some(problem) = problem {
                let mut failure = self.shrunk(&run, problem, run.choices.list());
                failure.note("the saved run does not fail, but a similar one does".to_owned());
                return Err(failure);
            }
        }
        Ok(NEAR_RUNS)
    }

    /// Runs the program once. A story needs the names of the run.
    fn attempt(&self, plan: &Plan, watch: Watch, is_quiet: bool, has_names: bool) -> Attempt {
        let context = match has_names {
            true => Context::with_names(),
            false => Context::new(),
        };
        let run = Run::prepare(plan, watch, context);
        self.last_line.start(run.choices.seed());
        if let Some(limit) = &self.limit {
            limit.start();
        }
        let result = catch(is_quiet, || (self.program)(&run));
        if let Some(limit) = &self.limit {
            limit.stop();
        }
        self.last_line.stop();
        let result = result.unwrap_or_else(|panicked| Err(panicked.into()));
        let problem = result.err();
        let number = problem.as_ref().map_or(0, Problem::number);
        let context = &run.context;
        run.trace
            .record(context.now(), context.host(), EventKind::End, number, 0);
        Attempt { run, problem }
    }

    /// Explains a run if it has failed.
    fn passes(&self, plan: &Plan, mut attempt: Attempt) -> Result<Attempt, Failure> {
        let Some(problem) = attempt.problem.take() else {
            return Ok(attempt);
        };
        let seed = plan.seed();
        let text = format!("the run of seed {seed} failed: {problem}\n");
        if self.settings.selection.is_some() {
            // The process may end while the list is shrunk. libtest loses captured output then.
            let _ = write_stderr(text.as_bytes());
        }
        self.last_line.set_problem(text);
        let list = attempt.run.choices.list();
        let replay = replay(seed, &list);
        let again = self.attempt(&replay, Watch::NOTHING, true, false);
        if !attempt.equals(&again) {
            let mut failure = self.nondeterminism(plan, &replay, again);
            failure.note(format!("a run failed: {problem}"));
            return Err(failure);
        }
        Err(self.shrunk(&attempt.run, problem, list))
    }

    /// Shrinks and explains a failure.
    fn shrunk(&self, run: &Run, problem: Problem, list: Vec<Choice>) -> Failure {
        let seed = run.choices.seed();
        let length = list.len();
        let start = cpu_time();
        let shrunk = shrink(
            list,
            SHRINK_RUNS,
            &mut || cpu_time() - start >= SHRINK_TIME,
            &mut |list| {
                let attempt = self.attempt(&replay(seed, list), Watch::NOTHING, true, false);
                attempt.is_like(&problem)
            },
        );
        let last = self.attempt(&replay(seed, &shrunk.list), Watch::NOTHING, false, true);
        if !last.is_like(&problem) {
            let mut failure = Failure::of(run, problem, self.command.replay_seed(seed));
            failure.note("the shrunk run failed once, and then did not".to_owned());
            return failure;
        }
        let saved = self.saved(run, &last.run);
        let (command, note) = match self.save(&saved, &last.run) {
            Ok(file) => (self.command.replay(&file.to_string_lossy()), None),
            Err(error) => (self.command.replay_seed(seed), Some(error)),
        };
        let problem = last.problem.unwrap_or(problem);
        let mut failure = Failure::of(&last.run, problem, command);
        let (left, runs) = (saved.list.len(), shrunk.runs);
        failure.note(format!(
            "seed {seed} fails, and {left} of its {length} choices remain after {runs} runs"
        ));
        note.into_iter()
            .for_each(|error| failure.note(error.to_string()));
        failure
    }

    /// Returns the list of a run that was shrunk to another one. Decisions that were not made
    /// don't matter.
    fn saved(&self, run: &Run, shrunk: &Run) -> SavedList {
        let made = shrunk.choices.made();
        SavedList {
            version: VERSION.to_owned(),
            test: self.command.name().to_owned(),
            seed: run.choices.seed(),
            explorer: run.explorer().map_or(String::new(), ToString::to_string),
            list: made.iter().map(|made| (made.choice, made.moment)).collect(),
        }
    }

    /// Explains that two runs of a seed differ. The second plan may replay what the first explores.
    fn nondeterminism(&self, first: &Plan, second: &Plan, last: Attempt) -> Failure {
        let mut is_first = false;
        let difference = first_difference(&mut |watch| {
            is_first = !is_first;
            let plan = if is_first { first } else { second };
            self.attempt(plan, watch, true, watch.keeps_events).run
        });
        let command = self.command.replay_seed(first.seed());
        Failure::of(&last.run, Problem::Nondeterminism(difference), command)
    }

    /// Writes the replay file, and returns its path.
    fn save(&self, saved: &SavedList, run: &Run) -> io::Result<PathBuf> {
        let folder = &self.settings.folder;
        let name = self.command.name().replace("::", "-");
        let file = folder.join(format!("{name}-{}.txt", saved.seed));
        let error = |error| {
            let path = file.display();
            io::Error::other(format!("the replay file {path} can't be written: {error}"))
        };
        fs::create_dir_all(folder).map_err(error)?;
        fs::write(&file, saved.text(&story(run))).map_err(error)?;
        Ok(file)
    }
}

/// Returns how long the processor has run this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Returns a list near another one. Each second one moves all decisions by about as much.
fn near(list: &[Choice], number: u64) -> Vec<Choice> {
    let random = |i| mix(number, i);
    let width = 1 + number % WIDEST;
    let common = random(0) % (2 * width);
    let near = list.iter().zip(1..).map(|(choice, i)| {
        let moved = match number % 2 {
            0 => common + random(i) % 3,
            _ => random(i) % (2 * width),
        };
        let nth = choice.nth.saturating_add(moved).saturating_sub(width);
        // With more ready tasks, the position of a task is another one.
        let value = choice
            .value
            .saturating_add((random(i) >> 32) as u32 % 4 / 2);
        Choice {
            nth,
            value,
            ..*choice
        }
    });
    near.collect()
}

fn replay(seed: u64, list: &[Choice]) -> Plan {
    let list = list.into();
    Plan::Replay { seed, list }
}
