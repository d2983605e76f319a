//! Reads at the position that can't wait.

use std::io::IoSliceMut;
use std::task::{Context, Poll};

use super::operation::Handle;

/// Whether operations on a pipe or a device never wait, as its descriptor is set at this time.
#[cfg(unix)]
pub(super) fn is_nonblocking(handle: &Handle) -> bool {
    use rustix::fs::{OFlags, fcntl_getfl};
    fcntl_getfl(&**handle).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

#[cfg(not(unix))]
pub(super) fn is_nonblocking(handle: &Handle) -> bool {
    handle.is_nonblocking
}

/// Reads what is in memory already, at the position of the open file description, as `read` does.
/// None if that is nothing, or something is wrong: a thread finds out.
///
/// What a turn copies so is bounded, as all data in memory.
#[cfg(target_os = "linux")]
pub(super) fn read_now(
    cx: &mut Context<'_>,
    handle: &Handle,
    bufs: &mut [IoSliceMut<'_>],
    can: &mut bool,
) -> Poll<Option<usize>> {
    use std::rc::Rc;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::operation::MOST_BYTES;
    use crate::reactor::with_hub;

    /// The position, which moves on.
    const CURSOR: u64 = u64::MAX;

    let Some(hub) = with_hub(Rc::clone).filter(|hub| hub.is_driven()) else {
        return Poll::Ready(None);
    };
    if !hub.may_copy() {
        hub.defer(cx.waker().clone());
        return Poll::Pending;
    }
    let read = match bufs {
        [buf] => {
            let most = buf.len().min(MOST_BYTES);
            let bufs = &mut [IoSliceMut::new(&mut buf[..most])];
            preadv2(&**handle, bufs, CURSOR, ReadWriteFlags::NOWAIT)
        }
        _ => {
            let mut room = MOST_BYTES;
            let mut parts = Vec::with_capacity(bufs.len());
            for buf in bufs {
                let most = buf.len().min(room);
                room -= most;
                parts.push(IoSliceMut::new(&mut buf[..most]));
            }
            preadv2(&**handle, &mut parts, CURSOR, ReadWriteFlags::NOWAIT)
        }
    };
    match read {
        Ok(n) => {
            hub.copied(n);
            Poll::Ready(Some(n))
        }
        Err(error) => {
            *can = error == Errno::AGAIN; // some file systems never can
            Poll::Ready(None)
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_now(
    _: &mut Context<'_>,
    _: &Handle,
    _: &mut [IoSliceMut<'_>],
    can: &mut bool,
) -> Poll<Option<usize>> {
    *can = false;
    Poll::Ready(None)
}
