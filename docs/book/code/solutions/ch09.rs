//! Solutions of chapter 9.

use std::cell::{Cell, RefCell};

use windlass::sync::mpsc::Sender;

async fn tell_all(clients: &RefCell<Vec<Sender<String>>>, line: &str) {
    let senders = clients.borrow().clone();
    for sender in senders {
        // A client that has left is no error.
        sender.send(line.to_owned()).await.ok();
    }
}

async fn take_seat(free: &Cell<u32>, confirm: impl AsyncFnOnce() -> bool) -> bool {
    if free.get() == 0 {
        return false;
    }
    free.set(free.get() - 1);
    let is_confirmed = confirm().await;
    if !is_confirmed {
        free.set(free.get() + 1);
    }
    is_confirmed
}

async fn update(total: &Cell<i64>, compute: impl AsyncFn(i64) -> i64) {
    loop {
        let before = total.get();
        let after = compute(before).await;
        if total.get() == before {
            total.set(after);
            return;
        }
    }
}

#[cfg(test)]
#[path = "../checks/ch09.rs"]
mod checks;
