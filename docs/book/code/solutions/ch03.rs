//! Solutions of chapter 3.

use std::io::{self, ErrorKind::WouldBlock, Write};

fn take_lines(input: &mut Vec<u8>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = input.drain(..=end).collect();
        lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
    }
    lines
}

fn write_some(output: &mut Vec<u8>, mut socket: impl Write) -> io::Result<bool> {
    while !output.is_empty() {
        match socket.write(output) {
            Err(error) if error.kind() == WouldBlock => return Ok(true),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            sent => drop(output.drain(..sent?)),
        }
    }
    Ok(false)
}

#[derive(Debug, Default)]
struct Session {
    name: Option<String>,
    sum: i64,
}

impl Session {
    fn advance(&mut self, line: &str) -> String {
        let Some(name) = &self.name else {
            self.name = Some(line.to_owned());
            return format!("hello {line}");
        };
        self.sum += line.parse::<i64>().unwrap_or(0);
        format!("{name}: {}", self.sum)
    }
}

#[cfg(test)]
#[path = "../checks/ch03.rs"]
mod checks;
