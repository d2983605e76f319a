//! The action of a signal, which is its handler with flags.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Returns the action of a signal, and replaces it by `new`. May be called in a signal handler.
///
/// # Safety
///
/// The handler of `new` must be one that was installed for this signal before, or one that is safe
/// at any time.
pub(crate) unsafe fn swap_action(
    signal: c_int,
    new: Option<&libc::sigaction>,
) -> io::Result<libc::sigaction> {
    let new = new.map_or(ptr::null(), ptr::from_ref);
    let mut old = MaybeUninit::zeroed();
    // SAFETY: both pointers are valid for the call, and an action may be all zeros. The handler of
    // `new` is valid, as the caller promises.
    unsafe {
        if libc::sigaction(signal, new, old.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(old.assume_init())
    }
}
