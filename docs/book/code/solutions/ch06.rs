//! Solutions of chapter 6.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
struct Slots<T> {
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
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() - 1
        });
        let (generation, place) = &mut self.slots[slot];
        *place = Some(value);
        Key {
            slot,
            generation: *generation,
        }
    }

    fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, place) = self.slots.get_mut(key.slot)?;
        if *generation != key.generation {
            return None;
        }
        let value = place.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }
}

fn with_output<T: 'static>(
    future: impl Future<Output = T> + 'static,
) -> (impl Future<Output = ()> + 'static, Output<T>) {
    let shared = Rc::new(RefCell::new((None, None)));
    let output = Output(shared.clone());
    let task = async move {
        let value = future.await;
        let waker: Option<Waker> = {
            let mut shared = shared.borrow_mut();
            shared.0 = Some(value);
            shared.1.take()
        };
        // The borrow has ended, since a waker is code of somebody else.
        if let Some(waker) = waker {
            waker.wake();
        }
    };
    (task, output)
}

#[derive(Debug)]
struct Output<T>(Rc<RefCell<(Option<T>, Option<Waker>)>>);

impl<T> Future for Output<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut shared = self.0.borrow_mut();
        match shared.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                shared.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

async fn sum_politely(numbers: Vec<i64>) -> i64 {
    let mut sum = 0;
    for some in numbers.chunks(100) {
        sum += some.iter().sum::<i64>();
        yield_now().await;
    }
    sum
}

async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
#[path = "../checks/ch06.rs"]
mod checks;
