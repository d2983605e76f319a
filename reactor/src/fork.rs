//! Detects `fork`, so that a child leaves shared kernel objects to its parent.
//!
//! A forked child has copies of the parent's memory and descriptors. The kernel objects behind the
//! descriptors are shared (epoll instance, timerfd, eventfd, io_uring, pipes). The child has only
//! the forking thread, and a lock that another thread held stays locked. The owner of a shared
//! object stores its [`Origin`]. Global state of a single process is a [`PerProcess`].

use std::fmt;
use std::io;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicPtr, AtomicUsize};

/// The process that made a value. Its methods take no lock and may be called in signal handlers.
///
/// # Examples
///
/// ```
/// use windlass_reactor::fork::Origin;
///
/// struct Connection {
///     origin: Origin,
/// }
///
/// let connection = Connection { origin: Origin::here() };
/// connection.origin.check("this connection")?; // an error in a forked child
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Origin {
    /// The process's generation, in memory that the kernel clears in a forked child. Where the
    /// kernel lacks this it is `NO_WORD`, and the PID identifies the process.
    word: &'static AtomicUsize,
    generation: usize,
}

impl Origin {
    /// Returns the origin of what this process makes.
    pub fn here() -> Origin {
        let word = platform::word();
        let generation = match ptr::eq(word, &NO_WORD) {
            true => platform::pid(),
            false => generation(word),
        };
        Origin { word, generation }
    }

    /// Returns whether this process has made the value. False in a forked child.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.word.load(Relaxed) == self.generation || self.is_here_by_pid()
    }

    #[cold]
    fn is_here_by_pid(&self) -> bool {
        ptr::eq(self.word, &NO_WORD) && self.generation == platform::pid()
    }

    /// Returns an error in a forked child. `what` starts the message: "this reactor".
    #[inline]
    pub fn check(&self, what: &str) -> io::Result<()> {
        match self.is_here() {
            true => Ok(()),
            false => Err(error(what)),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.generation).finish()
    }
}

/// The error of a value that belongs to the parent.
#[cold]
pub fn error(what: &str) -> io::Error {
    io::Error::other(format!(
        "{what} was made before fork() and belongs to the parent process: make a new one in the \
         child"
    ))
}

/// Placeholder where the kernel cannot clear memory. Generations are never zero.
static NO_WORD: AtomicUsize = AtomicUsize::new(0);

/// Returns this process's generation. The first caller after a fork chooses it.
fn generation(word: &AtomicUsize) -> usize {
    /// The number of the newest generation. The child inherits it, so that its numbers differ from
    /// the numbers of all ancestors.
    static NEWEST: AtomicUsize = AtomicUsize::new(0);
    match word.load(Relaxed) {
        0 => {
            let new = NEWEST.fetch_add(1, Relaxed) + 1;
            let chosen = word.compare_exchange(0, new, Relaxed, Relaxed);
            chosen.map_or_else(|by_another_thread| by_another_thread, |_| new)
        }
        known => known,
    }
}

#[cfg(all(target_os = "linux", not(windlass_portable)))]
mod platform {
    use super::*;

    /// Null until the first call of `word`.
    static WORD: AtomicPtr<AtomicUsize> = AtomicPtr::new(ptr::null_mut());

    /// Returns the word that the kernel clears in forked children, or `NO_WORD`.
    pub(super) fn word() -> &'static AtomicUsize {
        let mut known = WORD.load(Acquire);
        if known.is_null() {
            let new = map().unwrap_or(ptr::from_ref(&NO_WORD).cast_mut());
            // Threads that race here leave a page behind. A lock could be held during a fork.
            known = match WORD.compare_exchange(ptr::null_mut(), new, AcqRel, Acquire) {
                Ok(_) => new,
                Err(by_another_thread) => by_another_thread,
            };
        }
        // SAFETY: `WORD` holds null, a pointer to `NO_WORD`, or one to the start of a page that
        // `map` made and nothing unmaps. That page is readable, writable, aligned, and its zeroes
        // are a valid `AtomicUsize`. Only atomic operations access it.
        unsafe { &*known }
    }

    /// Maps a page that is empty in each forked child. None before Linux 4.14.
    fn map() -> Option<*mut AtomicUsize> {
        const SIZE: usize = 4096;
        // SAFETY: the kernel chooses the address of a new private mapping, and the advice only
        // affects the copy of a forked child. Each kernel refuses the invalid advice (-1). An
        // emulator that accepts it ignores all advice, so its answer proves nothing.
        unsafe {
            let (access, kind) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            );
            let page = libc::mmap(ptr::null_mut(), SIZE, access, kind, -1, 0);
            if page == libc::MAP_FAILED {
                return None;
            }
            if libc::madvise(page, SIZE, -1) == 0
                || libc::madvise(page, SIZE, libc::MADV_WIPEONFORK) != 0
            {
                libc::munmap(page, SIZE);
                return None;
            }
            Some(page.cast())
        }
    }

    pub(super) fn pid() -> usize {
        std::process::id() as usize
    }
}

#[cfg(not(all(target_os = "linux", not(windlass_portable))))]
mod platform {
    use super::*;

    pub(super) fn word() -> &'static AtomicUsize {
        &NO_WORD
    }

    /// Windows has no `fork`.
    pub(super) fn pid() -> usize {
        if cfg!(windows) {
            1
        } else {
            std::process::id() as usize
        }
    }
}

/// A global value of which each process has its own. A forked child starts with a new one and leaks
/// the inherited one, because a thread of the parent may hold a lock in it.
///
/// # Examples
///
/// ```
/// use std::sync::Mutex;
/// use windlass_reactor::fork::PerProcess;
///
/// static NAMES: PerProcess<Mutex<Vec<String>>> = PerProcess::new();
///
/// NAMES.get(Mutex::default).lock().unwrap().push("ahoy".to_owned());
/// ```
pub struct PerProcess<T: 'static>(AtomicPtr<Made<T>>);

struct Made<T> {
    origin: Origin,
    value: T,
}

impl<T> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerProcess").finish_non_exhaustive()
    }
}

impl<T: Send + Sync> Default for PerProcess<T> {
    fn default() -> Self {
        PerProcess::new()
    }
}

impl<T: Send + Sync> PerProcess<T> {
    /// Creates an empty `PerProcess`.
    pub const fn new() -> Self {
        PerProcess(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns this process's value, and makes it if needed. Takes no lock.
    #[inline]
    pub fn get(&self, make: fn() -> T) -> &'static T {
        self.get_or_inherit(|_| make())
    }

    /// As [`get`](PerProcess::get), and passes the value of the parent to `make` in a forked child.
    /// A lock in that value may be held forever.
    #[inline]
    pub fn get_or_inherit(&self, make: impl Fn(Option<&T>) -> T) -> &'static T {
        let known = self.0.load(Acquire);
        // SAFETY: the pointer is null, or `replace` made it by `Box::into_raw` and leaked it.
        match unsafe { known.as_ref() } {
            Some(made) if made.origin.is_here() => &made.value,
            inherited => self.replace(known, make(inherited.map(|made| &made.value)), make),
        }
    }

    #[cold]
    fn replace(&self, old: *mut Made<T>, value: T, make: impl Fn(Option<&T>) -> T) -> &'static T {
        let origin = Origin::here();
        let new = Box::into_raw(Box::new(Made { origin, value }));
        match self.0.compare_exchange(old, new, AcqRel, Acquire) {
            // SAFETY: it was made by `Box::into_raw` and is leaked from here on.
            Ok(_) => unsafe { &(*new).value },
            Err(_) => {
                // SAFETY: it was made by `Box::into_raw`, and no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
                self.get_or_inherit(make) // another thread of this process has made one
            }
        }
    }
}
