//! Replies, and other values in RESP.

use itoa::Buffer;

/// Appends values to the output.
pub(crate) trait Reply {
    /// A short text, such as `OK`.
    fn status(&mut self, text: &str);
    fn error(&mut self, text: &str);
    fn integer(&mut self, value: i64);
    fn bulk(&mut self, bytes: &[u8]);
    /// The absence of a value.
    fn null(&mut self);
    /// The start of an array. Its values follow.
    fn array(&mut self, len: usize);
}

impl Reply for Vec<u8> {
    fn status(&mut self, text: &str) {
        self.push(b'+');
        self.extend_from_slice(text.as_bytes());
        self.extend_from_slice(b"\r\n");
    }

    fn error(&mut self, text: &str) {
        self.push(b'-');
        // A line end would start another reply.
        self.extend(
            text.bytes()
                .map(|byte| if byte < b' ' { b' ' } else { byte }),
        );
        self.extend_from_slice(b"\r\n");
    }

    fn integer(&mut self, value: i64) {
        line(self, b':', value);
    }

    fn bulk(&mut self, bytes: &[u8]) {
        line(self, b'$', bytes.len() as i64);
        self.extend_from_slice(bytes);
        self.extend_from_slice(b"\r\n");
    }

    fn null(&mut self) {
        self.extend_from_slice(b"$-1\r\n");
    }

    fn array(&mut self, len: usize) {
        line(self, b'*', len as i64);
    }
}

fn line(out: &mut Vec<u8>, kind: u8, value: i64) {
    out.push(kind);
    // Digits are seldom more than one.
    match value {
        0..=9 => out.push(b'0' + value as u8),
        _ => out.extend_from_slice(Buffer::new().format(value).as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}
