//! Stacks with symbols, of tasks that are busy or blocked.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::process;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::tests::{LIMIT, PATIENCE, Subject, spin_until, turn};
use super::{Stack, Stacks};

/// Captures until a stack has a frame with this symbol, and returns it.
fn stack_with(subject: &Subject, stacks: &mut Stacks, symbol: &str) -> Stack {
    let start = Instant::now();
    let mut last = Stack::default();
    while start.elapsed() < PATIENCE {
        if let Some(sample) = stacks.capture(&subject.handle, LIMIT) {
            last = stacks.resolve(&sample);
            if position(&last, symbol).is_some() {
                return last;
            }
        }
    }
    panic!("no frame of {symbol} in\n{last}");
}

/// The index of the frame with a symbol.
fn position(stack: &Stack, symbol: &str) -> Option<usize> {
    let has = |name: &Option<String>| name.as_ref().is_some_and(|name| name.contains(symbol));
    stack.frames.iter().position(|frame| has(&frame.symbol))
}

/// A future that calls a function in its first poll.
struct Call<F>(Option<F>);

impl<F: FnOnce() + Unpin> Future for Call<F> {
    type Output = ();

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.0.take().unwrap()();
        Poll::Ready(())
    }
}

/// Runs a function in the poll of a task.
fn in_task(body: impl FnOnce() + Unpin + 'static) {
    crate::block_on(async { crate::spawn(Call(Some(body))).await });
}

/// A stack has the symbols in this order, then the future, and ends there.
#[track_caller]
fn assert_ends_at_task(stack: &Stack, symbols: &[&str]) {
    let places: Vec<_> = symbols
        .iter()
        .map(|symbol| position(stack, symbol))
        .collect();
    let future = position(stack, "tests::Call<");
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{places:?} in\n{stack}"
    );
    assert!(places.last().copied().flatten() < future, "{stack}");
    assert!(!stack.truncated, "{stack}");
    assert!(position(stack, "windlass_executor").is_none(), "{stack}");
    assert!(position(stack, "catch_unwind").is_none(), "{stack}");
}

#[test]
fn a_busy_task_is_unwound_to_its_poll() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(|stop| in_task(move || spin_until(&stop)));
    let stack = stack_with(&subject, &mut stacks, "tests::spin_until");
    assert_ends_at_task(&stack, &["tests::spin_until"]);
    subject.end();
}

#[test]
fn a_sleeping_task_is_unwound_to_its_poll() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(|stop| {
        in_task(move || {
            while !stop.load(SeqCst) {
                thread::sleep(Duration::from_millis(100));
            }
        });
    });
    let stack = stack_with(&subject, &mut stacks, "nanosleep");
    assert_ends_at_task(&stack, &["nanosleep", "std::thread::"]);
    subject.end();
}

#[test]
fn a_task_that_waits_for_a_mutex_is_unwound_to_its_poll() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let mutex = Arc::new(Mutex::new(()));
    let guard = mutex.lock().unwrap();
    let waiting = mutex.clone();
    let subject = Subject::start(move |_| in_task(move || drop(waiting.lock().unwrap())));
    let stack = stack_with(&subject, &mut stacks, "lock_contended");
    assert_ends_at_task(&stack, &["lock_contended"]);
    drop(guard);
    subject.end();
}

#[test]
fn a_task_that_writes_a_file_is_unwound_to_its_poll() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(|stop| {
        in_task(move || {
            let path = std::env::temp_dir().join(format!("windlass-stack-{}", process::id()));
            let mut file = File::create(&path).unwrap();
            while !stop.load(SeqCst) {
                file.write_all(&[0; 4096]).unwrap();
                file.sync_all().unwrap();
            }
            std::fs::remove_file(path).unwrap();
        });
    });
    let stack = stack_with(&subject, &mut stacks, "fsync");
    assert_ends_at_task(&stack, &["fsync"]);
    subject.end();
}

#[test]
fn a_stack_outside_of_tasks_ends_at_main() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(|stop| spin_until(&stop));
    let stack = stack_with(&subject, &mut stacks, "tests::spin_until");
    assert!(!stack.truncated, "{stack}");
    assert!(position(&stack, "short_backtrace").is_none(), "{stack}");
    subject.end();
}
