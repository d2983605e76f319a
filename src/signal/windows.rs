//! Signals on Windows. The system starts a thread in the process, which calls a handler. The
//! handler may take locks and wake tasks.

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
use crate::waits::{FacadeWait, WaitKind, WakerId};

/// Holds the waker of the task that waits.
pub(crate) struct Notified {
    notifier: Notifier,
    _not_send: NotSend,
}

#[derive(Clone)]
pub(crate) struct Notifier(Arc<Mutex<State>>);

struct State {
    is_notified: bool,
    waker: Option<Waker>,
}

impl Notified {
    pub(crate) fn new() -> io::Result<Notified> {
        let state = State {
            is_notified: false,
            waker: None,
        };
        Ok(Notified {
            notifier: Notifier(Arc::new(Mutex::new(state))),
            _not_send: PhantomData,
        })
    }

    pub(crate) fn check_origin(&self) -> io::Result<()> {
        Ok(()) // Windows has no fork
    }

    /// Does nothing, because each listener is listed with its signal.
    pub(crate) fn list_as(&mut self, _: Vec<i32>) {}

    pub(crate) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Returns ready if a handler has notified since the last call.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waker = Some(cx.waker().clone());
        let mut state = lock(&self.notifier.0);
        if mem::take(&mut state.is_notified) {
            return Poll::Ready(Ok(()));
        }
        mem::swap(&mut state.waker, &mut waker);
        drop(state);
        drop(waker); // the previous one, outside of the lock
        Poll::Pending
    }
}

impl Notifier {
    fn notify(&self) {
        let mut state = lock(&self.0);
        state.is_notified = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            discard_panic(|| waker.wake());
        }
    }
}

/// A listener for a signal until this is dropped, by its number.
pub(crate) struct Handler(u64);

static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners {
    by_number: BTreeMap::new(),
    created: 0,
    handled: Vec::new(),
});

/// The listeners of this process.
struct Listeners {
    by_number: BTreeMap<u64, Listener>,
    created: u64,
    /// The signals for which there was ever a listener.
    handled: Vec<Signal>,
}

struct Listener {
    signal: Signal,
    flag: Arc<AtomicBool>,
    notifier: Notifier,
}

impl Handler {
    /// Adds a listener. The signal sets `flag`, and notifies if it was clear.
    pub(crate) fn new(
        signal: i32,
        flag: Arc<AtomicBool>,
        notifier: Notifier,
    ) -> io::Result<Handler> {
        let signal = Signal::from_raw(signal);
        if ![Signal::INT, Signal::BREAK].contains(&signal) {
            let text = format!("can't listen for {signal:?}: Windows has SIGINT and SIGBREAK");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut listeners = lock(&LISTENERS);
        if listeners.handled.is_empty() {
            // SAFETY: `handle` has the required signature, and may be called on any thread at any
            // time until the end of the program.
            if unsafe { SetConsoleCtrlHandler(Some(handle), 1) } == 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if !listeners.handled.contains(&signal) {
            listeners.handled.push(signal);
        }
        listeners.created += 1;
        let number = listeners.created;
        let listener = Listener {
            signal,
            flag,
            notifier,
        };
        listeners.by_number.insert(number, listener);
        Ok(Handler(number))
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let listener = lock(&LISTENERS).by_number.remove(&self.0);
        drop(listener); // may drop a waker, so outside of the lock
    }
}

/// Lists the waits for signals, of all threads.
pub(crate) fn list_waits(waits: &mut Vec<FacadeWait>) {
    for (number, listener) in &lock(&LISTENERS).by_number {
        let waker = lock(&listener.notifier.0).waker.as_ref().map(WakerId::of);
        waits.extend(waker.map(|waker| FacadeWait {
            waker,
            kind: WaitKind::Signal(listener.signal.as_raw()),
            object: *number as usize,
            created_at: None,
            awaited_at: None,
        }));
    }
}

/// Returns true if the signal was handled. The system then calls no other handlers and does not end
/// the program.
extern "system" fn handle(event: u32) -> BOOL {
    let signal = match event {
        CTRL_C_EVENT => Signal::INT,
        CTRL_BREAK_EVENT => Signal::BREAK,
        _ => return 0,
    };
    let listeners = lock(&LISTENERS);
    let is_handled = listeners.handled.contains(&signal);
    let waiting = listeners.by_number.values();
    let waiting = waiting.filter(|it| it.signal == signal && !it.flag.swap(true, AcqRel));
    let notifiers: Vec<_> = waiting.map(|it| it.notifier.clone()).collect();
    drop(listeners);
    for notifier in notifiers {
        notifier.notify();
    }
    is_handled.into()
}

/// Wherever code can panic under one of these locks, the state is consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
