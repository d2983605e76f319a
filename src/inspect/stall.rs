//! A stall of a loop, as it is reported.

use std::fmt::{self, Write};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use windlass_executor::TaskId;

use super::stack::Stack;
use super::thread_state::Activity;

/// A loop that has not continued for longer than the threshold of the [watchdog](super::Watchdog).
///
/// `Display` prints the report. Its first line names the task, the place where it was spawned, and
/// the activity of the thread. The stack follows.
///
/// # Examples
///
/// ```standalone_crate
/// use std::sync::mpsc;
/// use std::time::Duration;
///
/// use windlass::inspect::{Phase, Watchdog};
///
/// let (sender, stalls) = mpsc::channel();
/// let watchdog = Watchdog::builder()
///     .threshold(Duration::from_millis(20))
///     .on_stall(move |stall| drop(sender.send(stall.clone())))
///     .start()?;
/// windlass::block_on(async {
///     let task = windlass::spawn(async { std::thread::sleep(Duration::from_millis(300)) });
///     task.named("sleeper").await;
/// });
/// let stall = stalls.recv().unwrap();
/// assert_eq!(stall.phase, Phase::Polling);
/// assert_eq!(stall.task.as_ref().unwrap().name.as_deref(), Some("sleeper"));
/// println!("{stall}");
/// watchdog.stop();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// How long the loop has not continued, without the time in which the process was suspended.
    pub duration: Duration,
    /// The threshold of the watchdog.
    pub threshold: Duration,
    /// The number of the executor, by which `windlass-ps` names the runtime.
    pub executor: u16,
    /// The thread of the loop, by the number that the system knows it by. Known on Linux.
    pub thread: Option<i32>,
    /// The name of the thread.
    pub thread_name: Option<Arc<str>>,
    /// What the loop executes.
    pub phase: Phase,
    /// The task that is polled or dropped, or the main future. `None` in the other phases.
    pub task: Option<StalledTask>,
    /// The activity of the thread since the stall began, or since the previous report.
    pub activity: Activity,
    /// How many other tasks of the runtime exist. They wait meanwhile.
    pub waiting_tasks: usize,
    /// How many timers of the thread are pending. They fire after the stall. Known on Linux.
    pub waiting_timers: Option<usize>,
    /// The stack of the thread, up to the poll of the task. `None` where stacks are not available,
    /// and if the thread has continued in the meantime.
    pub stack: Option<Stack>,
    /// The number of this report among those of the same stall, from 1. The reports follow at 1, 2,
    /// 4 … times the threshold.
    pub report: u32,
    /// How many reports were suppressed before this one.
    pub suppressed: u32,
    /// The loop has continued. This report is the last one of the stall.
    pub is_over: bool,
}

/// What a stalled loop executes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// It polls a task.
    Polling,
    /// It polls the main future of a `block_on`.
    MainFuture,
    /// It drops the future of a task that was cancelled.
    Dropping,
    /// It is between two polls. It drops the output of a task, or calls a waker or a [completion
    /// source](crate::completion).
    Waking,
    /// The host of the loop takes no turn, although one is due.
    Host,
}

/// The task in which a loop stalls, or the main future.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StalledTask {
    /// `None` for the main future, and once the task has woken itself in this poll.
    pub id: Option<TaskId>,
    /// The name of the task, if it has one and the id is known.
    pub name: Option<Arc<str>>,
    /// Where the task was spawned. `None` if the watchdog was started in this turn of the loop.
    pub spawned_at: Option<&'static Location<'static>>,
}

impl Stall {
    /// Prints the first line, without an allocation.
    pub(crate) fn write_summary(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_str("windlass: ")?;
        let thread = self.thread_label();
        let duration = ShortDuration(self.duration);
        if self.is_over {
            return write!(
                out,
                "the loop of thread {thread} continues after {duration}"
            );
        }
        match (&self.activity, self.phase) {
            (Activity::NotScheduled { .. }, _) => {
                write!(out, "the loop of thread {thread} has hardly run ")?;
            }
            (_, Phase::Host) => {
                write!(out, "the host of thread {thread} has not turned its loop, ")?;
                out.write_str("although a turn is due, ")?;
            }
            _ => {
                self.write_subject(out)?;
                write!(out, " has blocked the loop of thread {thread} ")?;
            }
        }
        write!(out, "for {duration}: {}", self.activity)?;
        self.write_counts(out)
    }

    fn write_counts(&self, out: &mut dyn Write) -> fmt::Result {
        let (tasks, timers) = (self.waiting_tasks, self.waiting_timers.unwrap_or(0));
        let task = match self.phase {
            Phase::Host | Phase::Waking => "task",
            _ => "other task",
        };
        match (tasks, timers) {
            (0, 0) => {}
            (_, 0) => write!(out, "; {}", Counted(tasks, task))?,
            (0, _) => write!(out, "; {}", Counted(timers, "timer"))?,
            _ => {
                let (tasks, timers) = (Counted(tasks, task), Counted(timers, "timer"));
                write!(out, "; {tasks} and {timers}")?;
            }
        }
        match tasks.saturating_add(timers) {
            0 => {}
            1 => out.write_str(" waits")?,
            _ => out.write_str(" wait")?,
        }
        match self.suppressed {
            0 => Ok(()),
            1 => out.write_str(" (1 earlier report was suppressed)"),
            count => write!(
                out,
                " ({} earlier reports were suppressed)",
                Count(count as usize)
            ),
        }
    }

    /// Prints the name of the thread, or its number if it has no name.
    pub(crate) fn thread_label(&self) -> impl fmt::Display {
        ThreadLabel(self)
    }

    fn write_subject(&self, out: &mut dyn Write) -> fmt::Result {
        let known = self.task.as_ref();
        let place = known.and_then(|task| task.spawned_at);
        let verb = match self.phase {
            Phase::Waking | Phase::Host => {
                return out.write_str("code between two polls, such as a waker,");
            }
            Phase::MainFuture => {
                out.write_str("the main future")?;
                "run"
            }
            Phase::Polling | Phase::Dropping => {
                if self.phase == Phase::Dropping {
                    out.write_str("the drop of ")?;
                }
                match known.and_then(|task| task.id) {
                    Some(id) => write!(out, "task {id}")?,
                    None => out.write_str("a task")?,
                }
                if let Some(name) = known.and_then(|task| task.name.as_deref()) {
                    write!(out, " {name:?}")?;
                }
                "spawned"
            }
        };
        place.map_or(Ok(()), |place| write!(out, ", {verb} at {place},"))
    }

    /// Prints the stack, one frame per line.
    pub(crate) fn write_stack(&self, out: &mut dyn Write) -> fmt::Result {
        let Some(stack) = &self.stack else {
            return Ok(());
        };
        let thread = self.thread_label();
        writeln!(out, "windlass: the stack of thread {thread}:")?;
        for frame in &stack.frames {
            writeln!(out, "    {frame}")?;
        }
        match stack.truncated {
            true => out.write_str("    (outer frames are unknown)\n"),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_summary(f)?;
        if self.stack.is_some() {
            f.write_char('\n')?;
            self.write_stack(f)?;
        }
        Ok(())
    }
}

/// Prints milliseconds, or seconds with one decimal place.
struct ShortDuration(Duration);

impl fmt::Display for ShortDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            micros @ 0..10_000 => write!(f, "{}.{} ms", micros / 1000, micros / 100 % 10),
            micros @ 10_000..1_000_000 => write!(f, "{} ms", micros / 1000),
            micros => write!(f, "{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
        }
    }
}

/// Prints the result of [`Stall::thread_label`].
struct ThreadLabel<'a>(&'a Stall);

impl fmt::Display for ThreadLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.thread_name, self.0.thread) {
            (Some(name), _) => f.write_str(name),
            (None, Some(thread)) => write!(f, "{thread}"),
            (None, None) => f.write_str("without a name"),
        }
    }
}

/// Prints a number of things.
struct Counted(usize, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counted(count, noun) = *self;
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{} {noun}{plural}", Count(count))
    }
}

/// Prints a number with commas.
struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            below @ 0..1000 => write!(f, "{below}"),
            number => write!(f, "{},{:03}", Count(number / 1000), number % 1000),
        }
    }
}
