//! An executor, and sessions that are its tasks.

#![allow(missing_debug_implementations)]

// ANCHOR: imports
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use crate::ch05::program::{Line, block_on, line};
// ANCHOR_END: imports

// ANCHOR: waker
/// The numbers of the tasks that were woken, and the waker of the loop that runs them.
#[derive(Default)]
pub(super) struct RunQueue {
    pub(super) numbers: BTreeSet<u64>,
    pub(super) driver: Option<Waker>,
}

/// Wakes one task, from any thread.
struct TaskWaker(u64, Arc<Mutex<RunQueue>>);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut queue = self.1.lock().unwrap();
        queue.numbers.insert(self.0);
        let driver = queue.driver.take();
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}
// ANCHOR_END: waker

// ANCHOR: executor
type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks by their numbers, each with its waker.
#[derive(Default)]
pub struct Executor {
    pub(super) tasks: RefCell<HashMap<u64, (Task, Waker)>>,
    next: Cell<u64>,
    pub(super) queue: Arc<Mutex<RunQueue>>,
}

impl Executor {
    /// Adds a task. It begins when the executor runs.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let number = self.next.replace(self.next.get() + 1);
        let waker = Waker::from(Arc::new(TaskWaker(number, self.queue.clone())));
        waker.wake_by_ref();
        let task: Task = Box::pin(future);
        self.tasks.borrow_mut().insert(number, (task, waker));
    }

    /// Polls the task with the number, if it has not ended.
    pub(super) fn poll(&self, number: u64) {
        // The task is out of the map while it runs, since it may spawn others.
        let removed = self.tasks.borrow_mut().remove(&number);
        if let Some((mut task, waker)) = removed {
            let mut context = Context::from_waker(&waker);
            if task.as_mut().poll(&mut context).is_pending() {
                self.tasks.borrow_mut().insert(number, (task, waker));
            }
        }
    }

    /// Runs the tasks until all of them have ended.
    pub async fn run(&self) {
        poll_fn(|context| {
            let mut queue = self.queue.lock().unwrap();
            queue.driver = Some(context.waker().clone());
            let numbers = mem::take(&mut queue.numbers);
            drop(queue);
            numbers.into_iter().for_each(|number| self.poll(number));
            match self.tasks.borrow().len() {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await
    }
}
// ANCHOR_END: executor

// ANCHOR: session
/// Adds the numbers of one client to the total.
pub async fn session(lines: Vec<Line>, total: Rc<Cell<i64>>) {
    for line in lines {
        let number = line.await.parse().unwrap_or(0);
        total.set(total.get() + number);
    }
}
// ANCHOR_END: session

// ANCHOR: add_up
/// Runs a session per client, while another thread sends a one in each line.
pub fn add_up(clients: usize, lines: usize) -> i64 {
    let executor = Executor::default();
    let total = Rc::new(Cell::new(0));
    let mut senders = Vec::new();
    for _ in 0..clients {
        let (some, lines): (Vec<_>, Vec<_>) = (0..lines).map(|_| line()).unzip();
        senders.extend(some);
        executor.spawn(session(lines, total.clone()));
    }
    let sending = thread::spawn(move || {
        for sender in senders {
            sender.send("1".to_owned());
        }
    });
    block_on(executor.run());
    sending.join().expect("the sender does not panic");
    total.get()
}
// ANCHOR_END: add_up
