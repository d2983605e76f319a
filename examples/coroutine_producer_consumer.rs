//! A producer and a consumer that pass values both ways, without a queue or a lock between them.
//!
//! ```text
//! cargo run --example coroutine_producer_consumer
//! ```
//!
//! Each is written as if it were the main program. The quay gives out sacks, and learns at the same
//! place how many fit next time; the hold takes sacks, and says there how much room it has left.
//! Neither can run ahead of the other: what a queue would hold is handed over directly, and what a
//! lock would guard is used by one at a time, since all of it is one thread.

use windlass::coroutine::Coroutine;
use windlass::coroutine::State::{Complete, Yielded};

fn main() {
    // Gets how many are wanted, yields so many, and returns when there are none left.
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

    // Gets sacks, yields for how many it has room after them.
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
