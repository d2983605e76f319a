//! A large future, and stacks for a few copies of it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

pub(crate) const SIZE: usize = 256 * 1024;

/// A future with all of its size in its state.
pub(crate) struct Large(pub(crate) [u8; SIZE]);

impl Large {
    #[inline(never)]
    pub(crate) fn new() -> Self {
        Large([7; SIZE])
    }
}

impl Future for Large {
    type Output = u8;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
        Poll::Ready(self.0[SIZE / 2])
    }
}

/// Runs the test on a stack with room for `copies` copies of the future. The test needs two of
/// them: it creates the future and passes it by value. Each step of a test is a separate function,
/// because in a debug build a function's frame holds all of its temporaries.
pub(crate) fn with_stack_for(copies: usize, test: fn()) {
    let stack = copies * SIZE + 64 * 1024;
    let thread = thread::Builder::new().stack_size(stack).spawn(test);
    thread.unwrap().join().expect("the test passes");
}
