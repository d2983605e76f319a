//! A program for the page. Each line that it writes is checked by `check.sh`.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_channel::oneshot;
use windlass_executor::{spawn, yield_now};

use crate::browser::{now, write};
use crate::{fetch, next_event, sleep};

const MS: Duration = Duration::from_millis(1);

pub(crate) async fn main() {
    tasks().await;
    timers().await;
    cancellation().await;
    write(&format!(
        "fetched: {}",
        fetch("data:text/plain,ahoy").await.expect("a page")
    ));
    let is_error = fetch("data:nothing").await.is_err();
    write(&format!("fetch fails: {is_error}"));
    busy().await;
    next_event("click").await;
    write("clicked");
    write("done");
}

/// 1,000 tasks wait for each other.
async fn tasks() {
    let (first, mut received) = oneshot::channel();
    for number in 1..=1000_u32 {
        let (sender, receiver) = oneshot::channel();
        let previous = std::mem::replace(&mut received, receiver);
        spawn(async move {
            let sum = previous.await.unwrap_or(0) + number;
            sender.send(sum).expect("the next task waits");
        })
        .detach();
    }
    first.send(0).expect("the first task waits");
    write(&format!(
        "sum of 1,000 tasks: {}",
        received.await.expect("the last task sends it")
    ));
}

async fn timers() {
    let start = now();
    let sleeps: Vec<_> = (1..=100).map(|n| spawn(sleep(n * MS))).collect();
    for task in sleeps {
        task.await;
    }
    write(&format!(
        "timers are never early: {}",
        now() - start >= 100 * MS
    ));
}

/// A dropped task and a time limit.
async fn cancellation() {
    let fired = Rc::new(Cell::new(false));
    let fires = fired.clone();
    let task = spawn(async move {
        sleep(5 * MS).await;
        fires.set(true);
    });
    drop(task);
    let is_late = or_timeout(20 * MS, sleep(Duration::from_secs(3600)))
        .await
        .is_none();
    write(&format!(
        "time limit: {is_late}, a dropped task continues: {}",
        fired.get()
    ));
}

/// A task that is always ready leaves the browser its events.
async fn busy() {
    let ticks = Rc::new(Cell::new(0_u32));
    let counted = ticks.clone();
    let ticking = spawn(async move {
        loop {
            sleep(MS).await;
            counted.set(counted.get() + 1);
        }
    });
    let mut polls = 0_u32;
    while ticks.get() < 3 {
        yield_now().await;
        polls += 1;
    }
    drop(ticking);
    write(&format!("timers fire beside a busy task: {}", polls > 256));
}

async fn or_timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let (mut future, mut limit) = (pin!(future), pin!(sleep(limit)));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        limit.as_mut().poll(cx).map(|()| None)
    })
    .await
}
