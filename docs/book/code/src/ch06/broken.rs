//! The bug is that the run queue is cleared after the polls, and not before them.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crate::ch05::program::{block_on, line};

use super::program::Executor;

// ANCHOR: run
/// Runs the tasks until all of them have ended.
async fn run(executor: &Executor) {
    poll_fn(|context| {
        let mut queue = executor.queue.lock().unwrap();
        queue.driver = Some(context.waker().clone());
        let numbers = queue.numbers.clone();
        drop(queue);
        numbers.into_iter().for_each(|number| executor.poll(number));
        executor.queue.lock().unwrap().numbers.clear();
        match executor.tasks.borrow().len() {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await
}
// ANCHOR_END: run

/// Runs a task that waits for a line, which another thread or another task sends.
fn receive(is_sent_by_a_task: bool) -> Result<String, u32> {
    let (outputs, output) = mpsc::channel();
    let (polls, polled) = mpsc::channel();
    let (sender, line) = line();
    thread::spawn(move || {
        let executor = Executor::default();
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        executor.spawn(async move {
            let mut line = pin!(line);
            let line = poll_fn(|context| {
                counted.set(counted.get() + 1);
                polls.send(counted.get()).ok();
                line.as_mut().poll(context)
            });
            outputs.send(line.await).ok();
        });
        let send = move || sender.send("5".to_owned());
        if is_sent_by_a_task {
            executor.spawn(async move { send() });
        } else {
            thread::spawn(move || {
                // By now the task waits.
                thread::sleep(Duration::from_millis(200));
                send();
            });
        }
        block_on(run(&executor));
    });
    let output = output.recv_timeout(Duration::from_millis(700));
    output.map_err(|_| polled.try_iter().last().unwrap_or(0))
}

/// Sends a line from another thread, and then from another task.
pub fn run_both() -> io::Result<()> {
    for (sender, is_task) in [("thread", false), ("task", true)] {
        match receive(is_task) {
            Ok(line) => println!("sent by another {sender}: the task receives {line}"),
            Err(polls) => {
                println!("sent by another {sender}: the task still waits after 700 ms");
                println!("polls of this task: {polls}");
            }
        }
    }
    Ok(())
}
