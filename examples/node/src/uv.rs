//! The part of libuv that watches a descriptor. Node exports these functions.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;

use napi_sys::uv_loop_s;

type Callback = unsafe extern "C" fn(handle: *mut c_void, status: c_int, events: c_int);
type CloseCallback = unsafe extern "C" fn(handle: *mut c_void);

unsafe extern "C" {
    fn uv_handle_size(kind: c_int) -> usize;
    fn uv_handle_get_data(handle: *const c_void) -> *mut c_void;
    fn uv_handle_set_data(handle: *mut c_void, data: *mut c_void);
    fn uv_poll_init(event_loop: *mut uv_loop_s, handle: *mut c_void, descriptor: c_int) -> c_int;
    fn uv_poll_start(handle: *mut c_void, events: c_int, callback: Callback) -> c_int;
    fn uv_close(handle: *mut c_void, callback: CloseCallback);
    fn uv_ref(handle: *mut c_void);
    fn uv_unref(handle: *mut c_void);
    fn uv_strerror(error: c_int) -> *const c_char;
}

/// `UV_POLL` of `uv_handle_type`.
const POLL: c_int = 8;

const READABLE: c_int = 1;

/// Calls a closure while a descriptor is readable. The handle doesn't keep the loop alive until
/// [`keep_alive`](Poll::keep_alive).
#[derive(Debug)]
pub(crate) struct Poll {
    /// libuv owns the memory until the callback of `uv_close`.
    handle: NonNull<c_void>,
    /// A duplicate, because libuv watches a descriptor once, and several runtimes of a thread have
    /// the same.
    _descriptor: OwnedFd,
}

/// What the handle's data points to.
struct Data {
    readable: Box<dyn Fn()>,
    /// Called after libuv has released the handle.
    closed: Option<Box<dyn FnOnce()>>,
    layout: Layout,
}

impl Poll {
    /// # Safety
    ///
    /// The loop must be the one of this thread, and exist until `closed` is called.
    pub(crate) unsafe fn start(
        event_loop: *mut uv_loop_s,
        descriptor: &impl AsFd,
        readable: impl Fn() + 'static,
        closed: impl FnOnce() + 'static,
    ) -> io::Result<Poll> {
        let descriptor = descriptor.as_fd().try_clone_to_owned()?;
        // SAFETY: it only reads a table.
        let size = unsafe { uv_handle_size(POLL) };
        let layout = Layout::from_size_align(size, align_of::<u128>()).expect("a small size");
        // SAFETY: the size of a handle isn't zero.
        let Some(handle) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout);
        };
        let data = Data {
            readable: Box::new(readable),
            closed: Some(Box::new(closed)),
            layout,
        };
        let handle: NonNull<c_void> = handle.cast();
        // SAFETY: the memory has the size of a handle, and the caller guarantees the rest. The
        // descriptor is open until the drop. If it fails, libuv doesn't know the handle.
        let status = unsafe { uv_poll_init(event_loop, handle.as_ptr(), descriptor.as_raw_fd()) };
        if let Err(error) = check(status) {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(handle.as_ptr().cast(), layout) };
            return Err(error);
        }
        // SAFETY: the handle is initialized. `on_close` takes the box back.
        unsafe { uv_handle_set_data(handle.as_ptr(), Box::into_raw(Box::new(data)).cast()) };
        let poll = Poll {
            handle,
            _descriptor: descriptor,
        };
        // SAFETY: the handle is initialized.
        check(unsafe { uv_poll_start(handle.as_ptr(), READABLE, on_readable) })?;
        poll.keep_alive(false);
        Ok(poll)
    }

    /// Sets whether the loop runs on because of this handle.
    pub(crate) fn keep_alive(&self, is_needed: bool) {
        // SAFETY: the handle is initialized and not closed.
        unsafe {
            match is_needed {
                true => uv_ref(self.handle.as_ptr()),
                false => uv_unref(self.handle.as_ptr()),
            }
        }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        // SAFETY: the handle is initialized and closed once. This forgets the descriptor at once.
        unsafe { uv_close(self.handle.as_ptr(), on_close) }
    }
}

/// Calls the closure. An error, which no working descriptor has, is left to the turn.
unsafe extern "C" fn on_readable(handle: *mut c_void, _status: c_int, _events: c_int) {
    // SAFETY: the data is a `Data` until `on_close`, which libuv calls from the loop.
    let data = unsafe { &*uv_handle_get_data(handle).cast::<Data>() };
    (data.readable)();
}

unsafe extern "C" fn on_close(handle: *mut c_void) {
    // SAFETY: libuv uses the handle no longer, and this is called once.
    let mut data = unsafe { Box::from_raw(uv_handle_get_data(handle).cast::<Data>()) };
    // SAFETY: `start` allocated it with this layout.
    unsafe { dealloc(handle.cast(), data.layout) };
    if let Some(closed) = data.closed.take() {
        closed();
    }
}

fn check(status: c_int) -> io::Result<()> {
    if status >= 0 {
        return Ok(());
    }
    // SAFETY: it returns a string for each number.
    let message = unsafe { CStr::from_ptr(uv_strerror(status)) };
    Err(io::Error::other(message.to_string_lossy().into_owned()))
}
