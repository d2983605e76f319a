//! What happens at the moment: the virtual time, the host and the task, for stories.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

/// The present moment of a run. The world updates it, and choices and events are attributed to it.
#[derive(Debug, Default)]
pub(super) struct Context {
    now: Cell<u64>,
    host: Cell<u16>,
    /// The number of the task in its host, or `NO_TASK`.
    task: Cell<u32>,
    keeps_names: bool,
    names: RefCell<Names>,
}

/// The number outside of tasks. The tasks of a host have numbers from one.
pub(super) const NO_TASK: u32 = 0;

impl Context {
    /// Creates the context of a run that needs no names.
    pub(super) fn new() -> Context {
        Context::default()
    }

    /// Creates the context of a run that becomes a story.
    pub(super) fn with_names() -> Context {
        Context {
            keeps_names: true,
            ..Context::default()
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Sets the virtual time, in nanoseconds since the start of the world.
    pub(super) fn set_now(&self, now: u64) {
        self.now.set(now);
    }

    pub(super) fn host(&self) -> u16 {
        self.host.get()
    }

    /// Sets the host that runs. No task of it runs yet.
    pub(super) fn set_host(&self, host: u16) {
        self.host.set(host);
        self.task.set(NO_TASK);
    }

    pub(super) fn task(&self) -> u32 {
        self.task.get()
    }

    /// Sets the task of the host that runs, or [`NO_TASK`].
    pub(super) fn set_task(&self, task: u32) {
        self.task.set(task);
    }

    /// Returns whether this run becomes a story, so that names and explanations have a reader.
    pub(super) fn keeps_names(&self) -> bool {
        self.keeps_names
    }

    pub(super) fn name_host(&self, host: u16, name: impl FnOnce() -> String) {
        if self.keeps_names {
            let name = name();
            self.names.borrow_mut().hosts.insert(host, name);
        }
    }

    /// Names a task of a host, for example "`reader` (src/x.rs:5)".
    pub(super) fn name_task(&self, host: u16, task: u32, name: impl FnOnce() -> String) {
        if self.keeps_names {
            let name = name();
            self.names.borrow_mut().tasks.insert((host, task), name);
        }
    }

    /// Returns the name of the host, or its number.
    pub(super) fn host_name(&self, host: u16) -> String {
        let names = self.names.borrow();
        let name = names.hosts.get(&host).cloned();
        name.unwrap_or_else(|| format!("host {host}"))
    }

    /// Returns the name of the task, or its number. There is none outside of tasks.
    pub(super) fn task_name(&self, host: u16, task: u32) -> Option<String> {
        if task == NO_TASK {
            return None;
        }
        let names = self.names.borrow();
        let name = names.tasks.get(&(host, task)).cloned();
        Some(name.unwrap_or_else(|| format!("number {task}")))
    }
}

#[derive(Debug, Default)]
struct Names {
    hosts: BTreeMap<u16, String>,
    tasks: BTreeMap<(u16, u32), String>,
}

/// A virtual time in seconds, with at least milliseconds: "1.203 s".
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub(super) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let digits = format!("{nanos:09}");
        let end = digits.trim_end_matches('0').len().max(3);
        write!(f, "{whole}.{} s", &digits[..end])
    }
}
