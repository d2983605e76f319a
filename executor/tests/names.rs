//! How `Debug` and messages identify a task.

mod common;

use std::future::pending;
use std::sync::Arc;

use common::*;
use windlass_executor::{Executor, Task, block_on, spawn};

#[test]
fn debug_shows_where_a_task_was_spawned() {
    let executor = Executor::new();
    let here = |line| format!("executor/tests/names.rs:{line}:");
    let (line, task) = (line!(), executor.spawn(async {}));
    assert!(format!("{task:?}").contains(&here(line)), "{task:?}");
    let inner = executor.spawn(async { (line!(), spawn(async {})) });
    let (line, inner) = block_on(executor.run(inner));
    assert!(format!("{inner:?}").contains(&here(line)), "{inner:?}");
}

#[test]
fn a_wrapper_of_spawn_can_pass_on_its_caller() {
    #[track_caller]
    fn wrapped(executor: &Executor) -> Task<()> {
        executor.spawn(async {})
    }
    let executor = Executor::new();
    let (line, task) = (line!(), wrapped(&executor));
    let here = format!("executor/tests/names.rs:{line}:");
    assert!(format!("{task:?}").contains(&here), "{task:?}");
}

#[test]
fn debug_of_an_executor_lists_its_unfinished_tasks() {
    let executor = Executor::new();
    let hauler = executor.spawn(pending::<()>()).named("hauler");
    executor.spawn(async {}).named("sprinter").detach();
    executor.spawn(pending::<()>()).detach();
    let shown = format!("{executor:?}");
    assert!(shown.contains("task `hauler`, spawned at"), "{shown}");
    assert!(shown.contains("task `sprinter`, spawned at"), "{shown}");
    assert!(shown.contains("a task spawned at"), "{shown}");
    settle(&executor);
    drop(hauler);
    let shown = format!("{executor:?}");
    assert!(
        !shown.contains("hauler") && !shown.contains("sprinter"),
        "{shown}"
    );
}

#[test]
fn debug_of_a_run_shows_where_it_was_run() {
    let executor = Executor::new();
    let (run, line) = (executor.run(async {}), line!());
    let here = format!("run at executor/tests/names.rs:{line}:");
    assert!(format!("{run:?}").contains(&here), "{run:?}");
    assert!(format!("{run:?}").contains("Executor {"), "{run:?}");
}

fn fail(text: &'static str) {
    panic!("{text}")
}

#[test]
fn a_name_is_in_the_message_of_a_panic() {
    let executor = Executor::new();
    let task = executor.spawn(async { fail("torn") }).named("rope");
    settle(&executor);
    let other = executor.spawn(async { fail("bent") }).named("hook"); // in the same slot
    settle(&executor);
    for (task, name, text) in [(task, "rope", "torn"), (other, "hook", "bent")] {
        let panic = block_on(task.catch()).expect_err("it panicked");
        let shown = panic.to_string();
        assert!(
            shown.starts_with(&format!("task `{name}`, spawned at ")),
            "{shown}"
        );
        assert!(shown.ends_with(&format!(" panicked: {text}")), "{shown}");
    }
}

#[test]
fn a_task_may_be_renamed_even_after_its_end() {
    let executor = Executor::new();
    let task = executor.spawn(async { 5 }).named("first").named("second");
    assert!(format!("{task:?}").contains("`second`"), "{task:?}");
    settle(&executor);
    let task = task.named("third");
    assert!(format!("{task:?}").contains("`third`"), "{task:?}");
    drop(executor);
    assert_eq!(block_on(task.named("fourth")), 5);
}

#[test]
fn a_name_is_freed_with_its_task() {
    let executor = Executor::new();
    let name: Arc<str> = "rope".into();
    let spawn = || executor.spawn(async {}).named(name.clone());
    let is_free = || Arc::strong_count(&name) == 1;

    let awaited = spawn();
    assert!(!is_free());
    block_on(executor.run(awaited));
    assert!(is_free(), "after its output was taken");

    drop(spawn());
    assert!(is_free(), "after it was cancelled");

    let finished = spawn();
    settle(&executor);
    assert!(!is_free());
    drop(finished);
    assert!(is_free(), "after the handle of a finished task was dropped");

    spawn().detach();
    settle(&executor);
    assert!(is_free(), "after a detached task has ended");

    let finished = spawn();
    settle(&executor);
    finished.detach();
    assert!(is_free(), "after a finished task was detached");
}

#[test]
fn debug_shows_whether_a_task_has_finished() {
    let executor = Executor::new();
    let task = executor.spawn(async {});
    assert!(format!("{task:?}").ends_with("finished: false }"));
    settle(&executor);
    assert!(format!("{task:?}").ends_with("finished: true }"));
}

#[test]
fn spawned_at_is_known_until_the_output_is_taken() {
    let executor = Executor::new();
    let (mut task, line) = (executor.spawn(async {}), line!());
    assert_eq!(task.spawned_at().map(|at| at.line()), Some(line));
    block_on(executor.run(&mut task));
    assert_eq!(task.spawned_at(), None);
}

#[test]
fn spawn_at_reports_the_given_location() {
    let at = std::panic::Location::caller();
    let executor = Executor::new();
    assert_eq!(executor.spawn_at(at, async {}).spawned_at(), Some(at));
    let _entered = executor.enter();
    let task = windlass_executor::spawn_at(at, async {});
    assert_eq!(task.spawned_at(), Some(at));
}
