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
use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};
use std::task::{Context, Poll, Waker};
use std::thread;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::fs::CWD;
use rustix::io::Errno;

use super::background::Progress;
use super::files::RETRY;
use super::operation::{Collected, Ended, Operation, Place, end_files};
use windlass_reactor::completion::Registrar;
use windlass_reactor::wake::{discard_panic, wake_all};

/// So many operations are handed over by one system call. 8 KiB of memory.
const SUBMISSIONS: u32 = 128;

/// So many operations are under way at most, for all files of the thread: as many as a disk takes
/// at once. For each there are two places for completions, since it may be cancelled: 32 KiB of
/// memory.
const UNDER_WAY: u32 = 1024;

/// How many bytes a turn hands over at most. If they are in memory, the kernel copies them at once,
/// in 100 µs or so, and sockets and timers wait meanwhile.
const BYTES: usize = 1024 * 1024;

/// The tables of a ring keep memory for so many operations after a burst (32 KiB).
const KEPT: usize = 256;

/// Of what tells the kernel to cancel something.
const CANCEL: u64 = u64::MAX;

pub(crate) struct Ring(RefCell<State>);

struct State {
    uring: IoUring,
    flights: Flights,
    /// What the kernel has not been told of yet.
    line: VecDeque<u32>,
    cancels: Vec<u32>,
    /// How many completions are to come, those of what cancels included.
    under_way: u32,
    /// How many operations go on without a caller, those that are stalled not included.
    unowned: usize,
}

/// By slot, which is the operation's name in the kernel. A slot is free only once the kernel is
/// done with it.
struct Flights {
    slots: Vec<Option<Flight>>,
    /// Each free slot at least once. Others as well, which are passed over.
    free: Vec<u32>,
}

/// An operation, from its beginning until its end has been heard of.
///
/// Invariant: what the kernel may touch is owned by the operation and on the heap, and from its
/// submission until its completion the operation stays here, untouched.
struct Flight {
    phase: Phase,
    /// None if it was given up in the line.
    operation: Option<Operation>,
    waker: Option<Waker>,
    fate: Fate,
    /// The end of a loop has waited for it in vain, and none waits for it again.
    is_stalled: bool,
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

/// What a ring gives up, to be dropped by the caller under no borrow. The caller forgets the slot
/// before: to drop a waker is user code.
pub(crate) struct Dropped {
    _operation: Option<Operation>,
    waker: Option<Waker>,
}

/// A panic of a waker's drop goes nowhere: it must not cost the result of the operation, nor end
/// the process where something is dropped because of another panic.
impl Drop for Dropped {
    fn drop(&mut self) {
        discard_panic(|| drop(self.waker.take()));
    }
}

impl Ring {
    /// # Errors
    ///
    /// Where there's no io_uring, or one without what is needed here (Linux 5.11 has it).
    pub(crate) fn new(registrar: &Registrar<'_>) -> io::Result<Ring> {
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
        registrar.watch(uring.as_fd())?;
        Ok(Ring(RefCell::new(State {
            uring,
            flights: Flights {
                slots: Vec::new(),
                free: Vec::new(),
            },
            line: VecDeque::new(),
            cancels: Vec::new(),
            under_way: 0,
            unowned: 0,
        })))
    }

    /// Puts it in the line.
    pub(crate) fn start(&self, operation: Operation) -> u32 {
        let flight = Flight {
            phase: Phase::InLine,
            operation: Some(operation),
            waker: None,
            fate: Fate::Awaited,
            is_stalled: false,
        };
        let state = &mut *self.0.borrow_mut();
        let slot = state.flights.insert(flight);
        state.line.push_back(slot);
        slot
    }

    /// Leaves the waker with the operation if it's not over yet. If it is, the slot is free from
    /// here on. The caller forgets it before it drops `left`, which is user code.
    pub(crate) fn poll(
        &self,
        slot: u32,
        cx: &mut Context<'_>,
        left: &mut Option<Waker>,
    ) -> Poll<Ended> {
        let mut state = self.0.borrow_mut();
        let flight = state.flights.get(slot);
        let is_over = matches!(flight.phase, Phase::Over(_));
        let known = flight.waker.as_ref();
        if !is_over && !known.is_some_and(|known| known.will_wake(cx.waker())) {
            drop(state);
            *left = Some(cx.waker().clone()); // user code, which may turn
            state = self.0.borrow_mut();
        }
        let flight = state.flights.get(slot);
        if let Phase::Over(result) = &mut flight.phase {
            let result = mem::replace(result, Ok(0));
            let operation = flight.operation.take(); // its waker was called
            state.flights.vacate(slot);
            return Poll::Ready((result, operation.unwrap_or(Operation::Lost)));
        }
        if left.is_some() {
            mem::swap(&mut flight.waker, left);
        }
        Poll::Pending
    }

    /// Nobody comes for it, and it goes on.
    pub(crate) fn detach(&self, slot: u32) -> Dropped {
        let state = &mut *self.0.borrow_mut();
        let flight = state.flights.get(slot);
        if let Phase::Over(_) = flight.phase {
            return state.flights.free(slot);
        }
        flight.fate = Fate::Detached;
        let dropped = Dropped::of(None, flight.waker.take());
        state.unowned += 1;
        dropped
    }

    /// Nobody comes for it, and it need not be done. What is under way is cancelled, if the kernel
    /// can; until it says so it stays here.
    pub(crate) fn give_up(&self, slot: u32) -> Dropped {
        let state = &mut *self.0.borrow_mut();
        let flight = state.flights.get(slot);
        flight.fate = Fate::GivenUp;
        match flight.phase {
            Phase::Over(_) => state.flights.free(slot),
            Phase::InLine => Dropped::of(flight.operation.take(), flight.waker.take()),
            Phase::UnderWay => {
                let dropped = Dropped::of(None, flight.waker.take());
                state.unowned += 1;
                state.cancels.push(slot);
                dropped
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

    /// Takes in what has ended, and whom to wake for it. The caller goes on with what comes back,
    /// under no borrow.
    #[inline]
    pub(crate) fn collect(&self, woken: &mut Vec<Waker>) -> Option<Box<Collected>> {
        self.0.borrow_mut().collect(woken)
    }

    /// Whether there is anything to submit, to wait for or to collect at the end of a loop.
    pub(crate) fn has_work(&self) -> bool {
        let state = self.0.borrow();
        state.under_way > 0 || !state.line.is_empty() || !state.cancels.is_empty()
    }

    /// A step of a loop's end: submits, and waits until something ends. None if no operation is
    /// left that goes on without its caller; the rest is in the kernel's hands then, as far as it
    /// takes any.
    pub(crate) fn finish(
        &self,
        woken: &mut Vec<Waker>,
        progress: &mut Progress,
    ) -> Option<Option<Box<Collected>>> {
        self.0.borrow_mut().finish(woken, progress)
    }
}

impl Flights {
    fn get(&mut self, slot: u32) -> &mut Flight {
        let flight = self.slots[slot as usize].as_mut();
        flight.expect("a slot is taken until its operation is over")
    }

    fn insert(&mut self, flight: Flight) -> u32 {
        match self.vacancy() {
            Some(slot) => {
                self.slots[slot as usize] = Some(flight);
                slot
            }
            None => {
                self.slots.push(Some(flight));
                self.slots.len() as u32 - 1
            }
        }
    }

    #[inline]
    fn vacancy(&mut self) -> Option<u32> {
        // Each entry is passed over once, so this takes constant time on average.
        loop {
            let slot = self.free.pop()?;
            if let Some(None) = self.slots.get(slot as usize) {
                return Some(slot);
            }
        }
    }

    fn free(&mut self, slot: u32) -> Dropped {
        let flight = self.get(slot);
        let dropped = Dropped::of(flight.operation.take(), flight.waker.take());
        self.vacate(slot);
        dropped
    }

    /// The slot has neither an operation nor a waker any more.
    #[inline]
    fn vacate(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
        if self.slots.len() > KEPT && slot as usize + 1 == self.slots.len() {
            self.shorten();
        } else {
            self.free.push(slot);
        }
    }

    /// Cuts off the free slots at the end, and gives memory back after a burst.
    #[cold]
    fn shorten(&mut self) {
        while self.slots.len() > KEPT && matches!(self.slots.last(), Some(None)) {
            self.slots.pop();
        }
        if self.slots.capacity() / 4 > self.slots.len() {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        let len = self.slots.len();
        self.free.retain(|&slot| (slot as usize) < len);
        self.free.shrink_to(2 * len);
        self.slots.shrink_to(2 * len);
    }
}

impl State {
    /// Fills the submission queue. True if there's more to hand over, although there's room for it:
    /// it has to wait for the next turn.
    fn fill(&mut self) -> bool {
        while let Some(slot) = self.cancels.pop() {
            let flight = self.flights.slots.get(slot as usize);
            // It may be over by now, and the slot another's or cut off.
            if flight.is_some_and(|it| it.as_ref().is_some_and(Flight::is_to_be_cancelled)) {
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
                self.shrink_line();
                return false;
            };
            let flight = self.flights.get(slot);
            if let Some(operation) = &mut flight.operation {
                if bytes >= BYTES {
                    return true;
                }
                bytes += operation.len();
                let entry = entry(operation);
                if !self.push(entry.user_data(slot.into())) {
                    return true;
                }
                self.flights.get(slot).phase = Phase::UnderWay;
            } else {
                self.flights.vacate(slot); // given up, and empty
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

    fn collect(&mut self, woken: &mut Vec<Waker>) -> Option<Box<Collected>> {
        let mut collected = None;
        for completion in self.uring.completion() {
            self.under_way -= 1;
            let slot = completion.user_data();
            if slot == CANCEL {
                continue;
            }
            let flight = self.flights.get(slot as u32);
            let operation = flight.operation.as_mut().expect("it was under way");
            let mut result = end(operation, completion.result());
            let is_wanted = flight.fate != Fate::GivenUp;
            if is_wanted && operation.goes_on(&mut result) {
                flight.phase = Phase::InLine;
                self.line.push_back(slot as u32);
                continue;
            }
            // What nobody has cancelled, the kernel had no thread for.
            let is_refused = is_wanted && is_refused(&result);
            if !is_refused {
                operation.finish_on_ring(&mut result, woken);
            }
            if flight.fate == Fate::Awaited {
                flight.phase = Phase::Over(result);
                woken.extend(flight.waker.take());
                continue;
            }
            let collected = collected.get_or_insert_with(Box::<Collected>::default);
            let operations = match is_refused {
                true => &mut collected.refused,
                false => &mut collected.ended,
            };
            operations.extend(flight.operation.take());
            self.unowned -= usize::from(!flight.is_stalled);
            self.flights.vacate(slot as u32);
        }
        collected
    }

    #[cold]
    fn shrink_line(&mut self) {
        if self.line.capacity() > KEPT {
            self.line.shrink_to(KEPT);
        }
        if self.cancels.capacity() > KEPT {
            self.cancels.shrink_to(KEPT);
        }
    }

    fn finish(
        &mut self,
        woken: &mut Vec<Waker>,
        progress: &mut Progress,
    ) -> Option<Option<Box<Collected>>> {
        let more = self.fill();
        if self.unowned == 0 {
            self.submit_rest(more);
            // Of those that are stalled, or awaited elsewhere.
            let has_ended = !self.uring.completion().is_empty();
            return has_ended.then(|| self.collect(woken));
        }
        let limit = Timespec::from(progress.time_left());
        let args = SubmitArgs::new().timespec(&limit);
        let waited = self.uring.submitter().submit_with_args(1, &args);
        if !self.uring.completion().is_empty() {
            progress.made();
            return Some(self.collect(woken));
        }
        if progress.time_left().is_zero() {
            // A disk, a network file system or a peer hangs.
            return Some(Some(Box::new(self.stall())));
        }
        if waited.is_err() {
            thread::sleep(RETRY);
        }
        Some(None)
    }

    /// Submits what waits in line, as much as may be under way.
    fn submit_rest(&mut self, mut more: bool) {
        while !self.uring.submission().is_empty() && self.uring.submit().is_ok() && more {
            more = self.fill();
        }
    }

    /// From now on no end of a loop waits for the operations that are left. Returns those that the
    /// kernel doesn't know yet.
    fn stall(&mut self) -> Collected {
        let mut unknown = Collected::default();
        for flight in self.flights.slots.iter_mut().flatten() {
            match flight.phase {
                Phase::InLine if flight.fate == Fate::Detached => {
                    flight.fate = Fate::GivenUp;
                    unknown.refused.extend(flight.operation.take());
                }
                _ => flight.is_stalled |= flight.fate != Fate::Awaited,
            }
        }
        self.unowned = 0;
        unknown
    }
}

impl Dropped {
    fn of(operation: Option<Operation>, waker: Option<Waker>) -> Dropped {
        Dropped {
            _operation: operation,
            waker,
        }
    }
}

impl Flight {
    fn is_to_be_cancelled(&self) -> bool {
        self.fate == Fate::GivenUp && matches!(self.phase, Phase::UnderWay)
    }
}

/// The end of the thread, or of its last use of files. No future is left that could come for
/// anything.
impl Drop for Ring {
    fn drop(&mut self) {
        let state = self.0.get_mut();
        let mut progress = Progress::new();
        let mut woken = Vec::new();
        while let Some(collected) = state.finish(&mut woken, &mut progress) {
            collected.into_iter().for_each(|it| end_files(*it));
            wake_all(woken.drain(..));
        }
        if state.under_way > 0 {
            // The kernel may touch the memory at any time to come.
            mem::forget(mem::take(&mut state.flights.slots));
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

/// The kernel had no thread for it and could start none.
pub(crate) fn is_refused(result: &io::Result<usize>) -> bool {
    let error = result.as_ref().err().and_then(Errno::from_io_error);
    error == Some(Errno::CANCELED)
}

/// What the kernel is told. It points into the operation.
fn entry(operation: &mut Operation) -> squeue::Entry {
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
        Operation::Open(opening) => {
            let options = &opening.options;
            let open = opcode::OpenAt::new(Fd(CWD.as_raw_fd()), opening.path.as_ptr());
            open.flags(options.flags().bits() as i32)
                .mode(options.mode)
                .build()
        }
        Operation::Close(Some(file)) => opcode::Close::new(fd(file)).build(),
        Operation::Close(None) | Operation::Lost => opcode::Nop::new().build(),
    }
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
        Operation::Open(opening) => opening.opened = Some(unsafe { File::from_raw_fd(code) }),
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

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
