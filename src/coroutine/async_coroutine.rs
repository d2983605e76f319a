//! The coroutine that may wait for other things between its yields.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use windlass_executor::budget;

use super::{Co, Coroutine, Exchange, State};

/// A [`Coroutine`] whose body may await anything: sockets, timers, tasks.
///
/// [`send`](Self::send) hands a value in and waits for the next one that comes out. Without input
/// it's a [`Stream`] of the outputs; what the body returns is then had from
/// [`into_result`](Self::into_result).
///
/// It's no task: its body runs only while somebody awaits it, and stands still in between.
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
///         yield_now().await; // or for a server's reply
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
    /// An input was handed in, and what comes out for it was not seen yet.
    asked: bool,
}

impl<'a, I, O, R> AsyncCoroutine<'a, I, O, R> {
    /// A coroutine in a box. Its body doesn't run before the first [`send`](Self::send), whose
    /// input is the body's second argument.
    pub fn new<B>(body: B) -> Self
    where
        B: AsyncFnOnce(&mut Co<'_, I, O>, I) -> R + 'a,
        I: 'a,
        O: 'a,
    {
        AsyncCoroutine {
            inner: Coroutine::new(body),
            asked: false,
        }
    }
}

impl<'a, I, O, R, F> AsyncCoroutine<'a, I, O, R, F>
where
    F: Future<Output = R> + ?Sized + 'a,
{
    /// A coroutine whose body is pinned elsewhere, as that of [`Coroutine::pinned`].
    pub fn pinned(exchange: &'a Exchange<I, O>, body: Pin<&'a mut F>) -> Self {
        AsyncCoroutine {
            inner: Coroutine::pinned(exchange, body),
            asked: false,
        }
    }

    /// Hands in a value, and waits until the coroutine yields or ends. The first one is the
    /// argument of the body.
    ///
    /// # Panics
    ///
    /// * If the coroutine is [finished](Self::is_finished).
    /// * If the await of an earlier `send` was dropped, and its [`answer`](Self::answer) was not
    ///   taken yet.
    /// * If the body panics; the coroutine is finished then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it was polled, it has sent nothing, and drops the value. Dropped later, it
    /// has sent it; the body stands still where it waits, and [`answer`](Self::answer) goes on with
    /// it.
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

    /// Waits for the answer to a [`send`](Self::send) whose await was dropped.
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
    /// assert_eq!(slow.send(41).now_or_never(), None); // gave up on it
    /// assert_eq!(block_on(slow.answer()), State::Yielded(42));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is none to wait for. If the body panics; the coroutine is finished then.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub async fn answer(&mut self) -> State<O, R> {
        assert!(self.asked, "there is no answer to wait for: `send` first");
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// True if the body has returned or panicked. Nothing can be sent then.
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }

    /// What the body has returned, if that was while this was a stream: for a stream ends with
    /// `None`.
    pub fn into_result(self) -> Option<R> {
        self.inner.into_result()
    }

    /// To be followed by `poll_answer`.
    fn put(&mut self, input: I) {
        assert!(
            !self.asked,
            "the await of an earlier `send` was dropped: take its `answer` first"
        );
        self.inner.put(input);
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<State<O, R>> {
        self.asked = true; // until the budget allows the poll
        ready!(budget::poll_charge(cx));
        self.asked = false; // if the body panics, there is none
        let polled = self.inner.poll(cx);
        self.asked = polled.is_pending();
        if self.asked {
            budget::refund();
        }
        polled
    }
}

/// The outputs. After the end, `None` for ever.
///
/// # Panics
///
/// If the body panics.
///
/// # Cancel safety
///
/// Nothing is lost when an await of the next output is dropped.
impl<O, R, F> Stream for AsyncCoroutine<'_, (), O, R, F>
where
    F: Future<Output = R> + ?Sized,
{
    type Item = O;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<O>> {
        if self.is_finished() {
            return Poll::Ready(None);
        }
        if !self.asked {
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
