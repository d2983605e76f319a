//! Which tasks wait for which: tasks that can never run again, and cycles.
//!
//! The waits of a task are alternatives. So a cycle alone is no deadlock: a task of it may have
//! another wait that ends. A set of tasks is stuck if each wait of each of them needs another task
//! of the set, a knot in graph theory.

use std::fmt;
use std::sync::Arc;

use windlass_executor::{TaskId, TaskState};

use super::id_map::IdMap;
use super::tasks::TaskInfo;
use super::wait::{Origin, Wait};

/// Tasks that wait for each other in a circle.
///
/// `Display` prints for example `task 3 "a" -> join of task 4 "b" -> lock created at
/// src/x.rs:10:5, held by task 3 "a"`.
#[derive(Clone, Debug)]
pub struct Cycle {
    steps: Vec<Step>,
}

/// A task of a cycle, and how it waits for the next one.
#[derive(Clone, Debug)]
struct Step {
    task: TaskId,
    name: Option<Arc<str>>,
    wait: Wait,
    /// The next task is the one that has waited last at the other end of a channel.
    is_probable: bool,
}

impl Cycle {
    /// Returns whether a step of the cycle is a guess: a wait for a channel, of which the next task
    /// probably has the other end.
    pub fn is_probable(&self) -> bool {
        self.steps.iter().any(|step| step.is_probable)
    }

    /// Returns the tasks, each with its wait for the next one. The last one waits for the first.
    pub fn steps(&self) -> impl Iterator<Item = (TaskId, &Wait)> {
        self.steps.iter().map(|step| (step.task, &step.wait))
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.steps.first() else {
            return Ok(());
        };
        fmt_task(f, first)?;
        let next = self.steps.iter().skip(1).chain([first]);
        for (step, next) in self.steps.iter().zip(next) {
            f.write_str(" -> ")?;
            match &step.wait {
                Wait::Join(_) => f.write_str("join of ")?,
                Wait::Lock {
                    created_at: Some(place),
                    ..
                } => write!(f, "lock created at {place}, held by ")?,
                Wait::Lock { .. } => f.write_str("lock held by ")?,
                Wait::Group { .. } => f.write_str("child of its group: ")?,
                wait => fmt_probable(f, wait)?,
            }
            fmt_task(f, next)?;
        }
        Ok(())
    }
}

/// Describes the wait for a channel.
fn fmt_probable(f: &mut fmt::Formatter<'_>, wait: &Wait) -> fmt::Result {
    let (what, place) = match wait {
        Wait::Send { created_at, .. } => ("room in the channel", created_at),
        Wait::Receive { created_at, .. } => ("value of the channel", created_at),
        wait => return write!(f, "{wait}: "),
    };
    f.write_str(what)?;
    place.map_or(Ok(()), |place| write!(f, " created at {place}"))?;
    f.write_str(", probably held up by ")
}

fn fmt_task(f: &mut fmt::Formatter<'_>, step: &Step) -> fmt::Result {
    write!(f, "task {}", step.task)?;
    match &step.name {
        Some(name) => write!(f, " {name:?}"),
        None => Ok(()),
    }
}

/// The tasks of a thread by their position in the list, and the edges between them.
pub(crate) struct Graph<'a> {
    tasks: &'a [TaskInfo],
    positions: IdMap<usize>,
    /// For each task, its waits for other tasks: the number of the wait, and the other task.
    edges: Vec<Vec<(usize, usize)>>,
    /// As `edges`, for waits that probably depend on the other task.
    probable: Vec<Vec<(usize, usize)>>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(tasks: &'a [TaskInfo]) -> Graph<'a> {
        let positions: IdMap<usize> = tasks
            .iter()
            .enumerate()
            .map(|(position, task)| (task.id, position))
            .collect();
        let edges = tasks.iter().map(|task| {
            let waits = task.waits.iter().enumerate();
            let targets = waits.flat_map(|(number, wait)| {
                let known = wait.depends_on().iter().filter_map(|id| positions.get(id));
                known.map(move |&target| (number, target))
            });
            targets.collect()
        });
        let edges = edges.collect();
        Graph {
            tasks,
            positions,
            edges,
            probable: vec![Vec::new(); tasks.len()],
        }
    }

    /// Adds the waits for channels, as far as the task at the other end is probably known. Cycles
    /// contain them then.
    pub(crate) fn with_probable(mut self) -> Graph<'a> {
        for (task, probable) in self.tasks.iter().zip(&mut self.probable) {
            let waits = task.waits.iter().enumerate();
            probable.extend(waits.filter_map(|(number, wait)| {
                let target = self.positions.get(&wait.probably_depends_on()?)?;
                Some((number, *target))
            }));
        }
        self
    }

    /// The edges of a task, the probable ones last.
    fn edge(&self, task: usize, edge: usize) -> Option<(usize, usize, bool)> {
        let (sure, probable) = (&self.edges[task], &self.probable[task]);
        let found = sure.get(edge).map(|&(wait, target)| (wait, target, false));
        found.or_else(|| {
            let (wait, target) = *probable.get(edge.checked_sub(sure.len())?)?;
            Some((wait, target, true))
        })
    }

    /// Returns for each task whether it can never run again, as far as its waits are known.
    pub(crate) fn stuck(&self) -> Vec<bool> {
        let mut waiters = vec![Vec::new(); self.tasks.len()];
        for (task, edges) in self.edges.iter().enumerate() {
            edges
                .iter()
                .for_each(|&(_, target)| waiters[target].push(task));
        }
        let is_live = |task: &TaskInfo| {
            task.state != TaskState::Waiting || task.waits.iter().any(|wait| self.may_come(wait))
        };
        let mut stuck = vec![true; self.tasks.len()];
        let live = (0..self.tasks.len()).filter(|&task| is_live(&self.tasks[task]));
        let mut found: Vec<usize> = live.collect();
        while let Some(task) = found.pop() {
            if std::mem::replace(&mut stuck[task], false) {
                found.extend(&waiters[task]);
            }
        }
        stuck
    }

    /// Returns whether the event may come without any task of the list that is known to be needed.
    fn may_come(&self, wait: &Wait) -> bool {
        match wait.origin() {
            Origin::Never => false,
            Origin::Outside | Origin::Unknown => true,
            // The task has the waits of its children as well.
            Origin::ThisThread if matches!(wait, Wait::Scope { .. }) => false,
            Origin::ThisThread => {
                let tasks = wait.depends_on();
                tasks.is_empty() || !tasks.iter().all(|id| self.positions.contains_key(id))
            }
        }
    }

    /// Finds cycles among the tasks that `contains` selects. No two of them share a task. The
    /// certain cycles come first, so that no probable one hides them.
    pub(crate) fn cycles(&self, contains: impl Fn(usize) -> bool) -> Vec<Cycle> {
        let mut search = Search {
            graph: self,
            with_probable: false,
            visits: vec![Visit::New; self.tasks.len()],
            path: Vec::new(),
            cycles: Vec::new(),
        };
        search.visit_all(&contains);
        if self.probable.iter().any(|edges| !edges.is_empty()) {
            search.with_probable = true;
            search.visit_all(&contains);
        }
        search.cycles
    }

    fn cycle(&self, path: &[Node]) -> Cycle {
        let steps = path.iter().filter_map(|node| {
            let task = &self.tasks[node.task];
            let (wait, _, is_probable) = self.edge(node.task, node.edge)?;
            Some(Step {
                task: task.id,
                name: task.name.clone(),
                wait: task.waits[wait].clone(),
                is_probable,
            })
        });
        Cycle {
            steps: steps.collect(),
        }
    }
}

/// A depth-first search.
struct Search<'a> {
    graph: &'a Graph<'a>,
    /// Whether it follows the probable edges, too.
    with_probable: bool,
    visits: Vec<Visit>,
    path: Vec<Node>,
    cycles: Vec<Cycle>,
}

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    New,
    OnPath,
    Left,
    InCycle,
}

/// A task on the path, and its edge that the path takes.
struct Node {
    task: usize,
    edge: usize,
}

impl Search<'_> {
    /// Visits all tasks that are in no cycle so far.
    fn visit_all(&mut self, contains: &impl Fn(usize) -> bool) {
        let visits = self.visits.iter_mut();
        visits
            .filter(|visit| **visit == Visit::Left)
            .for_each(|visit| *visit = Visit::New);
        for start in (0..self.visits.len()).filter(|&task| contains(task)) {
            self.visit_from(start, contains);
        }
    }

    /// As `Graph::edge`, without the edges that this search does not follow.
    fn edge(&self, task: usize, edge: usize) -> Option<(usize, usize, bool)> {
        let found = self.graph.edge(task, edge);
        found.filter(|&(_, _, is_probable)| self.with_probable || !is_probable)
    }

    fn visit_from(&mut self, start: usize, contains: &impl Fn(usize) -> bool) {
        if self.visits[start] == Visit::New {
            self.enter(start);
        }
        while let Some(node) = self.path.last() {
            let Some((_, target, _)) = self.edge(node.task, node.edge) else {
                self.leave();
                continue;
            };
            match self.visits[target] {
                Visit::New if contains(target) => self.enter(target),
                Visit::OnPath => {
                    self.note_cycle(target);
                    self.next_edge();
                }
                _ => self.next_edge(),
            }
        }
    }

    fn enter(&mut self, task: usize) {
        self.visits[task] = Visit::OnPath;
        self.path.push(Node { task, edge: 0 });
    }

    fn leave(&mut self) {
        if let Some(node) = self.path.pop() {
            if self.visits[node.task] == Visit::OnPath {
                self.visits[node.task] = Visit::Left;
            }
        }
        self.next_edge();
    }

    fn next_edge(&mut self) {
        if let Some(node) = self.path.last_mut() {
            node.edge += 1;
        }
    }

    /// The path has come back to `first`.
    fn note_cycle(&mut self, first: usize) {
        let start = self.path.iter().rposition(|node| node.task == first);
        let cycle = &self.path[start.unwrap_or_default()..];
        if cycle
            .iter()
            .all(|node| self.visits[node.task] == Visit::OnPath)
        {
            self.cycles.push(self.graph.cycle(cycle));
            cycle
                .iter()
                .for_each(|node| self.visits[node.task] = Visit::InCycle);
        }
    }
}
