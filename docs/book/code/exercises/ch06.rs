//! Exercises of chapter 6. The tests are in `checks/ch06.rs`.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use windlass_book::hole;

/// 6.1: A table that uses the slots of removed values again. The key of a removed value finds
/// nothing, even if its slot has a new value.
#[derive(Debug, Default)]
struct Slots<T> {
    /// The value, and the generation, which changes whenever the slot is freed.
    slots: Vec<(u32, Option<T>)>,
    free: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Key {
    slot: usize,
    generation: u32,
}

impl<T> Slots<T> {
    fn insert(&mut self, value: T) -> Key {
        let _ = (value, &self.slots, &self.free);
        hole("use a free slot, or add one")
    }

    fn remove(&mut self, key: Key) -> Option<T> {
        let _ = (key.slot, key.generation);
        hole("compare the generations, and free the slot")
    }
}

/// 6.2: Splits a future in two. The first is a task without an output. The second waits for the
/// output of the future.
fn with_output<T: 'static>(
    future: impl Future<Output = T> + 'static,
) -> (impl Future<Output = ()> + 'static, Output<T>) {
    let output = Output(Rc::new(RefCell::new((None, None))));
    let task = async move {
        let _ = future;
        hole("run the future, store its output, and wake the other half")
    };
    (task, output)
}

/// The output, and the waker of the future that waits for it.
#[derive(Debug)]
struct Output<T>(Rc<RefCell<(Option<T>, Option<Waker>)>>);

impl<T> Future for Output<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let _ = (&self.0, context);
        hole("take the output, or keep the waker")
    }
}

/// 6.3: Adds up many numbers. After every hundred of them it lets the other tasks run.
async fn sum_politely(numbers: Vec<i64>) -> i64 {
    let _ = numbers;
    hole("yield as in exercise 5.1")
}

#[cfg(test)]
#[path = "../checks/ch06.rs"]
mod checks;
