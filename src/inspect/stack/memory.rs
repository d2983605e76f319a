//! The memory of this process, read without faults.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Reads any address of this process through `/proc/self/mem`. An address that is not mapped is an
/// error instead of a fault, also when another thread unmaps it meanwhile.
///
/// A forked child must open its own, since the file belongs to the memory of the opener.
pub(super) struct Memory(File);

impl Memory {
    pub(super) fn open() -> Option<Memory> {
        File::open("/proc/self/mem").ok().map(Memory)
    }

    /// Reads `len` bytes. Returns `None` if one of them is not readable.
    pub(super) fn read(&self, address: usize, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, address as u64).ok()?;
        Some(bytes)
    }
}
