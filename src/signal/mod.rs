//! Signals of the process.
//!
//! ```ignore-windows
//! use windlass::{block_on, signal::{Signal, Signals}};
//! # use rustix::process::{getpid, kill_process};
//!
//! block_on(async {
//!     let mut signals = Signals::new([Signal::INT, Signal::TERM])?;
//! #   kill_process(getpid(), rustix::process::Signal::TERM)?;
//!     let signal = signals.recv().await?; // until Ctrl-C or `kill`
//!     println!("{signal:?}: stopping");
//! #   assert_eq!(signal, Signal::TERM);
//!     std::io::Result::Ok(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A signal is sent to the process. It notifies each listener for it, which is every [`Signals`]
//! and every [`ctrl_c`], on any thread.
//!
//! # What a listener changes
//!
//! The first listener for a signal replaces the default action, which for most signals ends the
//! process. The default action stays replaced when the last listener is dropped, and the signal
//! then has no effect. So a program that listens for Ctrl-C should handle a second one while it
//! shuts down.
//!
//! Handlers that other code has installed before are still called. One that other code installs
//! later must call the handler that it replaces, as signal-hook does. Otherwise no listener is
//! notified. Child processes start with the default actions.
//!
//! Handlers run on the thread's alternate signal stack if it has one (`SA_ONSTACK`), which hosts
//! with small stacks need, such as Go. The handlers installed before run there, too.
//!
//! # Windows
//!
//! Windows has [`Signal::INT`], which is Ctrl-C, and `Signal::BREAK`, which is Ctrl-Break. The
//! first listener for a signal disables handlers that other code has installed before.
//!
//! # Signals are merged
//!
//! As in the system itself, a signal that arrives again before the listener has received it is
//! received once.

#[cfg(unix)]
pub(crate) mod action;
#[cfg(unix)]
mod handler;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Context, Poll, ready};

use futures_core::Stream;

#[cfg(unix)]
use unix::{Handler, Notified};
#[cfg(windows)]
pub(crate) use windows::list_waits;
#[cfg(windows)]
use windows::{Handler, Notified};

/// Waits for the next Ctrl-C, which is [`Signal::INT`].
///
/// It listens from the call on, before the first poll. A Ctrl-C between the end of one future and
/// the next call has no effect. In a loop, or for several signals, use [`Signals`]. A service
/// should also shut down at [`Signal::TERM`].
///
/// # Errors
///
/// Fails as [`Signals::new`] and [`Signals::recv`] do.
///
/// # Cancel safety
///
/// After the future is dropped, a Ctrl-C has no effect until there is another listener.
///
/// # Examples
///
/// ```ignore-windows
/// use windlass::{block_on, signal::ctrl_c};
/// # use rustix::process::{Signal, getpid, kill_process};
///
/// let pressed = ctrl_c();
/// # kill_process(getpid(), Signal::INT)?;
/// block_on(pressed)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn ctrl_c() -> CtrlC {
    CtrlC {
        signals: Signals::new([Signal::INT]),
    }
}

/// The future of [`ctrl_c`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited or polled"]
pub struct CtrlC {
    signals: io::Result<Signals>,
}

impl Future for CtrlC {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.signals {
            Ok(signals) => signals.poll_recv(cx).map_ok(|_| ()),
            Err(error) => Poll::Ready(Err(mem::replace(error, io::ErrorKind::Other.into()))),
        }
    }
}

/// A listener for several signals, from its creation until it is dropped. It is an endless
/// [`Stream`].
///
/// Signals that are pending at the same time are returned in turn, so a frequent one can't starve
/// another. The [module](self) describes what a listener changes.
///
/// On Unix it uses two file descriptors.
pub struct Signals {
    /// Dropped first, because a handler may write only while the pipe has a reader.
    watched: Vec<Watched>,
    /// The index to check first.
    next: usize,
    /// Each handler notifies it after it has set its flag.
    notified: Notified,
}

impl Signals {
    /// Creates a listener for these signals.
    ///
    /// # Errors
    ///
    /// Fails for an invalid number, for signals that can't be caught (`SIGKILL`, `SIGSTOP`), and
    /// for signals that report a fault, which would recur at once after a handler (`SIGILL`,
    /// `SIGFPE`, `SIGSEGV`). Also fails if the process is out of file descriptors.
    pub fn new(signals: impl IntoIterator<Item = Signal>) -> io::Result<Signals> {
        let mut this = Signals {
            watched: Vec::new(),
            next: 0,
            notified: Notified::new()?,
        };
        for signal in signals {
            if this.watched.iter().all(|watched| watched.signal != signal) {
                this.watched.push(Watched::new(signal, &this.notified)?);
            }
        }
        let signals = this.watched.iter().map(|watched| watched.signal.0);
        this.notified.list_as(signals.collect());
        Ok(this)
    }

    /// Returns a pending signal, or waits for the next one.
    ///
    /// # Errors
    ///
    /// Fails if no reactor turns on this thread, and in a forked child if the listener was created
    /// before the fork.
    ///
    /// # Cancel safety
    ///
    /// Safe. A signal stays pending until a `recv` returns it.
    pub async fn recv(&mut self) -> io::Result<Signal> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for a signal as [`recv`](Signals::recv) does, for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Signal>> {
        self.notified.check_origin()?;
        loop {
            if let Some(signal) = self.take() {
                return Poll::Ready(Ok(signal));
            }
            // A handler that sets a flag from here on notifies afterwards. So either this poll sees
            // the notification and checks the flags again, or it comes later and wakes the task.
            ready!(self.notified.poll_take(cx))?;
        }
    }

    fn take(&mut self) -> Option<Signal> {
        let count = self.watched.len();
        let mut in_turn = (self.next..self.next + count).map(|i| i % count);
        let found = in_turn.find(|&i| self.watched[i].flag.swap(false, AcqRel))?;
        self.next = found + 1;
        Some(self.watched[found].signal)
    }
}

impl Stream for Signals {
    type Item = io::Result<Signal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(Some)
    }
}

// Handlers share only an atomic flag, and the error of `CtrlC` is only returned.
impl UnwindSafe for Signals {}
impl RefUnwindSafe for Signals {}
impl UnwindSafe for CtrlC {}
impl RefUnwindSafe for CtrlC {}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals ")?;
        let signals = self.watched.iter().map(|watched| watched.signal);
        f.debug_set().entries(signals).finish()
    }
}

/// One signal of a listener.
struct Watched {
    signal: Signal,
    /// The signal is pending. The handler sets it, and `take` clears it.
    flag: Arc<AtomicBool>,
    _handler: Handler,
}

impl Watched {
    fn new(signal: Signal, notified: &Notified) -> io::Result<Watched> {
        let flag = Arc::new(AtomicBool::new(false));
        Ok(Watched {
            signal,
            flag: flag.clone(),
            _handler: Handler::new(signal.0, flag, notified.notifier())?,
        })
    }
}

/// A signal, by its number.
///
/// # Examples
///
/// ```ignore-windows
/// use windlass::signal::Signal;
///
/// assert_eq!(Signal::from_raw(15), Signal::TERM);
/// assert_eq!(format!("{:?}", Signal::TERM), "SIGTERM");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// Creates a signal from any number, for example a realtime signal, which has no constant here.
    pub const fn from_raw(number: i32) -> Signal {
        Signal(number)
    }

    /// Returns the number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Returns the signal for system calls.
    #[cfg(unix)]
    pub(crate) fn to_posix(self) -> io::Result<Posix> {
        let named = Posix::from_named_raw(self.0);
        #[cfg(target_os = "linux")]
        let named = named.or_else(|| {
            let is_realtime = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&self.0);
            // SAFETY: the C library leaves the signals of this range to programs.
            is_realtime.then(|| unsafe { Posix::from_raw_unchecked(self.0) })
        });
        named.ok_or_else(|| {
            let text = format!("there is no signal {} on this system", self.0);
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })
    }
}

/// Constants named as in POSIX without `SIG`, or for the events of a Windows console.
macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident = $number:expr,)*) => {
        impl Signal {
            $(
                $(#[$doc])*
                pub const $name: Signal = Signal($number);
            )*
        }

        impl fmt::Debug for Signal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Signal::$name => f.write_str(concat!("SIG", stringify!($name))),)*
                    Signal(number) => write!(f, "signal {number}"),
                }
            }
        }
    };
}

#[cfg(unix)]
use rustix::process::Signal as Posix;

#[cfg(unix)]
signals! {
    /// The terminal was closed. Services conventionally reload their configuration.
    HUP = Posix::HUP.as_raw(),
    /// Ctrl-C.
    INT = Posix::INT.as_raw(),
    /// Ctrl-\\, by default with a core dump.
    QUIT = Posix::QUIT.as_raw(),
    /// Kills the process at once. It can be sent, but no process can catch it.
    KILL = Posix::KILL.as_raw(),
    /// A request to shut down, sent by `kill` and by service managers.
    TERM = Posix::TERM.as_raw(),
    /// Free for the program's own use.
    USR1 = Posix::USR1.as_raw(),
    /// Free for the program's own use.
    USR2 = Posix::USR2.as_raw(),
    /// The timer of `alarm` has expired.
    ALRM = Posix::ALARM.as_raw(),
    /// A child has ended, or was stopped or continued.
    CHLD = Posix::CHILD.as_raw(),
    /// Ctrl-Z.
    TSTP = Posix::TSTP.as_raw(),
    /// Stops the process until it is continued. It can be sent, but no process can catch it.
    STOP = Posix::STOP.as_raw(),
    /// Continues after a stop.
    CONT = Posix::CONT.as_raw(),
    /// A write to a pipe or socket after its reader was closed. Rust programs ignore it and get an
    /// error.
    PIPE = Posix::PIPE.as_raw(),
    /// A background process has read from the terminal.
    TTIN = Posix::TTIN.as_raw(),
    /// A background process has written to the terminal.
    TTOU = Posix::TTOU.as_raw(),
    /// The size of the terminal has changed.
    WINCH = Posix::WINCH.as_raw(),
}

#[cfg(windows)]
signals! {
    /// Ctrl-C.
    INT = 2,
    /// Ctrl-Break.
    BREAK = 21,
}
