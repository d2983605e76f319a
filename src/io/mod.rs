//! Standard streams, pipes, and copying between file descriptors.
//!
//! Named pipes, terminals, and anything else that the poller can watch are for [`Async`].
//!
//! [`copy`] copies everything from one of these, or from a socket, to another. [`send_file`] sends
//! a range of a file.
//!
//! ```no_run
//! use windlass::io::{copy, stdin, stdout};
//!
//! // The program `cat`.
//! windlass::block_on(copy(stdin(), stdout()))?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod copy;
mod send_file;
pub(crate) mod pipe;
#[cfg(target_os = "linux")]
pub(crate) mod splice;
mod stdio;
mod write_stderr;

pub use copy::{Descriptor, copy, copy_bidirectional};
#[cfg(unix)]
pub use pipe::pipe;
pub use pipe::{PipeReader, PipeWriter};
pub use send_file::send_file;
pub use stdio::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
pub use windlass_reactor::Async;
pub(crate) use write_stderr::write_stderr;

/// Keeps a value on its thread, as on other systems.
#[cfg(windows)]
pub(crate) type NotSend = std::marker::PhantomData<std::rc::Rc<()>>;
