//! The smallest loop that runs a future, and a future that another thread completes.

// ANCHOR: imports
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
// ANCHOR_END: imports

// ANCHOR: block_on
/// Wakes the thread that waits in `block_on`.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end, and returns its output.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
// ANCHOR_END: block_on

// ANCHOR: line
/// A line that arrives later, and the waker of the future that waits for it.
#[derive(Debug, Default)]
struct Inbox {
    line: Option<String>,
    waker: Option<Waker>,
}

/// Waits for the line.
#[derive(Debug)]
pub struct Line(Arc<Mutex<Inbox>>);

impl Future for Line {
    type Output = String;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<String> {
        let mut inbox = self.0.lock().unwrap();
        match inbox.line.take() {
            Some(line) => Poll::Ready(line),
            None => {
                inbox.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
// ANCHOR_END: line

// ANCHOR: sender
/// Delivers the line, from any thread.
#[derive(Debug)]
pub struct Sender(Arc<Mutex<Inbox>>);

impl Sender {
    /// Puts the line into the inbox, and wakes the future.
    pub fn send(self, line: String) {
        let mut inbox = self.0.lock().unwrap();
        inbox.line = Some(line);
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Creates both ends.
pub fn line() -> (Sender, Line) {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    (Sender(inbox.clone()), Line(inbox))
}
// ANCHOR_END: sender

// ANCHOR: sum
/// Adds two numbers that arrive later, in any order.
pub async fn sum(first: Line, second: Line) -> i64 {
    let first: i64 = first.await.parse().unwrap_or(0);
    let second: i64 = second.await.parse().unwrap_or(0);
    first + second
}
// ANCHOR_END: sum
