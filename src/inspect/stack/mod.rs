//! The stack of another thread of this process.
//!
//! The signal handler copies registers and at most 64 KiB of the stack, and nothing else
//! ([`capture`]). A thread that is blocked in a system call gets no signal. The thread that
//! requests the stack unwinds the copy and finds the symbols, with the feature `stacks` (`unwind`,
//! `symbols`). Without the feature, a stack has one frame, which is a module and an offset. The
//! feature adds 18 crates to the build, so it is off by default.
//!
//! Stacks are captured on Linux, on x86-64 and on 64-bit ARM. Elsewhere there are none.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod capture;
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod memory;
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod modules;
#[cfg(all(
    feature = "stacks",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod symbols;
#[cfg(all(
    feature = "stacks",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod unwind;
#[cfg(all(
    test,
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod tests;
#[cfg(all(
    test,
    feature = "stacks",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod frame_tests;

use std::fmt;

pub(crate) use platform::{Stacks, ThreadHandle};

/// The stack of a thread, from the innermost frame to the poll of its task.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stack {
    /// The frames, the innermost first.
    pub frames: Vec<Frame>,
    /// Outer frames are missing, because the copy or the unwind information ended.
    pub truncated: bool,
}

/// A frame of a stack. Functions that the compiler has inlined have frames too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Frame {
    /// The address of the code.
    pub address: usize,
    /// The name of the function. Known with the feature `stacks`.
    pub symbol: Option<String>,
    /// The file of the source, and the line. Known with the feature `stacks`, if the module has
    /// debug information.
    pub file_line: Option<(String, u32)>,
    /// The file name of the program or library, and the offset of the address in it.
    pub module: Option<(String, usize)>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.symbol, &self.module) {
            (Some(symbol), _) => f.write_str(symbol)?,
            (None, Some((name, offset))) => write!(f, "{name}+{offset:#x}")?,
            (None, None) => write!(f, "{:#x}", self.address)?,
        }
        match &self.file_line {
            Some((file, line)) => write!(f, " at {file}:{line}"),
            None => Ok(()),
        }
    }
}

/// Prints one frame per line.
impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for frame in &self.frames {
            writeln!(f, "{frame}")?;
        }
        if self.truncated {
            writeln!(f, "(outer frames are unknown)")?;
        }
        Ok(())
    }
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod platform {
    use std::io;
    use std::mem::MaybeUninit;
    use std::ops::Range;
    use std::time::Duration;

    use super::Stack;
    use super::capture::Capturer;

    pub(crate) use super::capture::Sample;

    /// A thread of this process, and the bounds of its stack.
    ///
    /// The handle doesn't keep the thread alive. After the thread has exited, the kernel may reuse
    /// its TID, so the owner of a handle forgets it before that, under a lock of its own.
    #[derive(Clone, Debug)]
    pub(crate) struct ThreadHandle {
        pub(crate) tid: i32,
        pub(crate) stack: Range<usize>,
    }

    impl ThreadHandle {
        /// Returns the handle of the calling thread. On the main thread glibc reads the bounds
        /// from a file, which takes some 50 µs.
        pub(crate) fn current() -> ThreadHandle {
            ThreadHandle {
                tid: rustix::thread::gettid().as_raw_nonzero().get(),
                stack: stack_bounds().unwrap_or(0..0),
            }
        }
    }

    /// Returns the bounds of the calling thread's stack.
    fn stack_bounds() -> Option<Range<usize>> {
        let mut attributes = MaybeUninit::uninit();
        let mut low = std::ptr::null_mut();
        let mut size = 0;
        // SAFETY: the pointers are valid for writes. The attributes are initialized if the first
        // call succeeds, and destroyed once.
        unsafe {
            if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
                return None;
            }
            let result = libc::pthread_attr_getstack(attributes.as_ptr(), &mut low, &mut size);
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            (result == 0).then(|| low as usize..low as usize + size)
        }
    }

    /// Captures stacks of other threads. It belongs to one thread, such as a watchdog, and shares
    /// no lock with others.
    pub(crate) struct Stacks {
        capturer: Capturer,
        #[cfg(feature = "stacks")]
        unwinder: super::unwind::Unwinder,
        #[cfg(feature = "stacks")]
        symbols: super::symbols::Symbols,
    }

    impl Stacks {
        /// Installs the handler of `signal`, which defaults to `SIGURG`. Returns an error if
        /// another handler is installed.
        pub(crate) fn new(signal: Option<i32>) -> io::Result<Stacks> {
            Ok(Stacks {
                capturer: Capturer::new(signal)?,
                #[cfg(feature = "stacks")]
                unwinder: super::unwind::Unwinder::new(),
                #[cfg(feature = "stacks")]
                symbols: super::symbols::Symbols::default(),
            })
        }

        /// Copies registers and stack of another thread of this process. Takes at most about
        /// `limit`. Returns `None` if the thread does not respond, for example because it is
        /// stopped or not scheduled, or if it is the caller.
        ///
        /// The caller holds a lock that keeps the thread from exiting.
        pub(crate) fn capture(&mut self, thread: &ThreadHandle, limit: Duration) -> Option<Sample> {
            self.capturer.capture(thread, limit)
        }

        /// Unwinds a sample and finds the symbols. The first call for a module reads its symbols,
        /// and takes milliseconds. Allocates, and takes the loader's lock for a moment.
        #[cfg(feature = "stacks")]
        pub(crate) fn resolve(&mut self, sample: &Sample) -> Stack {
            let (addresses, is_complete) = self.unwinder.unwind(sample);
            self.symbols.stack(&addresses, is_complete)
        }

        /// Finds the module of the sample's innermost frame.
        #[cfg(not(feature = "stacks"))]
        pub(crate) fn resolve(&mut self, sample: &Sample) -> Stack {
            let frame = super::Frame {
                address: sample.pc,
                symbol: None,
                file_line: None,
                module: super::modules::Module::of_address(sample.pc)
                    .map(|module| (module.file_name(), sample.pc - module.base)),
            };
            Stack {
                frames: vec![frame],
                truncated: true,
            }
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod platform {
    use std::io;
    use std::time::Duration;

    use super::Stack;

    /// A thread of this process.
    #[derive(Clone, Debug)]
    pub(crate) struct ThreadHandle;

    impl ThreadHandle {
        /// Returns the handle of the calling thread.
        pub(crate) fn current() -> ThreadHandle {
            ThreadHandle
        }
    }

    /// A copy of a stack, of which this system has none.
    #[derive(Debug)]
    pub(crate) enum Sample {}

    /// Captures no stacks on this system.
    pub(crate) struct Stacks;

    impl Stacks {
        pub(crate) fn new(_signal: Option<i32>) -> io::Result<Stacks> {
            Ok(Stacks)
        }

        pub(crate) fn capture(&mut self, _: &ThreadHandle, _: Duration) -> Option<Sample> {
            None
        }

        pub(crate) fn resolve(&mut self, sample: &Sample) -> Stack {
            match *sample {}
        }
    }
}
