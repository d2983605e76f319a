//! Completion sources: the hook through which other code takes part in the turn of a reactor.
//!
//! Sockets report readiness. Other devices take operations and report their completion: io_uring,
//! the queue of a GPU or of a network card, libcurl's multi handle, a thread that works in batches.
//! Such a device implements [`CompletionSource`]. The turn of a reactor then goes like this:
//!
//! 1. [`submit`](CompletionSource::submit) hands over the operations that the tasks have queued
//!    since the last turn, in one batch, and says whether the reactor may block.
//! 2. The reactor waits for events, at most until the earliest deadline of its timers and of its
//!    sources.
//! 3. [`collect`](CompletionSource::collect) processes the completions and returns the wakers of
//!    their futures.
//! 4. The reactor calls the wakers, those of sockets and timers first.
//!
//! A completion that arrives while the reactor is blocked must end the wait. A source ends it with
//! the waker of its [`Registrar`], which may be called from any thread, with a file descriptor that
//! the reactor watches, or with a deadline.
//!
//! A reactor has at most one source of each type. [`Registration::current`] registers it on first
//! use. It lives as long as the reactor, usually until the thread ends. The reactor holds no borrow
//! while it calls a source. A source that is registered during a turn takes part in the remaining
//! steps of that turn. If a reactor has no source, each of these steps costs a load and a branch.
//!
//! # Reactors in another loop
//!
//! A loop that watches the file descriptor of a [`Reactor`](crate::Reactor) does nothing special
//! for sources. The drop of the last [`Awake`](crate::Awake), and the end of a turn outside of any,
//! submit once more. Then the reactor's descriptor becomes readable when a source needs a turn, and
//! on Linux also at its deadline. Elsewhere the loop goes by
//! [`next_deadline`](crate::Reactor::next_deadline). Between turns, the future that queues an
//! operation calls [`Registration::request_turn`].
//!
//! # Fork
//!
//! A forked child calls neither `submit`, `collect`, `finish` nor the drop of sources that it has
//! inherited. Its own reactor has its own sources. [`Registration::is_inherited`] returns true for
//! a handle from before the fork. Values that several threads share can keep an
//! [`Origin`](crate::fork::Origin).
//!
//! # What else a source may need
//!
//! * A future that is about to wait should return an error if nothing turns the reactor.
//!   [`Registration::check_driven`] returns it, and [`check_driven`](crate::check_driven) does
//!   without a source.
//! * An operation that completes at once should charge the [`budget`](crate::budget) of its task.
//! * [`wake`](crate::wake) calls and drops wakers so that a panic in one does no harm.
//! * A retry after a shortage needs no timer: [`MayBlock::Until`].
//!
//! # Examples
//!
//! A queue of numbers that a thread doubles, one batch per turn:
//!
//! ```
//! use std::cell::{Cell, RefCell};
//! use std::future::poll_fn;
//! use std::io;
//! use std::sync::mpsc::{Receiver, Sender, channel};
//! use std::task::{Poll, Waker};
//! use std::thread;
//! use windlass::completion::{CompletionSource, MayBlock, Registrar, Registration};
//!
//! #[derive(Clone)]
//! struct Job(std::rc::Rc<(Cell<u32>, Cell<bool>, Cell<Option<Waker>>)>);
//!
//! struct Doubler {
//!     queued: RefCell<Vec<Job>>,
//!     submitted: RefCell<std::collections::VecDeque<Vec<Job>>>,
//!     batches: Sender<Vec<u32>>,
//!     results: Receiver<Vec<u32>>,
//!     ready: RefCell<Option<Vec<u32>>>,
//! }
//!
//! impl Doubler {
//!     fn new(registrar: &Registrar<'_>) -> io::Result<Doubler> {
//!         let waker = registrar.waker();
//!         let ((batches, taken), (done, results)) = (channel(), channel());
//!         thread::Builder::new().spawn(move || {
//!             for batch in taken {
//!                 let batch: Vec<u32> = batch;
//!                 let _ = done.send(batch.iter().map(|n| n * 2).collect());
//!                 waker.wake_by_ref();
//!             }
//!         })?;
//!         Ok(Doubler {
//!             queued: RefCell::default(),
//!             submitted: RefCell::default(),
//!             batches,
//!             results,
//!             ready: RefCell::default(),
//!         })
//!     }
//! }
//!
//! impl CompletionSource for Doubler {
//!     fn submit(&self) -> io::Result<MayBlock> {
//!         let batch = self.queued.take();
//!         if !batch.is_empty() {
//!             let numbers = batch.iter().map(|job| job.0.0.get()).collect();
//!             self.batches.send(numbers).map_err(io::Error::other)?;
//!             self.submitted.borrow_mut().push_back(batch);
//!         }
//!         let mut ready = self.ready.borrow_mut();
//!         *ready = ready.take().or_else(|| self.results.try_recv().ok());
//!         Ok(if ready.is_some() { MayBlock::No } else { MayBlock::Yes })
//!     }
//!
//!     fn collect(&self, wakers: &mut Vec<Waker>) {
//!         while let Some(results) = self.ready.take().or_else(|| self.results.try_recv().ok()) {
//!             let batch = self.submitted.borrow_mut().pop_front().expect("one per result");
//!             for (job, result) in batch.iter().zip(results) {
//!                 job.0.0.set(result);
//!                 job.0.1.set(true);
//!                 wakers.extend(job.0.2.take());
//!             }
//!         }
//!     }
//! }
//!
//! async fn double(n: u32) -> io::Result<u32> {
//!     let doubler = Registration::current(Doubler::new)?;
//!     let job = Job(std::rc::Rc::new((Cell::new(n), Cell::new(false), Cell::new(None))));
//!     doubler.queued.borrow_mut().push(job.clone());
//!     doubler.request_turn();
//!     poll_fn(|cx| {
//!         if job.0.1.get() {
//!             return Poll::Ready(Ok(job.0.0.get()));
//!         }
//!         doubler.check_driven()?;
//!         job.0.2.set(Some(cx.waker().clone()));
//!         Poll::Pending
//!     })
//!     .await
//! }
//!
//! windlass::block_on(async {
//!     let (a, b) = futures::join!(double(1), double(20)); // one batch
//!     assert_eq!((a.unwrap(), b.unwrap()), (2, 40));
//! });
//! ```

pub use crate::completion_source::{CompletionSource, MayBlock};
pub use crate::registration::{Registrar, Registration};
