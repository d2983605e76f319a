//! Two tasks that take turns on one thread.
//!
//! ```text
//! cargo run --example hello
//! ```

use std::time::Duration;

use windlass::time::sleep;

fn main() {
    windlass::block_on(async {
        // A task starts at the next `.await` of this one. It doesn't have to be `Send`.
        let sailor = windlass::spawn(async {
            for verse in ["Way, hey,", "and up she rises,"] {
                println!("  sailor: {verse}");
                sleep(Duration::from_millis(200)).await;
            }
            "early in the morning"
        });

        println!("captain: heave!");
        sleep(Duration::from_millis(100)).await;
        println!("captain: ho!");

        // Awaiting a task returns its output. Dropping it would cancel it.
        println!("together: {}", sailor.await);
    });
}
