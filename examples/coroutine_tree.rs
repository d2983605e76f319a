//! A recursive walk of a tree, that can stop at any leaf: do two trees have the same leaves?
//!
//! ```text
//! cargo run --example coroutine_tree
//! ```
//!
//! To walk one tree, recursion is the plainest way. To walk two of different shapes in step, it is
//! none: there is one stack, and it's deep in one of the trees. So one would keep a stack by hand,
//! or write all the leaves to a list first. With a coroutine the walk stays as it was, stops at
//! each leaf, and the comparison ends at the first difference: see how few leaves were visited.

use std::cell::Cell;

use windlass::coroutine::{Co, Coroutine};

enum Tree {
    Leaf(u32),
    Fork(Box<Tree>, Box<Tree>),
}

use Tree::{Fork, Leaf};

/// From left to right. The boxes make place for the depth, as the stack does for plain recursion.
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

/// All forks lean to the left: as deep as there are leaves.
fn leaning(numbers: impl Iterator<Item = u32>) -> Tree {
    let fork = |left, right| Fork(Box::new(left), Box::new(right));
    numbers.map(Leaf).reduce(fork).expect("there are leaves")
}

/// As even as can be.
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
