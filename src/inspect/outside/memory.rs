//! The memory of a program, read with suspicion: each length is bounded and each address may fail.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;

/// The memory of a process, or what a core file has of it.
pub(super) trait Memory {
    /// Fills the buffer from its start as far as the memory is readable. Returns how many bytes
    /// that are.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize;
}

const PAGE: u64 = 4096;

/// The number of pages that are read together, since neighbors are often needed too.
const PAGES_AHEAD: u64 = 16;

/// The number of pages that are kept.
const KEPT: usize = 16_384;

/// The most bytes that a snapshot reads. Garbage could lead through all memory otherwise.
pub(super) const MOST_BYTES: u64 = if cfg!(test) { 1 << 26 } else { 1 << 32 };

/// Each value counts as so many bytes more, because its reader does work and keeps memory for it.
const COST: u64 = 256;

/// Reads values. Keeps the pages, so it shows each page as it was when it was first read.
pub(super) struct Reader<'a> {
    memory: &'a dyn Memory,
    pages: RefCell<HashMap<u64, Box<[u8]>>>,
    bytes_left: Cell<u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(memory: &'a dyn Memory) -> Reader<'a> {
        Reader {
            memory,
            pages: RefCell::new(HashMap::new()),
            bytes_left: Cell::new(MOST_BYTES),
        }
    }

    /// Makes the values that follow those of now.
    pub(super) fn forget_pages(&self) {
        self.pages.borrow_mut().clear();
    }

    /// Fills the buffer. Returns `None` if one of the bytes is not readable.
    fn fill(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        self.charge(COST + buffer.len() as u64)?;
        address.checked_add(buffer.len() as u64)?;
        let mut filled = 0;
        while filled < buffer.len() {
            let from = address + filled as u64;
            let page = self.page(from / PAGE)?;
            let page = page.get((from % PAGE) as usize..)?;
            let len = page.len().min(buffer.len() - filled);
            buffer[filled..filled + len].copy_from_slice(&page[..len]);
            filled += len;
        }
        Some(())
    }

    /// Returns `None` if the limit is reached.
    fn charge(&self, bytes: u64) -> Option<()> {
        self.bytes_left
            .set(self.bytes_left.get().checked_sub(bytes)?);
        Some(())
    }

    /// Reads `len` bytes. Returns `None` if one of them is not readable.
    pub(super) fn block(&self, address: u64, len: usize) -> Option<Block> {
        let mut bytes = vec![0; len];
        self.fill(address, &mut bytes)?;
        Some(Block(bytes))
    }

    pub(super) fn word(&self, address: u64) -> Option<u64> {
        self.array(address).map(u64::from_ne_bytes)
    }

    /// Two words, such as those of a waker.
    pub(super) fn pair(&self, address: u64) -> Option<[u64; 2]> {
        Some([self.word(address)?, self.word(address.checked_add(8)?)?])
    }

    pub(super) fn half(&self, address: u64) -> Option<u32> {
        self.array(address).map(u32::from_ne_bytes)
    }

    pub(super) fn byte(&self, address: u64) -> Option<u8> {
        self.array(address).map(u8::from_ne_bytes)
    }

    fn array<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(address, &mut bytes)?;
        Some(bytes)
    }

    /// Reads a text of the program. Characters that would control a terminal are replaced.
    pub(super) fn text(&self, address: u64, len: u64) -> Option<String> {
        const LONGEST: u64 = 4096;
        let Block(bytes) = self.block(address, len.min(LONGEST) as usize)?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.replace(char::is_control, "\u{fffd}"))
    }

    fn page(&self, page: u64) -> Option<Ref<'_, [u8]>> {
        if !self.pages.borrow().contains_key(&page) {
            self.read_pages(page)?;
        }
        let pages = self.pages.borrow();
        Ref::filter_map(pages, |pages| pages.get(&page).map(|bytes| &**bytes)).ok()
    }

    /// Reads a page and its neighbors, unless these are not readable. Returns `None` if the limit
    /// is reached.
    fn read_pages(&self, page: u64) -> Option<()> {
        // Values that are far apart cost many pages.
        self.charge((PAGES_AHEAD + 1) * PAGE)?;
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= KEPT {
            pages.clear();
        }
        let first = page - page % PAGES_AHEAD;
        let mut buffer = vec![0; (PAGES_AHEAD * PAGE) as usize];
        let read = self.memory.read(first * PAGE, &mut buffer);
        let complete = buffer[..read.min(buffer.len())].chunks_exact(PAGE as usize);
        pages.extend(
            (first..)
                .zip(complete)
                .map(|(page, bytes)| (page, bytes.into())),
        );
        let buffer = &mut buffer[..PAGE as usize];
        if !pages.contains_key(&page) && self.memory.read(page * PAGE, buffer) == buffer.len() {
            pages.insert(page, (&*buffer).into());
        }
        Some(())
    }
}

/// Bytes of a program's memory, with values at offsets.
pub(super) struct Block(Vec<u8>);

impl Block {
    pub(super) fn word(&self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_ne_bytes)
    }

    /// Two words, such as those of a waker.
    pub(super) fn pair(&self, offset: usize) -> Option<[u64; 2]> {
        Some([self.word(offset)?, self.word(offset.checked_add(8)?)?])
    }

    pub(super) fn half(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_ne_bytes)
    }

    pub(super) fn byte(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    pub(super) fn words(&self) -> impl Iterator<Item = u64> {
        let words = self.0.chunks_exact(8);
        words.map(|word| u64::from_ne_bytes(word.try_into().expect("a chunk has eight bytes")))
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let bytes = self.0.get(offset..offset.checked_add(N)?)?;
        bytes.try_into().ok()
    }
}
