//! A value of one thread that other threads may own.

use std::any::type_name;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::mem::{self, ManuallyDrop};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};

use futures_core::Stream;
use futures_io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite};
use windlass_reactor::Mailbox;

/// Makes any value `Send` and `Sync`, for code that requires it and then stays on one thread.
///
/// Many crates require `Send` of futures and streams because they were written for runtimes that
/// move tasks between threads. On a single thread nothing moves. A `Local` has the traits that such
/// code asks for. Any thread may own, move and drop it, and only the thread that has created it may
/// use the value.
///
/// It implements `Deref` and `DerefMut`. If the value has them, it also implements [`Future`],
/// [`Stream`], the I/O traits of futures-io and, with the feature `hyper`, those of hyper. For a
/// future that is not `Unpin`, use `Local::new(Box::pin(future))`.
///
/// # Drop on another thread
///
/// The value goes back to its own thread and is dropped there, at the end of the next turn of that
/// thread's loop, or at the end of the thread. If the thread has ended or has released its reactor,
/// the value is leaked, because no loop could drop it. A value without a destructor needs no way
/// back.
///
/// # Panics
///
/// A use on another thread panics. This applies to `deref`, and to each method of the traits. See
/// [`get`](Local::get) for access without a panic. Creating and dropping a `Local` never panics.
///
/// # Examples
///
/// A library wants a `Send` future, and the future holds an `Rc`:
///
/// ```
/// use std::{future::Future, rc::Rc};
/// use windlass::{task::Local, time::sleep};
///
/// fn wants_send<T>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
///     future
/// }
///
/// windlass::block_on(async {
///     let shared = Rc::new(42);
///     let future = async move {
///         sleep(std::time::Duration::from_millis(1)).await;
///         *shared
///     };
///     assert_eq!(wants_send(Local::new(Box::pin(future))).await, 42);
/// });
/// ```
///
/// A value that visits another thread:
///
/// ```
/// use std::{cell::Cell, rc::Rc, thread};
/// use windlass::task::Local;
///
/// let count = Local::new(Rc::new(Cell::new(1)));
/// let count = thread::spawn(move || {
///     assert!(!count.is_here() && count.get().is_none());
///     count
/// })
/// .join()
/// .unwrap();
/// count.set(2);
/// assert_eq!(count.into_inner().unwrap().get(), 2);
/// ```
pub struct Local<T: 'static> {
    value: ManuallyDrop<T>,
    thread: ThreadId,
    /// Where the value goes if it is dropped elsewhere. `None` if it needs no drop, or if the
    /// thread has no reactor and cannot create one.
    home: Option<Mailbox>,
}

// SAFETY: each access checks that this is the thread of the value, and the drop moves the value
// there.
unsafe impl<T> Send for Local<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// Binds a value to this thread.
    pub fn new(value: T) -> Local<T> {
        let home = mem::needs_drop::<T>().then(|| Mailbox::current().ok());
        Local {
            value: ManuallyDrop::new(value),
            thread: this_thread(),
            home: home.flatten(),
        }
    }

    /// Returns whether this is the thread of the value.
    pub fn is_here(&self) -> bool {
        self.thread == this_thread()
    }

    /// Returns the value, or `None` on another thread.
    pub fn get(&self) -> Option<&T> {
        self.is_here().then(|| &*self.value)
    }

    /// Returns the value, or `None` on another thread.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.is_here().then(|| &mut *self.value)
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// Returns the `Local` on another thread.
    pub fn into_inner(self) -> Result<T, Local<T>> {
        if !self.is_here() {
            return Err(self);
        }
        let mut this = ManuallyDrop::new(self);
        drop(this.home.take());
        // SAFETY: this is the thread of the value, and `this` is not dropped.
        Ok(unsafe { ManuallyDrop::take(&mut this.value) })
    }

    #[cold]
    #[track_caller]
    fn used_elsewhere(&self) -> ! {
        panic!(
            "a `Local<{}>` was used on {:?}, but its value belongs to {:?}: move it back, or use \
             `Local::get`",
            type_name::<T>(),
            this_thread(),
            self.thread,
        )
    }

    /// The value for a method that takes itself pinned.
    #[track_caller]
    fn pinned(self: Pin<&mut Self>) -> Pin<&mut T>
    where
        T: Unpin,
    {
        Pin::new(&mut **Pin::into_inner(self))
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        match self.get() {
            Some(value) => value,
            None => self.used_elsewhere(),
        }
    }
}

impl<T> DerefMut for Local<T> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        if !self.is_here() {
            self.used_elsewhere();
        }
        &mut self.value
    }
}

/// Returns the number of this thread. `thread::current` counts a reference, which each access to a
/// value would do twice.
fn this_thread() -> ThreadId {
    thread_local! {
        static THIS: Cell<Option<ThreadId>> = const { Cell::new(None) };
    }
    THIS.get().unwrap_or_else(|| {
        let this = thread::current().id();
        THIS.set(Some(this));
        this
    })
}

/// A value on its way home. It is used only there.
struct Returning<T>(T);

// SAFETY: only the thread of the value drops it, see `Local::drop`.
unsafe impl<T> Send for Returning<T> {}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if !mem::needs_drop::<T>() {
            return;
        }
        if self.is_here() {
            // SAFETY: this is the thread of the value, and the value is not used again.
            return unsafe { ManuallyDrop::drop(&mut self.value) };
        }
        if let Some(home) = self.home.take() {
            // SAFETY: the value is not used again here. The job, which owns it, runs on the thread
            // of the value, or is dropped there, or is leaked.
            let value = Returning(unsafe { ManuallyDrop::take(&mut self.value) });
            if let Err(job) = home.post(Box::new(move || drop(value))) {
                mem::forget(job);
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("Local");
        match self.get() {
            Some(value) => debug.field(value),
            None => debug.field(&format_args!("of {:?}", self.thread)),
        };
        debug.finish()
    }
}

impl<T: Default> Default for Local<T> {
    fn default() -> Self {
        Local::new(T::default())
    }
}

impl<T> From<T> for Local<T> {
    fn from(value: T) -> Self {
        Local::new(value)
    }
}

impl<F: Future + Unpin> Future for Local<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.pinned().poll(cx)
    }
}

impl<S: Stream + Unpin> Stream for Local<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.pinned().poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.get().map_or((0, None), S::size_hint)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Local<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_read_vectored(cx, bufs)
    }
}

impl<T: AsyncBufRead + Unpin> AsyncBufRead for Local<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        self.pinned().poll_fill_buf(cx)
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.pinned().consume(amount);
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Local<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_close(cx)
    }
}

impl<T: AsyncSeek + Unpin> AsyncSeek for Local<T> {
    fn poll_seek(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        position: SeekFrom,
    ) -> Poll<io::Result<u64>> {
        self.pinned().poll_seek(cx, position)
    }
}

#[cfg(feature = "hyper")]
mod hyper_traits {
    use super::*;
    use ::hyper::rt;

    impl<T: rt::Read + Unpin> rt::Read for Local<T> {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: rt::ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            self.pinned().poll_read(cx, buf)
        }
    }

    impl<T: rt::Write + Unpin> rt::Write for Local<T> {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.pinned().poll_write(cx, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.pinned().poll_flush(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.pinned().poll_shutdown(cx)
        }

        fn is_write_vectored(&self) -> bool {
            (**self).is_write_vectored()
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.pinned().poll_write_vectored(cx, bufs)
        }
    }

    impl<F, E: rt::Executor<F>> rt::Executor<F> for Local<E> {
        fn execute(&self, future: F) {
            (**self).execute(future);
        }
    }
}
