//! Functions that suspend in the middle, yield a value, and resume with another value.
//!
//! A subroutine has one entry and returns once. A coroutine has an entry per
//! [`yield_`](Co::yield_). It suspends there with its local variables in place, and its caller
//! receives a value. The next call resumes it at that point with the value of the call. So the
//! coroutine and its caller are each written as if they were the main program and the other one a
//! subroutine:
//!
//! ```
//! use windlass::coroutine::{Coroutine, State};
//!
//! let mut average = Coroutine::new(async |co, first: f64| {
//!     let (mut sum, mut count) = (first, 1.0);
//!     while sum < 100.0 {
//!         sum += co.yield_(sum / count).await; // yields the mean, receives the next number
//!         count += 1.0;
//!     }
//!     format!("enough after {count}")
//! });
//!
//! assert_eq!(average.resume(10.0), State::Yielded(10.0));
//! assert_eq!(average.resume(20.0), State::Yielded(15.0));
//! assert_eq!(average.resume(90.0), State::Complete("enough after 3".to_owned()));
//! ```
//!
//! The first input is the argument of the body, as with any function, so no extra value is needed
//! to start it. Input, output and result each have their own type.
//!
//! A coroutine without input is an [`Iterator`]. Functions that it passes `co` to may also yield,
//! at any depth:
//!
//! ```
//! use windlass::coroutine::{Co, Coroutine};
//!
//! async fn count_down(from: u32, co: &mut Co<'_, (), u32>) {
//!     for number in (0..from).rev() {
//!         co.yield_(number).await;
//!     }
//! }
//!
//! let numbers = Coroutine::new(async |co, ()| {
//!     count_down(3, co).await;
//!     count_down(2, co).await;
//! });
//! assert_eq!(numbers.collect::<Vec<_>>(), [2, 1, 0, 1, 0]);
//! ```
//!
//! # Two kinds
//!
//! | | [`Coroutine`] | [`AsyncCoroutine`] |
//! |---|---|---|
//! | resumed by | `coroutine.resume(input)` | `coroutine.send(input).await` |
//! | without input | an [`Iterator`] | a [`Stream`](futures_core::Stream) |
//! | its body may await | its own yields | anything: sockets, timers, tasks |
//! | runs | anywhere | in a task |
//!
//! Each is either boxed by `new` or pinned to the stack by `pinned`:
//!
//! ```
//! use std::pin::pin;
//! use windlass::coroutine::{Coroutine, Exchange};
//!
//! let exchange = Exchange::new();
//! let body = pin!(exchange.body(async |co, ()| {
//!     co.yield_("no allocation").await;
//! }));
//! let mut coroutine = Coroutine::pinned(&exchange, body);
//! assert_eq!(coroutine.next(), Some("no allocation"));
//! ```
//!
//! Creating a boxed coroutine takes two allocations. A pinned one is free of allocations, and so is
//! resuming either. The type of a boxed coroutine can be named and stored. The type of a pinned one
//! includes the type of its body, like a closure, so the compiler can inline the body and a resume
//! costs less.
//!
//! # How it works
//!
//! Rust compiles an `async` block to a state machine with one state per await, which is what a
//! coroutine needs. `yield_` is a leaf future that stores its value in the [`Exchange`], a cell
//! that both sides share, and is `Pending` once. `resume` stores the input there, polls the body,
//! and takes the output. There is no executor, no stack switch and no wake. A yield from a depth of
//! *n* functions takes *n* nested polls.
//!
//! # Misuse and its consequences
//!
//! | event | consequence |
//! |---|---|
//! | a finished coroutine is resumed | panics; as an iterator or stream it returns `None` |
//! | the body panics | the panic propagates from `resume`; the coroutine is finished |
//! | the body of a [`Coroutine`] awaits another pending future | `resume` panics; it is finished |
//! | a suspended coroutine is dropped | its body is dropped at its current await, or with its pin |
//! | it resumes itself | impossible, because `resume` takes `&mut self` |
//! | two yields are pending at once | does not compile, because `yield_` borrows `co` |
//! | `co` leaves the body | does not compile, because it is borrowed for the body only |
//! | a yield is dropped before the coroutine suspends | its output is discarded |
//! | a yield is dropped after that | the input of the next resume is dropped |
//! | two bodies are made from one [`Exchange`] | the second call panics |
//! | a body is pinned with the exchange of another | `resume` panics |
//! | the await of a `send` is dropped | [`answer`](AsyncCoroutine::answer) returns the output |
//!
//! # Sources
//!
//! Coroutines were introduced by Conway (1963). As in Lua (de Moura, Rodriguez, Ierusalimschy
//! 2004), these are *asymmetric*: they return to their caller, and the first values passed in
//! become arguments of the body. The names `Yielded` and `Complete` are from Rust's unstable
//! `std::ops::Coroutine`.

mod async_coroutine;
mod exchange;
mod sync_coroutine;

pub use async_coroutine::AsyncCoroutine;
pub use exchange::{Co, Exchange, Yield};
pub use sync_coroutine::{Coroutine, State};
