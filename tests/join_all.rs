//! Combinators with many children poll each child once, not once per sibling.

mod common;

use std::future::ready;
use std::time::Duration;

use common::{Count, counted, run};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use windlass::time::sleep;
use windlass::{spawn, yield_now};

const CHILDREN: usize = 10_000;

#[test]
fn join_all_polls_each_of_ten_thousand_ready_children_once() {
    let (children, parent) = (Count::default(), Count::default());
    run(async {
        let ready = (0..CHILDREN).map(|number| counted(&children, ready(number)));
        let outputs = counted(&parent, join_all(ready)).await;
        assert!(outputs.into_iter().eq(0..CHILDREN));
    });
    assert_eq!(children.get(), CHILDREN);
    assert!(
        parent.get() <= CHILDREN,
        "{} polls of the parent",
        parent.get()
    );
}

#[test]
fn children_that_yield_once_are_polled_twice() {
    let (children, parent) = (Count::default(), Count::default());
    run(async {
        let mut yielding: FuturesUnordered<_> = (0..CHILDREN)
            .map(|_| counted(&children, yield_now()))
            .collect();
        counted(&parent, async { while yielding.next().await.is_some() {} }).await;
    });
    assert_eq!(children.get(), 2 * CHILDREN);
    assert!(
        parent.get() <= 2 * CHILDREN,
        "{} polls of the parent",
        parent.get()
    );
}

#[test]
fn ten_thousand_tasks_are_joined_in_linear_time() {
    let (children, parent) = (Count::default(), Count::default());
    run(async {
        let tasks = (0..CHILDREN).map(|number| {
            let children = children.clone();
            spawn(async move { counted(&children, ready(number)).await })
        });
        let outputs = counted(&parent, join_all(tasks)).await;
        assert!(outputs.into_iter().eq(0..CHILDREN));
    });
    assert_eq!(children.get(), CHILDREN);
    assert!(
        parent.get() <= CHILDREN,
        "{} polls of the parent",
        parent.get()
    );
}

#[test]
fn ten_thousand_timers_are_joined_in_linear_time() {
    let (children, parent) = (Count::default(), Count::default());
    run(async {
        let timers = (0..CHILDREN).map(|_| counted(&children, sleep(Duration::ZERO)));
        counted(&parent, join_all(timers)).await;
    });
    assert_eq!(children.get(), 2 * CHILDREN);
    assert!(
        parent.get() <= CHILDREN,
        "{} polls of the parent",
        parent.get()
    );
}
