//! Exercises of chapter 9. The tests are in `checks/ch09.rs`.

use std::cell::{Cell, RefCell};

use windlass::sync::mpsc::Sender;
use windlass_book::hole;

/// 9.1: Sends the line to every client, one after the other. A send waits until its client has
/// space. Meanwhile other tasks borrow the list to add and remove clients.
async fn tell_all(clients: &RefCell<Vec<Sender<String>>>, line: &str) {
    let _ = (clients, line);
    hole("copy the senders, and let the borrow end before the first await")
}

/// 9.2: Takes a free seat and then waits for the confirmation. Returns false if no seat is free,
/// or if the seat is not confirmed. In this case the seat is free again.
async fn take_seat(free: &Cell<u32>, confirm: impl AsyncFnOnce() -> bool) -> bool {
    let _ = (free, confirm);
    hole("reserve, await, and undo if necessary")
}

/// 9.3: Replaces the total by the result of `compute`. `compute` waits, so the total may have
/// changed meanwhile. Then it computes again, from the new total.
async fn update(total: &Cell<i64>, compute: impl AsyncFn(i64) -> i64) {
    let _ = (total, compute);
    hole("store only if the total is still the one that you have read")
}

#[cfg(test)]
#[path = "../checks/ch09.rs"]
mod checks;
