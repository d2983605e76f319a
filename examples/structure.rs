//! Structured concurrency, with a group whose first error cancels the rest, and a scope whose
//! children borrow.
//!
//! ```text
//! cargo run --example structure
//! ```

use std::cell::Cell;
use std::io;
use std::time::Duration;

use windlass::task::{TaskGroup, scope};
use windlass::time::sleep;

fn main() {
    windlass::block_on(async {
        for ropes in [["sheet", "stay", "halyard"], ["sheet", "", "halyard"]] {
            match haul(&ropes).await {
                Ok(letters) => println!("all hauled: {letters} letters"),
                Err(error) => println!("failed: {error}"),
            }
        }
        report_progress().await;
    });
}

/// Hauls all ropes concurrently. If one fails, the others are cancelled. No child outlives this
/// function, however it ends.
async fn haul(ropes: &[&'static str]) -> io::Result<usize> {
    let mut group = TaskGroup::new();
    for &rope in ropes {
        group.spawn(haul_one(rope));
    }
    let mut letters = 0;
    while let Some(hauled) = group.join_next().await {
        letters += hauled?;
    }
    Ok(letters)
}

async fn haul_one(name: &'static str) -> io::Result<usize> {
    let mut rope = Rope { name, is_up: false };
    sleep(Duration::from_millis(100 * name.len() as u64)).await;
    if name.is_empty() {
        return Err(io::Error::other("no rope there"));
    }
    rope.is_up = true;
    Ok(name.len())
}

/// Prints its result, even if the future that owns it is cancelled.
struct Rope {
    name: &'static str,
    is_up: bool,
}

impl Drop for Rope {
    fn drop(&mut self) {
        let how = if self.is_up { "is up" } else { "was dropped" };
        println!("  {:?} {how}", self.name);
    }
}

/// The children borrow variables of this function, which returns after they have ended.
async fn report_progress() {
    let (done, words) = (Cell::new(0), ["one", "two", "three"]);
    scope(async |s| {
        s.spawn(async {
            while done.get() < words.len() {
                sleep(Duration::from_millis(60)).await;
                println!("  {} of {}", done.get(), words.len());
            }
        });
        for word in &words {
            s.spawn(async {
                sleep(Duration::from_millis(50 * word.len() as u64)).await;
                done.set(done.get() + 1);
            });
        }
    })
    .await;
    println!("the scope has ended");
}
