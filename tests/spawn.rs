//! The stack usage of spawning, and the recorded location of a spawn.

use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use windlass::task::TaskGroup;
use windlass::{RemoteTask, Runtime, block_on, spawn, spawn_blocking, yield_now};

const SIZE: usize = 256 * 1024;

/// A future as large as its buffer.
struct Large([u8; SIZE]);

impl Large {
    #[inline(never)]
    fn new() -> Self {
        Large([7; SIZE])
    }
}

impl Future for Large {
    type Output = u8;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
        Poll::Ready(self.0[SIZE / 2])
    }
}

/// Runs the test on a stack for that many copies of the future. The test itself uses two, because
/// it creates the future and passes it by value.
fn with_stack_for(copies: usize, test: fn()) {
    let stack = copies * SIZE + 128 * 1024;
    let thread = thread::Builder::new().stack_size(stack).spawn(test);
    thread.unwrap().join().expect("the test passes");
}

#[test]
fn spawning_or_running_a_large_future_copies_it_at_most_twice() {
    with_stack_for(4, || assert_eq!(block_on(Large::new()), 7));
    with_stack_for(4, || {
        assert_eq!(Runtime::new().unwrap().block_on(Large::new()), 7)
    });
    with_stack_for(4, || {
        let runtime = Runtime::new().unwrap();
        let task = runtime.spawn(Large::new());
        assert_eq!(runtime.block_on(task), 7);
    });
    with_stack_for(4, || {
        let runtime = Runtime::new().unwrap();
        let answer = runtime.remote().spawn(Large::new);
        assert_eq!(runtime.block_on(answer).unwrap(), 7);
    });
}

#[test]
fn a_future_of_an_eighth_of_a_stack_can_be_spawned() {
    let thread = thread::Builder::new().stack_size(2 << 20).spawn(|| {
        block_on(async {
            let task = spawn(async {
                let large = [7_u8; SIZE];
                windlass::yield_now().await;
                large[SIZE / 2]
            });
            assert_eq!(task.await, 7);
        });
    });
    thread.unwrap().join().expect("the stack is large enough");
}

#[test]
fn remote_and_blocking_closures_are_copied_few_times() {
    with_stack_for(4, || {
        let large = Large::new();
        assert_eq!(block_on(spawn_blocking(move || large.0[1])), 7);
    });
    with_stack_for(5, || {
        let runtime = Runtime::new().unwrap();
        let large = Large::new();
        let answer = runtime.remote().run(move || large.0[1]);
        assert_eq!(runtime.block_on(answer).unwrap(), 7);
    });
}

/// The line of the caller, in the form used by tasks.
macro_rules! here {
    () => {
        format!("spawned at {}:{}:", file!(), line!())
    };
}

#[test]
fn spawned_at_of_a_task_is_the_line_of_the_host() {
    let runtime = Runtime::new().unwrap();
    let (task, at) = (runtime.spawn(pending::<()>()), here!());
    assert!(format!("{task:?}").contains(&at), "{task:?}");

    let (remote, at) = (runtime.remote(), here!());
    assert!(format!("{runtime:?}").contains(&at), "{runtime:?}");
    drop((task, remote));
}

#[test]
fn a_panic_names_where_its_task_was_spawned() {
    let runtime = Runtime::new().unwrap();
    let (task, at) = (runtime.spawn(async { panic!("no rope left") }), here!());
    let panic = runtime.block_on(task.catch()).unwrap_err();
    assert!(panic.to_string().contains(&at), "{panic}");

    let remote = runtime.remote();
    let (task, at) = (remote.spawn(|| async { panic!("no rope left") }), here!());
    let error = runtime.block_on(task).unwrap_err();
    assert!(error.to_string().contains(&at), "{error}");

    let (task, at) = (remote.run(|| panic!("no rope left")), here!());
    let error = runtime.block_on(task).unwrap_err();
    assert!(error.to_string().contains(&at), "{error}");

    runtime.block_on(async {
        let group = TaskGroup::<()>::infallible();
        let ((), at) = (group.spawn(pending()), here!());
        let at = at.trim_start_matches("spawned at ");
        assert!(format!("{group:?}").contains(at), "{group:?}");
    });
}

#[test]
fn the_main_future_is_listed_with_the_line_of_its_run() {
    let runtime = Runtime::new().unwrap();
    let (seen, at) = (runtime.block_on(async { format!("{runtime:?}") }), line!());
    let at = format!("the main future, run at {}:{at}:", file!());
    assert!(seen.contains(&at), "{seen}");
}

#[test]
fn dropping_a_chain_of_remote_outputs_takes_little_stack() {
    struct Link(#[allow(dead_code)] Option<RemoteTask<Link>>);

    let thread = thread::Builder::new().stack_size(256 * 1024).spawn(|| {
        let runtime = Runtime::new().unwrap();
        let remote = runtime.remote();
        let mut first = None;
        for _ in 0..100_000 {
            let link = Link(first);
            first = Some(remote.run(|| link));
        }
        let last = remote.run(|| ());
        runtime.block_on(last).unwrap();
        runtime.block_on(async {
            for _ in 0..10 {
                yield_now().await;
            }
        });
        drop(first);
    });
    thread.unwrap().join().expect("no stack overflow");
}
