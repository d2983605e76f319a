//! An executor in forty lines, which takes messages and resumes coroutines.
//!
//! ```text
//! cargo run --example coroutine_loop
//! ```
//!
//! Each sailor is a coroutine. It is resumed with a message, and yields a request. The loop has a
//! queue of messages. It resumes the recipient of the first one, handles the request that the
//! coroutine yields, and takes the next message. While one coroutine waits for its message, the
//! others run, and none is preempted.
//!
//! In windlass, the coroutines are tasks, the queue of messages is the run queue, and a wake
//! appends a task to it. When the run queue is empty, the reactor waits for sockets and timers.

use std::collections::VecDeque;

use windlass::coroutine::State::{Complete, Yielded};
use windlass::coroutine::{Co, Coroutine};

/// A request that a coroutine yields.
enum Request {
    /// Resume it with the next message for it.
    Receive,
    /// Send a message to the coroutine with this number, then continue.
    Send(usize, String),
}

type Task = Coroutine<'static, String, Request, ()>;

fn run(mut tasks: Vec<Task>) {
    let start = |number| (number, String::from("start"));
    let mut queue: VecDeque<(usize, String)> = (0..tasks.len()).map(start).collect();
    while let Some((number, mut message)) = queue.pop_front() {
        if tasks[number].is_finished() {
            println!("       (no recipient for {message:?})");
            continue;
        }
        loop {
            match tasks[number].resume(message) {
                Yielded(Request::Send(other, text)) => queue.push_back((other, text)),
                // until a message for it is at the front of the queue
                Yielded(Request::Receive) => break,
                Complete(()) => {
                    println!("       (task {number} has ended)");
                    break;
                }
            }
            message = String::new();
        }
    }
    let waiting = tasks.iter().filter(|task| !task.is_finished()).count();
    println!("the queue is empty, {waiting} still waiting for a message");
}

async fn captain(co: &mut Co<'_, String, Request>, _start: String) {
    for order in ["weigh anchor", "set sail", "go home"] {
        println!("captain: {order}!");
        co.yield_(Request::Send(1, order.into())).await;
        let answer = co.yield_(Request::Receive).await;
        println!("captain receives: {answer}");
    }
    co.yield_(Request::Send(1, "anybody there?".into())).await;
}

async fn mate(co: &mut Co<'_, String, Request>, _start: String) {
    loop {
        let order = co.yield_(Request::Receive).await;
        co.yield_(Request::Send(0, format!("aye, {order}"))).await;
        if order == "go home" {
            return;
        }
    }
}

async fn cook(co: &mut Co<'_, String, Request>, _start: String) {
    println!("cook waits for somebody to be hungry");
    co.yield_(Request::Receive).await;
}

fn main() {
    run(vec![
        Coroutine::new(captain),
        Coroutine::new(mate),
        Coroutine::new(cook),
    ]);
}
