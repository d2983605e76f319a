//! The coroutine that may await any future between its yields.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use windlass_executor::budget;

use super::exchange::{Co, Exchange};
use super::sync_coroutine::{Coroutine, State};

/// A [`Coroutine`] with a body that may await any future, such as sockets, timers and tasks.
///
/// [`send`](Self::send) passes a value in and waits for the next output. With the input `()` it is
/// a [`Stream`] of the outputs. The return value of the body is then available from
/// [`into_result`](Self::into_result).
///
/// Its body runs only while a task awaits it, and is suspended in between. So a coroutine is part
/// of a task.
///
/// # Examples
///
/// ```
/// use windlass::coroutine::{AsyncCoroutine, State};
/// use windlass::{block_on, yield_now};
///
/// let mut lookup = AsyncCoroutine::new(async |co, mut name: &str| {
///     let mut count = 0;
///     while !name.is_empty() {
///         yield_now().await; // or wait for a server's reply
///         count += 1;
///         name = co.yield_(format!("{name} is number {count}")).await;
///     }
///     count
/// });
///
/// block_on(async {
///     assert_eq!(lookup.send("Ann").await, State::Yielded("Ann is number 1".to_owned()));
///     assert_eq!(lookup.send("Bob").await, State::Yielded("Bob is number 2".to_owned()));
///     assert_eq!(lookup.send("").await, State::Complete(2));
/// });
/// ```
///
/// As a stream:
///
/// ```
/// use futures::StreamExt;
/// use windlass::coroutine::AsyncCoroutine;
/// use windlass::{block_on, yield_now};
///
/// let squares = AsyncCoroutine::new(async |co, ()| {
///     for number in 1..4 {
///         yield_now().await;
///         co.yield_(number * number).await;
///     }
/// });
/// assert_eq!(block_on(squares.collect::<Vec<_>>()), [1, 4, 9]);
/// ```
#[must_use = "a coroutine does nothing unless it is resumed"]
pub struct AsyncCoroutine<'a, I, O, R, F: ?Sized = dyn Future<Output = R> + 'a> {
    inner: Coroutine<'a, I, O, R, F>,
    /// An input was passed in, and its output is still to be returned.
    is_answer_due: bool,
}

impl<'a, I, O, R> AsyncCoroutine<'a, I, O, R> {
    /// Creates a boxed coroutine. Its body starts with the first [`send`](Self::send). The input of
    /// that call is the second argument of the body.
    pub fn new<B>(body: B) -> Self
    where
        B: AsyncFnOnce(&mut Co<'_, I, O>, I) -> R + 'a,
        I: 'a,
        O: 'a,
    {
        AsyncCoroutine {
            inner: Coroutine::new(body),
            is_answer_due: false,
        }
    }
}

impl<'a, I, O, R, F> AsyncCoroutine<'a, I, O, R, F>
where
    F: Future<Output = R> + ?Sized + 'a,
{
    /// Creates a coroutine with a body that is pinned to the stack (see [`Coroutine::pinned`]).
    pub fn pinned(exchange: &'a Exchange<I, O>, body: Pin<&'a mut F>) -> Self {
        AsyncCoroutine {
            inner: Coroutine::pinned(exchange, body),
            is_answer_due: false,
        }
    }

    /// Passes a value in, and waits until the coroutine yields or ends. The first value is the
    /// argument of the body.
    ///
    /// # Panics
    ///
    /// * Panics if the coroutine is [finished](Self::is_finished).
    /// * Panics if an earlier `send` was dropped, and its [`answer`](Self::answer) is still to be
    ///   awaited.
    /// * Propagates a panic of the body. The coroutine is then finished.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its first poll, it drops the value unsent. If it is dropped
    /// later, the value was sent. The body stays suspended at its current await, and
    /// [`answer`](Self::answer) continues it.
    pub async fn send(&mut self, input: I) -> State<O, R> {
        let mut input = Some(input);
        poll_fn(|cx| {
            if let Some(input) = input.take() {
                self.put(input);
            }
            self.poll_answer(cx)
        })
        .await
    }

    /// Waits for the output after the future of a [`send`](Self::send) was dropped.
    ///
    /// ```
    /// use futures::FutureExt;
    /// use windlass::coroutine::{AsyncCoroutine, State};
    /// use windlass::{block_on, yield_now};
    ///
    /// let mut slow = AsyncCoroutine::new(async |co, question: u32| {
    ///     yield_now().await;
    ///     co.yield_(question + 1).await;
    /// });
    /// assert_eq!(slow.send(41).now_or_never(), None); // dropped after one poll
    /// assert_eq!(block_on(slow.answer()), State::Yielded(42));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if no answer is due. Propagates a panic of the body. The coroutine is then finished.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn answer(&mut self) -> State<O, R> {
        assert!(self.is_answer_due, "no answer is due: call `send` first");
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// Returns true if the body has returned or panicked. Another `send` would panic.
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }

    /// Returns the return value of the body, if this was used as a stream and has ended.
    pub fn into_result(self) -> Option<R> {
        self.inner.into_result()
    }

    /// Stores the input. The caller polls for the answer next.
    fn put(&mut self, input: I) {
        assert!(
            !self.is_answer_due,
            "an earlier `send` was dropped before it completed: await its `answer` first"
        );
        self.inner.put(input);
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<State<O, R>> {
        self.is_answer_due = true; // also if the budget refuses the poll
        ready!(budget::poll_charge(cx));
        self.is_answer_due = false; // also if the body panics
        let polled = self.inner.poll(cx);
        self.is_answer_due = polled.is_pending();
        if self.is_answer_due {
            budget::refund();
        }
        polled
    }
}

/// Streams the outputs. Returns `None` after the end.
///
/// # Panics
///
/// Propagates a panic of the body.
///
/// # Cancel safety
///
/// Dropping the await of the next output loses nothing.
impl<O, R, F> Stream for AsyncCoroutine<'_, (), O, R, F>
where
    F: Future<Output = R> + ?Sized,
{
    type Item = O;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<O>> {
        if self.is_finished() {
            return Poll::Ready(None);
        }
        if !self.is_answer_due {
            self.put(());
        }
        let state = ready!(self.poll_answer(cx));
        Poll::Ready(self.inner.keep_result(state))
    }
}

impl<O, R, F> FusedStream for AsyncCoroutine<'_, (), O, R, F>
where
    F: Future<Output = R> + ?Sized,
{
    fn is_terminated(&self) -> bool {
        self.is_finished()
    }
}

impl<I, O, R, F> fmt::Debug for AsyncCoroutine<'_, I, O, R, F>
where
    F: Future<Output = R> + ?Sized,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncCoroutine")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
