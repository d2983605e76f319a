//! The functions of `page.js`.

use std::time::Duration;

mod sys {
    #[link(wasm_import_module = "page")]
    unsafe extern "C" {
        pub(super) safe fn turn_soon();
        pub(super) safe fn turn_later();
        pub(super) safe fn start_timer(id: u32, milliseconds: f64);
        pub(super) fn start_listener(id: u32, name: *const u8, length: usize);
        pub(super) fn start_fetch(id: u32, address: *const u8, length: usize);
        pub(super) safe fn cancel(id: u32);
        pub(super) fn write(text: *const u8, length: usize);
        pub(super) safe fn now() -> f64;
    }
}

/// Calls `turn` as a microtask, before the browser handles its next event.
pub(crate) fn turn_soon() {
    sys::turn_soon();
}

/// Calls `turn` after the browser has handled its events and has drawn.
pub(crate) fn turn_later() {
    sys::turn_later();
}

pub(crate) fn start_timer(id: u32, duration: Duration) {
    sys::start_timer(id, duration.as_secs_f64() * 1e3);
}

pub(crate) fn start_listener(id: u32, name: &str) {
    // SAFETY: the page reads the text before it returns.
    unsafe { sys::start_listener(id, name.as_ptr(), name.len()) }
}

pub(crate) fn start_fetch(id: u32, address: &str) {
    // SAFETY: the page reads the text before it returns.
    unsafe { sys::start_fetch(id, address.as_ptr(), address.len()) }
}

/// Stops what was started with this id.
pub(crate) fn cancel(id: u32) {
    sys::cancel(id);
}

/// Adds a line to the page.
pub(crate) fn write(text: &str) {
    // SAFETY: the page reads the text before it returns.
    unsafe { sys::write(text.as_ptr(), text.len()) }
}

/// Returns the time since the page was opened. `Instant` doesn't work on this target.
pub(crate) fn now() -> Duration {
    Duration::from_secs_f64(sys::now() / 1e3)
}
