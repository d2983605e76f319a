//! Solutions of chapter 4.

use windlass::coroutine::Co;

async fn named(co: &mut Co<'_, String, String>, name: String) {
    let mut line = co.yield_(format!("hello {name}")).await;
    let mut sum = 0;
    loop {
        sum += line.parse::<i64>().unwrap_or(0);
        line = co.yield_(format!("{name}: {sum}")).await;
    }
}

async fn fibonacci(co: &mut Co<'_, (), u64>, (): ()) {
    let (mut a, mut b) = (1, 1);
    loop {
        co.yield_(a).await;
        (a, b) = (b, a + b);
    }
}

async fn different(co: &mut Co<'_, String, usize>, first: String) {
    let mut line = first;
    loop {
        let count = count(&line);
        line = co.yield_(count).await;
    }
}

/// The table is on the stack of this function, which has returned before the yield.
fn count(line: &str) -> usize {
    let mut seen = [false; 16384];
    line.bytes().for_each(|byte| seen[usize::from(byte)] = true);
    seen.iter().filter(|seen| **seen).count()
}

#[cfg(test)]
#[path = "../checks/ch04.rs"]
mod checks;
