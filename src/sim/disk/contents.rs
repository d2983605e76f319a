//! The bytes of a file, in pages.

use std::collections::BTreeMap;
use std::rc::Rc;

/// The size of a page of the page cache (bytes).
pub(super) const PAGE: usize = 4096;

/// The bytes that a disk writes atomically.
pub(super) const SECTOR: usize = 512;

pub(super) type Page = [u8; PAGE];

/// The bytes of a file. Pages that were never written are absent and read as zeros.
///
/// A clone shares its pages with the original until one of them is written.
#[derive(Clone, Default, Debug)]
pub(super) struct Contents {
    len: u64,
    pages: BTreeMap<u64, Rc<Page>>,
}

/// The number of the page that has the byte at this offset.
pub(super) fn page_of(offset: u64) -> u64 {
    offset / PAGE as u64
}

/// The offset of the first byte of a page.
pub(super) fn start_of(page: u64) -> u64 {
    page * PAGE as u64
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the size of the pages (bytes).
    pub(super) fn allocated(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    pub(super) fn has_page(&self, page: u64) -> bool {
        self.pages.contains_key(&page)
    }

    pub(super) fn page(&self, page: u64) -> Option<&Rc<Page>> {
        self.pages.get(&page)
    }

    /// Copies bytes from this offset on. Returns their number, which is less than the length of the
    /// buffer at the end of the file only.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let left = self.len.saturating_sub(offset);
        let bytes = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < bytes {
            let at = offset + done as u64;
            let start = (at % PAGE as u64) as usize;
            let part = (PAGE - start).min(bytes - done);
            let room = &mut buffer[done..done + part];
            match self.pages.get(&page_of(at)) {
                Some(page) => room.copy_from_slice(&page[start..start + part]),
                None => room.fill(0),
            }
            done += part;
        }
        bytes
    }

    /// Writes bytes within one page, and extends the file up to their end.
    pub(super) fn write_in_page(&mut self, data: &[u8], offset: u64) {
        let start = (offset % PAGE as u64) as usize;
        let page = self.pages.entry(page_of(offset));
        let page = Rc::make_mut(page.or_insert_with(|| Rc::new([0; PAGE])));
        page[start..start + data.len()].copy_from_slice(data);
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Replaces a page, and extends the file as far as `len` within that page.
    pub(super) fn put(&mut self, page: u64, data: Rc<Page>, len: u64) {
        self.pages.insert(page, data);
        self.len = self.len.max(len.min(start_of(page + 1)));
    }

    /// Copies a page from another file, or removes it if the other file lacks it.
    pub(super) fn copy_page(&mut self, page: u64, from: &Contents) {
        match from.pages.get(&page) {
            Some(data) => _ = self.pages.insert(page, data.clone()),
            None => _ = self.pages.remove(&page),
        }
    }

    /// Truncates the file, or extends it with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let first = len.div_ceil(PAGE as u64);
            drop(self.pages.split_off(&first));
            let start = (len % PAGE as u64) as usize;
            if let Some(page) = self.pages.get_mut(&page_of(len)).filter(|_| start > 0) {
                Rc::make_mut(page)[start..].fill(0);
            }
        }
        self.len = len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(contents: &Contents) -> Vec<u8> {
        let mut bytes = vec![9; contents.len() as usize];
        assert_eq!(contents.read(&mut bytes, 0), bytes.len());
        bytes
    }

    #[test]
    fn gaps_and_regrown_ends_read_as_zeros() {
        let mut contents = Contents::default();
        contents.write_in_page(b"abc", 4096 + 10);
        assert_eq!(contents.len(), 4096 + 13);
        assert_eq!(contents.allocated(), 4096);
        contents.set_len(4096 + 11);
        contents.set_len(4096 + 13);
        let bytes = all(&contents);
        assert!(bytes[..4096 + 10].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[4096 + 10..], *b"a\0\0");
        contents.set_len(100);
        assert_eq!(contents.allocated(), 0);
        contents.set_len(u64::MAX / 2);
        assert_eq!(contents.allocated(), 0);
        let mut end = [9; 4];
        assert_eq!(contents.read(&mut end, u64::MAX / 2 - 2), 2);
        assert_eq!(end, [0, 0, 9, 9]);
    }

    #[test]
    fn a_clone_keeps_its_bytes() {
        let mut contents = Contents::default();
        contents.write_in_page(b"old", 0);
        let kept = contents.clone();
        contents.write_in_page(b"new", 0);
        assert_eq!(
            (all(&kept), all(&contents)),
            (b"old".to_vec(), b"new".to_vec())
        );
    }
}
