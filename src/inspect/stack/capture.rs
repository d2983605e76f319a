//! Copies the registers and the stack of another thread of this process.
//!
//! A thread that is blocked gets no signal, since `SA_RESTART` does not restart `epoll_wait`,
//! `poll`, `nanosleep` and others. The kernel shows its `sp` and `pc`, and its stack is read from
//! `/proc/self/mem`. A thread that runs gets a signal, and its handler makes the copy.
//!
//! The default signal is `SIGURG`, for the reasons for which Go's runtime has chosen it. Its
//! default action is to do nothing, so one that arrives late, even after `exec`, is harmless,
//! while a late real-time signal ends the program. Debuggers pass it on silently. Programs rarely
//! use it, and those that do expect spurious ones.

use std::arch::asm;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::hint::spin_loop;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::process;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

use super::ThreadHandle;
use super::memory::Memory;
use crate::inspect::system_call::Position;
use crate::signal::action::swap_action;

/// The most that is copied of a stack.
const MOST_BYTES: usize = 64 << 10;

/// The ABI of x86-64 lets a function use this many bytes below `sp`.
const RED_ZONE: usize = 128;

/// Registers and stack of a thread. It prints the registers.
#[derive(Clone, Debug)]
#[allow(
    dead_code,
    reason = "architectures and features differ in the registers that they use"
)]
pub(crate) struct Sample {
    pub(crate) pc: usize,
    pub(crate) sp: usize,
    /// The frame pointer, which is unknown if the thread was blocked.
    pub(crate) fp: Option<usize>,
    /// The link register, which x86-64 lacks.
    pub(crate) lr: Option<usize>,
    /// The address of the copied bytes.
    pub(crate) low: usize,
    /// Empty if the thread was on a stack that is not its own, such as a coroutine's.
    pub(crate) bytes: Vec<u8>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pc {:#x}, sp {:#x}", self.pc, self.sp)
    }
}

pub(super) struct Capturer {
    signal: c_int,
}

impl Capturer {
    pub(super) fn new(signal: Option<c_int>) -> io::Result<Capturer> {
        let signal = signal.unwrap_or(libc::SIGURG);
        install(signal)?;
        Ok(Capturer { signal })
    }

    pub(super) fn capture(&self, thread: &ThreadHandle, limit: Duration) -> Option<Sample> {
        if thread.tid == rustix::thread::gettid().as_raw_nonzero().get() {
            return None;
        }
        read_blocked(thread)
            .or_else(|| self.interrupt(thread, Instant::now() + limit))
            .or_else(|| read_blocked(thread))
    }

    /// Sends the signal, and waits until the handler has made the copy.
    pub(super) fn interrupt(&self, thread: &ThreadHandle, deadline: Instant) -> Option<Sample> {
        // SAFETY: no action is replaced.
        if !is_ours(&unsafe { swap_action(self.signal, None) }.ok()?) {
            return None;
        }
        let request = EXCHANGE.claim(thread)?;
        // SAFETY: the arguments are numbers. The thread gets a signal with a handler that is safe
        // at any time.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_tgkill,
                process::id() as c_int,
                thread.tid,
                self.signal,
            )
        };
        let deadline = if sent == 0 { deadline } else { Instant::now() };
        let mut spins = 0;
        while !EXCHANGE.is_ready(request) {
            if Instant::now() >= deadline {
                if EXCHANGE.withdraw(request) {
                    return None;
                }
                // The handler is copying. If its thread is off the CPU for long, the exchange
                // stays occupied until the handler ends.
                if Instant::now() >= deadline + Duration::from_millis(100) {
                    return None;
                }
            }
            spins += 1;
            if spins < 200 {
                spin_loop();
            } else {
                thread::sleep(Duration::from_micros(20));
            }
        }
        EXCHANGE.take(request)
    }
}

/// Returns the sample of a thread that is blocked in the kernel, and stays so meanwhile.
fn read_blocked(thread: &ThreadHandle) -> Option<Sample> {
    let position = Position::of_thread(thread.tid);
    let Position::Blocked(blocked) = &position else {
        return None;
    };
    let (low, len) = copied_part(&thread.stack, blocked.sp);
    let bytes = Memory::open().and_then(|memory| memory.read(low, len));
    let is_same = Position::of_thread(thread.tid) == position;
    is_same.then(|| Sample {
        pc: blocked.pc,
        sp: blocked.sp,
        fp: None,
        lr: None,
        low,
        bytes: bytes.unwrap_or_default(),
    })
}

/// Returns where the part of a stack begins that is copied, and its length.
fn copied_part(stack: &Range<usize>, sp: usize) -> (usize, usize) {
    if !stack.contains(&sp) {
        return (0, 0);
    }
    let low = (sp & !7).saturating_sub(RED_ZONE).max(stack.start);
    (low, (stack.end - low).min(MOST_BYTES) & !7)
}

/// Installs the handler, unless the signal has another one. It stays installed, because a thread
/// may take the signal late.
fn install(signal: c_int) -> io::Result<()> {
    // SAFETY: no action is replaced.
    let old = unsafe { swap_action(signal, None) }?;
    if is_ours(&old) {
        return Ok(());
    }
    let is_free =
        |action: &libc::sigaction| [libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
    // SAFETY: an action may be all zeros. The set is valid for a write.
    let action = unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        // No other handler delays the copy.
        libc::sigfillset(&mut action.sa_mask);
        action
    };
    if is_free(&old) {
        // SAFETY: `handle` is safe at any time: it takes no lock and does not allocate.
        let replaced = unsafe { swap_action(signal, Some(&action)) }?;
        if is_free(&replaced) || is_ours(&replaced) {
            return Ok(());
        }
        // Another thread has installed a handler in the meantime. It stays.
        // SAFETY: the action was installed for this signal.
        unsafe { swap_action(signal, Some(&replaced)) }?;
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("can't capture stacks: signal {signal} has another handler. Choose another signal"),
    ))
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == handle as *const () as usize
}

/// Copies the interrupted thread's registers and stack, if they are requested. It makes one system
/// call (`gettid`, which leaves `errno` alone), takes no lock, and allocates nothing.
extern "C" fn handle(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    let state = EXCHANGE.state.load(Acquire);
    let is_requested = Request::phase(state) == REQUESTED
        && Request::tid(state) == rustix::thread::gettid().as_raw_nonzero().get();
    let copying = Request::with_phase(state, COPYING);
    if !is_requested
        || EXCHANGE
            .state
            .compare_exchange(state, copying, AcqRel, Relaxed)
            .is_err()
    {
        return;
    }
    // SAFETY: the kernel passes a context. In the phase COPYING the cells belong to this handler.
    let (context, registers) = unsafe { (&*context.cast(), &mut *EXCHANGE.registers.get()) };
    *registers = Registers::of_context(context);
    let stack = EXCHANGE.low.load(Relaxed)..EXCHANGE.high.load(Relaxed);
    let (low, len) = copied_part(&stack, registers.sp);
    registers.low = low;
    registers.len = len;
    // SAFETY: the part is within this thread's stack, above the red zone of the interrupted
    // function, so it is mapped. The destination has room for MOST_BYTES.
    unsafe { copy_words(low as *const u64, EXCHANGE.words.get().cast(), len / 8) };
    let ready = Request::with_phase(state, READY);
    EXCHANGE.state.store(ready, Release);
}

/// Copies words of a stack. The compiler and the address sanitizer know nothing of this access,
/// which reads red zones and variables of other functions.
///
/// # Safety
///
/// Source and destination are valid for that many words.
unsafe fn copy_words(from: *const u64, to: *mut u64, words: usize) {
    // SAFETY: the caller's promise. The kernel has cleared the direction flag for the handler.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "rep movsq",
            inout("rcx") words => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: the caller's promise.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "2: cbz {words}, 3f",
            "ldr {word}, [{from}], #8",
            "str {word}, [{to}], #8",
            "sub {words}, {words}, #1",
            "b 2b",
            "3:",
            words = inout(reg) words => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            word = out(reg) _,
            options(nostack),
        );
    }
}

/// The registers that unwinding starts from, and the part of the stack that was copied.
struct Registers {
    pc: usize,
    sp: usize,
    fp: usize,
    lr: Option<usize>,
    low: usize,
    len: usize,
}

impl Registers {
    #[cfg(target_arch = "x86_64")]
    fn of_context(context: &libc::ucontext_t) -> Registers {
        let register = |number: c_int| context.uc_mcontext.gregs[number as usize] as usize;
        Registers {
            pc: register(libc::REG_RIP),
            sp: register(libc::REG_RSP),
            fp: register(libc::REG_RBP),
            lr: None,
            low: 0,
            len: 0,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn of_context(context: &libc::ucontext_t) -> Registers {
        let registers = &context.uc_mcontext;
        Registers {
            pc: registers.pc as usize,
            sp: registers.sp as usize,
            fp: registers.regs[29] as usize,
            lr: Some(registers.regs[30] as usize),
            low: 0,
            len: 0,
        }
    }
}

/// Where the requesting thread and the handler meet. There is one request at a time.
///
/// ```text
///  IDLE ─► CLAIMED ─► REQUESTED ─► COPYING ─► READY ─► CLAIMED ─► IDLE
///             └───── withdraw ◄──┘
/// ```
///
/// A forked child may inherit a request of its parent. The state names the process, so that the
/// child can discard it.
struct Exchange {
    /// The PID of the requesting process, the TID of the thread, and the phase.
    state: AtomicU64,
    /// The bounds of the thread's stack, which the requesting thread writes when it has claimed
    /// the exchange.
    low: AtomicUsize,
    high: AtomicUsize,
    /// The handler writes these two in the phase COPYING. The requesting thread reads them when it
    /// has claimed a result that is READY.
    registers: UnsafeCell<Registers>,
    words: UnsafeCell<[u64; MOST_BYTES / 8]>,
}

// SAFETY: the phase gives the cells to one thread at a time.
unsafe impl Sync for Exchange {}

static EXCHANGE: Exchange = Exchange {
    state: AtomicU64::new(IDLE),
    low: AtomicUsize::new(0),
    high: AtomicUsize::new(0),
    registers: UnsafeCell::new(Registers {
        pc: 0,
        sp: 0,
        fp: 0,
        lr: None,
        low: 0,
        len: 0,
    }),
    words: UnsafeCell::new([0; MOST_BYTES / 8]),
};

const IDLE: u64 = 0;
const CLAIMED: u64 = 1;
const REQUESTED: u64 = 2;
const COPYING: u64 = 3;
const READY: u64 = 4;

/// A state of the exchange as one word. Linux has at most 2²² PIDs and TIDs.
#[derive(Clone, Copy)]
struct Request(u64);

impl Request {
    fn new(tid: i32) -> Request {
        Request(u64::from(process::id()) << 32 | (tid as u64) << 8)
    }

    fn phase(state: u64) -> u64 {
        state & 0xff
    }

    fn tid(state: u64) -> i32 {
        (state >> 8 & 0xff_ffff) as i32
    }

    fn is_of_this_process(state: u64) -> bool {
        state >> 32 == u64::from(process::id())
    }

    fn with_phase(state: u64, phase: u64) -> u64 {
        state & !0xff | phase
    }

    fn at(self, phase: u64) -> u64 {
        self.0 | phase
    }
}

impl Exchange {
    /// Publishes a request, unless another one is in progress.
    fn claim(&self, thread: &ThreadHandle) -> Option<Request> {
        let state = self.state.load(Acquire);
        let is_over = matches!(Request::phase(state), IDLE | READY);
        if !is_over && Request::is_of_this_process(state) {
            return None;
        }
        let request = Request::new(thread.tid);
        self.advance(state, request.at(CLAIMED))?;
        self.low.store(thread.stack.start, Relaxed);
        self.high.store(thread.stack.end, Relaxed);
        self.state.store(request.at(REQUESTED), Release);
        Some(request)
    }

    fn advance(&self, from: u64, to: u64) -> Option<()> {
        let result = self.state.compare_exchange(from, to, AcqRel, Relaxed);
        result.ok().map(drop)
    }

    fn is_ready(&self, request: Request) -> bool {
        self.state.load(Acquire) == request.at(READY)
    }

    /// Returns false if the handler has begun.
    fn withdraw(&self, request: Request) -> bool {
        self.advance(request.at(REQUESTED), IDLE).is_some()
    }

    /// Moves a result out that is ready.
    fn take(&self, request: Request) -> Option<Sample> {
        self.advance(request.at(READY), request.at(CLAIMED))?;
        // SAFETY: in the phase CLAIMED the cells belong to this thread. The handler has written
        // `len` bytes.
        let sample = unsafe {
            let registers = &*self.registers.get();
            let bytes = std::slice::from_raw_parts(self.words.get().cast(), registers.len);
            Sample {
                pc: registers.pc,
                sp: registers.sp,
                fp: Some(registers.fp),
                lr: registers.lr,
                low: registers.low,
                bytes: bytes.to_vec(),
            }
        };
        self.state.store(IDLE, Release);
        Some(sample)
    }
}
