//! How Windows tells of Ctrl-C: it starts a thread in the process, which calls a handler. So that
//! may take locks and wake.

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT, SetConsoleCtrlHandler};
use windows_sys::core::BOOL;

use windlass_executor::discard_panic;

use super::Signal;
use crate::io::NotSend;

/// Has the waker of who waits.
pub(crate) struct Bell {
    ringer: Ringer,
    _not_send: NotSend,
}

#[derive(Clone)]
pub(crate) struct Ringer(Arc<Mutex<Rung>>);

struct Rung {
    rung: bool,
    waker: Option<Waker>,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let (rung, waker) = (false, None);
        Ok(Bell {
            ringer: Ringer(Arc::new(Mutex::new(Rung { rung, waker }))),
            _not_send: PhantomData,
        })
    }

    pub(crate) fn check_origin(&self) -> io::Result<()> {
        Ok(()) // no process is forked
    }

    pub(crate) fn ringer(&self) -> Ringer {
        self.ringer.clone()
    }

    /// Ready if it was rung since it was last asked.
    pub(crate) fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waker = Some(cx.waker().clone());
        let mut state = lock(&self.ringer.0);
        if mem::take(&mut state.rung) {
            return Poll::Ready(Ok(()));
        }
        mem::swap(&mut state.waker, &mut waker);
        drop(state);
        drop(waker); // the one before, not under the lock
        Poll::Pending
    }
}

impl Ringer {
    fn ring(&self) {
        let mut state = lock(&self.0);
        state.rung = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            discard_panic(|| waker.wake());
        }
    }
}

/// What is done at a signal, until it's dropped: by its number among the listeners.
pub(crate) struct Handler(u64);

static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners {
    by_number: BTreeMap::new(),
    made: 0,
    heard: Vec::new(),
});

/// All that this process has.
struct Listeners {
    by_number: BTreeMap<u64, Listener>,
    made: u64,
    /// The signals that somebody has ever listened for.
    heard: Vec<Signal>,
}

struct Listener {
    signal: Signal,
    flag: Arc<AtomicBool>,
    ringer: Ringer,
}

impl Handler {
    /// Sets `flag`, and if it wasn't set, rings.
    pub(crate) fn new(signal: i32, flag: Arc<AtomicBool>, ringer: Ringer) -> io::Result<Handler> {
        let signal = Signal::from_raw(signal);
        if ![Signal::INT, Signal::BREAK].contains(&signal) {
            let text = format!("{signal:?} can't be listened for: Windows has SIGINT and SIGBREAK");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut listeners = lock(&LISTENERS);
        if listeners.heard.is_empty() {
            // SAFETY: `handle` is a function of the kind that is asked for, which may be called
            // on any thread, at any time and to the end of the program.
            if unsafe { SetConsoleCtrlHandler(Some(handle), 1) } == 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if !listeners.heard.contains(&signal) {
            listeners.heard.push(signal);
        }
        listeners.made += 1;
        let number = listeners.made;
        let listener = Listener {
            signal,
            flag,
            ringer,
        };
        listeners.by_number.insert(number, listener);
        Ok(Handler(number))
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let listener = lock(&LISTENERS).by_number.remove(&self.0);
        drop(listener); // its waker, not under the lock
    }
}

/// True if this was for us: then neither other handlers are called, nor does the program end.
extern "system" fn handle(event: u32) -> BOOL {
    let signal = match event {
        CTRL_C_EVENT => Signal::INT,
        CTRL_BREAK_EVENT => Signal::BREAK,
        _ => return 0,
    };
    let listeners = lock(&LISTENERS);
    let is_ours = listeners.heard.contains(&signal);
    let hear = listeners.by_number.values();
    let hear = hear.filter(|it| it.signal == signal && !it.flag.swap(true, AcqRel));
    let ringers: Vec<_> = hear.map(|it| it.ringer.clone()).collect();
    drop(listeners);
    for ringer in ringers {
        ringer.ring();
    }
    is_ours.into()
}

/// A panic under one of these locks can't leave anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
