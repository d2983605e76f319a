//! Files of `/proc` about this process and its threads, read without an allocation. The allocator's
//! lock may be held by a thread that is stalled.

use std::fmt::Write;

use rustix::fs::{Mode, OFlags, open};

/// Large enough for each of the files, also on machines with many CPUs.
pub(crate) const CAPACITY: usize = 8192;

/// Reads a file of the folder `/proc/self/task/TID`.
pub(crate) fn read<'a>(tid: i32, name: &str, buffer: &'a mut [u8; CAPACITY]) -> Option<&'a str> {
    let mut path = Path {
        bytes: [0; 64],
        len: 0,
    };
    write!(path, "/proc/self/task/{tid}/{name}").ok()?;
    let file = open(
        path.as_bytes(),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let len = rustix::io::read(&file, &mut buffer[..]).ok()?;
    std::str::from_utf8(&buffer[..len]).ok()
}

/// Reads a word of this process's memory. The kernel makes the copy, so another thread may write to
/// the word meanwhile, and an address that is not mapped is an error.
pub(crate) fn read_word(address: usize) -> Option<usize> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let memory = open(c"/proc/self/mem", flags, Mode::empty()).ok()?;
    let mut word = [0; size_of::<usize>()];
    let len = rustix::io::pread(&memory, &mut word, address as u64).ok()?;
    (len == word.len()).then(|| usize::from_ne_bytes(word))
}

/// A short path on the stack.
struct Path {
    bytes: [u8; 64],
    len: usize,
}

impl Path {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let free = self.bytes.get_mut(self.len..self.len + text.len());
        free.ok_or(std::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}
