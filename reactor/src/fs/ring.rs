//! Files by io_uring: operations that the kernel works on while the loop goes on.
//!
//! What is begun between two turns waits in a line. The turn hands it over in one system call just
//! before it waits; a turn without file operations makes none. The ring's descriptor is in the
//! poller, where it becomes readable when something has ended: so one wait covers sockets, timers
//! and files.
//!
//! The kernel has no more operations at once than there are places for their completions, so these
//! can't overflow. The others wait in the line.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use super::OpenOptions;
use super::operation::{Ended, Operation, Place};
use crate::reactor::RETRY;
use crate::wait::{self, Key, MAX_SOURCES};

/// So many operations are handed over by one system call. 8 KiB of memory.
const SUBMISSIONS: u32 = 128;

/// So many operations are under way at most, for all files of the thread: as many as a disk takes
/// at once. For each there are two places for completions, since it may be cancelled: 32 KiB of
/// memory.
const UNDER_WAY: u32 = 1024;

/// How many bytes a turn hands over at most. If they are in memory, the kernel copies them at once,
/// in 100 µs or so, and sockets and timers wait meanwhile.
const BYTES: usize = 1024 * 1024;

/// How long the end of a thread waits for operations that can't be cancelled, after each end of one
/// anew. Then what they use is leaked.
const PATIENCE: Duration = Duration::from_secs(1);

/// No source has it: what is registered under it only ends waits.
const KEY: Key = Key {
    slot: MAX_SOURCES as u32,
    generation: 0,
};

/// Of what tells the kernel to cancel something.
const CANCEL: u64 = u64::MAX;

pub(crate) struct Ring(RefCell<State>);

struct State {
    uring: IoUring,
    /// By slot, which is the operation's name in the kernel. A slot is free only once the kernel
    /// is done with it.
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    /// What the kernel has not been told of yet.
    line: VecDeque<u32>,
    cancels: Vec<u32>,
    /// How many completions are to come, those of what cancels included.
    under_way: u32,
}

/// An operation, from its beginning until its end has been heard of.
///
/// Invariant: what the kernel may touch is owned by the operation and on the heap, and from its
/// submission until its completion the operation stays here, untouched.
struct Flight {
    phase: Phase,
    /// None if it was given up in the line.
    operation: Option<Operation>,
    /// The path of one that opens.
    path: Option<CString>,
    waker: Option<Waker>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A future comes for it.
    Awaited,
    /// Nobody comes for it, and it goes on to its end.
    Detached,
    /// Nobody wants it.
    GivenUp,
}

enum Phase {
    InLine,
    UnderWay,
    Over(io::Result<usize>),
}

/// What the caller is to drop: under the borrow it must not be.
pub(crate) type Dropped = (Option<Operation>, Option<Waker>);

impl Ring {
    /// # Errors
    ///
    /// Where there's no io_uring, or one without what is needed here (Linux 5.11 has it).
    pub(crate) fn new(poll: &wait::Poll) -> io::Result<Ring> {
        let mut plain = IoUring::builder();
        plain.setup_cqsize(2 * UNDER_WAY);
        // One thread alone has it, and looks often enough: no need to interrupt it. Linux 6.0.
        let mut calm = plain.clone();
        calm.setup_coop_taskrun().setup_single_issuer();
        let built = calm.build(SUBMISSIONS);
        let uring = built.or_else(|_| plain.build(SUBMISSIONS))?;
        if !has_all(&uring)? {
            return Err(io::ErrorKind::Unsupported.into());
        }
        poll.add(uring.as_fd(), KEY, false)?;
        Ok(Ring(RefCell::new(State {
            uring,
            flights: Vec::new(),
            free: Vec::new(),
            line: VecDeque::new(),
            cancels: Vec::new(),
            under_way: 0,
        })))
    }

    /// Puts it in the line.
    pub(crate) fn start(&self, operation: Operation) -> u32 {
        let path = match &operation {
            Operation::Open { path, .. } => CString::new(path.as_os_str().as_bytes()).ok(),
            _ => None,
        };
        let flight = Flight {
            phase: Phase::InLine,
            operation: Some(operation),
            path,
            waker: None,
            fate: Fate::Awaited,
        };
        self.0.borrow_mut().enqueue(flight)
    }

    /// Leaves the waker with the operation if it's not over yet.
    pub(crate) fn poll(&self, slot: u32, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut waker = None;
        let mut state = self.0.borrow_mut();
        let flight = state.flight(slot);
        let is_over = matches!(flight.phase, Phase::Over(_));
        let known = flight.waker.as_ref();
        if !is_over && !known.is_some_and(|known| known.will_wake(cx.waker())) {
            drop(state);
            waker = Some(cx.waker().clone()); // user code, which may turn
            state = self.0.borrow_mut();
        }
        let flight = state.flight(slot);
        if let Phase::Over(result) = &mut flight.phase {
            let result = mem::replace(result, Ok(0));
            let (operation, _) = state.free(slot);
            drop(state);
            return Poll::Ready((result, operation.unwrap_or(Operation::Lost)));
        }
        if waker.is_some() {
            mem::swap(&mut flight.waker, &mut waker);
        }
        drop(state);
        drop(waker); // the one before
        Poll::Pending
    }

    /// Nobody comes for it, and it goes on.
    pub(crate) fn detach(&self, slot: u32) -> Dropped {
        let mut state = self.0.borrow_mut();
        let flight = state.flight(slot);
        if let Phase::Over(_) = flight.phase {
            return state.free(slot);
        }
        flight.fate = Fate::Detached;
        (None, flight.waker.take())
    }

    /// Nobody comes for it, and it need not be done. What is under way is cancelled, if the kernel
    /// can; until it says so it stays here.
    pub(crate) fn give_up(&self, slot: u32) -> Dropped {
        let mut state = self.0.borrow_mut();
        let flight = state.flight(slot);
        flight.fate = Fate::GivenUp;
        match flight.phase {
            Phase::Over(_) => state.free(slot),
            Phase::InLine => (flight.operation.take(), flight.waker.take()),
            Phase::UnderWay => {
                let waker = flight.waker.take();
                state.cancels.push(slot);
                (None, waker)
            }
        }
    }

    /// Hands over what is in the line, by one system call. True if something has ended already, or
    /// more is to be handed over soon: no time to sleep.
    pub(crate) fn submit(&self) -> io::Result<bool> {
        let mut state = self.0.borrow_mut();
        let more = state.fill();
        if !state.uring.submission().is_empty() {
            if let Err(error) = state.uring.submit() {
                if !is_short(&error) {
                    return Err(error);
                }
            }
        }
        let more = more && state.uring.submission().is_empty();
        Ok(more || !state.uring.completion().is_empty())
    }

    /// The kernel was short of something, and has not taken all. At once it would do so again.
    pub(crate) fn is_held_back(&self) -> bool {
        !self.0.borrow_mut().uring.submission().is_empty()
    }

    /// Hands over all that is in the line, for which no turn comes: as much as may be under way.
    pub(crate) fn submit_all(&self) {
        let state = &mut *self.0.borrow_mut();
        while state.fill() && state.uring.submit().is_ok() {}
        let _ = state.uring.submit();
    }

    /// Takes in what has ended, and whom to wake for it. The caller drops what comes back: that
    /// may begin to close files.
    pub(crate) fn collect(&self, woken: &mut Vec<Waker>) -> Vec<Operation> {
        self.0.borrow_mut().collect(woken)
    }
}

impl State {
    fn flight(&mut self, slot: u32) -> &mut Flight {
        let flight = self.flights[slot as usize].as_mut();
        flight.expect("a slot is taken until its operation is over")
    }

    fn enqueue(&mut self, flight: Flight) -> u32 {
        let slot = self.free.pop().unwrap_or(self.flights.len() as u32);
        match self.flights.get_mut(slot as usize) {
            Some(place) => *place = Some(flight),
            None => self.flights.push(Some(flight)),
        }
        self.line.push_back(slot);
        slot
    }

    fn free(&mut self, slot: u32) -> Dropped {
        self.free.push(slot);
        let flight = self.flights[slot as usize].take();
        flight.map_or((None, None), |flight| (flight.operation, flight.waker))
    }

    /// Fills the submission queue. True if there's more to hand over, although there's room for it:
    /// it has to wait for the next turn.
    fn fill(&mut self) -> bool {
        while let Some(slot) = self.cancels.pop() {
            let flight = self.flights[slot as usize].as_ref();
            // It may be over by now, and the slot another's.
            if flight.is_some_and(|it| it.is_to_be_cancelled()) {
                let cancel = opcode::AsyncCancel::new(slot.into()).build();
                if !self.push(cancel.user_data(CANCEL)) {
                    self.cancels.push(slot);
                    return true;
                }
            }
        }
        let mut bytes = 0;
        while self.under_way < UNDER_WAY {
            let Some(&slot) = self.line.front() else {
                return false;
            };
            let flight = self.flight(slot);
            if let Some(operation) = &mut flight.operation {
                if bytes >= BYTES {
                    return true;
                }
                bytes += operation.len();
                let entry = entry(operation, flight.path.as_deref());
                if !self.push(entry.user_data(slot.into())) {
                    return true;
                }
                self.flight(slot).phase = Phase::UnderWay;
            } else {
                let _ = self.free(slot); // given up, and empty
            }
            self.line.pop_front();
        }
        false
    }

    /// False if the queue is full.
    fn push(&mut self, entry: squeue::Entry) -> bool {
        // SAFETY: what the entry points to is on the heap, owned by the operation in the flight
        // whose slot is the entry's name. That stays there, untouched, until `collect` gets its
        // completion; if there's none, `drop` leaks it. (One that cancels points to nothing.)
        let pushed = unsafe { self.uring.submission().push(&entry) }.is_ok();
        self.under_way += u32::from(pushed);
        pushed
    }

    fn collect(&mut self, woken: &mut Vec<Waker>) -> Vec<Operation> {
        let mut dropped = Vec::new();
        for completion in self.uring.completion() {
            self.under_way -= 1;
            let slot = completion.user_data();
            if slot == CANCEL {
                continue;
            }
            let place = &mut self.flights[slot as usize];
            let flight = place.as_mut().expect("it was under way");
            let operation = flight.operation.as_mut().expect("it was under way");
            let mut result = end(operation, completion.result());
            if flight.fate != Fate::GivenUp && operation.goes_on(&mut result) {
                flight.phase = Phase::InLine;
                self.line.push_back(slot as u32);
                continue;
            }
            operation.finish(&mut result, woken);
            if flight.fate == Fate::Awaited {
                flight.phase = Phase::Over(result);
                woken.extend(flight.waker.take());
            } else {
                self.free.push(slot as u32);
                dropped.extend(place.take().and_then(|flight| flight.operation));
            }
        }
        dropped
    }
}

impl Flight {
    fn is_to_be_cancelled(&self) -> bool {
        self.fate == Fate::GivenUp && matches!(self.phase, Phase::UnderWay)
    }
}

/// The thread ends. No future is left that could come for anything, but for those that were leaked
/// with all of this.
impl Drop for Ring {
    fn drop(&mut self) {
        let state = self.0.get_mut();
        let patience = Timespec::from(PATIENCE);
        let args = SubmitArgs::new().timespec(&patience);
        let mut dropped = Vec::new();
        let mut last_end = Instant::now();
        loop {
            let more = state.fill();
            if state.under_way == 0 && !more {
                break;
            }
            let waited = state.uring.submitter().submit_with_args(1, &args);
            if !state.uring.completion().is_empty() {
                last_end = Instant::now();
            }
            dropped.append(&mut state.collect(&mut Vec::new()));
            match waited {
                Ok(_) => {}
                Err(error) if is_short(&error) && last_end.elapsed() < PATIENCE => {
                    thread::sleep(RETRY);
                }
                Err(_) => {
                    // A disk or a network file system hangs, or this is a forked child, whose
                    // parent has the ring. The kernel may touch the memory at any time to come.
                    mem::forget(mem::take(&mut state.flights));
                    break;
                }
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.borrow();
        f.debug_struct("Ring")
            .field("in_line", &state.line.len())
            .field("under_way", &state.under_way)
            .finish_non_exhaustive()
    }
}

fn has_all(uring: &IoUring) -> io::Result<bool> {
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe)?;
    let codes = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Fsync::CODE,
        opcode::OpenAt::CODE,
        opcode::Close::CODE,
        opcode::AsyncCancel::CODE,
    ];
    let params = uring.params();
    let has_features = params.is_feature_rw_cur_pos() && params.is_feature_ext_arg();
    Ok(has_features && codes.iter().all(|&code| probe.is_supported(code)))
}

/// The kernel has not enough memory at the moment, or completions to take in first, or a signal
/// has come.
fn is_short(error: &io::Error) -> bool {
    let short = [Errno::AGAIN, Errno::BUSY, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|error| short.contains(&error))
}

/// What the kernel is told. It points into the operation.
fn entry(operation: &mut Operation, path: Option<&CStr>) -> squeue::Entry {
    let len = operation.len();
    match operation {
        Operation::Read {
            file, buffer, at, ..
        } => {
            let room = buffer.spare_capacity_mut();
            let len = room.len().min(len) as u32;
            let read = opcode::Read::new(fd(file), room.as_mut_ptr().cast(), len);
            read.offset(offset(*at)).build()
        }
        Operation::Write {
            file,
            buffer,
            at,
            from,
            done,
            ..
        } => {
            let bytes = buffer[usize::from(*from) + *done..].as_ptr();
            let write = opcode::Write::new(fd(file), bytes, len as u32);
            write.offset(offset(at.after(*done))).build()
        }
        Operation::Sync { file, data_only } => {
            let data_only = data_only.then_some(FsyncFlags::DATASYNC);
            let sync = opcode::Fsync::new(fd(file));
            sync.flags(data_only.unwrap_or(FsyncFlags::empty())).build()
        }
        Operation::Open { options, .. } => {
            let path = path.map_or(ptr::null(), CStr::as_ptr);
            let open = opcode::OpenAt::new(Fd(CWD.as_raw_fd()), path);
            open.flags(flags(options).bits() as i32)
                .mode(options.mode)
                .build()
        }
        Operation::Close(Some(file)) => opcode::Close::new(fd(file)).build(),
        Operation::Close(None) | Operation::Lost => opcode::Nop::new().build(),
    }
}

/// As std makes them of options that it has looked at.
fn flags(options: &OpenOptions) -> OFlags {
    let access = match (options.read, options.writes()) {
        (true, true) => OFlags::RDWR,
        (true, false) => OFlags::RDONLY,
        (false, _) => OFlags::WRONLY,
    };
    let mut flags = access | OFlags::CLOEXEC;
    flags.set(OFlags::APPEND, options.appends());
    flags.set(OFlags::CREATE, options.create || options.create_new);
    flags.set(OFlags::EXCL, options.create_new);
    flags.set(OFlags::TRUNC, options.truncate && !options.create_new);
    let custom = OFlags::from_bits_retain(options.custom_flags as _);
    flags | (custom - OFlags::RWMODE)
}

fn fd(file: &File) -> Fd {
    Fd(file.as_raw_fd())
}

fn offset(at: Place) -> u64 {
    match at {
        Place::Cursor => u64::MAX,
        // The last number would be the cursor. The one before is as much beyond all files.
        Place::Offset(offset) => offset.min(u64::MAX - 1),
    }
}

/// What the kernel has done.
fn end(operation: &mut Operation, code: i32) -> io::Result<usize> {
    if code < 0 {
        let error = io::Error::from_raw_os_error(-code);
        if Errno::from_io_error(&error) != Some(Errno::CANCELED) {
            forget_closed(operation);
        }
        return Err(error);
    }
    match operation {
        Operation::Read { buffer, .. } => {
            // SAFETY: the kernel has written so many bytes behind the end, and `entry` gave it no
            // more room than there was.
            unsafe { buffer.set_len(buffer.len() + code as usize) };
        }
        // SAFETY: the kernel has opened this descriptor for us, and nobody else knows of it.
        Operation::Open { opened, .. } => *opened = Some(unsafe { File::from_raw_fd(code) }),
        _ => forget_closed(operation),
    }
    Ok(code as usize)
}

/// A descriptor is closed, and free for others, also if the kernel tells of an error.
fn forget_closed(operation: &mut Operation) {
    if let Operation::Close(file) = operation {
        let _ = file.take().map(IntoRawFd::into_raw_fd);
    }
}
