//! The replay command as the last line of a process that ends during a run.
//!
//! A failed run usually unwinds, and the check prints the command. When the process aborts, a
//! signal handler prints it. This includes an overflow of the stack, a second panic during a drop,
//! and the limit of real time.

use std::cell::Cell;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::command::Command;
use crate::io::write_stderr;

/// The lines of all threads that ever ran a check. A handler may read it at each moment, so lines
/// are added and never removed. A line is used again for the same command.
static LINES: OnceLock<Box<Line>> = OnceLock::new();

thread_local! {
    /// The line of the check that this thread runs.
    static CURRENT: Cell<Option<&'static Line>> = const { Cell::new(None) };
}

/// A prepared line.
#[derive(Debug)]
struct Line {
    before: String,
    /// What follows the seed. Without it, `before` is the whole line.
    after: Option<String>,
    seed: AtomicU64,
    is_used: AtomicBool,
    is_running: AtomicBool,
    next: OnceLock<Box<Line>>,
}

/// Prints the replay command if the process ends during a run on this thread.
#[derive(Debug)]
pub(super) struct LastLine {
    line: &'static Line,
    outer: Option<&'static Line>,
    problem: Arc<Mutex<String>>,
}

impl LastLine {
    /// Prepares the line of a command. The runs have different seeds.
    pub(super) fn of_seeds(command: &Command) -> LastLine {
        let (before, after) = command.parts();
        LastLine::enter(before.to_owned(), after)
    }

    /// Prepares the line of a command that replays a file.
    pub(super) fn of_file(command: &Command, file: &str) -> LastLine {
        LastLine::enter(command.replay(file), None)
    }

    fn enter(before: String, after: Option<String>) -> LastLine {
        signals::install();
        let line = claim(before, after);
        let outer = CURRENT.replace(Some(line));
        let problem = Arc::default();
        LastLine {
            line,
            outer,
            problem,
        }
    }

    /// Marks the start of a run.
    pub(super) fn start(&self, seed: u64) {
        self.line.seed.store(seed, Relaxed);
        self.line.is_running.store(true, Release);
    }

    /// Marks the end of a run.
    pub(super) fn stop(&self) {
        self.line.is_running.store(false, Release);
    }

    /// Sets what another thread prints when it aborts the process.
    pub(super) fn set_problem(&self, problem: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Returns a function that aborts the process on behalf of this check, from another thread.
    pub(super) fn abort(&self) -> impl Fn(&str) + Send + 'static {
        let line = self.line;
        let problem = self.problem.clone();
        move |reason| {
            CURRENT.set(Some(line));
            let problem = problem.lock().unwrap_or_else(PoisonError::into_inner);
            // The process ends. There is no other place for an error.
            let _ = write_stderr(format!("\n{problem}{reason}\n").as_bytes());
            std::process::abort();
        }
    }
}

impl Drop for LastLine {
    fn drop(&mut self) {
        self.stop();
        CURRENT.set(self.outer);
        self.line.is_used.store(false, Release);
    }
}

/// Returns a line with this text that no check uses.
fn claim(before: String, after: Option<String>) -> &'static Line {
    let mut new = Box::new(Line {
        before,
        after,
        seed: AtomicU64::new(0),
        is_used: AtomicBool::new(true),
        is_running: AtomicBool::new(false),
        next: OnceLock::new(),
    });
    let mut end = &LINES;
    loop {
        let rejected = end.set(new).err();
        let line = end
            .get()
            .expect("the end of the list has just been set, or was before");
        match rejected {
            None => return line,
            Some(rejected) => new = rejected,
        }
        let is_equal = line.before == new.before && line.after == new.after;
        let claimed = is_equal
            && line
                .is_used
                .compare_exchange(false, true, AcqRel, Relaxed)
                .is_ok();
        if claimed {
            return line;
        }
        end = &line.next;
    }
}

/// Writes the line of this thread's run, or else the lines of all runs. Takes no lock and does not
/// allocate, because signal handlers call it.
fn write_lines() {
    let current = CURRENT.try_with(Cell::get).ok().flatten();
    if let Some(line) = current.filter(|line| line.is_running.load(Acquire)) {
        return write_line(line);
    }
    let mut next = LINES.get();
    while let Some(line) = next {
        if line.is_running.load(Acquire) {
            write_line(line);
        }
        next = line.next.get();
    }
}

fn write_line(line: &Line) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut seed = line.seed.load(Relaxed);
    while seed > 0 || start == digits.len() {
        start -= 1;
        digits[start] = b'0' + (seed % 10) as u8;
        seed /= 10;
    }
    let seed = if line.after.is_some() {
        &digits[start..]
    } else {
        &[]
    };
    let after = line.after.as_deref().unwrap_or_default();
    let intro: &[u8] = b"\nthe process ended during a simulation. replay:\n";
    for part in [intro, line.before.as_bytes(), seed, after.as_bytes(), b"\n"] {
        // There is no other place for an error.
        let _ = write_stderr(part);
    }
}

mod signals {
    use std::mem::MaybeUninit;
    use std::sync::{Once, OnceLock};

    use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, c_int, c_void};

    use super::{Acquire, CURRENT, Cell, write_lines};
    use crate::io::write_stderr;
    use crate::signal::action::swap_action;

    /// The signals that end a process because of a fault in it.
    const SIGNALS: [c_int; 5] = [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV];

    /// The actions of these signals before ours.
    static PREVIOUS: [OnceLock<libc::sigaction>; 5] = [const { OnceLock::new() }; 5];

    pub(super) fn install() {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
                // The handler reads the previous action, so this is set before.
                // SAFETY: no action is replaced.
                if let Ok(action) = unsafe { swap_action(signal, None) } {
                    let _ = previous.set(action);
                    // Without a handler the line is missing, and the test works.
                    // SAFETY: the handler is safe at any time: it takes no lock, does not
                    // allocate, and writes with system calls.
                    let _ = unsafe { swap_action(signal, Some(&handler())) };
                }
            }
            // SAFETY: the function may run at each exit. It only reads statics and writes.
            unsafe { libc::atexit(at_exit) };
        });
    }

    /// Returns the action that calls our handler. It runs on the alternate stack, because the
    /// thread's own one may be exhausted.
    fn handler() -> libc::sigaction {
        // SAFETY: an action may be all zeros, which is an empty mask and no flags.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO;
        action
    }

    extern "C" fn handle(signal: c_int, info: *const libc::siginfo_t, _context: *const c_void) {
        write_lines();
        let index = SIGNALS.iter().position(|known| *known == signal);
        let previous = index.and_then(|index| PREVIOUS[index].get());
        // SAFETY: the action was installed for this signal.
        let restore = |old| unsafe { swap_action(signal, Some(old)) };
        let is_restored = previous.is_some_and(|old| restore(old).is_ok());
        // SAFETY: the system passes valid information to a handler with `SA_SIGINFO`.
        let is_sent = unsafe { (*info).si_code } <= 0;
        // The previous action runs next. A fault occurs again, because its instruction is repeated.
        // A signal that was sent, for example by abort(3), arrives once.
        if is_restored && is_sent {
            // SAFETY: raise(3) may be called in a handler.
            unsafe { libc::raise(signal) };
        }
    }

    /// An exit of the program during a run would end the test, and perhaps with success.
    extern "C" fn at_exit() {
        let current = CURRENT.try_with(Cell::get).ok().flatten();
        if current.is_some_and(|line| line.is_running.load(Acquire)) {
            let _ = write_stderr(b"\nthe program called exit\n");
            write_lines();
            // SAFETY: the process is ending, and it is not in a signal handler.
            unsafe { libc::_exit(101) };
        }
    }
}
