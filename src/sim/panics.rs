//! Panics of runs: where they happen, and whether they are printed.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use windlass_executor::discard_panic;

/// How many panics of one run are kept. A program may catch panics, so a run may have many.
const KEPT: usize = 16;

/// A panic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Panicked {
    pub(super) message: String,
    /// The file, line and column.
    pub(super) place: Option<String>,
}

/// The run of this thread.
struct Catching {
    is_quiet: bool,
    panics: VecDeque<Panicked>,
}

thread_local! {
    static CATCHING: RefCell<Option<Catching>> = const { RefCell::new(None) };
}

/// Calls a function and catches its panic. The panics on this thread are printed unless `is_quiet`.
///
/// The place of a panic is known to the panic hook alone. The first call installs one, which calls
/// the previous hook.
pub(super) fn catch<R>(is_quiet: bool, function: impl FnOnce() -> R) -> Result<R, Panicked> {
    install_hook();
    let catching = Catching {
        is_quiet,
        panics: VecDeque::new(),
    };
    let outer = CATCHING.replace(Some(catching));
    let result = catch_unwind(AssertUnwindSafe(function));
    let catching = CATCHING.replace(outer);
    result.map_err(|payload| {
        let message = message(&*payload);
        discard_panic(|| drop(payload));
        let panics = catching.map(|catching| catching.panics).unwrap_or_default();
        // The program may resume an earlier panic after others.
        let found = panics
            .into_iter()
            .rev()
            .find(|panic| panic.message == message);
        found.unwrap_or(Panicked {
            message,
            place: None,
        })
    })
}

/// As [`catch`], unless a call of it is on the stack. Then the panic propagates to that.
pub(super) fn catch_outermost<R>(function: impl FnOnce() -> R) -> Result<R, Panicked> {
    let is_caught = CATCHING.with(|catching| catching.borrow().is_some());
    match is_caught {
        true => Ok(function()),
        false => catch(false, function),
    }
}

/// Returns the oldest panic of the run of this thread that was not taken, and forgets it.
pub(super) fn take() -> Option<Panicked> {
    let mut catching = CATCHING.take();
    let first = catching
        .as_mut()
        .and_then(|catching| catching.panics.pop_front());
    CATCHING.set(catching);
    first
}

fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if !note(info) {
                previous(info);
            }
        }));
    });
}

/// Notes a panic of this thread, and returns whether it must not be printed.
fn note(info: &PanicHookInfo<'_>) -> bool {
    let noted = CATCHING.try_with(|catching| {
        let mut catching = catching.try_borrow_mut().ok()?;
        let catching = catching.as_mut()?;
        if catching.panics.len() == KEPT {
            catching.panics.pop_front();
        }
        catching.panics.push_back(Panicked {
            message: message(info.payload()),
            place: info.location().map(ToString::to_string),
        });
        Some(catching.is_quiet)
    });
    noted.ok().flatten().unwrap_or(false)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a payload that is not a string").to_owned()
}
