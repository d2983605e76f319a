//! The bugs are a check that is stale after an await, and a borrow that is held across one.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::panic;
use std::rc::Rc;
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncBufReadExt, AsyncWriteExt, StreamExt};
use windlass::net::unix::UnixStream;
use windlass::time::sleep;

use super::program::Auditor;

const LIMIT: i64 = 100;
const CLIENTS: usize = 10;
const NUMBER: i64 = 60;

// ANCHOR: check
/// Adds the number if the total stays within the limit and the auditor approves.
async fn add(total: &Cell<i64>, number: i64, auditor: &Auditor) -> io::Result<bool> {
    if total.get() + number > LIMIT || !auditor.approves(number).await? {
        return Ok(false);
    }
    total.set(total.get() + number);
    Ok(true)
}
// ANCHOR_END: check

// ANCHOR: borrow
/// Keeps the total borrowed, so that it cannot change meanwhile.
#[expect(clippy::await_holding_refcell_ref, reason = "this is the bug")]
async fn add_borrowed(total: &RefCell<i64>, number: i64, auditor: &Auditor) -> io::Result<bool> {
    let mut total = total.borrow_mut();
    if *total + number > LIMIT || !auditor.approves(number).await? {
        return Ok(false);
    }
    *total += number;
    Ok(true)
}
// ANCHOR_END: borrow

// ANCHOR: reserve
/// Adds the number first, and takes it back if the auditor refuses.
async fn add_reserved(total: &Cell<i64>, number: i64, auditor: &Auditor) -> io::Result<bool> {
    if total.get() + number > LIMIT {
        return Ok(false);
    }
    total.set(total.get() + number);
    let approved = auditor.approves(number).await;
    if !matches!(approved, Ok(true)) {
        total.set(total.get() - number);
    }
    approved
}
// ANCHOR_END: reserve

/// Lets ten clients add the same number at the same time, in each of the three ways.
pub fn run() -> io::Result<()> {
    windlass::block_on(async {
        let (near, far) = UnixStream::pair()?;
        let _auditor = windlass::spawn(audit(far));
        let auditor = &Rc::new(Auditor::new(near));
        println!("the limit is {LIMIT}, and {CLIENTS} clients send {NUMBER}");

        let total = Rc::new(Cell::new(0));
        let (accepted, _) = at_once(|| {
            let (total, auditor) = (total.clone(), auditor.clone());
            async move { add(&total, NUMBER, &auditor).await }
        })
        .await;
        let sum = total.get();
        println!("checked before the await: {accepted} accepted, and the total is {sum}");

        // The reports of nine panics would hide the other lines.
        let report = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let total = Rc::new(RefCell::new(0));
        let (accepted, panics) = at_once(|| {
            let (total, auditor) = (total.clone(), auditor.clone());
            async move { add_borrowed(&total, NUMBER, &auditor).await }
        })
        .await;
        panic::set_hook(report);
        println!("borrowed across the await: {accepted} accepted, and {panics} tasks panicked");

        let total = Rc::new(Cell::new(0));
        let (accepted, _) = at_once(|| {
            let (total, auditor) = (total.clone(), auditor.clone());
            async move { add_reserved(&total, NUMBER, &auditor).await }
        })
        .await;
        let sum = total.get();
        println!("reserved before the await: {accepted} accepted, and the total is {sum}");
        Ok(())
    })
}

/// Runs ten tasks, and returns how many were accepted and how many panicked.
async fn at_once<F>(task: impl Fn() -> F) -> (usize, usize)
where
    F: Future<Output = io::Result<bool>> + 'static,
{
    let tasks: Vec<_> = (0..CLIENTS).map(|_| windlass::spawn(task())).collect();
    let (mut accepted, mut panics) = (0, 0);
    for task in tasks {
        match task.catch().await {
            Ok(result) => accepted += usize::from(result.is_ok_and(|is_accepted| is_accepted)),
            Err(_) => panics += 1,
        }
    }
    (accepted, panics)
}

/// Approves every number after a millisecond.
async fn audit(mut stream: UnixStream) -> io::Result<()> {
    let mut questions = BufReader::new(stream.clone()).lines();
    while questions.next().await.transpose()?.is_some() {
        sleep(Duration::from_millis(1)).await;
        stream.write_all(b"yes\n").await?;
    }
    Ok(())
}
