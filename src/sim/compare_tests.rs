use std::cell::Cell;
use std::rc::Rc;

use super::compare::{Difference, first_difference};
use super::context::Context;
use super::run::{Plan, Run};
use super::trace::{EventKind, Watch};

/// Makes runs of these lengths in turn, of which each second one differs at a step.
fn search(steps: [u64; 2], different: Option<u64>) -> (Difference, u64) {
    let count = Cell::new(0);
    let difference = first_difference(&mut |watch: Watch| {
        let number = count.replace(count.get() + 1);
        let run = Run::prepare(&Plan::of_seed(0), watch, Context::with_names());
        run.context.name_host(1, || "client".to_owned());
        run.context
            .name_task(1, 2, || "`reader` (src/x.rs:5)".to_owned());
        run.context.set_host(1);
        run.context.set_task(2);
        for step in 0..steps[(number % 2) as usize] {
            let is_different = number % 2 == 1 && different == Some(step);
            run.trace.record(
                step * 1_000_000,
                1,
                EventKind::Call,
                step + u64::from(is_different),
                0,
            );
        }
        run
    });
    (difference, count.get())
}

#[test]
fn the_first_difference_of_long_runs_is_found() {
    for step in [0, 1, 4_095, 4_096, 99_999, 700_001, 999_999] {
        let (difference, runs) = search([1_000_000; 2], Some(step));
        let text = difference.to_string();
        let first = format!("at step {step}\n");
        assert!(text.contains(&first), "{text}");
        assert!(
            text.contains(&format!("system call {step} returns")),
            "{text}"
        );
        assert!(
            text.contains(&format!("system call {} returns", step + 1)),
            "{text}"
        );
        assert!(runs <= 4, "{runs} runs");
    }
}

#[test]
fn a_difference_is_reported_with_both_events() {
    let (difference, _) = search([10; 2], Some(3));
    let expected = "nondeterminism: two runs with the same decisions differ at step 3
    both:   0.002 s client: system call 2 returns 0, in task `reader` (src/x.rs:5)
    first:  0.003 s client: system call 3 returns 0, in task `reader` (src/x.rs:5)
    second: 0.003 s client: system call 4 returns 0, in task `reader` (src/x.rs:5)";
    assert_eq!(difference.to_string(), expected);
}

#[test]
fn a_run_that_ends_earlier_differs_at_its_end() {
    for lengths in [[10, 13], [70_000, 70_001], [5_000, 100_000]] {
        let (difference, _) = search(lengths, None);
        let text = difference.to_string();
        assert!(
            text.contains(&format!("at step {}\n", lengths[0])),
            "{text}"
        );
        assert!(text.contains("first:  the run has ended"), "{text}");
    }
}

#[test]
fn equal_runs_end_the_search() {
    let (difference, runs) = search([100; 2], None);
    assert!(
        difference
            .to_string()
            .ends_with("but pairs of runs afterwards did not")
    );
    assert_eq!(runs, 16);
}

#[test]
fn a_difference_that_moves_is_found() {
    let count = Cell::new(0);
    let difference = first_difference(&mut |watch: Watch| {
        let number: u64 = count.replace(count.get() + 1);
        let run: Rc<Run> = Run::prepare(&Plan::of_seed(0), watch, Context::with_names());
        for step in 0..10_000 {
            let is_different = step == 100 + number * 800;
            run.trace
                .record(step, 0, EventKind::Call, u64::from(is_different), 0);
        }
        run
    });
    assert!(difference.to_string().contains(" at step "), "{difference}");
}
