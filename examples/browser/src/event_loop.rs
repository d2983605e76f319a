//! The executor and its turns.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Wake, Waker};

use windlass_executor::Executor;

use crate::browser;

/// The most polls of a turn. A page with long polls takes a smaller number.
const MAX_POLLS: usize = 256;

thread_local! {
    static EXECUTOR: Executor = Executor::new();
    static WAKER: Waker = Waker::from(Arc::new(TurnSoon));
    /// A turn was requested and has not begun.
    static REQUESTED: Cell<bool> = const { Cell::new(false) };
}

/// The wake hook. The executor calls it for the first wake after a turn.
struct TurnSoon;

impl Wake for TurnSoon {
    fn wake(self: Arc<Self>) {
        if !REQUESTED.replace(true) {
            browser::turn_soon();
        }
    }
}

/// Spawns a task. It runs until it completes.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    EXECUTOR.with(|executor| executor.spawn(future).detach());
    WAKER.with(Waker::wake_by_ref); // the first spawn precedes the first turn
}

/// Polls the ready tasks. The page calls it when the module has requested it.
///
/// If tasks are ready after it, the next turn follows the events of the browser, so that a task
/// which is always ready stops neither input nor drawing.
#[unsafe(no_mangle)]
pub extern "C" fn turn() {
    REQUESTED.set(false);
    let tick = EXECUTOR.with(|executor| {
        let _entered = executor.enter(); // destructors may spawn
        WAKER.with(|waker| executor.tick(waker, MAX_POLLS))
    });
    if tick.ready && !REQUESTED.replace(true) {
        browser::turn_later();
    }
}
