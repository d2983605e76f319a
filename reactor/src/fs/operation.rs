//! What is asked of the system about files, and the two ways that it takes: a ring that the kernel
//! works on, or a pool of threads.

use std::future::Future;
use std::io;
use std::mem;
use std::ops::Deref;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::OpenOptions;
use super::ring::Dropped;
use crate::fork;
use crate::pool::{BlockingTask, Pool};
use crate::reactor::{Hub, made_hub};

/// How much an operation reads or writes at most (bytes): while the data is in memory, the kernel
/// copies it at once, on the loop's thread, and that is 20 to 40 µs for so much.
pub(crate) const MOST_BYTES: usize = 256 * 1024;

/// So many threads at once ask the system about files. Disks have queues of 32 to 1,024 places;
/// beyond that, threads cost memory and bring nothing.
const MOST_THREADS: usize = 64;

/// A pool of its own, so that files wait for nothing else, not even for closures that wait for
/// files.
static FILES: Pool = Pool::new("windlass-files", MOST_THREADS, Duration::from_secs(10));

/// What is asked for, with all that it needs: whoever has asked may be gone by the time that the
/// system reads or writes the memory.
pub(crate) enum Operation {
    /// Appends to the buffer.
    Read {
        file: Arc<Handle>,
        buffer: Vec<u8>,
        wanted: usize,
        at: Place,
    },
    /// A first part of the buffer, or all of it in pieces: whoever writes at a cursor goes on, and
    /// can't say any more what to do with a rest.
    Write {
        file: Arc<Handle>,
        buffer: Vec<u8>,
        at: Place,
        all: bool,
        /// How many bytes were written.
        done: usize,
    },
    Sync {
        file: Arc<Handle>,
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
    /// Where the system's own cursor is, which moves on: for pipes, and for what is appended.
    /// Elsewhere it's not to be trusted: io_uring (Linux 6.18) leaves it where it was after a write
    /// of which a full disk has taken a part, and the next one would overwrite that.
    Cursor,
}

impl Place {
    pub(crate) fn after(self, bytes: usize) -> Place {
        match self {
            Place::Offset(offset) => Place::Offset(offset + bytes as u64),
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
            Operation::Write { buffer, done, .. } => (buffer.len() - done).min(MOST_BYTES),
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

    /// How many bytes it has written.
    pub(crate) fn done(&self) -> usize {
        match self {
            Operation::Write { done, .. } => *done,
            _ => 0,
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
                return (result, self);
            }
        }
    }

    /// After a part of it was done, or a signal came: whether the rest is to be done as well.
    pub(crate) fn goes_on(&mut self, result: &mut io::Result<usize>) -> bool {
        if matches!(result, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
            return true;
        }
        let Operation::Write {
            buffer, done, all, ..
        } = self
        else {
            return false;
        };
        match result {
            Ok(0) if *done < buffer.len() => *result = Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *done += *n,
            Err(_) => {}
        }
        *all && result.is_ok() && *done < buffer.len()
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
                done,
                ..
            } => platform::write(file, &buffer[*done..][..len], at.after(*done)),
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
            Operation::Close(file) => {
                drop(file.take());
                Ok(0)
            }
            Operation::Lost => Ok(0),
        }
    }
}

/// An open file. Operations under way share it, so that its descriptor can't become another
/// file's meanwhile.
#[derive(Debug)]
pub(crate) struct Handle {
    /// None only in `drop`.
    file: Option<std::fs::File>,
    writes: bool,
}

impl Handle {
    pub(crate) fn new(file: std::fs::File, writes: bool) -> Arc<Handle> {
        let file = Some(file);
        Arc::new(Handle { file, writes })
    }

    pub(crate) fn into_file(mut self) -> std::fs::File {
        self.file.take().expect("it is there until the drop")
    }
}

impl Deref for Handle {
    type Target = std::fs::File;

    fn deref(&self) -> &std::fs::File {
        self.file.as_ref().expect("it is there until the drop")
    }
}

/// To close may block: on network file systems, and where the last handle of a removed file goes.
/// So it's done where the operations are. What was only read is closed here if that is a pool: a
/// thread would cost more than it could save.
impl Drop for Handle {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        // A thread without a reactor has no loop to hold up; those of the pool are such.
        let Some(hub) = made_hub() else {
            return;
        };
        if hub.ring().is_some() || self.writes {
            start(Operation::Close(Some(file))).detach();
        }
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
    if let Some(hub) = made_hub() {
        if let Some(ring) = hub.ring() {
            let slot = ring.start(operation);
            hub.look_soon();
            return Doing(Way::Ring { hub, slot });
        }
    }
    Doing(match spawn_on_pool(move || operation.perform()) {
        Ok(task) => Way::Pool(task),
        Err(error) => Way::Over(Some((Err(error), Operation::Lost))),
    })
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

/// What a thread does about files. The turn's share bounds how many of them are ready in it.
pub(crate) struct OnPool<T>(BlockingTask<T>);

impl<T> Future for OnPool<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match made_hub() {
            Some(hub) => hub.poll_share(&mut self.0, cx),
            None => Pin::new(&mut self.0).poll(cx),
        }
    }
}

impl Doing {
    /// Lets it go on to its end.
    pub(crate) fn detach(mut self) {
        match self.take() {
            Way::Ring { hub, slot } => drop(hub.made_ring().map(|ring| ring.detach(slot))),
            Way::Pool(task) => task.0.detach(),
            Way::Over(_) => {}
        }
    }

    fn take(&mut self) -> Way {
        mem::replace(&mut self.0, Way::Over(None))
    }
}

impl Future for Doing {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let ended = match &mut self.0 {
            Way::Ring { hub, slot } => {
                // There is none in a forked child.
                match hub.made_ring() {
                    Some(ring) => match ring.poll(*slot, cx) {
                        Poll::Ready(ended) => ended,
                        Poll::Pending if hub.has_drivers() => return Poll::Pending,
                        Poll::Pending => self.0.lose(),
                    },
                    None => self.0.lose(),
                }
            }
            Way::Pool(task) if task.0.is_inherited() => self.0.lose(),
            Way::Pool(task) => ready!(Pin::new(task).poll(cx)),
            Way::Over(ended) => ended.take().expect("polled after its end"),
        };
        self.0 = Way::Over(None);
        Poll::Ready(ended)
    }
}

impl Way {
    /// The end of an operation on a ring that nothing turns any more.
    #[cold]
    fn lose(&self) -> Ended {
        drop(self.give_up());
        let error = match self {
            Way::Ring { hub, .. } => hub.not_driven(),
            _ => fork::error("this operation on a file"),
        };
        (Err(error), Operation::Lost)
    }

    /// The kernel is told, the pool need not be. The caller drops what comes back.
    fn give_up(&self) -> Option<Dropped> {
        let Way::Ring { hub, slot } = self else {
            return None;
        };
        let given_up = hub.made_ring()?.give_up(*slot);
        hub.look_soon();
        Some(given_up)
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        let given_up = self.0.give_up();
        drop(given_up);
    }
}

#[cfg(unix)]
mod platform {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::unix::fs::FileExt;

    use super::Place;

    pub(super) fn read(mut file: &File, buffer: &mut [u8], at: Place) -> io::Result<usize> {
        match at {
            Place::Cursor => file.read(buffer),
            Place::Offset(offset) => file.read_at(buffer, offset),
        }
    }

    pub(super) fn write(mut file: &File, buffer: &[u8], at: Place) -> io::Result<usize> {
        match at {
            Place::Cursor => file.write(buffer),
            Place::Offset(offset) => file.write_at(buffer, offset),
        }
    }
}

#[cfg(windows)]
mod platform {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::windows::fs::FileExt;

    use super::Place;

    pub(super) fn read(mut file: &File, buffer: &mut [u8], at: Place) -> io::Result<usize> {
        match at {
            Place::Cursor => file.read(buffer),
            Place::Offset(offset) => file.seek_read(buffer, offset),
        }
    }

    pub(super) fn write(mut file: &File, buffer: &[u8], at: Place) -> io::Result<usize> {
        match at {
            Place::Cursor => file.write(buffer),
            Place::Offset(offset) => file.seek_write(buffer, offset),
        }
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
