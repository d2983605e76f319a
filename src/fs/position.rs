//! Where an operation reads or writes.

/// Where to read or write in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Position {
    Offset(u64),
    /// At the position of the open file description, which moves. Threads do this for files.
    /// io_uring does not lock the position. After a write that a full disk cut short it leaves the
    /// position where it was (Linux 6.18), so the next write would overwrite the first part.
    Cursor,
}

impl Position {
    pub(crate) fn after(self, bytes: usize) -> Position {
        match self {
            Position::Offset(offset) => Position::Offset(offset.saturating_add(bytes as u64)),
            Position::Cursor => Position::Cursor,
        }
    }
}
