//! The tasks of the process as JSON.
//!
//! They are read from the memory of the process, so the list works while loops are stalled. Systems
//! that permit no such reading have the polled tasks alone, which the loops publish.

use super::json::Json;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) use self::snapshot::Tasks;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(super) use self::nothing::Tasks;

impl Tasks {
    /// Writes the number of tasks, and at most so many of them.
    pub(super) fn write(&self, json: &mut Json, most: usize) {
        json.object(|json| {
            json.key("total").literal(self.total());
            json.key("note").optional(self.note());
            self.write_list(json.key("list"), most);
        });
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod snapshot {
    use std::io;

    use super::Json;
    use crate::inspect::outside::{RuntimeView, Snapshot, StateView, TaskView, WaitView};

    pub(in super::super) struct Tasks(io::Result<Snapshot>);

    impl Tasks {
        pub(in super::super) fn read() -> Tasks {
            Tasks(Snapshot::of_self())
        }

        /// Returns the activity of a thread according to the system.
        pub(in super::super) fn activity(&self, tid: i32) -> Option<&str> {
            let runtime = self.runtimes().iter().find(|it| it.thread == tid)?;
            Some(&*runtime.activity).filter(|activity| !activity.is_empty())
        }

        fn runtimes(&self) -> &[RuntimeView] {
            let snapshot = self.0.as_ref();
            snapshot.map_or(&[], |snapshot| &*snapshot.runtimes)
        }

        pub(super) fn total(&self) -> usize {
            self.runtimes().iter().map(|it| it.tasks.len()).sum()
        }

        pub(super) fn note(&self) -> Option<&'static str> {
            match &self.0 {
                Err(_) => Some("the system refuses to read them"),
                Ok(snapshot) if snapshot.is_torn => Some("read while they ran"),
                Ok(_) => None,
            }
        }

        /// Writes running tasks first, then those that wait for others, because these explain a
        /// program that hangs.
        pub(super) fn write_list(&self, json: &mut Json, most: usize) {
            let runtimes = self.runtimes().iter();
            let mut all: Vec<_> = runtimes
                .flat_map(|runtime| runtime.tasks.iter().map(move |task| (runtime, task)))
                .collect();
            all.sort_by_key(|(_, task)| rank(task));
            json.array(all.into_iter().take(most), write_task);
        }
    }

    /// How many tasks the page gets that end a wait.
    const MOST_EDGES: usize = 64;

    fn rank(task: &TaskView) -> u8 {
        let joins = || {
            let mut waits = task.waits.iter();
            waits.any(|it| !it.depends_on().is_empty() || it.probably_depends_on().is_some())
        };
        match task.state {
            StateView::Running => 0,
            _ if joins() || task.joiner.is_some() => 1,
            _ => 2,
        }
    }

    fn write_task(json: &mut Json, (runtime, task): (&RuntimeView, &TaskView)) {
        json.object(|json| {
            json.key("id").string(&task.id.to_string());
            json.key("name").optional(task.name.as_deref());
            json.key("spawned_at").string(&task.spawned_at);
            json.key("is_main").literal(task.is_main);
            json.key("state").string(&task.state.to_string());
            let thread = runtime.thread_name.clone();
            let thread = thread.unwrap_or_else(|| format!("thread {}", runtime.thread));
            json.key("thread").string(&thread);
            json.key("waits").array(&task.waits, |json, wait| {
                json.object(|json| {
                    json.key("text").string(&wait.to_string());
                    json.key("is_join")
                        .literal(matches!(wait, WaitView::Join(_)));
                    let tasks = wait.depends_on().iter().take(MOST_EDGES);
                    json.key("tasks")
                        .array(tasks, |json, task| json.string(&task.to_string()));
                    let probably = wait.probably_depends_on().map(|task| task.to_string());
                    json.key("probably").optional(probably.as_deref());
                });
            });
        });
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod nothing {
    use super::Json;

    pub(in super::super) struct Tasks;

    impl Tasks {
        pub(in super::super) fn read() -> Tasks {
            Tasks
        }

        pub(super) fn total(&self) -> usize {
            0
        }

        pub(super) fn note(&self) -> Option<&'static str> {
            Some("the page lists tasks on 64-bit Linux alone")
        }

        pub(super) fn write_list(&self, json: &mut Json, _most: usize) {
            json.array([], |_, ()| {});
        }
    }
}
