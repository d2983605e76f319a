//! Signals of the process.
//!
//! ```ignore-windows
//! use windlass::{block_on, signal::{Signal, Signals}};
//! # use rustix::process::{getpid, kill_process};
//!
//! block_on(async {
//!     let mut signals = Signals::new([Signal::INT, Signal::TERM])?;
//! #   kill_process(getpid(), rustix::process::Signal::TERM)?;
//!     let signal = signals.recv().await?; // until somebody presses Ctrl-C, or says `kill`
//!     println!("{signal:?}: stopping");
//! #   assert_eq!(signal, Signal::TERM);
//!     std::io::Result::Ok(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A signal is sent to the process, and all in it who listen for it hear of it: every [`Signals`]
//! and every [`ctrl_c`], on whatever thread.
//!
//! # What listening changes
//!
//! From the first listener on, the system no longer does by itself what it does at this signal,
//! which for most is to end the process. It stays like that when the last listener is dropped: then
//! the signal does nothing. So whoever listens for Ctrl-C has to see to it that a second one isn't
//! ignored while the program stops.
//!
//! Handlers that other code has set up before are called as well. Programs that are started inherit
//! nothing of this: in a child, signals do what they always do.
//!
//! Handlers run on the thread's alternate signal stack where it has one (`SA_ONSTACK`), as hosts
//! with small stacks need it, Go among them. Handlers that were set up before are called from there
//! as well.
//!
//! # Windows
//!
//! It has [`Signal::INT`], which is Ctrl-C, and `Signal::BREAK`, which is Ctrl-Break. Handlers that
//! other code has set up before are not called for a signal that was ever listened for here.
//!
//! # What counts once
//!
//! As in the system itself, signals aren't counted: one that comes again before it was taken is
//! heard once.

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
use unix::{Bell, Handler};
#[cfg(windows)]
use windows::{Bell, Handler};

/// Waits for the next Ctrl-C, which is [`Signal::INT`].
///
/// It listens from the call on, not only once it's polled. It may be called again and again; but
/// what is pressed between one future's end and the next call does nothing. So for a loop, or for
/// several signals (a service should stop at [`Signal::TERM`] as well), use [`Signals`].
///
/// # Errors
///
/// As [`Signals::new`] and [`Signals::recv`].
///
/// # Cancel safety
///
/// If it's dropped, a Ctrl-C does nothing until somebody listens again.
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

/// Listens for some signals, from its making on until it's dropped. A [`Stream`] of them, which
/// never ends.
///
/// Those that have come at the same time are given in turn, so that a frequent one doesn't keep
/// another from being heard. See the [module](self) for what listening changes.
///
/// It takes two descriptors.
pub struct Signals {
    /// Dropped first: no handler may write to a pipe that nobody can read any more.
    watched: Vec<Watched>,
    /// Where to look first, in turn.
    next: usize,
    /// Each handler rings it after it has set its flag.
    bell: Bell,
}

impl Signals {
    /// Listens for these signals from now on.
    ///
    /// # Errors
    ///
    /// For a signal that can't be listened for: there is none of this number, it can't be caught
    /// (`SIGKILL`, `SIGSTOP`), or it tells of a fault that would come again at once if it were
    /// (`SIGILL`, `SIGFPE`, `SIGSEGV`). Or if the descriptors can't be had.
    pub fn new(signals: impl IntoIterator<Item = Signal>) -> io::Result<Signals> {
        let mut this = Signals {
            watched: Vec::new(),
            next: 0,
            bell: Bell::new()?,
        };
        for signal in signals {
            if this.watched.iter().all(|watched| watched.signal != signal) {
                this.watched.push(Watched::new(signal, &this.bell)?);
            }
        }
        Ok(this)
    }

    /// The next signal: one that has come already, or the first to come.
    ///
    /// # Errors
    ///
    /// If no reactor turns on this thread. Or in a forked child, if it was made before the fork.
    ///
    /// # Cancel safety
    ///
    /// A signal stays there until a `recv` gives it.
    pub async fn recv(&mut self) -> io::Result<Signal> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Signals::recv) for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Signal>> {
        self.bell.check_origin()?;
        loop {
            if let Some(signal) = self.take() {
                return Poll::Ready(Ok(signal));
            }
            // A flag that is set from here on is followed by a ring. So either that is heard now,
            // and the flags are looked at again, or it comes later, and wakes.
            ready!(self.bell.poll_rung(cx))?;
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

// A handler only sets a flag, and the error is only given away.
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

/// One signal that is listened for.
struct Watched {
    signal: Signal,
    /// It has come. Set by the handler, taken back by whoever hears it.
    flag: Arc<AtomicBool>,
    _handler: Handler,
}

impl Watched {
    fn new(signal: Signal, bell: &Bell) -> io::Result<Watched> {
        let flag = Arc::new(AtomicBool::new(false));
        Ok(Watched {
            signal,
            flag: flag.clone(),
            _handler: Handler::new(signal.0, flag, bell.ringer())?,
        })
    }
}

/// The number of a signal.
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
    /// The signal of that number, be there one or not: for those that have no name here, as the
    /// realtime signals.
    pub const fn from_raw(number: i32) -> Signal {
        Signal(number)
    }

    /// Its number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

/// Names, without their SIG: those of POSIX, or those of what a Windows console tells of.
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
    /// The terminal is gone; for services, by custom: read the configuration again.
    HUP = Posix::HUP.as_raw(),
    /// Ctrl-C.
    INT = Posix::INT.as_raw(),
    /// Ctrl-\\, by default with a core dump.
    QUIT = Posix::QUIT.as_raw(),
    /// Please end: what `kill` sends, and who runs services.
    TERM = Posix::TERM.as_raw(),
    /// Free for the program's own use.
    USR1 = Posix::USR1.as_raw(),
    /// Free for the program's own use.
    USR2 = Posix::USR2.as_raw(),
    /// The timer of `alarm` has gone off.
    ALRM = Posix::ALARM.as_raw(),
    /// A child has ended, or was stopped or continued.
    CHLD = Posix::CHILD.as_raw(),
    /// Ctrl-Z.
    TSTP = Posix::TSTP.as_raw(),
    /// Goes on after a stop.
    CONT = Posix::CONT.as_raw(),
    /// Something was written to a pipe or socket that nobody reads. Rust programs ignore it, and
    /// get an error.
    PIPE = Posix::PIPE.as_raw(),
    /// A read from the terminal, in the background.
    TTIN = Posix::TTIN.as_raw(),
    /// A write to the terminal, in the background.
    TTOU = Posix::TTOU.as_raw(),
    /// The terminal has another size.
    WINCH = Posix::WINCH.as_raw(),
}

#[cfg(windows)]
signals! {
    /// Ctrl-C.
    INT = 2,
    /// Ctrl-Break.
    BREAK = 21,
}
