//! Exercises of chapter 3. The tests are in `checks/ch03.rs`.

use std::io::{self, Write};

use windlass_book::hole;

/// 3.1: Takes the whole lines out of the input, without their ends. The rest stays.
fn take_lines(input: &mut Vec<u8>) -> Vec<String> {
    let _ = input;
    hole("take up to each newline, and keep what follows the last")
}

/// 3.2: Writes as much of the output as the socket takes. Returns true if some of it is left.
fn write_some(output: &mut Vec<u8>, socket: impl Write) -> io::Result<bool> {
    let _ = (output, socket);
    hole("drain what was sent, and stop at `WouldBlock`")
}

/// 3.3: A session that begins with a name. `Ada` is answered by `hello Ada`, and then the number 5
/// by `Ada: 5`. As a thread it would be two reads in a row. Here it is a state.
#[derive(Debug, Default)]
struct Session {
    name: Option<String>,
    sum: i64,
}

impl Session {
    /// Takes the next line, and returns the reply.
    fn advance(&mut self, line: &str) -> String {
        let _ = (line, &self.name, self.sum);
        hole("distinguish the first line from the others")
    }
}

#[cfg(test)]
#[path = "../checks/ch03.rs"]
mod checks;
