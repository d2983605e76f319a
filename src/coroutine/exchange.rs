//! The exchange of values between a coroutine and its caller, and the yield.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, Waker};

/// The body's access to its coroutine, with which it can [`yield_`](Co::yield_).
///
/// Functions that yield on behalf of the calling coroutine take a `&mut Co`:
///
/// ```
/// use windlass::coroutine::{Co, Coroutine, State};
///
/// /// Asks until the answer is a number.
/// async fn number(question: &str, co: &mut Co<'_, &str, String>) -> u32 {
///     let mut question = question.to_owned();
///     loop {
///         let answer = co.yield_(question).await;
///         match answer.parse() {
///             Ok(number) => return number,
///             Err(_) => question = format!("{answer} is no number"),
///         }
///     }
/// }
///
/// let mut form = Coroutine::new(async |co, name| {
///     let (width, length) = (number("width?", co).await, number("length?", co).await);
///     format!("{name}: {}", width * length)
/// });
/// assert_eq!(form.resume("deck"), State::Yielded("width?".to_owned()));
/// assert_eq!(form.resume("wide"), State::Yielded("wide is no number".to_owned()));
/// assert_eq!(form.resume("6"), State::Yielded("length?".to_owned()));
/// assert_eq!(form.resume("20"), State::Complete("deck: 120".to_owned()));
/// ```
pub struct Co<'x, I, O> {
    exchange: &'x Exchange<I, O>,
}

impl<'x, I, O> Co<'x, I, O> {
    pub(super) fn new(exchange: &'x Exchange<I, O>) -> Self {
        Co { exchange }
    }

    /// Suspends the coroutine and passes `output` to its caller. Completes with the input of the
    /// next resume.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the coroutine suspends, its output is discarded. If it is
    /// dropped later, the input of the next resume is dropped. Neither affects the next yield.
    #[inline]
    pub fn yield_(&mut self, output: O) -> Yield<'_, I, O> {
        Yield {
            exchange: self.exchange,
            step: Step::Start(output),
        }
    }
}

impl<I, O> fmt::Debug for Co<'_, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Co").finish_non_exhaustive()
    }
}

/// The future of [`Co::yield_`].
#[must_use = "a coroutine yields only if this is awaited"]
pub struct Yield<'x, I, O> {
    exchange: &'x Exchange<I, O>,
    step: Step<O>,
}

enum Step<O> {
    Start(O),
    Waiting,
    Done,
}

// The output is never pinned.
impl<I, O> Unpin for Yield<'_, I, O> {}

impl<I, O> Future for Yield<'_, I, O> {
    type Output = I;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<I> {
        match mem::replace(&mut self.step, Step::Waiting) {
            Step::Start(output) => self.exchange.handed.set(Handed::Out(output)),
            Step::Waiting => match self.exchange.handed.take() {
                Handed::In(input) => {
                    self.step = Step::Done;
                    return Poll::Ready(input);
                }
                not_mine => self.exchange.handed.set(not_mine),
            },
            Step::Done => panic!("this `yield_` was polled after completion"),
        }
        // A resume polls the body from the top. That reaches this future, unless a combinator in
        // between has wakers of its own and polls only woken futures.
        if !ptr::eq(cx.waker(), self.exchange.polled_with.get()) {
            self.exchange.keep_waker(cx.waker());
        }
        Poll::Pending
    }
}

impl<I, O> Drop for Yield<'_, I, O> {
    #[inline]
    fn drop(&mut self) {
        // The exchange holds the output of this yield, or the input for it.
        if let Step::Waiting = self.step {
            drop(self.exchange.handed.take());
        }
    }
}

impl<I, O> fmt::Debug for Yield<'_, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yield").finish_non_exhaustive()
    }
}

/// The cell through which a coroutine and its caller exchange values. Needed only to
/// [pin](super::Coroutine::pinned) a coroutine to the stack.
pub struct Exchange<I, O> {
    /// Contains an input from `resume` to the yield that takes it, and an output from a yield to
    /// the end of that `resume`.
    handed: Cell<Handed<I, O>>,
    /// The waker of the pending yield, if it differs from the one that the body was polled with.
    waker: Cell<Option<Waker>>,
    /// The waker that the body is polled with. Its address is compared only during that poll.
    polled_with: Cell<*const Waker>,
    has_body: Cell<bool>,
}

#[derive(Default)]
enum Handed<I, O> {
    #[default]
    Nothing,
    In(I),
    Out(O),
}

impl<I, O> Exchange<I, O> {
    /// Creates an exchange for one coroutine.
    pub const fn new() -> Self {
        Exchange {
            handed: Cell::new(Handed::Nothing),
            waker: Cell::new(None),
            polled_with: Cell::new(ptr::null()),
            has_body: Cell::new(false),
        }
    }

    /// Creates the body of a coroutine, to be pinned and passed to [`Coroutine::pinned`] or
    /// [`AsyncCoroutine::pinned`].
    ///
    /// # Panics
    ///
    /// Panics if this exchange has already made a body.
    ///
    /// [`Coroutine::pinned`]: super::Coroutine::pinned
    /// [`AsyncCoroutine::pinned`]: super::AsyncCoroutine::pinned
    #[track_caller]
    pub fn body<R>(
        &self,
        body: impl AsyncFnOnce(&mut Co<'_, I, O>, I) -> R,
    ) -> impl Future<Output = R> {
        assert!(
            !self.has_body.replace(true),
            "an exchange serves one coroutine: create another one for another body"
        );
        run(self, body)
    }

    /// Takes the input that starts the body.
    pub(super) fn first_input(&self) -> I {
        match self.handed.take() {
            Handed::In(first) => first,
            _ => panic!(
                "the body of a coroutine cannot be awaited: pass it to `Coroutine::pinned`, \
                 together with the exchange that has made it"
            ),
        }
    }

    /// Stores the input of a resume.
    #[inline]
    pub(super) fn put(&self, input: I) {
        self.handed.set(Handed::In(input));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes the output of a yield, if the body has suspended at one.
    #[inline]
    pub(super) fn take_output(&self) -> Option<O> {
        match self.handed.take() {
            Handed::Out(output) => Some(output),
            not_taken_yet => {
                self.handed.set(not_taken_yet);
                None
            }
        }
    }

    #[inline]
    pub(super) fn set_polled_with(&self, waker: &Waker) {
        self.polled_with.set(waker);
    }

    #[cold]
    fn keep_waker(&self, waker: &Waker) {
        self.waker.set(Some(waker.clone()));
    }
}

async fn run<I, O, R>(
    exchange: &Exchange<I, O>,
    body: impl AsyncFnOnce(&mut Co<'_, I, O>, I) -> R,
) -> R {
    let first = exchange.first_input();
    body(&mut Co { exchange }, first).await
}

impl<I, O> Default for Exchange<I, O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I, O> fmt::Debug for Exchange<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}
