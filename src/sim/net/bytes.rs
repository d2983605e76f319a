//! Copies between buffers.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};

/// The length of all buffers together.
#[inline]
pub(super) fn length(bufs: &[IoSlice<'_>]) -> usize {
    bufs.iter().map(|buf| buf.len()).sum()
}

/// The length of all buffers together.
#[inline]
pub(super) fn length_mut(bufs: &[IoSliceMut<'_>]) -> usize {
    bufs.iter().map(|buf| buf.len()).sum()
}

/// Appends the first `most` bytes of the buffers.
pub(super) fn append(queue: &mut VecDeque<u8>, bufs: &[IoSlice<'_>], mut most: usize) {
    for buf in bufs {
        let part = &buf[..buf.len().min(most)];
        queue.extend(part);
        most -= part.len();
    }
}

/// Copies at most `most` bytes from the front of the queue, and leaves them there.
pub(super) fn copy_front(queue: &VecDeque<u8>, bufs: &mut [IoSliceMut<'_>], most: usize) -> usize {
    let (front, back) = queue.as_slices();
    let first = scatter(front, bufs, 0, most);
    first + scatter(back, bufs, first, most - first)
}

/// Fills the buffers from their byte `offset` on. Returns how many bytes were copied.
pub(super) fn scatter(
    mut from: &[u8],
    bufs: &mut [IoSliceMut<'_>],
    mut offset: usize,
    most: usize,
) -> usize {
    from = &from[..from.len().min(most)];
    let mut copied = 0;
    for buf in bufs {
        if from.is_empty() {
            break;
        }
        let skipped = offset.min(buf.len());
        offset -= skipped;
        let to = &mut buf[skipped..];
        let n = from.len().min(to.len());
        to[..n].copy_from_slice(&from[..n]);
        from = &from[n..];
        copied += n;
    }
    copied
}

/// Collects all buffers.
pub(super) fn gather(mut into: Vec<u8>, bufs: &[IoSlice<'_>]) -> Vec<u8> {
    for buf in bufs {
        into.extend_from_slice(buf);
    }
    into
}

/// Appends `len` bytes of the queue from `offset` on.
pub(super) fn copy_range(queue: &VecDeque<u8>, offset: usize, len: usize, into: &mut Vec<u8>) {
    let (front, back) = queue.as_slices();
    let end = offset + len;
    if offset < front.len() {
        into.extend_from_slice(&front[offset..end.min(front.len())]);
    }
    if end > front.len() {
        let start = offset.saturating_sub(front.len());
        into.extend_from_slice(&back[start..end - front.len()]);
    }
}
