//! File operations that io_uring performs while the loop keeps running.
//!
//! Operations that start between two turns queue in a backlog. The turn submits them in one system
//! call just before it waits, and only turns with file operations make that call. The ring's file
//! descriptor is registered with the poller, where it becomes readable when an operation has
//! completed. So one wait covers sockets, timers and files.
//!
//! The number of operations in flight is limited by the room for their completions, so the
//! completion queue can't overflow. Other operations wait in the backlog.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::fs::CWD;
use rustix::io::Errno;
use slab::Slab;

use super::background::Progress;
use super::files::RETRY;
use super::operation::{Collected, OpOutput, Operation, drop_or_retry};
use super::position::Position;
use super::ring_waits::RingWaits;
use crate::counters::{self, ThreadCounters};
use crate::waits::{Listed, WakerId};
use windlass_reactor::completion::Registrar;
use windlass_reactor::wake::{discard_panic, wake_all};

/// How many operations one system call submits. The queue takes 8 KiB of memory.
const SUBMISSION_ENTRIES: u32 = 128;

/// The most operations in flight on the thread's files, which is as many as a disk takes at once.
/// The completion queue has room for two completions of each, because a cancellation also
/// completes. It takes 32 KiB of memory.
const MAX_IN_FLIGHT: u32 = 1024;

/// How many bytes a turn submits at most. If the page cache has them, the kernel copies them during
/// the call. That takes about 100 µs, and delays sockets and timers.
const BYTES_PER_SUBMIT: usize = 1024 * 1024;

/// The number of operations for which the tables of a ring keep memory after a burst (32 KiB).
const KEPT: usize = 256;

/// The user data of requests that cancel an operation.
const CANCEL: u64 = u64::MAX;

pub(crate) struct Ring(RefCell<Inner>);

struct Inner {
    uring: IoUring,
    ops: Ops,
    waits: Pin<Box<Listed<RingWaits>>>,
    /// Operations that wait to be submitted.
    backlog: VecDeque<u32>,
    cancels: Vec<u32>,
    /// The number of expected completions, including cancellations.
    in_flight: u32,
    /// The number of operations without a caller, except for stalled ones.
    unowned: usize,
    counters: Arc<ThreadCounters>,
}

/// The operations, by slot. The slot is the operation's user data in the kernel, so it is released
/// only once the kernel has completed the operation.
#[derive(Default)]
struct Ops {
    slab: Slab<Op>,
    /// When this number of operations is left, the table releases memory. An operation in a high
    /// slot can prevent that, so each attempt halves the number. Earlier removals thus pay for each
    /// attempt.
    shrink_at: usize,
}

/// An operation, from its start until its completion has been collected.
///
/// Memory that the kernel may access must be owned by the operation and on the heap. From its
/// submission until its completion, the operation must stay here, unchanged.
struct Op {
    phase: Phase,
    /// `None` if the operation was abandoned in the backlog.
    operation: Option<Operation>,
    waker: Option<Waker>,
    owner: OpOwner,
    /// The end of a loop has timed out waiting for it. Later ends ignore it.
    is_stalled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OpOwner {
    /// A future takes the result.
    Awaited,
    /// The result is unused. The operation runs until it completes.
    Detached,
    /// The result is unused, and the operation is cancelled.
    Abandoned,
}

enum Phase {
    Queued,
    InFlight,
    Done(io::Result<usize>),
}

/// What a released slot contained. The caller drops it outside of borrows, after it has forgotten
/// the slot, because the drop of a waker is user code.
pub(crate) struct Leftover {
    _operation: Option<Operation>,
    waker: Option<Waker>,
}

/// Discards a panic of the waker's drop. The panic would otherwise cost the result of the
/// operation. During another panic, it would abort the process.
impl Drop for Leftover {
    fn drop(&mut self) {
        discard_panic(|| drop(self.waker.take()));
    }
}

impl Ring {
    /// # Errors
    ///
    /// Returns an error if io_uring is missing, or lacks an operation that files need. Linux 5.11
    /// has all of them.
    pub(crate) fn new(registrar: &Registrar<'_>) -> io::Result<Ring> {
        let mut plain = IoUring::builder();
        plain.setup_cqsize(2 * MAX_IN_FLIGHT);
        // Only one thread uses the ring, and it enters the kernel often, so completions need no
        // interrupt. Older kernels than Linux 6.0 reject these flags.
        let mut calm = plain.clone();
        calm.setup_coop_taskrun().setup_single_issuer();
        let built = calm.build(SUBMISSION_ENTRIES);
        let uring = built.or_else(|_| plain.build(SUBMISSION_ENTRIES))?;
        if !has_all(&uring)? {
            return Err(io::ErrorKind::Unsupported.into());
        }
        registrar.watch(uring.as_fd())?;
        Ok(Ring(RefCell::new(Inner {
            uring,
            ops: Ops::default(),
            waits: RingWaits::new(),
            backlog: VecDeque::new(),
            cancels: Vec::new(),
            in_flight: 0,
            unowned: 0,
            counters: counters::current(),
        })))
    }

    /// Puts the operation into the backlog.
    pub(crate) fn start(&self, operation: Operation) -> u32 {
        let op = Op {
            phase: Phase::Queued,
            operation: Some(operation),
            waker: None,
            owner: OpOwner::Awaited,
            is_stalled: false,
        };
        let inner = &mut *self.0.borrow_mut();
        let slot = inner.ops.insert(op);
        inner.backlog.push_back(slot);
        slot
    }

    /// Registers the waker while the operation is pending, and releases the slot once it has
    /// completed. The caller forgets the slot before it drops `left`, which runs user code.
    pub(crate) fn poll(
        &self,
        slot: u32,
        cx: &mut Context<'_>,
        left: &mut Option<Waker>,
    ) -> Poll<OpOutput> {
        let mut inner = self.0.borrow_mut();
        let op = inner.ops.get(slot);
        let is_over = matches!(op.phase, Phase::Done(_));
        let known = op.waker.as_ref();
        if !is_over && !known.is_some_and(|known| known.will_wake(cx.waker())) {
            drop(inner);
            *left = Some(cx.waker().clone()); // user code, which may turn
            inner = self.0.borrow_mut();
        }
        let op = inner.ops.get(slot);
        if let Phase::Done(result) = &mut op.phase {
            let result = mem::replace(result, Ok(0));
            let operation = op.operation.take(); // its waker was called
            inner.ops.remove(slot);
            return Poll::Ready((result, operation.unwrap_or(Operation::Lost)));
        }
        if left.is_some() {
            mem::swap(&mut op.waker, left);
            let operation = op.operation.as_ref().map(Operation::listed);
            let runs = matches!(op.phase, Phase::InFlight);
            if let Some(operation) = operation {
                let waker = WakerId::of(cx.waker());
                inner.waits.begin(slot, waker, operation, runs);
            }
        }
        Poll::Pending
    }

    /// Detaches the operation from its future.
    pub(crate) fn detach(&self, slot: u32) -> Leftover {
        let inner = &mut *self.0.borrow_mut();
        inner.waits.end(slot);
        let op = inner.ops.get(slot);
        if let Phase::Done(_) = op.phase {
            return inner.ops.release(slot);
        }
        op.owner = OpOwner::Detached;
        let dropped = Leftover::of(None, op.waker.take());
        inner.unowned += 1;
        dropped
    }

    /// Abandons the operation after its future was dropped. If it is in flight, it is cancelled
    /// where the kernel can do so, and stays here until its completion.
    pub(crate) fn abandon(&self, slot: u32) -> Leftover {
        let inner = &mut *self.0.borrow_mut();
        inner.waits.end(slot);
        let op = inner.ops.get(slot);
        op.owner = OpOwner::Abandoned;
        match op.phase {
            Phase::Done(_) => inner.ops.release(slot),
            Phase::Queued => Leftover::of(op.operation.take(), op.waker.take()),
            Phase::InFlight => {
                let dropped = Leftover::of(None, op.waker.take());
                inner.unowned += 1;
                inner.cancels.push(slot);
                dropped
            }
        }
    }

    /// Submits the backlog by one system call. Returns true if the loop must not block, because an
    /// operation has completed already or more must be submitted in the next turn.
    pub(crate) fn submit(&self) -> io::Result<bool> {
        let mut inner = self.0.borrow_mut();
        let more = inner.fill_submission_queue();
        if !inner.uring.submission().is_empty() {
            inner.count_submit();
            if let Err(error) = inner.uring.submit() {
                if !is_short(&error) {
                    return Err(error);
                }
            }
        }
        let more = more && inner.uring.submission().is_empty();
        Ok(more || !inner.uring.completion().is_empty())
    }

    /// Returns whether the kernel was short of memory and has left operations in the submission
    /// queue. An immediate retry would fail again.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        !self.0.borrow_mut().uring.submission().is_empty()
    }

    /// Collects completions and the wakers of their futures. The caller handles the result outside
    /// of borrows.
    #[inline]
    pub(crate) fn collect(&self, wakers: &mut Vec<Waker>) -> Option<Box<Collected>> {
        self.0.borrow_mut().collect(wakers)
    }

    /// Returns whether there is anything to submit, to wait for or to collect at the end of a loop.
    pub(crate) fn has_work(&self) -> bool {
        let inner = self.0.borrow();
        inner.in_flight > 0 || !inner.backlog.is_empty() || !inner.cancels.is_empty()
    }

    /// Performs one step of a loop's end, which submits, and waits until an operation completes.
    /// Returns `None` once every operation that is left has a caller or is stalled. By then they
    /// were submitted, as far as the kernel accepts them.
    pub(crate) fn finish(
        &self,
        wakers: &mut Vec<Waker>,
        progress: &mut Progress,
    ) -> Option<Option<Box<Collected>>> {
        self.0.borrow_mut().finish(wakers, progress)
    }
}

impl Ops {
    #[inline]
    fn get(&mut self, slot: u32) -> &mut Op {
        let op = self.slab.get_mut(slot as usize);
        op.expect("a slot is occupied until its operation completes")
    }

    #[inline]
    fn insert(&mut self, op: Op) -> u32 {
        let slot = self.slab.insert(op) as u32;
        if self.slab.len() > KEPT {
            self.shrink_at = self.shrink_at.max(self.slab.len() / 4);
        }
        slot
    }

    #[inline]
    fn remove(&mut self, slot: u32) -> Op {
        let op = self.slab.remove(slot as usize);
        if self.slab.len() <= self.shrink_at && self.slab.capacity() > KEPT {
            self.shrink();
        }
        op
    }

    /// Releases memory after a burst.
    #[cold]
    fn shrink(&mut self) {
        self.slab.shrink_to_fit();
        self.shrink_at = self.slab.len() / 2;
    }

    fn release(&mut self, slot: u32) -> Leftover {
        let op = self.remove(slot);
        Leftover::of(op.operation, op.waker)
    }
}

impl Inner {
    /// Fills the submission queue. Returns true if more operations could be in flight, but have to
    /// wait for the next turn.
    fn fill_submission_queue(&mut self) -> bool {
        while let Some(slot) = self.cancels.pop() {
            let op = self.ops.slab.get(slot as usize);
            // The operation may have completed, and another one may have its slot.
            if op.is_some_and(Op::must_be_cancelled) {
                let cancel = opcode::AsyncCancel::new(slot.into()).build();
                if !self.push(cancel.user_data(CANCEL)) {
                    self.cancels.push(slot);
                    return true;
                }
            }
        }
        let mut bytes = 0;
        while self.in_flight < MAX_IN_FLIGHT {
            let Some(&slot) = self.backlog.front() else {
                self.shrink_queues();
                return false;
            };
            let op = self.ops.get(slot);
            if let Some(operation) = &mut op.operation {
                if bytes >= BYTES_PER_SUBMIT {
                    return true;
                }
                bytes += operation.len();
                let entry = submission_entry(operation);
                if !self.push(entry.user_data(slot.into())) {
                    return true;
                }
                self.ops.get(slot).phase = Phase::InFlight;
                self.waits.set_running(slot, true);
            } else {
                self.ops.remove(slot); // it was abandoned
            }
            self.backlog.pop_front();
        }
        false
    }

    /// Returns false if the submission queue is full.
    fn push(&mut self, entry: squeue::Entry) -> bool {
        // SAFETY: the entry points to heap memory of the operation in the slot that is the entry's
        // user data. The operation stays there, unchanged, until `collect` gets its completion, and
        // `drop` leaks it if that is missing. A cancellation contains no pointer.
        let pushed = unsafe { self.uring.submission().push(&entry) }.is_ok();
        self.in_flight += u32::from(pushed);
        pushed
    }

    /// Counts a system call, and publishes how many operations are in flight.
    fn count_submit(&self) {
        self.counters.add_ring_submit();
        self.counters.set_ring_in_flight(self.in_flight);
    }

    fn collect(&mut self, wakers: &mut Vec<Waker>) -> Option<Box<Collected>> {
        let before = self.in_flight;
        let collected = self.collect_completions(wakers);
        if self.in_flight != before {
            self.counters.set_ring_in_flight(self.in_flight);
        }
        collected
    }

    fn collect_completions(&mut self, wakers: &mut Vec<Waker>) -> Option<Box<Collected>> {
        let mut collected = None;
        for completion in self.uring.completion() {
            self.in_flight -= 1;
            let slot = completion.user_data();
            if slot == CANCEL {
                continue;
            }
            let op = self.ops.get(slot as u32);
            let operation = op.operation.as_mut().expect("it is in flight");
            let mut result = complete(operation, completion.result());
            let is_wanted = op.owner != OpOwner::Abandoned;
            if is_wanted && operation.must_continue(&mut result) {
                op.phase = Phase::Queued;
                self.waits.set_running(slot as u32, false);
                self.backlog.push_back(slot as u32);
                continue;
            }
            // Unless it was cancelled, the kernel had no thread for it.
            let is_refused = is_wanted && is_refused(&result);
            if !is_refused {
                operation.finish(&mut result, true, wakers);
            }
            if op.owner == OpOwner::Awaited {
                op.phase = Phase::Done(result);
                wakers.extend(op.waker.take());
                self.waits.end(slot as u32);
                continue;
            }
            let collected = collected.get_or_insert_with(Box::<Collected>::default);
            let operations = match is_refused {
                true => &mut collected.refused,
                false => &mut collected.ended,
            };
            operations.extend(op.operation.take());
            self.unowned -= usize::from(!op.is_stalled);
            self.ops.remove(slot as u32);
        }
        collected
    }

    #[cold]
    fn shrink_queues(&mut self) {
        if self.backlog.capacity() > KEPT {
            self.backlog.shrink_to(KEPT);
        }
        if self.cancels.capacity() > KEPT {
            self.cancels.shrink_to(KEPT);
        }
        self.waits.shrink(self.ops.slab.capacity());
    }

    fn finish(
        &mut self,
        wakers: &mut Vec<Waker>,
        progress: &mut Progress,
    ) -> Option<Option<Box<Collected>>> {
        let more = self.fill_submission_queue();
        if self.unowned == 0 {
            self.submit_rest(more);
            // Completions of operations that are stalled or awaited.
            let has_ended = !self.uring.completion().is_empty();
            return has_ended.then(|| self.collect(wakers));
        }
        let limit = Timespec::from(progress.time_left());
        let args = SubmitArgs::new().timespec(&limit);
        self.count_submit();
        let waited = self.uring.submitter().submit_with_args(1, &args);
        if !self.uring.completion().is_empty() {
            progress.made();
            return Some(self.collect(wakers));
        }
        if progress.time_left().is_zero() {
            // A disk, a network file system or a peer does not respond.
            return Some(Some(Box::new(self.stall())));
        }
        if waited.is_err() {
            thread::sleep(RETRY);
        }
        Some(None)
    }

    /// Submits the backlog, as much as may be in flight.
    fn submit_rest(&mut self, mut more: bool) {
        while !self.uring.submission().is_empty() {
            self.count_submit();
            if self.uring.submit().is_err() || !more {
                break;
            }
            more = self.fill_submission_queue();
        }
    }

    /// Marks operations in flight without a caller as stalled, so later ends of a loop ignore them.
    /// Returns those that were still in the backlog.
    fn stall(&mut self) -> Collected {
        let mut unknown = Collected::default();
        for (_, op) in &mut self.ops.slab {
            match op.phase {
                Phase::Queued if op.owner == OpOwner::Detached => {
                    op.owner = OpOwner::Abandoned;
                    unknown.refused.extend(op.operation.take());
                }
                _ => op.is_stalled |= op.owner != OpOwner::Awaited,
            }
        }
        self.unowned = 0;
        unknown
    }
}

impl Leftover {
    fn of(operation: Option<Operation>, waker: Option<Waker>) -> Leftover {
        Leftover {
            _operation: operation,
            waker,
        }
    }
}

impl Op {
    fn must_be_cancelled(&self) -> bool {
        self.owner == OpOwner::Abandoned && matches!(self.phase, Phase::InFlight)
    }
}

/// Completes operations at the end of the thread. All futures are gone by then.
impl Drop for Ring {
    fn drop(&mut self) {
        let inner = self.0.get_mut();
        let mut progress = Progress::new();
        let mut wakers = Vec::new();
        while let Some(collected) = inner.finish(&mut wakers, &mut progress) {
            collected.into_iter().for_each(|it| drop_or_retry(*it));
            wake_all(wakers.drain(..));
        }
        inner.counters.set_ring_in_flight(0);
        if inner.in_flight > 0 {
            // The kernel may access the memory at any later time.
            mem::forget(mem::take(&mut inner.ops));
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.borrow();
        f.debug_struct("Ring")
            .field("backlog", &inner.backlog.len())
            .field("in_flight", &inner.in_flight)
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

/// Returns whether the kernel is short of memory at the moment, has completions that must be
/// collected first, or was interrupted by a signal.
fn is_short(error: &io::Error) -> bool {
    let short = [Errno::AGAIN, Errno::BUSY, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|error| short.contains(&error))
}

/// Returns whether the kernel had no thread for the operation and could start none.
pub(crate) fn is_refused(result: &io::Result<usize>) -> bool {
    let error = result.as_ref().err().and_then(Errno::from_io_error);
    error == Some(Errno::CANCELED)
}

/// Returns the submission for an operation. It points into the operation.
fn submission_entry(operation: &mut Operation) -> squeue::Entry {
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

fn offset(at: Position) -> u64 {
    match at {
        Position::Cursor => u64::MAX,
        // `u64::MAX` would be the cursor. The offset before it is beyond all files, too.
        Position::Offset(offset) => offset.min(u64::MAX - 1),
    }
}

/// Applies the kernel's result to the operation.
fn complete(operation: &mut Operation, code: i32) -> io::Result<usize> {
    if code < 0 {
        let error = io::Error::from_raw_os_error(-code);
        if Errno::from_io_error(&error) != Some(Errno::CANCELED) {
            forget_closed(operation);
        }
        return Err(error);
    }
    match operation {
        Operation::Read { buffer, .. } => {
            // SAFETY: the kernel has written `code` bytes behind the end, and `submission_entry`
            // limited it to the capacity.
            unsafe { buffer.set_len(buffer.len() + code as usize) };
        }
        // SAFETY: the kernel has opened this file descriptor for us, and nothing else owns it.
        Operation::Open(opening) => opening.opened = Some(unsafe { File::from_raw_fd(code) }),
        _ => forget_closed(operation),
    }
    Ok(code as usize)
}

/// Forgets a file descriptor that was closed. It is closed even if the kernel returns an error.
fn forget_closed(operation: &mut Operation) {
    if let Operation::Close(file) = operation {
        let _ = file.take().map(IntoRawFd::into_raw_fd);
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
