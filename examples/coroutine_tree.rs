//! Compares the leaves of two trees, by recursive walks that can stop at any leaf.
//!
//! ```text
//! cargo run --example coroutine_tree
//! ```
//!
//! Recursion is the simplest way to walk one tree. It cannot walk two trees of different shapes in
//! step, because there is only one stack. The usual ways out are a stack kept by hand, or a list of
//! all leaves collected first. With a coroutine the walk stays recursive and suspends at each leaf.
//! The comparison ends at the first difference, and the output shows how few leaves were visited.

use std::cell::Cell;

use windlass::coroutine::{Co, Coroutine};

enum Tree {
    Leaf(u32),
    Fork(Box<Tree>, Box<Tree>),
}

use Tree::{Fork, Leaf};

/// Walks from left to right. The boxes allocate the frames that plain recursion keeps on the stack.
async fn walk(tree: &Tree, co: &mut Co<'_, (), u32>) {
    match tree {
        Leaf(number) => co.yield_(*number).await,
        Fork(left, right) => {
            Box::pin(walk(left, co)).await;
            Box::pin(walk(right, co)).await;
        }
    }
}

fn leaves(tree: &Tree) -> Coroutine<'_, (), u32, ()> {
    Coroutine::new(async |co, ()| walk(tree, co).await)
}

/// All forks lean to the left, so the depth equals the number of leaves.
fn leaning(numbers: impl Iterator<Item = u32>) -> Tree {
    let fork = |left, right| Fork(Box::new(left), Box::new(right));
    numbers.map(Leaf).reduce(fork).expect("there are leaves")
}

/// A balanced tree.
fn even(numbers: &[u32]) -> Tree {
    match numbers {
        [number] => Leaf(*number),
        _ => {
            let (left, right) = numbers.split_at(numbers.len() / 2);
            Fork(Box::new(even(left)), Box::new(even(right)))
        }
    }
}

fn main() {
    let mut numbers: Vec<u32> = (1..=100).collect();
    let one = leaning(numbers.iter().copied());
    let same = even(&numbers);
    numbers[4] = 50;
    let other = even(&numbers);

    println!(
        "the first leaves: {:?}",
        leaves(&one).take(5).collect::<Vec<_>>()
    );
    for tree in [&same, &other] {
        let visited = Cell::new(0);
        let count = |_: &u32| visited.set(visited.get() + 1);
        let equal = leaves(&one).inspect(count).eq(leaves(tree));
        println!("same leaves: {equal}, known after {} of 100", visited.get());
    }
}
