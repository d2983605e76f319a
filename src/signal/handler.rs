//! The signal handler of the process, and its listeners.
//!
//! A handler may interrupt any thread at any moment, also while another thread forks. A child that
//! is forked then has a copy of that state without the thread that would leave it. So nothing here
//! is locked during a signal, and a child waits for no listener of its parent.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use windlass_reactor::fork::{Origin, PerProcess};

use super::action::swap_action;

/// More than the highest signal of any system.
const SIGNALS: usize = 129;

static STATES: [SignalState; SIGNALS] = [const { SignalState::new() }; SIGNALS];

/// One signal.
struct SignalState {
    /// The first entry of a list. Entries are added and never removed.
    entries: AtomicPtr<Entry>,
    /// The action before ours, or null. Never freed.
    previous: AtomicPtr<libc::sigaction>,
    is_installed: AtomicBool,
}

/// A place for a listener. A new listener takes one that is free.
struct Entry {
    next: *const Entry,
    /// A forked child leaves the entries of its parent alone.
    origin: Origin,
    is_taken: AtomicBool,
    /// Null while there is no listener.
    listener: AtomicPtr<Listener>,
    /// The handlers that use the listener at the moment.
    users: AtomicUsize,
}

// SAFETY: an entry is never freed, its `next` never changes, and the rest is `Sync`.
unsafe impl Sync for Entry {}

/// What a signal notifies.
pub(crate) struct Listener {
    pub(crate) flag: Arc<AtomicBool>,
    pub(crate) pipe: Arc<OwnedFd>,
}

impl Listener {
    /// Sets the flag, and writes to the pipe if it was clear.
    fn notify(&self) {
        if !self.flag.swap(true, AcqRel) {
            // It fails only if the pipe is full, which also wakes the task.
            let _ = rustix::io::write(&self.pipe, &[0]);
        }
    }
}

/// A listener for a signal until this is dropped.
pub(crate) struct Listening(&'static Entry);

impl Listening {
    /// Adds the listener, and installs the handler if this is the first one for the signal.
    pub(crate) fn new(signal: c_int, listener: Listener) -> io::Result<Listening> {
        let state = usize::try_from(signal).ok().and_then(|i| STATES.get(i));
        let state = state.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let entry = state.free_entry();
        let listener = Box::into_raw(Box::new(listener));
        entry.listener.store(listener, SeqCst);
        let listening = Listening(entry);
        state.install(signal)?;
        Ok(listening)
    }
}

impl Drop for Listening {
    /// Waits for handlers that run on other threads, so that none uses the listener afterwards.
    fn drop(&mut self) {
        let entry = self.0;
        let listener = entry.listener.swap(ptr::null_mut(), SeqCst);
        // In a forked child, a user may be a thread of the parent.
        while entry.origin.is_here() && entry.users.load(SeqCst) != 0 {
            thread::yield_now();
        }
        // SAFETY: `Listening::new` has made it by `Box::into_raw`, and only this takes it away. A
        // handler that has loaded it before was a user, and a later one finds null.
        drop(unsafe { Box::from_raw(listener) });
        entry.is_taken.store(false, Release);
    }
}

impl SignalState {
    const fn new() -> SignalState {
        SignalState {
            entries: AtomicPtr::new(ptr::null_mut()),
            previous: AtomicPtr::new(ptr::null_mut()),
            is_installed: AtomicBool::new(false),
        }
    }

    fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        let mut next = self.entries.load(Acquire).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: it is null, or `free_entry` has made it by `Box::leak`.
            let entry = unsafe { next.as_ref() }?;
            next = entry.next;
            Some(entry)
        })
    }

    /// Takes an entry of this process, or adds one.
    fn free_entry(&self) -> &'static Entry {
        let is_free =
            |entry: &&Entry| entry.origin.is_here() && !entry.is_taken.swap(true, Acquire);
        self.entries()
            .find(is_free)
            .unwrap_or_else(|| self.add_entry())
    }

    fn add_entry(&self) -> &'static Entry {
        let entry = Box::leak(Box::new(Entry {
            next: self.entries.load(Acquire),
            origin: Origin::here(),
            is_taken: AtomicBool::new(true),
            listener: AtomicPtr::new(ptr::null_mut()),
            users: AtomicUsize::new(0),
        }));
        loop {
            let (next, new) = (entry.next.cast_mut(), ptr::from_mut(entry));
            match self.entries.compare_exchange(next, new, AcqRel, Acquire) {
                Ok(_) => return entry,
                Err(added) => entry.next = added,
            }
        }
    }

    /// Installs the handler once. If other code replaces it later, it stays replaced, since that
    /// handler may call this one.
    fn install(&self, signal: c_int) -> io::Result<()> {
        static INSTALLING: PerProcess<Mutex<()>> = PerProcess::new();
        let lock = INSTALLING.get(Mutex::default).lock();
        let _lock = lock.unwrap_or_else(PoisonError::into_inner);
        if self.is_installed.load(Relaxed) {
            return Ok(());
        }
        // SAFETY: no action is replaced.
        let old = unsafe { swap_action(signal, None) }?;
        // It is ours in a child that was forked while a thread of the parent was here.
        if !is_ours(&old) {
            self.set_previous(old);
            // SAFETY: `handle` may run at any time: it takes no lock and does not allocate.
            let replaced = unsafe { swap_action(signal, Some(&our_action())) }?;
            if replaced.sa_sigaction != old.sa_sigaction {
                self.set_previous(replaced); // other code has installed it in the meantime
            }
        }
        self.is_installed.store(true, Relaxed);
        Ok(())
    }

    /// Sets the action that the handler continues with. An earlier one is leaked, because a handler
    /// may be using it.
    fn set_previous(&self, action: libc::sigaction) {
        let action = Box::leak(Box::new(action));
        self.previous.store(action, Release);
    }

    /// Calls the handler that was installed before.
    fn call_previous(&self, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: it is null, or `set_previous` has leaked it.
        let Some(action) = (unsafe { self.previous.load(Acquire).as_ref() }) else {
            return;
        };
        let handler = action.sa_sigaction;
        if [libc::SIG_DFL, libc::SIG_IGN].contains(&handler) {
            return;
        }
        // SAFETY: with this flag a handler takes three arguments, and without it one. The code
        // that has installed it has promised that each signal may call it.
        unsafe {
            if action.sa_flags & libc::SA_SIGINFO != 0 {
                mem::transmute::<usize, SignalHandler>(handler)(signal, info, context);
            } else {
                mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal);
            }
        }
    }
}

impl Entry {
    /// Notifies the listener if there is one in this process.
    fn notify(&self) {
        if !self.origin.is_here() || self.listener.load(Relaxed).is_null() {
            return;
        }
        self.users.fetch_add(1, SeqCst);
        // SAFETY: `Listening::drop` frees it after it has replaced it by null, and then has seen
        // that there are no users.
        if let Some(listener) = unsafe { self.listener.load(SeqCst).as_ref() } {
            listener.notify();
        }
        self.users.fetch_sub(1, SeqCst);
    }
}

type SignalHandler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// The action of each signal with a listener. On the alternate stack, if the thread has one: the
/// stack that a signal interrupts may be too small, as that of a goroutine.
fn our_action() -> libc::sigaction {
    // SAFETY: an action may be all zeros, which includes an empty mask.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = handle as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    action
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == handle as *const () as usize
}

/// Notifies the listeners. It makes no calls but write(2), and getpid(2) on old kernels.
extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = errno::errno();
    let state = &STATES[signal as usize]; // it was installed by this index
    state.call_previous(signal, info, context);
    state.entries().for_each(Entry::notify);
    errno::set_errno(errno);
}
