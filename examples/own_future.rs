//! A leaf future written by hand: a signal that one task waits for and another one gives.
//!
//! ```text
//! cargo run --example own_future
//! ```
//!
//! An `.await` ends at a leaf: a future that waits for something outside rather than for another
//! future. All that a leaf has to do is to leave its waker where the event will find it. Here the
//! event is a call of `give`; in the reactor it comes from the operating system, and is found in
//! the same way.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use windlass::time::sleep;

/// What both ends share. Tasks on one thread need neither `Arc` nor `Mutex`.
#[derive(Default)]
struct Shared {
    given: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

/// The end that gives the signal.
struct Giver(Rc<Shared>);

/// The end that waits for it: a future.
struct Signal(Rc<Shared>);

fn signal() -> (Giver, Signal) {
    let shared = Rc::new(Shared::default());
    (Giver(shared.clone()), Signal(shared))
}

impl Giver {
    fn give(self) {
        // First the fact, then the wake: who is woken will look for the fact.
        self.0.given.set(true);
        // The waker is taken out of its place before it's called. A waker may be anybody's code,
        // and may come back here: it must not find a value that is being used.
        if let Some(waker) = self.0.waiting.take() {
            waker.wake();
        }
    }
}

impl Future for Signal {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // 1. Look at the fact itself. A poll doesn't mean that the signal was given: any future
        //    may be polled at any time, say because its task also waits for something else.
        if self.0.given.get() {
            return Poll::Ready(());
        }
        // 2. Leave the waker of *this* poll, in place of the one before: the future may have moved
        //    to another task since. To clone a waker of windlass costs nothing.
        self.0.waiting.set(Some(cx.waker().clone()));
        // 3. `Pending` is a promise: the waker will be called. Whoever returns it without having
        //    left the waker anywhere waits for ever.
        Poll::Pending
    }
}

// 4. When the future is dropped its waker may stay behind. That is harmless: to wake a task that
//    is over does nothing, and to wake one for no reason costs it a poll.

fn main() {
    windlass::block_on(async {
        let (giver, signal) = signal();
        let anchor = windlass::spawn(async move {
            println!("anchor: waiting for the signal");
            signal.await;
            println!("anchor: up!");
        });
        sleep(Duration::from_millis(300)).await;
        println!("bridge: weigh anchor!");
        giver.give();
        anchor.await;
    });
}
