//! Tasks that belong together: a group whose first error ends the rest, and a scope whose children
//! borrow.
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
                Err(error) => println!("gave up: {error}"),
            }
        }
        tell_progress().await;
    });
}

/// Hauls all at once. If one can't be hauled, the others are given up: none outlives this function,
/// whichever way it is left.
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

/// Says how it went, also if the future that holds it is dropped half-way.
struct Rope {
    name: &'static str,
    is_up: bool,
}

impl Drop for Rope {
    fn drop(&mut self) {
        let how = if self.is_up { "is up" } else { "is let go" };
        println!("  {:?} {how}", self.name);
    }
}

/// The children work on variables of this function, which ends when they have ended.
async fn tell_progress() {
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
