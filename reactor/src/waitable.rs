//! The end of a process on Windows, as a leaf future.

use std::io;
use std::marker::PhantomData;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::task::Context;

use crate::source::Source;

/// Waits until a handle is signaled once. The handle of a process is signaled when the process has
/// ended, the handle of an event when it is set. The system's thread pool waits for it and notifies
/// the completion port of this thread's reactor.
///
/// The reactor of the thread serves it.
#[derive(Debug)]
pub struct Waitable {
    source: Source,
    handle: OwnedHandle,
    /// It stays on its thread, because only there the drop ends the wait of the system, which must
    /// not outlive the handle.
    not_send: PhantomData<*const ()>,
}

impl Waitable {
    /// Takes a handle that can be waited for.
    ///
    /// # Errors
    ///
    /// Fails if this thread has no reactor and none can be created.
    pub fn new(handle: OwnedHandle) -> io::Result<Waitable> {
        Ok(Waitable {
            source: Source::new()?,
            handle,
            not_send: PhantomData,
        })
    }

    /// Registers the task's waker, which is called when the handle is signaled. The caller then
    /// checks whether it was signaled before. The first call starts the system's wait.
    ///
    /// # Errors
    ///
    /// Fails if this thread's reactor is not driven, or if the system cannot wait for the handle.
    pub fn register(&self, cx: &mut Context<'_>) -> io::Result<()> {
        self.source.wait_for_process(cx, self.handle.as_handle())
    }
}

impl AsHandle for Waitable {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.handle.as_handle()
    }
}

impl Drop for Waitable {
    fn drop(&mut self) {
        self.source.close_process(self.handle.as_handle());
    }
}
