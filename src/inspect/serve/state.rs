//! The state of the process as JSON.

use std::env;
use std::path::Path;
use std::time::SystemTime;

use windlass_reactor::LoopState;

use super::history::History;
use super::json::Json;
use super::stalls::{millis, unix_millis, write_stalls};
use super::tasks::Tasks;
use crate::inspect::loops::{self, Loop};
use crate::inspect::metrics::{FIELDS, metrics};
use crate::inspect::watchdog;

/// How many loops the page shows.
const MOST_LOOPS: usize = 64;

/// How many tasks the page gets.
const MOST_TASKS: usize = 1000;

/// Returns what the page shows.
pub(super) fn write_state(json: &mut Json, history: &History) {
    json.object(|json| {
        let program = env::args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default();
        json.key("program").string(&program.to_string_lossy());
        json.key("pid").literal(std::process::id());
        json.key("time_ms").literal(unix_millis(SystemTime::now()));
        write_metrics(json.key("metrics"));
        let tasks = Tasks::read();
        let loops = loops::lock().clone();
        let shown = loops.iter().take(MOST_LOOPS);
        json.key("loops")
            .array(shown, |json, it| write_loop(json, it, &tasks, history));
        tasks.write(json.key("tasks"), MOST_TASKS);
        json.key("is_watched").literal(watchdog::is_on());
        write_stalls(json.key("stalls"));
    });
}

fn write_metrics(json: &mut Json) {
    let metrics = metrics();
    json.object(|json| {
        for field in FIELDS {
            let name = match field.label {
                Some(purpose) => format!("{}/{purpose}", field.name),
                None => field.name.to_owned(),
            };
            json.key(&name).literal(field.value(&metrics));
        }
    });
}

#[cfg_attr(
    not(all(target_os = "linux", target_pointer_width = "64")),
    allow(unused_variables, reason = "other systems report no activity")
)]
fn write_loop(json: &mut Json, it: &Loop, tasks: &Tasks, history: &History) {
    json.object(|json| {
        json.key("id").literal(it.id);
        json.key("thread").optional(it.thread.name.as_deref());
        #[cfg(target_os = "linux")]
        json.key("tid").literal(it.thread.tid);
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        json.key("activity").optional(tasks.activity(it.thread.tid));
        json.key("state")
            .string(match it.thread.reactor.loop_state() {
                LoopState::Awake => "awake",
                LoopState::Asleep => "asleep",
                LoopState::Detached => "detached",
            });
        json.key("lag_ms").literal(millis(it.lag()));
        write_executor(json, it);
        json.key("lags_ms")
            .array(history.of(it.id), |json, lag| json.literal(millis(lag)));
    });
}

/// Writes the counters of the executor, and the task that it polls or drops.
fn write_executor(json: &mut Json, it: &Loop) {
    let Some(reading) = it.executor.read() else {
        return; // it is being dropped
    };
    let live = reading.spawned.wrapping_sub(reading.ended) as isize;
    json.key("live").literal(live.max(0));
    json.key("polls").literal(reading.polls);
    if !reading.is_polling && !reading.is_dropping {
        return json.key("current").optional(None);
    }
    json.key("current").object(|json| {
        let name = reading.task.and_then(|task| it.executor.name(task));
        let id = reading.task.map(|task| task.to_string());
        let spawned_at = reading.spawned_at.map(|place| place.to_string());
        json.key("is_dropping").literal(reading.is_dropping);
        json.key("id").optional(id.as_deref());
        json.key("name").optional(name.as_deref());
        json.key("spawned_at").optional(spawned_at.as_deref());
    });
}
