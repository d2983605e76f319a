//! Shares state between tasks on one thread, and shows when a lock is needed.
//!
//! ```text
//! cargo run --example channels
//! ```
//!
//! Tasks switch only at an `.await`. State that is read and changed between two of them needs no
//! lock, which covers most of what programs share. The remaining cases are shown below.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use windlass::spawn;
use windlass::sync::{Closed, Mutex, Semaphore, mpsc, oneshot};
use windlass::time::sleep;

/// Simulates the duration of a network operation.
const STEP: Duration = Duration::from_millis(5);

fn main() -> Result<(), Closed> {
    windlass::block_on(async {
        shared_state().await;
        a_worker().await?;
        a_limit().await?;
        a_lock().await;
        Ok(())
    })
}

/// 1. Shared state in an `Rc<RefCell<..>>`. No borrow is held across an await.
async fn shared_state() {
    let visits = Rc::new(RefCell::new(BTreeMap::new()));
    let guests = ["ann", "bob", "ann"].map(|name| {
        let visits = visits.clone();
        spawn(async move {
            sleep(STEP).await;
            // Read, add and write are three steps, but no other task can run in between.
            *visits.borrow_mut().entry(name).or_insert(0) += 1;
        })
    });
    for guest in guests {
        guest.await;
    }
    println!("1. visits, with no lock: {:?}", visits.borrow());
}

/// 2. A task that owns its state. Requests arrive through a channel, each with a channel for the
///    reply.
async fn a_worker() -> Result<(), Closed> {
    let (requests, mut inbox) = mpsc::channel::<(u32, oneshot::Sender<u32>)>(4);
    let worker = spawn(async move {
        let mut sum = 0;
        while let Some((number, reply)) = inbox.recv().await {
            sum += number;
            // Fails if the requester was dropped, which must not stop the task.
            let _ = reply.send(sum);
        }
        sum
    });
    for number in 1..=3 {
        let (reply, answer) = oneshot::channel();
        // Waits while four requests are queued, so that the queue is bounded (backpressure).
        requests.send((number, reply)).await.map_err(|_| Closed)?;
        println!("2. {number} is added, and makes {}", answer.await?);
    }
    drop(requests); // the task ends when the last sender is dropped
    println!("2. the worker leaves with {}", worker.await);
    Ok(())
}

/// 3. A limit on concurrency. Three of ten downloads run at a time.
async fn a_limit() -> Result<(), Closed> {
    let limit = Rc::new(Semaphore::new(3));
    let most = Rc::new(RefCell::new((0, 0)));
    let mut downloads = Vec::new();
    for _ in 0..10 {
        // The task owns the permit, and releases it however the task ends.
        let permit = limit.clone().acquire_owned(1).await?;
        let most = most.clone();
        downloads.push(spawn(async move {
            let running = |change: i32| {
                let (now, most) = &mut *most.borrow_mut();
                *now += change;
                *most = (*most).max(*now);
            };
            running(1);
            sleep(STEP).await;
            running(-1);
            drop(permit);
        }));
    }
    for download in downloads {
        download.await;
    }
    println!("3. of ten downloads, {} at once at most", most.borrow().1);
    Ok(())
}

/// 4. A lock held across an await. A question and its answer belong together on the line that two
///    tasks share. With a `RefCell` the second `borrow_mut` would panic, and without a lock each
///    task might get the other's answer.
async fn a_lock() {
    let line = Rc::new(Mutex::new(Line::default()));
    let tasks = ["how deep?", "how far?"].map(|question| {
        let line = line.clone();
        spawn(async move {
            let mut line = line.lock().await;
            line.ask(question).await;
            println!("4. {question} {}", line.answer().await);
        })
    });
    for task in tasks {
        task.await;
    }
}

/// Simulates a connection.
#[derive(Default)]
struct Line {
    asked: Vec<&'static str>,
}

impl Line {
    async fn ask(&mut self, question: &'static str) {
        sleep(STEP).await;
        self.asked.push(question);
    }

    async fn answer(&mut self) -> &'static str {
        sleep(STEP).await;
        match self.asked.pop() {
            Some("how deep?") => "ten fathoms",
            Some(_) => "two leagues",
            None => "nobody has asked",
        }
    }
}
