//! Prompts for input on the terminal, with a time limit for each answer.
//!
//! ```text
//! cargo run --example ask
//! printf 'Rust\n' | cargo run --example ask
//! ```

use std::io;
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncWriteExt, StreamExt, io::BufReader};
use windlass::io::{stdin, stdout};
use windlass::time::timeout;

const TIME_LIMIT: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    windlass::block_on(async {
        let (mut lines, mut out) = (BufReader::new(stdin()).lines(), stdout());
        for question in ["What is it written in?", "And for how long have you known?"] {
            let question = format!("{question} ({} s) ", TIME_LIMIT.as_secs());
            out.write_all(question.as_bytes()).await?;
            // When the time is up, the read is dropped without taking input. A line that is typed
            // later answers the next question, and the program's exit does not wait for a key.
            let answer = match timeout(TIME_LIMIT, lines.next()).await {
                Ok(Some(line)) => format!("\"{}\", I see.\n", line?),
                Ok(None) => return out.write_all(b"\nEnd of input.\n").await,
                Err(_) => "\nNever mind.\n".to_owned(),
            };
            out.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    })
}
