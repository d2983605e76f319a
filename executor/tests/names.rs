//! Which task it is, in `Debug` and in messages.

mod common;

use std::future::pending;

use common::*;
use windlass_executor::{Executor, Task, block_on, spawn};

#[test]
fn a_task_tells_where_it_was_spawned() {
    let executor = Executor::new();
    let here = |line| format!("executor/tests/names.rs:{line}:");
    let (line, task) = (line!(), executor.spawn(async {}));
    assert!(format!("{task:?}").contains(&here(line)), "{task:?}");
    let inner = executor.spawn(async { (line!(), spawn(async {})) });
    let (line, inner) = block_on(executor.run(inner));
    assert!(format!("{inner:?}").contains(&here(line)), "{inner:?}");
}

#[test]
fn a_wrapper_of_spawn_can_pass_on_who_has_called_it() {
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
fn an_executor_lists_its_tasks_with_their_names_until_they_end() {
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

fn fail(text: &'static str) {
    panic!("{text}")
}

#[test]
fn a_name_is_in_the_message_of_a_panic_and_lasts_until_then() {
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
fn a_task_may_be_named_again_and_when_it_has_ended() {
    let executor = Executor::new();
    let task = executor.spawn(async { 5 }).named("first").named("second");
    assert!(format!("{task:?}").contains("`second`"), "{task:?}");
    settle(&executor);
    let task = task.named("third");
    assert!(format!("{task:?}").contains("`third`"), "{task:?}");
    drop(executor);
    assert_eq!(block_on(task.named("fourth")), 5);
}
