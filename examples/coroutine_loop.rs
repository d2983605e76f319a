//! What an executor is, in forty lines: a loop that takes messages and resumes coroutines.
//!
//! ```text
//! cargo run --example coroutine_loop
//! ```
//!
//! Each member of the crew is a coroutine. It's resumed with a message; it yields what it wants.
//! The loop has a queue of messages, resumes whom the first one is for, does what is wanted, and
//! takes the next. That is all: while one waits for its message, the others run, and none is
//! interrupted.
//!
//! In windlass the crew are the tasks, the queue is the run queue, to put somebody's number on it
//! is to wake him, and when it is empty the reactor waits for sockets and timers to fill it.

use std::collections::VecDeque;

use windlass::coroutine::State::{Complete, Yielded};
use windlass::coroutine::{Co, Coroutine};

/// What a coroutine stops for.
enum Wish {
    /// To be resumed with the next message for it.
    Receive,
    /// To send a message to the one of this number, and to go on.
    Send(usize, String),
}

type Task = Coroutine<'static, String, Wish, ()>;

fn run(mut tasks: Vec<Task>) {
    let start = |number| (number, String::from("start"));
    let mut queue: VecDeque<(usize, String)> = (0..tasks.len()).map(start).collect();
    while let Some((number, mut message)) = queue.pop_front() {
        if tasks[number].is_finished() {
            println!("       (nobody is left to hear {message:?})");
            continue;
        }
        loop {
            match tasks[number].resume(message) {
                Yielded(Wish::Send(other, text)) => queue.push_back((other, text)),
                Yielded(Wish::Receive) => break, // until a message for it is the first one
                Complete(()) => {
                    println!("       (task {number} has ended)");
                    break;
                }
            }
            message = String::new();
        }
    }
    let waiting = tasks.iter().filter(|task| !task.is_finished()).count();
    println!("the queue is empty, {waiting} still waits for a message");
}

async fn captain(co: &mut Co<'_, String, Wish>, _start: String) {
    for order in ["weigh anchor", "set sail", "go home"] {
        println!("captain: {order}!");
        co.yield_(Wish::Send(1, order.into())).await;
        let answer = co.yield_(Wish::Receive).await;
        println!("captain hears: {answer}");
    }
    co.yield_(Wish::Send(1, "anybody there?".into())).await;
}

async fn mate(co: &mut Co<'_, String, Wish>, _start: String) {
    loop {
        let order = co.yield_(Wish::Receive).await;
        co.yield_(Wish::Send(0, format!("aye, {order}"))).await;
        if order == "go home" {
            return;
        }
    }
}

async fn cook(co: &mut Co<'_, String, Wish>, _start: String) {
    println!("cook waits for somebody to be hungry");
    co.yield_(Wish::Receive).await;
}

fn main() {
    run(vec![
        Coroutine::new(captain),
        Coroutine::new(mate),
        Coroutine::new(cook),
    ]);
}
