//! What other threads see of an executor, listings, and observers.

use std::cell::RefCell;
use std::future::pending;
use std::panic::Location;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use windlass_executor::{
    Executor, Observer, Pulse, PulseReading, TaskEntry, TaskId, TaskState, block_on, list_tasks,
    publish_polls, spawn, yield_now,
};

/// Reads the pulse on another thread.
fn read(pulse: Pulse) -> Option<PulseReading> {
    thread::spawn(move || pulse.read()).join().unwrap()
}

#[test]
fn another_thread_sees_the_task_that_is_being_polled() {
    publish_polls(true);
    let executor = Executor::new();
    let pulse = executor.pulse();
    let main = async {
        let before = read(pulse).unwrap();
        assert!(before.is_running && !before.is_polling && before.task.is_none());
        let task = spawn(async move { (read(pulse).unwrap(), TaskId::current()) }).named("hauler");
        let (id, spawned_at) = (task.id(), task.spawned_at().unwrap());
        let (reading, current) = task.await;
        assert!(reading.is_polling && reading.polls != before.polls);
        assert_eq!((reading.task, current), (id, id));
        assert_eq!(reading.spawned_at, Some(spawned_at));
        assert_eq!(
            reading.spawned - reading.ended,
            2,
            "the main future and the task"
        );
    };
    block_on(executor.run(main));
    let after = read(pulse).unwrap();
    assert!(!after.is_running && !after.is_polling);
    assert_eq!(after.spawned, after.ended);
}

#[test]
fn another_thread_sees_names_until_they_are_forgotten() {
    let executor = Executor::new();
    let pulse = executor.pulse();
    let task = executor.spawn(async {}).named("hauler");
    let id = task.id().unwrap();
    let name = move || thread::spawn(move || pulse.name(id)).join().unwrap();
    assert_eq!(name().as_deref(), Some("hauler"));
    drop(task);
    assert_eq!(name(), None);
}

#[test]
fn a_task_that_woke_itself_has_a_place_but_no_id() {
    publish_polls(true);
    let executor = Executor::new();
    let pulse = executor.pulse();
    let task = executor.spawn(std::future::poll_fn(move |cx| {
        cx.waker().wake_by_ref();
        let reading = read(pulse).unwrap();
        assert!(reading.is_polling && reading.task.is_none());
        std::task::Poll::Ready(reading.spawned_at)
    }));
    let spawned_at = task.spawned_at();
    assert_eq!(block_on(executor.run(task)), spawned_at);
}

/// Reads the pulse in its drop.
struct ReadsInDrop(Pulse, mpsc::Sender<PulseReading>);

impl Drop for ReadsInDrop {
    fn drop(&mut self) {
        self.1.send(read(self.0).unwrap()).unwrap();
    }
}

#[test]
fn another_thread_sees_the_drop_of_a_cancelled_task() {
    let executor = Executor::new();
    let pulse = executor.pulse();
    let (send, received) = mpsc::channel();
    let reads = ReadsInDrop(pulse, send.clone());
    let task = executor.spawn(async move {
        let _reads = reads;
        pending::<()>().await;
    });
    let spawned_at = task.spawned_at();
    task.detach();
    block_on(executor.run(yield_now()));
    drop(executor); // drops the task
    let reading = received.recv().unwrap();
    assert!(reading.is_dropping && !reading.is_polling);
    assert_eq!(reading.spawned_at, spawned_at);
}

#[test]
fn the_pulse_of_a_dropped_executor_is_gone() {
    let pulses: Vec<Pulse> = (0..100)
        .map(|_| {
            let executor = Executor::new();
            assert!(executor.pulse().read().is_some());
            executor.pulse()
        })
        .collect();
    // A new executor has the id of the last one.
    let executor = Executor::new();
    assert!(pulses.iter().all(|pulse| pulse.read().is_none()));
    assert!(executor.pulse().read().is_some());
}

/// The entry of the task that was spawned there.
fn entry(entries: &[TaskEntry], at: Option<&'static Location<'static>>) -> TaskEntry {
    let found = entries.iter().find(|it| Some(it.spawned_at) == at);
    found.expect("the task is listed").clone()
}

#[test]
fn a_listing_has_the_state_and_the_joiner_of_each_task() {
    let executor = Executor::new();
    block_on(executor.run(async {
        let waiting = spawn(pending::<()>());
        let at = waiting.spawned_at();
        let joiner = spawn(waiting);
        yield_now().await; // both are polled
        let ready = spawn(async {});
        let entries = list_tasks();
        assert_eq!(entries.len(), 4);
        let entry_of_waiting = entry(&entries, at);
        assert_eq!(entry_of_waiting.state, TaskState::Waiting);
        assert_eq!(entry_of_waiting.joiner, joiner.id());
        assert_eq!(entry(&entries, ready.spawned_at()).state, TaskState::Ready);
        let main: Vec<_> = entries.iter().filter(|it| it.is_main).collect();
        assert_eq!(main.len(), 1);
        let running = spawn(async { list_tasks() });
        let at = running.spawned_at();
        assert_eq!(entry(&running.await, at).state, TaskState::Running);
    }));
    assert_eq!(list_tasks(), executor.list_tasks());
}

#[test]
fn a_foreign_joiner_is_listed_by_its_task() {
    let (executor, other) = (Executor::new(), Executor::new());
    let waiting = executor.spawn(pending::<()>());
    let joiner = other.spawn(waiting);
    other.tick(std::task::Waker::noop(), 1);
    let listed = executor.list_tasks();
    assert_eq!(listed[0].foreign_joiner, joiner.id());
    assert_eq!(listed[0].joiner, None);
}

#[derive(Default)]
struct Log(RefCell<Vec<(bool, TaskId)>>);

impl Observer for Log {
    fn polling(&self, task: TaskId) {
        self.0.borrow_mut().push((true, task));
    }

    fn polled(&self, task: TaskId) {
        self.0.borrow_mut().push((false, task));
        panic!("an observer that panics");
    }
}

#[test]
fn an_observer_is_called_around_each_poll_even_if_it_panics() {
    let (executor, log) = (Executor::new(), Rc::new(Log::default()));
    executor.observe(Some(log.clone()));
    let task = executor.spawn(async { yield_now().await });
    let id = task.id().unwrap();
    block_on(executor.run(task));
    let calls = log.0.borrow();
    let of_task: Vec<bool> = calls
        .iter()
        .filter(|it| it.1 == id)
        .map(|it| it.0)
        .collect();
    assert_eq!(of_task, [true, false, true, false]);
    drop(calls);
    executor.observe(None);
    let count = log.0.borrow().len();
    block_on(executor.run(yield_now()));
    assert_eq!(log.0.borrow().len(), count);
}
