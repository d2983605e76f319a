//! A leaf future written by hand, for a signal between two tasks.
//!
//! ```text
//! cargo run --example own_future
//! ```
//!
//! Every `.await` ends at a leaf future, which waits for an event instead of another future. A leaf
//! stores its waker where the source of the event finds it. Here the event is a call of `give`. In
//! the reactor it comes from the operating system, and the waker is found in the same way.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use windlass::time::sleep;

/// The state shared by both ends. Tasks on one thread need neither `Arc` nor `Mutex`.
#[derive(Default)]
struct Shared {
    given: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

/// The end that sends the signal.
struct Giver(Rc<Shared>);

/// The end that waits for the signal, which is a future.
struct Signal(Rc<Shared>);

fn signal() -> (Giver, Signal) {
    let shared = Rc::new(Shared::default());
    (Giver(shared.clone()), Signal(shared))
}

impl Giver {
    fn give(self) {
        // Set the state before the wake, because the woken task checks the state.
        self.0.given.set(true);
        // The waker is moved out of the cell before it is called. A waker may run any code,
        // including code that calls back into this module, so no value may be borrowed.
        if let Some(waker) = self.0.waiting.take() {
            waker.wake();
        }
    }
}

impl Future for Signal {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // 1. Check the state itself. A poll doesn't imply that the signal was sent, because any
        //    future may be polled at any time, for example when its task also waits for something
        //    else.
        if self.0.given.get() {
            return Poll::Ready(());
        }
        // 2. Store the waker of *this* poll, replacing the previous one, because the future may
        //    have moved to another task since. Cloning a waker of windlass is free.
        self.0.waiting.set(Some(cx.waker().clone()));
        // 3. `Pending` is a promise that the waker will be called. A future that returns it without
        //    having stored the waker hangs.
        Poll::Pending
    }
}

// 4. When the future is dropped, its waker may stay behind. That is harmless, because waking a
//    finished task has no effect and a spurious wake costs one poll.

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
