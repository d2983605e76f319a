//! The tests of the exercises of chapter 3.

use std::io::{self, Write};

use super::{Session, take_lines, write_some};

#[test]
fn exercise_1_half_a_line_stays() {
    let mut input = b"1\n23\n4".to_vec();
    assert_eq!(take_lines(&mut input), ["1", "23"]);
    assert_eq!(input, b"4");
    input.extend(b"5\n");
    assert_eq!(take_lines(&mut input), ["45"]);
    assert!(take_lines(&mut input).is_empty());
}

/// A socket with space for some bytes, which takes at most three at a time.
struct Socket {
    space: usize,
    sent: Vec<u8>,
}

impl Write for &mut Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.space).min(3);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.space -= count;
        self.sent.write(&bytes[..count])
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn exercise_2_a_full_socket_gets_the_rest_later() {
    let mut socket = Socket {
        space: 5,
        sent: Vec::new(),
    };
    let mut output = b"12345678".to_vec();
    assert!(write_some(&mut output, &mut socket).unwrap());
    assert_eq!(
        (&output[..], &socket.sent[..]),
        (&b"678"[..], &b"12345"[..])
    );
    socket.space = 10;
    assert!(!write_some(&mut output, &mut socket).unwrap());
    assert_eq!(socket.sent, b"12345678");
}

#[test]
fn exercise_3_the_first_line_is_the_name() {
    let mut session = Session::default();
    assert_eq!(session.advance("Ada"), "hello Ada");
    assert_eq!(session.advance("5"), "Ada: 5");
    assert_eq!(session.advance("-2"), "Ada: 3");
}
