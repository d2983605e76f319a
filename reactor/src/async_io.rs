//! `Async<T>`, a descriptor with asynchronous operations.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::sockopt;

use crate::poller::Interest;
#[cfg(unix)]
use crate::readiness::{ConditionWait, poll_condition};
use crate::readiness::{Readable, Writable, poll_ready};
use crate::source::Source;
use crate::source_wait::Wait;
use crate::wake::wake_all;

/// Adds asynchronous operations to any file descriptor that the poller can watch, such as a socket,
/// a pipe, a terminal, an eventfd, an inotify instance or the descriptor of a C library.
///
/// Every operation tries first and waits only if the system returns `WouldBlock`. If `&T`
/// implements [`Read`] or [`Write`], `Async<T>` and `&Async<T>` implement [`AsyncRead`] and
/// [`AsyncWrite`]. Any number of tasks may wait at once. An event wakes all tasks that wait for its
/// direction.
///
/// An `Async` is `Send` and `Sync` if the value is. The reactor of the thread where an operation
/// waits serves it. See [`net`](crate::net) for what that costs.
///
/// `T` must always return the same descriptor.
///
/// # Cancel safety
///
/// All futures may be dropped at any time. The readiness that they waited for is not lost.
///
/// # Examples
///
/// ```ignore-windows
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use windlass::{block_on, Async};
///
/// let (here, mut there) = UnixStream::pair()?;
/// let here = Async::new(here)?;
/// let thread = std::thread::spawn(move || there.write_all(b"ahoy"));
/// block_on(async {
///     let mut buffer = [0; 8];
///     let n = here.read_with(|mut socket| socket.read(&mut buffer)).await?;
///     assert_eq!(&buffer[..n], b"ahoy");
///     std::io::Result::Ok(())
/// })?;
/// thread.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Async<T: AsFd> {
    source: Source,
    /// `None` only in `drop`, after `into_inner`.
    io: Option<T>,
}

impl<T: AsFd> Async<T> {
    /// Makes the descriptor non-blocking and registers it with this thread's reactor.
    ///
    /// Non-blocking mode is a property of the open file, which other descriptors may share, for
    /// example the standard streams on a terminal.
    ///
    /// Closing a socket that lingers (`SO_LINGER` with a time above zero) blocks, even in
    /// non-blocking mode. So the drop of an `Async` switches lingering off first, and the system
    /// sends the rest in the background.
    ///
    /// A serial line has no such option. Its last close waits until the output is sent, up to the
    /// time that is set for the line (`closing_wait`, 30 s by default).
    ///
    /// # Errors
    ///
    /// Fails if the poller cannot watch the descriptor. For example, epoll refuses regular files,
    /// which are always ready (`PermissionDenied`). Also fails if the reactor cannot be created.
    pub fn new(io: T) -> io::Result<Async<T>> {
        set_nonblocking(io.as_fd(), true)?;
        let this = Async::new_nonblocking(io)?;
        this.register()?;
        Ok(this)
    }

    /// Takes a descriptor that is non-blocking already, and registers it when an operation first
    /// has to wait. Operations that never wait cost no other system call.
    ///
    /// A descriptor that never blocks, such as the descriptor of a regular file, may stay in
    /// blocking mode. Any other descriptor in that mode would block the loop.
    ///
    /// # Errors
    ///
    /// Fails in a simulated host if its reactor cannot be created. If the poller cannot watch the
    /// descriptor, the error comes from the first operation that has to wait, or from
    /// [`register`](Async::register).
    #[inline]
    pub fn new_nonblocking(io: T) -> io::Result<Async<T>> {
        Ok(Async {
            source: Source::new()?,
            io: Some(io),
        })
    }

    /// Like [`new_nonblocking`](Async::new_nonblocking), for a descriptor without a linger time,
    /// such as a new socket or a pipe. The drop then saves the system call that reads `SO_LINGER`.
    ///
    /// # Errors
    ///
    /// Fails as [`new_nonblocking`](Async::new_nonblocking) does.
    #[inline]
    pub fn new_nonlingering(io: T) -> io::Result<Async<T>> {
        let this = Async::new_nonblocking(io)?;
        this.source.set_may_linger(false);
        Ok(this)
    }

    /// Registers the descriptor with this thread's reactor now. Without this, the first operation
    /// that has to wait registers it.
    ///
    /// # Errors
    ///
    /// Fails if the poller can't watch the descriptor, and in a forked child if the `Async` was
    /// made before the fork.
    pub fn register(&self) -> io::Result<()> {
        let entry = self.source.entry()?;
        self.source.arm(entry, self.as_fd(), Interest::Read)
    }

    /// Returns a reference to the value. The caller may read and write with it directly, and then
    /// has to handle `WouldBlock`.
    #[inline]
    pub fn get_ref(&self) -> &T {
        self.io.as_ref().expect("the value is present until drop")
    }

    /// Returns a mutable reference to the value, for operations that take `&mut self`.
    ///
    /// The caller may replace the value, so this deregisters the descriptor, and the next wait
    /// registers it again. That costs two system calls if something has waited before. Wakes tasks
    /// that still wait with a `poll_` method.
    ///
    /// # Errors
    ///
    /// Fails in a simulation, because other code can't use a simulated socket.
    ///
    /// # Examples
    ///
    /// ```ignore-windows
    /// use std::io::{self, Read, Write};
    /// use std::os::fd::{AsFd, BorrowedFd};
    /// use std::os::unix::net::UnixStream;
    /// use windlass::{Async, block_on};
    ///
    /// /// A device whose library reads with `&mut self`, as that of inotify does.
    /// struct Device {
    ///     socket: UnixStream,
    ///     buffer: [u8; 64],
    /// }
    ///
    /// impl Device {
    ///     fn read_events(&mut self) -> io::Result<&[u8]> {
    ///         let n = self.socket.read(&mut self.buffer)?;
    ///         Ok(&self.buffer[..n])
    ///     }
    /// }
    ///
    /// impl AsFd for Device {
    ///     fn as_fd(&self) -> BorrowedFd<'_> {
    ///         self.socket.as_fd()
    ///     }
    /// }
    ///
    /// let (socket, mut there) = UnixStream::pair()?;
    /// let mut device = Async::new(Device { socket, buffer: [0; 64] })?;
    /// let thread = std::thread::spawn(move || there.write_all(b"moved"));
    /// block_on(async {
    ///     device.readable().await?;
    ///     assert_eq!(device.get_mut()?.read_events()?, b"moved");
    ///     io::Result::Ok(())
    /// })?;
    /// thread.join().unwrap()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn get_mut(&mut self) -> io::Result<&mut T> {
        self.check_real()?;
        let old = mem::replace(&mut self.source, Source::new()?);
        let io = self.io.as_mut().expect("the value is present until drop");
        let waiters = old.take_waiters();
        old.close(io.as_fd());
        wake_all(waiters);
        self.source.note_exposed();
        Ok(io)
    }

    /// Returns an error for a simulated socket, which has no descriptor outside of its world.
    fn check_real(&self) -> io::Result<()> {
        match self.source.is_simulated() {
            false => Ok(()),
            true => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated socket can't leave its world",
            )),
        }
    }

    /// Returns the value, deregistered and still non-blocking (see [`set_nonblocking`]). Wakes
    /// tasks that still wait with a `poll_` method, because no event will wake them.
    ///
    /// # Errors
    ///
    /// Fails in a simulation, because other code can't use a simulated socket.
    pub fn into_inner(mut self) -> io::Result<T> {
        self.check_real()?;
        let io = self.io.take().expect("the value is present until drop");
        let waiters = self.source.take_waiters();
        self.source.close(io.as_fd());
        wake_all(waiters);
        Ok(io)
    }

    /// Waits until the descriptor has data, the end of the stream, or an error to read.
    ///
    /// The descriptor stays readable until the data was read. Files of `/proc` and `/sys` that can
    /// be watched (`/proc/self/mountinfo`, pressure stall information, attributes of `/sys`, files
    /// of cgroups) are an exception. They can be read at any time, so this returns once, and then
    /// after each event. See also [`priority`](Async::priority).
    ///
    /// # Errors
    ///
    /// Fails if no reactor is running on this thread, or if the poller cannot watch the descriptor.
    pub fn readable(&self) -> Readable<'_> {
        Readable::new(&self.source, self.as_fd())
    }

    /// Waits until the descriptor can be written to, or has an error.
    ///
    /// # Errors
    ///
    /// Fails as [`readable`](Async::readable) does.
    pub fn writable(&self) -> Writable<'_> {
        Writable::new(&self.source, self.as_fd())
    }

    /// Waits for a priority condition (`POLLPRI`), which is not data to read.
    ///
    /// | condition | method |
    /// |---|---|
    /// | data, the end of a stream, a connection to accept | [`readable`](Async::readable) |
    /// | space to write, the end of a connection attempt | [`writable`](Async::writable) |
    /// | urgent data of a socket (`MSG_OOB`), a pseudo-terminal in packet mode | `priority` |
    /// | a change of a file of `/proc` or `/sys`: mounts, pressure (PSI), GPIO | `priority` |
    /// | the error queue of a socket (`MSG_ERRQUEUE`), the end of a pipe's readers | [`error`] |
    ///
    /// [`error`]: Async::error
    ///
    /// A socket reports the condition until the urgent data was read. A file of `/proc` or `/sys`
    /// reports each change once, to all tasks that wait. A change before [`Async::new`] may be
    /// missed. So create the `Async` first, then read the file, then wait.
    ///
    /// On systems without epoll, each event of the descriptor wakes a task that waits, and urgent
    /// data alone may not be an event.
    ///
    /// # Errors
    ///
    /// Fails as [`readable`](Async::readable) does.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the condition stays for the next call.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::fs::File;
    /// use std::io::{Read, Seek};
    /// use windlass::{Async, block_on};
    ///
    /// // Prints the number of mounts, each time that it may have changed.
    /// block_on(async {
    ///     let mounts = Async::new(File::open("/proc/self/mountinfo")?)?;
    ///     loop {
    ///         let mut text = String::new();
    ///         mounts.get_ref().rewind()?;
    ///         mounts.get_ref().read_to_string(&mut text)?;
    ///         println!("{} mounts", text.lines().count());
    ///         mounts.priority().await?;
    ///     }
    /// #   #[allow(unreachable_code)]
    /// #   std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(unix)]
    pub async fn priority(&self) -> io::Result<()> {
        let mut wait = ConditionWait::new(&self.source, self.as_fd(), Interest::Priority);
        poll_fn(|cx| wait.poll(cx)).await
    }

    /// Waits until the system reports an error condition (`POLLERR`). This can be a message in the
    /// error queue of a socket (such as a transmit timestamp or the end of a `MSG_ZEROCOPY` send),
    /// an error of the connection, or the end of a pipe's readers. See
    /// [`priority`](Async::priority) for a comparison of the waits.
    ///
    /// It returns at once while the condition lasts. The error stays for the next operation, or for
    /// `SO_ERROR`.
    ///
    /// # Errors
    ///
    /// Fails as [`readable`](Async::readable) does.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    #[cfg(unix)]
    pub async fn error(&self) -> io::Result<()> {
        let mut wait = ConditionWait::new(&self.source, self.as_fd(), Interest::Error);
        poll_fn(|cx| wait.poll(cx)).await
    }

    /// [`priority`](Async::priority) for hand-written futures. If several tasks wait for the same
    /// change of a file of `/proc` or `/sys` with this method, one of them gets it.
    #[cfg(unix)]
    pub fn poll_priority(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_condition(&self.source, self.as_fd(), Interest::Priority, cx)
    }

    /// [`error`](Async::error) for hand-written futures, with the exception of
    /// [`poll_priority`](Async::poll_priority).
    #[cfg(unix)]
    pub fn poll_error(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_condition(&self.source, self.as_fd(), Interest::Error, cx)
    }

    /// [`readable`](Async::readable) for hand-written futures. If several tasks wait for the same
    /// event of a file of `/proc` or `/sys` with this method, one of them gets it.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_ready(&self.source, self.as_fd(), Interest::Read, cx)
    }

    /// [`writable`](Async::writable) for hand-written futures.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_ready(&self.source, self.as_fd(), Interest::Write, cx)
    }

    /// Performs a read-like operation. Tries it first and after each event, until the result is
    /// anything but `WouldBlock`.
    ///
    /// # Errors
    ///
    /// Returns the errors of the operation, and fails as [`readable`](Async::readable) does.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the operation has returned only `WouldBlock`.
    pub async fn read_with<R>(&self, mut op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        let (io, mut wait) = (self.get_ref(), Wait::new(&self.source, Interest::Read));
        poll_fn(|cx| wait.poll_with(cx, io, || op(io))).await
    }

    /// Performs a write-like operation, as [`read_with`](Async::read_with) does a read-like one.
    ///
    /// # Errors
    ///
    /// Returns the errors of the operation, and fails as [`readable`](Async::readable) does.
    ///
    /// # Cancel safety
    ///
    /// As [`read_with`](Async::read_with).
    pub async fn write_with<R>(&self, mut op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        let (io, mut wait) = (self.get_ref(), Wait::new(&self.source, Interest::Write));
        poll_fn(|cx| wait.poll_with(cx, io, || op(io))).await
    }

    /// [`read_with`](Async::read_with) for hand-written futures.
    #[inline]
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let io = self.get_ref();
        self.source
            .poll_with(cx, io, Interest::Read, None, || op(io))
    }

    /// [`write_with`](Async::write_with) for hand-written futures.
    #[inline]
    pub fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let io = self.get_ref();
        self.source
            .poll_with(cx, io, Interest::Write, None, || op(io))
    }

    /// Performs a read-like operation without waiting.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if the descriptor is not readable, and the errors of the operation.
    pub fn try_read_with<R>(&self, mut op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.source.try_with(Interest::Read, || op(self.get_ref()))
    }

    /// Performs a write-like operation without waiting.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if the descriptor is not writable, and the errors of the operation.
    pub fn try_write_with<R>(&self, mut op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.source.try_with(Interest::Write, || op(self.get_ref()))
    }

    /// Wakes the readers, for readiness that the poller does not report.
    #[cfg(windows)]
    pub(crate) fn wake_readers(&self) {
        self.source.wake_readers();
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the value to code outside of this crate. See [`Source::note_short_read`].
    #[inline]
    pub(crate) fn expose(&self) -> &T {
        self.source.note_exposed();
        self.get_ref()
    }

    /// Records a read of a stream that has filled less than its buffers.
    #[inline]
    pub(crate) fn note_short_read(&self) {
        self.source.note_short_read();
    }

    /// As `poll_read_with`. `is_short` returns whether a read of a stream has filled less than its
    /// buffers.
    #[inline]
    pub(crate) fn poll_receive<R>(
        &self,
        cx: &mut Context<'_>,
        mut op: impl FnMut(&T) -> io::Result<R>,
        is_short: impl Fn(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        let io = self.get_ref();
        self.source
            .poll_read_with(cx, io, Interest::Read, None, || op(io), is_short)
    }
}

impl<T: AsFd> Drop for Async<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(io) = &self.io {
            if self.source.is_simulated() {
                return self.source.close_simulated(io.as_fd());
            }
            self.source.close(io.as_fd());
            if self.source.may_linger() {
                stop_lingering(io.as_fd());
            }
        }
    }
}

/// Makes the close of a socket return at once. The option can be set at any time and in many ways
/// (on a listener, with another descriptor), so it is read at the close. Sockets of this crate save
/// that system call as long as no other code has had their descriptor.
///
/// A linger time of zero stays in effect. That close also returns at once, and resets the
/// connection.
#[cold]
fn stop_lingering(socket: BorrowedFd<'_>) {
    if sockopt::socket_linger(socket).is_ok_and(|linger| linger > Some(Duration::ZERO)) {
        let _ = sockopt::set_socket_linger(socket, None); // fails only if it is no socket
    }
}

gives_descriptor!([T: AsFd] Async<T>, get_ref());

impl<T: AsFd> AsyncRead for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |mut io| io.read(buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |mut io| io.read_vectored(bufs))
    }
}

/// Closing only flushes, because a shutdown depends on the type.
impl<T: AsFd> AsyncWrite for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut io| io.write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut io| io.write_vectored(bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_with(cx, |mut io| io.flush())
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Makes an open file non-blocking, or blocking again after [`Async::into_inner`]. All file
/// descriptors of the same open file share this.
///
/// # Errors
///
/// Returns the errors of the system.
///
/// # Examples
///
/// ```ignore-windows
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
/// use windlass_reactor::{Async, set_nonblocking};
///
/// let (here, _there) = UnixStream::pair()?;
/// let here = Async::new(here)?.into_inner()?;
/// set_nonblocking(here.as_fd(), false)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    match rustix::io::ioctl_fionbio(fd, nonblocking) {
        Ok(()) => Ok(()),
        #[cfg(unix)] // a sandbox may refuse `ioctl`, and some drivers do
        Err(_) => {
            let mut flags = rustix::fs::fcntl_getfl(fd)?;
            flags.set(rustix::fs::OFlags::NONBLOCK, nonblocking);
            Ok(rustix::fs::fcntl_setfl(fd, flags)?)
        }
        #[cfg(windows)]
        Err(error) => Err(error.into()),
    }
}

/// Implements `AsFd` and `AsRawFd` (on Windows `AsSocket` and `AsRawSocket`) with the descriptor of
/// `$field`, which is a reference.
macro_rules! gives_descriptor {
    ([$($generics:tt)*] $type:ty, $($field:tt)+) => {
        #[cfg(unix)]
        impl<$($generics)*> std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(self.$($field)+)
            }
        }

        #[cfg(unix)]
        impl<$($generics)*> std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsFd::as_fd(self).as_raw_fd()
            }
        }

        #[cfg(windows)]
        impl<$($generics)*> std::os::windows::io::AsSocket for $type {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                rustix::fd::AsFd::as_fd(self.$($field)+)
            }
        }

        #[cfg(windows)]
        impl<$($generics)*> std::os::windows::io::AsRawSocket for $type {
            fn as_raw_socket(&self) -> std::os::windows::io::RawSocket {
                std::os::windows::io::AsSocket::as_socket(self).as_raw_socket()
            }
        }
    };
}
pub(crate) use gives_descriptor;

/// Implements `AsyncRead` and `AsyncWrite` for `T` by way of `&T`.
macro_rules! also_by_value {
    ([$($generics:tt)*] $type:ty $(where $($bound:tt)*)?) => {
        impl<$($generics)*> futures_io::AsyncRead for $type
        $(where for<'a> &'a $($bound)*: std::io::Read)?
        {
            #[inline]
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut &*self).poll_read(cx, buf)
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut &*self).poll_read_vectored(cx, bufs)
            }
        }

        impl<$($generics)*> futures_io::AsyncWrite for $type
        $(where for<'a> &'a $($bound)*: std::io::Write)?
        {
            #[inline]
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut &*self).poll_write(cx, buf)
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut &*self).poll_write_vectored(cx, bufs)
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut &*self).poll_flush(cx)
            }

            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut &*self).poll_close(cx)
            }
        }
    };
}
pub(crate) use also_by_value;

also_by_value!([T: AsFd + Unpin] Async<T> where T);
