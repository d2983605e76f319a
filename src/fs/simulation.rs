//! Operations in a simulated host: the third back end, beside the ring and the pool.
//!
//! An operation takes the time that the disk decides on, as the host's clock counts it. Then the
//! disk performs it. The operations in flight are a completion source of the host's reactor, so the
//! turn that is due performs them, also those whose futures are gone. A crash of the disk discards
//! them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::future::Future;
use std::io::{self, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::OpenOptions;
use super::handle::Handle;
use super::metadata::{Metadata, bits_of};
use super::operation::{OTHER, OpOutput, Operation};
use super::order::OperationGuard;
use super::position::Position;
use crate::sim::current::{current_disk, enter};
use crate::sim::disk::{At, Disk, Work};
use crate::waits::{FacadeWait, FileOperation, WaitKind, WakerId};
use windlass_reactor::completion::{CompletionSource, MayBlock, Registration};
use windlass_reactor::time;
use windlass_reactor::wake::discard_panic;

pub(crate) use crate::sim::current::is_simulated;

/// The host that this thread runs in.
pub(crate) struct Host(Rc<Disk>);

/// Returns the host that this thread runs in, if it is simulated.
#[inline]
pub(crate) fn current() -> Option<Host> {
    current_disk().map(Host)
}

impl Host {
    /// Starts an operation on an open file.
    #[cold]
    pub(crate) fn start(self, operation: Operation) -> Task<OpOutput> {
        let work = match operation {
            Operation::Read { .. } => Work::Read,
            Operation::Write { .. } => Work::Write,
            Operation::Sync { .. } => Work::Sync,
            _ => Work::Names,
        };
        let listed = operation.listed();
        self.run(work, listed, move |happens, wakers| {
            let mut operation = operation;
            if happens {
                return Some(operation.perform(true, wakers));
            }
            operation.finish(&mut Ok(0), true, wakers);
            None
        })
    }

    /// Opens a file.
    #[cold]
    pub(super) fn open(self, options: &OpenOptions, path: &Path) -> Task<io::Result<Handle>> {
        let (disk, options, path) = (self.0.clone(), options.clone(), path.to_owned());
        self.spawn(move || open(&disk, &options, &path))
    }

    /// Runs a closure of names.
    #[cold]
    pub(crate) fn spawn<T: 'static>(self, work: impl FnOnce() -> T + 'static) -> Task<T> {
        self.run(Work::Names, OTHER, |happens, _| happens.then(work))
    }

    /// Runs a closure of a pool, after a time.
    #[cold]
    pub(crate) fn run_closure(
        self,
        waker: impl Fn() -> Option<WakerId> + 'static,
        closure: impl FnOnce(&mut Vec<Waker>) + 'static,
    ) {
        let job = Job {
            crashes: self.0.crashes(),
            listed: OTHER,
            waker: Box::new(waker),
            run: Box::new(closure),
            disk: self.0,
        };
        InFlight::add(job, Work::Closure);
    }

    /// Runs a closure that uses an open file.
    #[cold]
    pub(crate) fn spawn_on<T: 'static>(
        self,
        mut file: OperationGuard,
        work: impl FnOnce(&Handle) -> T + 'static,
    ) -> Task<T> {
        self.run(Work::Names, OTHER, move |happens, wakers| {
            let output = happens.then(|| work(&file));
            file.finish(true, wakers);
            output
        })
    }

    /// Returns the file for a handle that was made outside of the simulation. It fails.
    #[cold]
    pub(crate) fn foreign_file(self) -> SimulatedFile {
        SimulatedFile { disk: 0, number: 0 }
    }

    /// Performs an operation once its time is over. `work` learns whether it happens.
    fn run<T: 'static>(
        self,
        work: Work,
        listed: FileOperation,
        perform: impl FnOnce(bool, &mut Vec<Waker>) -> Option<T> + 'static,
    ) -> Task<T> {
        let answer = Arc::new(Mutex::new(Answer {
            output: None,
            waker: None,
            is_cancelled: false,
        }));
        let (disk, theirs) = (self.0.clone(), answer.clone());
        let run = move |wakers: &mut Vec<Waker>| {
            let is_cancelled = lock(&theirs).is_cancelled;
            let happens = !is_cancelled || disk.happens_when_cancelled();
            let output = perform(happens, wakers);
            let mut answer = lock(&theirs);
            answer.output = output;
            wakers.extend(answer.waker.take());
        };
        let waits = answer.clone();
        let job = Job {
            crashes: self.0.crashes(),
            listed,
            waker: Box::new(move || lock(&waits).waker.as_ref().map(WakerId::of)),
            run: Box::new(run),
            disk: self.0,
        };
        InFlight::add(job, work);
        Task(answer)
    }
}

/// Performs an operation, and collects the wakers that wait for it.
type Run = Box<dyn FnOnce(&mut Vec<Waker>)>;

/// An operation in flight.
struct Job {
    disk: Rc<Disk>,
    /// How often the disk had crashed when the operation started.
    crashes: u64,
    listed: FileOperation,
    /// Returns the waker that waits for it.
    waker: Box<dyn Fn() -> Option<WakerId>>,
    run: Run,
}

impl Job {
    fn run(self, wakers: &mut Vec<Waker>) {
        if self.disk.crashes() == self.crashes {
            let _entered = enter(self.disk);
            (self.run)(wakers);
        }
    }
}

/// The operations in flight of a reactor, by the time at which they are due.
struct InFlight {
    jobs: RefCell<BTreeMap<(Instant, u64), Job>>,
    last: Cell<u64>,
}

impl InFlight {
    /// Adds an operation, or performs it if nothing turns the reactor.
    fn add(job: Job, work: Work) {
        let latency = Duration::from_nanos(job.disk.latency(work));
        let all = Registration::current(|_| {
            Ok(InFlight {
                jobs: RefCell::default(),
                last: Cell::new(0),
            })
        });
        match all {
            Ok(all) if all.is_driven() => {
                all.last.set(all.last.get() + 1);
                let due = (time::now() + latency, all.last.get());
                all.jobs.borrow_mut().insert(due, job);
                all.request_turn();
            }
            _ => run_and_wake(job),
        }
    }

    /// Returns the next operation that is due, if `all` is false.
    fn pop(&self, all: bool) -> Option<Job> {
        let mut jobs = self.jobs.borrow_mut();
        let first = jobs.first_entry()?;
        (all || first.key().0 <= time::now()).then(|| first.remove())
    }
}

fn run_and_wake(job: Job) {
    let mut wakers = Vec::new();
    job.run(&mut wakers);
    windlass_reactor::wake::wake_all(wakers);
}

impl CompletionSource for InFlight {
    fn submit(&self) -> io::Result<MayBlock> {
        // A time in the past keeps the reactor from blocking. The time stays the reactor's deadline
        // until the next call, so that a loop that moves the time makes that call. After `No` it
        // would have no deadline if the operations that are due wake no task.
        let jobs = self.jobs.borrow();
        Ok(match jobs.first_key_value() {
            None => MayBlock::Yes,
            Some(((due, _), _)) => MayBlock::Until(*due),
        })
    }

    fn collect(&self, wakers: &mut Vec<Waker>) {
        while let Some(job) = self.pop(false) {
            job.run(wakers);
        }
    }

    /// Performs the operations that outlive their loop.
    fn finish(&self) {
        while let Some(job) = self.pop(true) {
            run_and_wake(job);
        }
    }
}

/// Lists the waits for operations in flight.
pub(crate) fn list_waits(waits: &mut Vec<FacadeWait>) {
    let Some(all) = Registration::<InFlight>::existing() else {
        return;
    };
    let jobs = all.jobs.borrow();
    waits.extend(jobs.iter().filter_map(|((_, number), job)| {
        Some(FacadeWait {
            waker: (job.waker)()?,
            kind: WaitKind::File {
                operation: job.listed,
                is_running: true,
            },
            object: *number as usize,
            created_at: None,
            awaited_at: None,
        })
    }));
}

/// The output of an operation, as a future. If it is dropped, a choice decides whether the
/// operation happens.
pub(crate) struct Task<T>(Arc<Mutex<Answer<T>>>);

struct Answer<T> {
    output: Option<T>,
    waker: Option<Waker>,
    is_cancelled: bool,
}

impl<T> Task<T> {
    /// Lets the operation happen.
    pub(crate) fn detach(self) {
        let waker = lock(&self.0).waker.take();
        drop(waker);
        let detached = Arc::clone(&self.0);
        drop(self);
        lock(&detached).is_cancelled = false;
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut waker = Some(cx.waker().clone());
        let mut answer = lock(&self.0);
        let output = answer.output.take();
        if output.is_none() {
            std::mem::swap(&mut answer.waker, &mut waker);
        }
        drop(answer);
        discard_panic(|| drop(waker));
        output.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        let mut answer = lock(&self.0);
        answer.is_cancelled = true;
        let dropped = (answer.waker.take(), answer.output.take());
        drop(answer);
        discard_panic(|| drop(dropped));
    }
}

fn lock<T>(answer: &Mutex<Answer<T>>) -> MutexGuard<'_, Answer<T>> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open file of a simulated disk. Its operations fail outside of its host, and after a crash.
#[derive(Debug)]
pub(crate) struct SimulatedFile {
    /// The identity of the disk, or zero for a file of the system.
    disk: u64,
    number: u64,
}

impl SimulatedFile {
    fn disk(&self) -> io::Result<Rc<Disk>> {
        let disk = current_disk().filter(|disk| disk.id() == self.disk);
        disk.ok_or_else(|| {
            let text = "a file can't be used outside of the simulated host that has opened it, nor \
                        a file of std inside of a host";
            io::Error::new(io::ErrorKind::Unsupported, text)
        })
    }

    pub(crate) fn read(&self, buffer: &mut [u8], at: Position) -> io::Result<usize> {
        self.disk()?.read(self.number, buffer, at.into())
    }

    pub(crate) fn write(&self, buffer: &[u8], at: Position) -> io::Result<usize> {
        self.disk()?.write(self.number, buffer, at.into())
    }

    pub(crate) fn seek(&self, to: SeekFrom) -> io::Result<u64> {
        self.disk()?.seek(self.number, to)
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk()?.set_len(self.number, len)
    }

    pub(crate) fn sync(&self, data_only: bool) -> io::Result<()> {
        self.disk()?.sync(self.number, data_only)
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        Ok(self.disk()?.stat_open(self.number)?.into())
    }

    pub(crate) fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        let disk = self.disk()?;
        disk.set_permissions_open(self.number, bits_of(&permissions))
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        if let Ok(disk) = self.disk() {
            disk.close(self.number);
        }
    }
}

impl From<Position> for At {
    fn from(position: Position) -> At {
        match position {
            Position::Cursor => At::Position,
            Position::Offset(offset) => At::Offset(offset),
        }
    }
}

/// Opens a file.
fn open(disk: &Disk, options: &OpenOptions, path: &Path) -> io::Result<Handle> {
    let number = disk.open(path, options.how())?;
    let simulated = SimulatedFile {
        disk: disk.id(),
        number,
    };
    let mut handle = options.handle(placeholder()?);
    handle.simulated = Some(simulated);
    Ok(handle)
}

/// Returns a file for the descriptor of a simulated file. Reads and writes of it fail.
fn placeholder() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_PATH).open("/")
    }
    #[cfg(all(unix, not(target_os = "linux")))]
    {
        File::open("/")
    }
    #[cfg(not(unix))]
    {
        File::open("NUL")
    }
}

#[cfg(all(test, unix))]
#[path = "simulation_tests.rs"]
mod tests;
