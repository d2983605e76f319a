//! Requests, as RESP arrays of strings or as a line of words.

use std::ops::Range;

/// Maximum number of digits. A `u64` holds that many without an overflow.
const DIGITS: usize = 19;

/// A complete request at the front of an input.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    input: &'a [u8],
    args: &'a [Range<usize>],
}

impl<'a> Request<'a> {
    /// The number of arguments, with the name of the command.
    pub(crate) fn len(&self) -> usize {
        self.args.len()
    }

    /// # Panics
    ///
    /// Panics if there is no such argument.
    pub(crate) fn arg(&self, index: usize) -> &'a [u8] {
        &self.input[self.args[index].clone()]
    }

    /// The arguments from an index on.
    pub(crate) fn args_from(self, index: usize) -> impl Iterator<Item = &'a [u8]> {
        let args = self.args.get(index..).unwrap_or_default();
        args.iter().map(move |range| &self.input[range.clone()])
    }
}

/// Finds the arguments of requests. It keeps the memory for their positions.
pub(crate) struct Parser {
    args: Vec<Range<usize>>,
    /// Maximum size of a request in bytes.
    limit: usize,
}

impl Parser {
    pub(crate) fn new(limit: usize) -> Parser {
        Parser {
            args: Vec::new(),
            limit,
        }
    }

    /// Returns the request at the front of the input, and its size in bytes. Returns `None` if it
    /// is incomplete.
    ///
    /// # Errors
    ///
    /// Returns the reason why the input is no request. There is no way to find the next one then.
    pub(crate) fn parse<'a>(
        &'a mut self,
        input: &'a [u8],
    ) -> Result<Option<(Request<'a>, usize)>, &'static str> {
        self.args.clear();
        let parsed = match input.first() {
            None => return Ok(None),
            Some(b'*') => self.parse_array(input)?,
            Some(_) => self.parse_line(input)?,
        };
        match parsed {
            None if input.len() >= self.limit => Err("too big request"),
            None => Ok(None),
            Some(size) => {
                let args = &self.args;
                Ok(Some((Request { input, args }, size)))
            }
        }
    }

    fn parse_array(&mut self, input: &[u8]) -> Result<Option<usize>, &'static str> {
        let Some((count, mut at)) = number(input, 1).map_err(|()| "invalid multibulk length")?
        else {
            return Ok(None);
        };
        // An empty string takes six bytes.
        if count > (self.limit / 6) as i64 {
            return Err("invalid multibulk length");
        }
        for _ in 0..count {
            match input.get(at) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(_) => return Err("expected '$'"),
            }
            let Some((len, start)) = number(input, at + 1).map_err(|()| "invalid bulk length")?
            else {
                return Ok(None);
            };
            let len = usize::try_from(len).map_err(|_| "invalid bulk length")?;
            if len > self.limit - start.min(self.limit) {
                return Err("too big request");
            }
            let end = start + len;
            match input.get(end..end + 2) {
                None => return Ok(None),
                Some(b"\r\n") => {}
                Some(_) => return Err("expected the end of a string"),
            }
            self.args.push(start..end);
            at = end + 2;
        }
        Ok(Some(at))
    }

    /// Words without quotes, as people type them.
    fn parse_line(&mut self, input: &[u8]) -> Result<Option<usize>, &'static str> {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        if end >= self.limit {
            return Err("too big inline request");
        }
        let mut start = None;
        for (i, byte) in input[..=end].iter().enumerate() {
            match (start, byte.is_ascii_whitespace()) {
                (None, false) => start = Some(i),
                (Some(first), true) => {
                    self.args.push(first..i);
                    start = None;
                }
                _ => {}
            }
        }
        Ok(Some(end + 1))
    }
}

/// Returns the number of the line that starts at `at`, and the start of the next line. Returns
/// `None` if the line is incomplete.
#[inline]
fn number(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, ()> {
    let digit = |byte: &u8| i64::from(byte - b'0');
    // Most numbers are short, as they are lengths.
    match input.get(at..) {
        Some([one @ b'0'..=b'9', b'\r', b'\n', ..]) => Ok(Some((digit(one), at + 3))),
        Some([ten @ b'0'..=b'9', one @ b'0'..=b'9', b'\r', b'\n', ..]) => {
            Ok(Some((10 * digit(ten) + digit(one), at + 4)))
        }
        _ => long_number(input, at),
    }
}

fn long_number(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, ()> {
    let is_negative = input.get(at) == Some(&b'-');
    let start = at + usize::from(is_negative);
    let (mut value, mut end) = (0_u64, start);
    let byte = loop {
        let Some(&byte) = input.get(end) else {
            return Ok(None);
        };
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || end - start == DIGITS {
            break byte;
        }
        value = 10 * value + u64::from(digit);
        end += 1;
    };
    if byte != b'\r' || end == start {
        return Err(());
    }
    let value = i64::try_from(value).map_err(drop)?;
    match input.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((if is_negative { -value } else { value }, end + 2))),
        Some(_) => Err(()),
    }
}
