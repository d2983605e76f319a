//! A channel from many senders to one receiver.
//!
//! ```
//! use windlass::sync::mpsc;
//! use windlass::{block_on, spawn};
//!
//! block_on(async {
//!     let (sender, mut receiver) = mpsc::channel(1);
//!     for crew in ["port", "starboard"] {
//!         let sender = sender.clone();
//!         spawn(async move {
//!             for rope in 1..=2 {
//!                 sender.send((crew, rope)).await.expect("the receiver exists");
//!             }
//!         })
//!         .detach();
//!     }
//!     drop(sender); // the channel ends with its last sender
//!     let mut hauled = Vec::new();
//!     while let Some(rope) = receiver.recv().await {
//!         hauled.push(rope);
//!     }
//!     assert_eq!(hauled, [("port", 1), ("port", 2), ("starboard", 1), ("starboard", 2)]);
//! });
//! ```

mod inner;
mod permit;
mod receiver;
mod sender;
mod unbounded;

use std::num::NonZeroUsize;
use std::panic::Location;

pub(super) use inner::Ends;
use inner::{Handle, Inner};
pub use permit::{Permit, PermitIterator};
pub use receiver::{Receiver, Recv};
pub use sender::{OwnedPermit, Sender, WeakSender};
pub use unbounded::{UnboundedSender, WeakUnboundedSender};

/// Creates a channel that holds at most `capacity` values. Senders wait while it is full.
///
/// # Panics
///
/// Panics if `capacity` is 0.
#[track_caller]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let capacity = NonZeroUsize::new(capacity);
    let capacity = capacity.expect("the capacity of a channel must be at least 1");
    let inner = Inner::new(Some(capacity), Location::caller());
    (Sender(Handle(inner.clone())), Receiver(inner))
}

/// Creates a channel that holds any number of values. Senders never wait. Without backpressure,
/// senders that are faster than the receiver fill the memory.
///
/// ```
/// use windlass::block_on;
/// use windlass::sync::mpsc;
///
/// let (sender, mut receiver) = mpsc::unbounded_channel();
/// sender.send(1)?;
/// sender.send(2)?;
/// drop(sender);
/// block_on(async {
///     assert_eq!(receiver.recv().await, Some(1));
///     assert_eq!(receiver.recv().await, Some(2));
///     assert_eq!(receiver.recv().await, None);
/// });
/// # Ok::<_, windlass::sync::SendError<i32>>(())
/// ```
#[track_caller]
pub fn unbounded_channel<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let inner = Inner::new(None, Location::caller());
    (UnboundedSender(Handle(inner.clone())), Receiver(inner))
}
