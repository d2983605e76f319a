//! The locations of children in `Debug` output.

use std::future::pending;

use windlass::task::{TaskGroup, scope};
use windlass::yield_now;
use windlass_executor::{Executor, block_on};

#[test]
fn a_queued_child_shows_where_it_was_spawned() {
    let executor = Executor::new();
    let group = TaskGroup::infallible().limit(1);
    block_on(executor.run(async {
        group.spawn(yield_now());
        group.spawn(pending::<()>());
        let line = line!() - 1;
        while group.len() > 1 {
            yield_now().await;
        }
        let here = format!("tests/task/names.rs:{line}:");
        assert!(format!("{executor:?}").contains(&here), "{executor:?}");
    }));
}

#[test]
fn debug_of_a_group_counts_children_per_location() {
    block_on(Executor::new().run(async {
        let group = TaskGroup::infallible().limit(2);
        let line = line!() + 1;
        (0..3).for_each(|_| group.spawn(pending::<()>()));
        for shown in [format!("{group:?}"), format!("{:?}", group.spawner())] {
            assert!(
                shown.contains("running: 2, waiting: 1, ended: 0"),
                "{shown}"
            );
            let here = format!("children: {{\"tests/task/names.rs:{line}:");
            assert!(shown.contains(&here) && shown.contains("\": 3}"), "{shown}");
        }
    }));
}

#[test]
fn debug_of_a_scope_counts_children_per_location() {
    block_on(scope(async |s| {
        let line = line!() + 1;
        (0..3).for_each(|_| s.spawn(async {}));
        let (shown, here) = (format!("{s:?}"), format!("\"tests/task/names.rs:{line}:"));
        assert!(
            shown.starts_with("Scope { running: 4, children: {"),
            "{shown}"
        );
        assert!(shown.contains(&here) && shown.contains("\": 3}"), "{shown}");
    }));
}
