//! The last stalls as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::json::Json;
use crate::inspect::report::{RecentStall, recent_stalls};
use crate::inspect::stall::Phase;

/// Writes the last stalls, the newest first.
pub(super) fn write_stalls(json: &mut Json) {
    json.array(recent_stalls().iter().rev(), write_stall);
}

fn write_stall(json: &mut Json, recent: &RecentStall) {
    let stall = &recent.stall;
    json.object(|json| {
        json.key("id").literal(recent.number);
        json.key("time_ms").literal(unix_millis(recent.begun_at));
        json.key("duration_ms").literal(millis(match stall.is_over {
            true => stall.duration,
            false => recent.begun_at.elapsed().unwrap_or(stall.duration),
        }));
        json.key("is_over").literal(stall.is_over);
        json.key("executor").literal(stall.executor);
        json.key("thread").string(&stall.thread_label().to_string());
        json.key("phase").string(match stall.phase {
            Phase::Polling => "polling",
            Phase::MainFuture => "main",
            Phase::Dropping => "dropping",
            Phase::Waking => "between polls",
            Phase::Host => "host",
        });
        let task = stall.task.as_ref();
        let id = task.and_then(|task| task.id).map(|id| id.to_string());
        let spawned_at = task.and_then(|task| task.spawned_at);
        let spawned_at = spawned_at.map(|place| place.to_string());
        json.key("task").optional(id.as_deref());
        json.key("name")
            .optional(task.and_then(|task| task.name.as_deref()));
        json.key("spawned_at").optional(spawned_at.as_deref());
        json.key("activity").string(&stall.activity.to_string());
        json.key("waiting").literal(stall.waiting_tasks);
        json.key("waiting_timers")
            .literal(stall.waiting_timers.unwrap_or(0));
        let frames = stall.stack.iter().flat_map(|stack| &stack.frames);
        json.key("stack")
            .array(frames, |json, frame| json.string(&frame.to_string()));
    });
}

pub(super) fn unix_millis(time: SystemTime) -> u128 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis()
}

/// Returns milliseconds with one digit after the point.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_micros() / 100) as f64 / 10.0
}
