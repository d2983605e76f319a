//! What is asked of the system about files, and the two ways that it takes: a ring that the kernel
//! works on, or a pool of threads.

use std::future::Future;
use std::io;
use std::mem;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::OpenOptions;
use super::line::Ticket;
use super::ring::{Dropped, is_refused};
use crate::fork;
use crate::pool::{BlockingTask, Pool};
use crate::reactor::{Hub, made_hub};
use crate::wake::{discard_panic, wake_all};

/// How much an operation reads or writes at most (bytes): while the data is in memory, the kernel
/// copies it at once, on the loop's thread, and that is 20 to 40 µs for so much.
pub(crate) const MOST_BYTES: usize = 256 * 1024;

/// So many threads at once ask the system about files. Disks have queues of 32 to 1,024 places;
/// beyond that, threads cost memory and bring nothing.
const MOST_THREADS: usize = 64;

/// A pool of its own, so that files wait for nothing else, not even for closures that wait for
/// files.
static FILES: Pool = Pool::new("windlass-files", MOST_THREADS, Duration::from_secs(10));

/// Threads for pipes with a name, terminals and other devices, which may wait for a peer without
/// end. There is no limit, so that they hold up neither files nor one another.
static PEERS: Pool = Pool::new("windlass-peers", usize::MAX, Duration::ZERO);

/// What is asked for, with all that it needs: whoever has asked may be gone by the time that the
/// system reads or writes the memory.
pub(crate) enum Operation {
    /// Appends to the buffer.
    Read {
        file: Ticket,
        buffer: Vec<u8>,
        wanted: usize,
        at: Place,
    },
    /// A first part of the buffer, or all of it in pieces: whoever writes at a cursor goes on, and
    /// can't say any more what to do with a rest.
    Write {
        file: Ticket,
        buffer: Vec<u8>,
        at: Place,
        all: bool,
        /// Its caller has gone on: an error is for a later operation.
        in_background: bool,
        /// What the buffer has before it is only there to align it.
        from: u16,
        /// How many bytes were written.
        done: usize,
    },
    Sync {
        file: Ticket,
        data_only: bool,
    },
    Open {
        path: PathBuf,
        options: OpenOptions,
        opened: Option<std::fs::File>,
    },
    Close(Option<std::fs::File>),
    /// It's still under way, but nothing turns that could bring it back.
    Lost,
}

/// Where to read or write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Offset(u64),
    /// At the position of the open file description, which moves on. Threads do this for files:
    /// io_uring doesn't lock the position, and (Linux 6.18) leaves it where it was after a write of
    /// which a full disk has taken a part, so that the next write would overwrite that.
    Cursor,
}

impl Place {
    pub(crate) fn after(self, bytes: usize) -> Place {
        match self {
            Place::Offset(offset) => Place::Offset(offset.saturating_add(bytes as u64)),
            Place::Cursor => Place::Cursor,
        }
    }
}

/// An operation that has ended: how many bytes were read or written, and what it was given.
pub(crate) type Ended = (io::Result<usize>, Operation);

impl Operation {
    /// How many bytes it may move.
    pub(crate) fn len(&self) -> usize {
        match self {
            Operation::Read { wanted, .. } => *wanted,
            Operation::Write {
                buffer, from, done, ..
            } => (buffer.len() - usize::from(*from) - done).min(MOST_BYTES),
            _ => 0,
        }
    }

    /// What it has read into or written from.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        match self {
            Operation::Read { buffer, .. } | Operation::Write { buffer, .. } => buffer,
            _ => Vec::new(),
        }
    }

    /// What it has opened.
    pub(crate) fn into_opened(self) -> Option<std::fs::File> {
        match self {
            Operation::Open { opened, .. } => opened,
            _ => None,
        }
    }

    /// Does it here and now, on a thread that may block.
    fn perform(mut self) -> Ended {
        loop {
            let mut result = self.attempt();
            if !self.goes_on(&mut result) {
                let mut wakers = Vec::new();
                self.finish(&mut result, &mut wakers);
                wake_all(wakers);
                return (result, self);
            }
        }
    }

    /// The system is done with it: it leaves the line of its handle. The caller wakes those whose
    /// turn it is.
    pub(crate) fn finish(&mut self, result: &mut io::Result<usize>, wakers: &mut Vec<Waker>) {
        match self {
            Operation::Write {
                file,
                buffer,
                in_background: true,
                ..
            } => {
                let error = mem::replace(result, Ok(0)).err();
                file.finish_in_background(error, mem::take(buffer), wakers);
            }
            Operation::Read { file, .. }
            | Operation::Write { file, .. }
            | Operation::Sync { file, .. } => file.finish(wakers),
            _ => {}
        }
    }

    /// The handle that it is about, while it isn't over.
    fn handle(&self) -> Option<&Handle> {
        match self {
            Operation::Read { file, .. }
            | Operation::Write { file, .. }
            | Operation::Sync { file, .. } => Some(file),
            _ => None,
        }
    }

    /// The threads that may do it.
    fn pool(&self) -> &'static Pool {
        match self.handle() {
            Some(handle) if handle.is_stream => &PEERS,
            _ => &FILES,
        }
    }

    /// Whether only a thread does it as std would.
    fn is_for_threads(&self) -> bool {
        let (Operation::Read { file, at, .. } | Operation::Write { file, at, .. }) = self else {
            return false;
        };
        file.is_nonblocking || (matches!(at, Place::Cursor) && !file.is_stream)
    }

    /// After a part of it was done, or a signal came: whether the rest is to be done as well.
    pub(crate) fn goes_on(&mut self, result: &mut io::Result<usize>) -> bool {
        if matches!(result, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
            return true;
        }
        let Operation::Write {
            buffer,
            from,
            done,
            all,
            ..
        } = self
        else {
            return false;
        };
        let len = buffer.len() - usize::from(*from);
        match result {
            Ok(0) if *all && *done < len => *result = Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *done += *n,
            Err(_) => {}
        }
        *all && result.is_ok() && *done < len
    }

    fn attempt(&mut self) -> io::Result<usize> {
        let len = self.len();
        match self {
            Operation::Read {
                file, buffer, at, ..
            } => {
                let old = buffer.len();
                buffer.resize(old + len, 0);
                let read = platform::read(file, &mut buffer[old..], *at);
                buffer.truncate(old + *read.as_ref().unwrap_or(&0));
                read
            }
            Operation::Write {
                file,
                buffer,
                at,
                from,
                done,
                ..
            } => platform::write(
                file,
                &buffer[usize::from(*from) + *done..][..len],
                at.after(*done),
            ),
            Operation::Sync { file, data_only } if *data_only => file.sync_data().map(|()| 0),
            Operation::Sync { file, .. } => file.sync_all().map(|()| 0),
            Operation::Open {
                path,
                options,
                opened,
            } => {
                *opened = Some(options.std().open(path)?);
                Ok(0)
            }
            Operation::Close(file) => file.take().map_or(Ok(()), platform::close).map(|()| 0),
            Operation::Lost => Ok(0),
        }
    }
}

/// An open file. Operations in flight share it, so that its descriptor can't become another
/// file's meanwhile. The last of them closes it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(super) file: std::fs::File,
    /// A pipe, a socket, a terminal or another device: it may wait for a peer.
    pub(crate) is_stream: bool,
    /// It was opened with `O_NONBLOCK`, which io_uring understands in its own way.
    pub(crate) is_nonblocking: bool,
    /// It was opened with `O_DIRECT`: memory has to be aligned.
    pub(crate) is_direct: bool,
    /// What is written goes to the end.
    pub(crate) appends: bool,
    /// It was opened to be written, as far as is known.
    pub(crate) writes: bool,
}

impl Handle {
    pub(crate) fn new(file: std::fs::File) -> Handle {
        platform::handle(file)
    }

    pub(crate) fn into_file(self) -> std::fs::File {
        self.file
    }
}

impl Deref for Handle {
    type Target = std::fs::File;

    fn deref(&self) -> &std::fs::File {
        &self.file
    }
}

/// An operation under way: a future of its end. Given up when it's dropped.
pub(crate) struct Doing(Way);

enum Way {
    Ring {
        hub: Rc<Hub>,
        slot: u32,
    },
    Pool(OnPool<Ended>),
    /// It has ended, or never begun.
    Over(Option<Ended>),
}

/// Begins an operation: on this thread's ring if there's one and something turns, and otherwise on
/// the pool.
pub(crate) fn start(operation: Operation) -> Doing {
    if let Some(hub) = made_hub().filter(|_| !operation.is_for_threads()) {
        if let Some(ring) = hub.ring() {
            let slot = ring.start(operation);
            hub.files_begun();
            return Doing(Way::Ring { hub, slot });
        }
    }
    Doing(start_on_thread(operation))
}

fn start_on_thread(operation: Operation) -> Way {
    let pool = operation.pool();
    match pool.run(move || operation.perform()).map(OnPool) {
        Ok(task) => Way::Pool(task),
        Err(error) => Way::lost(error),
    }
}

/// What a ring is done with, for the caller to go on with under no borrow.
#[derive(Default)]
pub(crate) struct Collected {
    /// Operations that are over and that nobody comes for.
    pub(crate) ended: Vec<Operation>,
    /// Operations that nobody comes for and that the ring can't do.
    pub(crate) refused: Vec<Operation>,
}

/// Drops what is over, and leaves the rest to threads.
#[cold]
pub(crate) fn end_files(collected: Collected) {
    collected.refused.into_iter().for_each(leave_to_thread);
    drop(collected.ended);
}

#[cold]
fn leave_to_thread(operation: Operation) {
    let pool = operation.pool();
    let ours = Arc::new(Mutex::new(Some(operation)));
    let theirs = ours.clone();
    let take = |it: &Mutex<Option<Operation>>| {
        let operation = it.lock().unwrap_or_else(PoisonError::into_inner).take();
        operation.unwrap_or(Operation::Lost)
    };
    match pool.run(move || take(&theirs).perform()) {
        Ok(task) => leave(task),
        Err(error) => {
            // The next operation on the handle returns the error.
            let mut wakers = Vec::new();
            take(&ours).finish(&mut Err(error), &mut wakers);
            wake_all(wakers);
        }
    }
}

/// Nobody comes for the task. The end of this thread's loop waits for it.
fn leave(task: BlockingTask<Ended>) {
    match made_hub() {
        Some(hub) if hub.is_driven() => hub.leave_to_thread(task),
        _ => task.detach(),
    }
}

/// Whether operations that are begun here and now go to a ring.
pub(crate) fn has_ring() -> bool {
    made_hub().is_some_and(|hub| hub.ring().is_some())
}

/// As [`start`], for what only a thread can do.
pub(crate) async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_on_pool(work)?.await
}

/// As [`on_pool`], for futures written by hand.
pub(crate) fn spawn_on_pool<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<OnPool<T>> {
    FILES.run(work).map(OnPool)
}

/// As [`on_pool`], for what a path may make wait for a peer: then it has a thread of its own.
pub(crate) async fn on_pool_with_paths<T, F, const N: usize>(
    paths: [&Path; N],
    work: F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let paths = paths.map(Path::to_owned);
    let look = move || {
        if paths.iter().any(|path| platform::may_wait(path)) {
            return PEERS.run(work).map(Err); // begins now, and not at the next poll
        }
        work().map(Ok)
    };
    match on_pool(look).await? {
        Ok(output) => Ok(output),
        Err(waits) => OnPool(waits).await,
    }
}

/// The work of a thread on files. The task's budget bounds how many results one poll takes.
pub(crate) struct OnPool<T>(BlockingTask<T>);

impl<T> Future for OnPool<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match made_hub() {
            Some(hub) => hub.poll_within_budget(&mut self.0, cx),
            None => Pin::new(&mut self.0).poll(cx),
        }
    }
}

impl Doing {
    /// Lets it go on to its end.
    ///
    /// # Errors
    ///
    /// If it could not begin.
    pub(crate) fn detach(mut self) -> io::Result<()> {
        match self.take() {
            Way::Ring { hub, slot } => {
                drop(hub.made_ring().map(|ring| ring.detach(slot)));
                hub.leave_to_ring();
            }
            Way::Pool(task) => leave(task.0),
            Way::Over(Some((Err(error), Operation::Lost))) => return Err(error),
            Way::Over(_) => {}
        }
        Ok(())
    }

    /// The ring can't do it: a thread does.
    #[cold]
    fn start_over(&mut self, polled: Poll<Ended>) {
        if let Poll::Ready((_, operation)) = polled {
            self.0 = start_on_thread(operation);
        }
    }

    /// The end of an operation that can't go on: nothing turns its ring, or this is a forked child.
    #[cold]
    fn lose(&mut self) -> Poll<Ended> {
        let error = match &self.0 {
            Way::Ring { hub, .. } => hub.not_driven(),
            _ => fork::error("this operation on a file"),
        };
        drop(self.take().give_up());
        Poll::Ready((Err(error), Operation::Lost))
    }

    fn take(&mut self) -> Way {
        mem::replace(&mut self.0, Way::Over(None))
    }
}

impl Future for Doing {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Way::Ring { hub, slot } = &self.0 {
            let mut left = None;
            let Some(ring) = hub.made_ring() else {
                return self.lose(); // in a forked child
            };
            let polled = ring.poll(*slot, cx, &mut left);
            match &polled {
                Poll::Pending if hub.has_drivers() => return Poll::Pending,
                Poll::Pending => return self.lose(),
                Poll::Ready((result, _)) if is_refused(result) => self.start_over(polled),
                Poll::Ready(_) => {
                    self.0 = Way::Over(None);
                    // A panic of a waker's drop must not cost the result.
                    if left.is_some() {
                        discard_panic(|| drop(left));
                    }
                    return polled;
                }
            }
        }
        let ended = match &mut self.0 {
            Way::Pool(task) if task.0.is_inherited() => return self.lose(),
            Way::Pool(task) => ready!(Pin::new(task).poll(cx)),
            Way::Over(ended) => ended.take().expect("polled after its end"),
            Way::Ring { .. } => unreachable!("it was over, or another way was taken"),
        };
        self.0 = Way::Over(None);
        Poll::Ready(ended)
    }
}

impl Way {
    fn lost(error: io::Error) -> Way {
        Way::Over(Some((Err(error), Operation::Lost)))
    }

    /// The kernel is told, the pool need not be. The caller drops what comes back.
    fn give_up(&self) -> Option<Dropped> {
        let Way::Ring { hub, slot } = self else {
            return None;
        };
        let given_up = hub.made_ring()?.give_up(*slot);
        hub.leave_to_ring();
        Some(given_up)
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        drop(self.0.give_up());
    }
}

#[cfg(unix)]
pub(super) mod platform {
    use std::fs::{File, FileType};
    use std::io::{self, Read, Write};
    use std::os::fd::IntoRawFd;
    use std::os::unix::fs::{FileExt, FileTypeExt};
    use std::path::Path;

    use rustix::fs::{OFlags, fcntl_getfl};

    use super::{Handle, Place};

    pub(crate) fn handle(file: File) -> Handle {
        let flags = fcntl_getfl(&file).unwrap_or(OFlags::empty());
        let is_stream = file.metadata().is_ok_and(|it| is_stream(it.file_type()));
        Handle {
            file,
            is_stream,
            is_nonblocking: flags.contains(OFlags::NONBLOCK),
            is_direct: is_direct(flags),
            appends: flags.contains(OFlags::APPEND),
            writes: flags.intersects(OFlags::RDWR | OFlags::WRONLY),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    pub(crate) fn is_direct(flags: OFlags) -> bool {
        flags.contains(OFlags::DIRECT)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    pub(crate) fn is_direct(_: OFlags) -> bool {
        false
    }

    fn is_stream(kind: FileType) -> bool {
        kind.is_fifo() || kind.is_socket() || kind.is_char_device()
    }

    /// Whether to open it may wait for a peer.
    pub(crate) fn may_wait(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|it| is_stream(it.file_type()))
    }

    /// Whether closing the file never waits for a server. These file systems have nothing to send
    /// when a file is closed. Network file systems and FUSE have, and others aren't known.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_local(file: &File) -> bool {
        const EXT: u64 = 0xEF53;
        const XFS: u64 = 0x5846_5342;
        const BTRFS: u64 = 0x9123_683E;
        const F2FS: u64 = 0xF2F5_2010;
        const TMPFS: u64 = 0x0102_1994;
        const OVERLAY: u64 = 0x794C_7630;
        rustix::fs::fstatfs(file).is_ok_and(|it| {
            let kind = u64::from(it.f_type as u32);
            [EXT, XFS, BTRFS, F2FS, TMPFS, OVERLAY].contains(&kind)
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_local(_: &File) -> bool {
        false
    }

    /// As a drop, but says what went wrong.
    pub(crate) fn close(file: File) -> io::Result<()> {
        // SAFETY: the descriptor was this value's alone, which is gone now.
        unsafe { rustix::io::try_close(file.into_raw_fd()) }.map_err(io::Error::from)
    }

    pub(crate) fn read(mut file: &File, buffer: &mut [u8], at: Place) -> io::Result<usize> {
        match at {
            Place::Cursor => file.read(buffer),
            Place::Offset(offset) => file.read_at(buffer, offset),
        }
    }

    pub(crate) fn write(mut file: &File, buffer: &[u8], at: Place) -> io::Result<usize> {
        match at {
            Place::Cursor => file.write(buffer),
            Place::Offset(offset) => file.write_at(buffer, offset),
        }
    }
}

#[cfg(windows)]
pub(super) mod platform {
    use std::fs::File;
    use std::io::{self, Read, Seek, SeekFrom, Write};
    use std::os::windows::fs::FileExt;
    use std::path::Path;

    use super::{Handle, Place};

    /// Windows doesn't say how a file was opened. What is opened to append it writes at the end,
    /// whatever the offset.
    pub(crate) fn handle(file: File) -> Handle {
        Handle {
            file,
            is_stream: false,
            is_nonblocking: false,
            is_direct: false,
            appends: false,
            writes: true,
        }
    }

    pub(crate) fn may_wait(_: &Path) -> bool {
        false
    }

    pub(crate) fn is_local(_: &File) -> bool {
        false
    }

    pub(crate) fn close(file: File) -> io::Result<()> {
        drop(file);
        Ok(())
    }

    pub(crate) fn read(mut file: &File, buffer: &mut [u8], at: Place) -> io::Result<usize> {
        match at {
            Place::Cursor => file.read(buffer),
            Place::Offset(offset) => keep_position(file, || file.seek_read(buffer, offset)),
        }
    }

    pub(crate) fn write(mut file: &File, buffer: &[u8], at: Place) -> io::Result<usize> {
        match at {
            Place::Cursor => file.write(buffer),
            Place::Offset(offset) => keep_position(file, || file.seek_write(buffer, offset)),
        }
    }

    /// An operation at an offset moves the position. Operations of a handle come one after the
    /// other here, so it can be put back.
    fn keep_position<T>(mut file: &File, work: impl FnOnce() -> T) -> T {
        let position = file.stream_position();
        let output = work();
        if let Ok(position) = position {
            let _ = file.seek(SeekFrom::Start(position));
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signal_has_interrupted_goes_on_and_other_errors_end_it() {
        let goes_on = |error: io::ErrorKind| Operation::Close(None).goes_on(&mut Err(error.into()));
        assert!(goes_on(io::ErrorKind::Interrupted));
        assert!(!goes_on(io::ErrorKind::NotFound));
    }
}
