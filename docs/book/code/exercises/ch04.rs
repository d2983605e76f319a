//! Exercises of chapter 4. The tests are in `checks/ch04.rs`.

use windlass::coroutine::Co;
use windlass_book::hole;

/// 4.1: The session with a name of exercise 3.3, from top to bottom. The first line is the name.
async fn named(co: &mut Co<'_, String, String>, name: String) {
    let _ = (co, name);
    hole("greet, and then answer numbers with the name and the sum")
}

/// 4.2: Yields 1, 1, 2, 3, 5 and so on, without an end. A coroutine without input is an iterator.
async fn fibonacci(co: &mut Co<'_, (), u64>, (): ()) {
    let _ = co;
    hole("keep two numbers, and yield the first")
}

/// 4.3: Yields the number of different bytes in each line. The table `seen` makes it easy, and it
/// must not be a part of the state.
async fn different(co: &mut Co<'_, String, usize>, first: String) {
    let seen = [false; 16384];
    let _ = (co, first, seen);
    hole("count with a table that is gone at the yield")
}

#[cfg(test)]
#[path = "../checks/ch04.rs"]
mod checks;
