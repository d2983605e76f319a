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

    fn rank(task: &TaskView) -> u8 {
        let joins = || task.waits.iter().any(|it| matches!(it, WaitView::Join(_)));
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
                    if let WaitView::Join(task) = wait {
                        json.key("task").string(&task.to_string());
                    }
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
