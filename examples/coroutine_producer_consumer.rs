//! A producer and a consumer that exchange values in both directions, without a queue or a lock.
//!
//! ```text
//! cargo run --example coroutine_producer_consumer
//! ```
//!
//! Both are written as if they were the main program. The quay yields sacks, and receives in the
//! same expression the number that fits next time. The hold receives sacks, and yields the space
//! that it has left. Neither can run ahead of the other, so no queue is needed; both are on one
//! thread, so no lock is needed.

use windlass::coroutine::Coroutine;
use windlass::coroutine::State::{Complete, Yielded};

fn main() {
    // Receives the number that is wanted, yields that many, and returns when none are left.
    let mut quay = Coroutine::new(async |co, mut wanted: usize| {
        let mut sacks = ["rice", "flour", "salt", "beans", "peas", "tea", "figs"].into_iter();
        let mut carried = 0;
        loop {
            let lot: Vec<_> = sacks.by_ref().take(wanted).collect();
            if lot.is_empty() {
                return carried;
            }
            carried += lot.len();
            println!("quay: {wanted} wanted, here are {lot:?}");
            wanted = co.yield_(lot).await;
        }
    });

    // Receives sacks, and yields the space that is left after them.
    let mut hold = Coroutine::new(async |co, mut lot: Vec<&str>| {
        let mut stowed = Vec::new();
        for room in [3, 1, 2].into_iter().cycle() {
            stowed.append(&mut lot);
            println!("hold: {} stowed, room for {room} more", stowed.len());
            lot = co.yield_(room).await;
        }
    });

    let mut wanted = 2;
    let carried = loop {
        match quay.resume(wanted) {
            Yielded(lot) => match hold.resume(lot) {
                Yielded(room) => wanted = room,
                Complete(()) => unreachable!("a hold takes for ever"),
            },
            Complete(carried) => break carried,
        }
    };
    println!("the quay is empty: {carried} sacks carried");
}
