//! The coroutine that awaits only its own yields.

use std::fmt;
use std::future::Future;
use std::iter::FusedIterator;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::exchange::{Co, Exchange};

/// The result of resuming a coroutine.
///
/// ```
/// use windlass::coroutine::{Coroutine, State};
///
/// let mut dive = Coroutine::new(async |co, mut depth: u32| {
///     while depth < 3 {
///         depth += co.yield_(depth).await;
///     }
///     "the ground"
/// });
/// let found = loop {
///     match dive.resume(1) {
///         State::Yielded(depth) => println!("nothing at {depth}"),
///         State::Complete(found) => break found,
///     }
/// };
/// assert_eq!(found, "the ground");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State<O, R> {
    /// The coroutine is suspended at a [`yield_`](Co::yield_) of this value, and can be resumed.
    Yielded(O),
    /// The body has returned this value. The coroutine cannot be resumed again.
    Complete(R),
}

/// A coroutine with inputs `I`, outputs `O` and the result `R`. Its body may borrow for `'a`.
///
/// The [module](super) describes coroutines. An [`AsyncCoroutine`](super::AsyncCoroutine) may also
/// wait for sockets and timers.
///
/// With the input `()` it is an iterator over the outputs. The return value of the body is then
/// available from [`into_result`](Coroutine::into_result).
///
/// `F` is the type of the body if that is [pinned](Coroutine::pinned) to the stack. A box hides it.
///
/// # Examples
///
/// ```
/// use windlass::coroutine::{Coroutine, State};
///
/// let mut greeter = Coroutine::new(async |co, name: &str| {
///     let mood = co.yield_(format!("Ahoy {name}, how are you?")).await;
///     mood.len()
/// });
/// assert_eq!(greeter.resume("Ann"), State::Yielded("Ahoy Ann, how are you?".to_owned()));
/// assert_eq!(greeter.resume("fine"), State::Complete(4));
/// ```
#[must_use = "a coroutine does nothing unless it is resumed"]
pub struct Coroutine<'a, I, O, R, F: ?Sized = dyn Future<Output = R> + 'a> {
    body: Body<'a, F>,
    exchange: ExchangeRef<'a, I, O>,
    /// Also true while the body runs, so that a panic of the body leaves it true.
    finished: bool,
    /// The return value of the body, if this was used as an iterator or a stream.
    result: Option<R>,
}

// Neither the body nor the result is pinned in place.
impl<I, O, R, F: ?Sized> Unpin for Coroutine<'_, I, O, R, F> {}

impl<'a, I, O, R> Coroutine<'a, I, O, R> {
    /// Creates a boxed coroutine. Its body starts with the first [`resume`](Self::resume). The
    /// input of that call is the second argument of the body.
    pub fn new<B>(body: B) -> Self
    where
        B: AsyncFnOnce(&mut Co<'_, I, O>, I) -> R + 'a,
        I: 'a,
        O: 'a,
    {
        let exchange = Rc::new(Exchange::new());
        let own = exchange.clone();
        // Not with `run`, because debug builds would copy the body on the stack.
        let body = Box::new(async move {
            let first = own.first_input();
            body(&mut Co::new(&own), first).await
        });
        Self::with(
            Body::Boxed(Box::into_pin(body)),
            ExchangeRef::Owned(exchange),
        )
    }
}

impl<'a, I, O, R, F> Coroutine<'a, I, O, R, F>
where
    F: Future<Output = R> + ?Sized + 'a,
{
    /// Creates a coroutine with a `body` that is pinned to the stack by [`pin!`](std::pin::pin),
    /// and dropped there. The body must come from [`Exchange::body`] of the same exchange,
    /// otherwise [`resume`](Self::resume) panics.
    ///
    /// A body of type `Pin<&mut dyn Future<..>>` makes a coroutine of the same type as a boxed one.
    ///
    /// ```
    /// use std::pin::pin;
    /// use windlass::coroutine::{Coroutine, Exchange, State};
    ///
    /// let exchange = Exchange::new();
    /// let body = pin!(exchange.body(async |co, mut word: String| {
    ///     while word.len() < 8 {
    ///         word += co.yield_(word.len()).await.as_str();
    ///     }
    ///     word
    /// }));
    /// let mut joiner = Coroutine::pinned(&exchange, body);
    /// assert_eq!(joiner.resume("wind".to_owned()), State::Yielded(4));
    /// assert_eq!(joiner.resume("lass".to_owned()), State::Complete("windlass".to_owned()));
    /// ```
    pub fn pinned(exchange: &'a Exchange<I, O>, body: Pin<&'a mut F>) -> Self {
        Self::with(Body::Pinned(body), ExchangeRef::Lent(exchange))
    }

    fn with(body: Body<'a, F>, exchange: ExchangeRef<'a, I, O>) -> Self {
        Coroutine {
            body,
            exchange,
            finished: false,
            result: None,
        }
    }

    /// Runs the body until its next yield or its end. The first input is the argument of the body,
    /// later ones are the output of the pending [`yield_`](Co::yield_).
    ///
    /// # Panics
    ///
    /// * Panics if the coroutine is [finished](Self::is_finished).
    /// * Panics if the body awaits a pending future other than its own yields, because nothing
    ///   would wake it. The coroutine is then finished. Use an
    ///   [`AsyncCoroutine`](super::AsyncCoroutine).
    /// * Propagates a panic of the body. The coroutine is then finished.
    #[inline]
    #[track_caller]
    pub fn resume(&mut self, input: I) -> State<O, R> {
        self.put(input);
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(state) => state,
            Poll::Pending => {
                self.finished = true;
                panic!(
                    "this coroutine awaits something that is not a `yield_` of its own, and \
                     `resume` cannot wait: make it an `AsyncCoroutine` and `send(..).await`"
                );
            }
        }
    }

    /// Returns true if the body has returned, has panicked, or has awaited a future that it must
    /// not. The coroutine cannot be resumed then.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Returns the return value of the body, if the coroutine was used as an iterator and has
    /// ended.
    ///
    /// ```
    /// use windlass::coroutine::Coroutine;
    ///
    /// let mut lines = Coroutine::new(async |co, ()| {
    ///     co.yield_("first").await;
    ///     co.yield_("second").await;
    ///     Err::<(), _>("the rope broke")
    /// });
    /// assert_eq!(lines.by_ref().count(), 2);
    /// assert_eq!(lines.into_result(), Some(Err("the rope broke")));
    /// ```
    pub fn into_result(self) -> Option<R> {
        self.result
    }

    /// Stores the input for the body.
    #[inline]
    #[track_caller]
    pub(crate) fn put(&mut self, input: I) {
        assert!(
            !self.finished,
            "this coroutine is finished and cannot be resumed: see `is_finished`"
        );
        self.exchange.put(input);
    }

    /// Runs the body until it yields, ends, or waits for another future.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<State<O, R>> {
        self.finished = true;
        self.exchange.set_polled_with(cx.waker());
        let polled = self.body.poll(cx);
        if let Poll::Ready(result) = polled {
            return Poll::Ready(State::Complete(result));
        }
        self.finished = false;
        match self.exchange.take_output() {
            Some(output) => Poll::Ready(State::Yielded(output)),
            None => Poll::Pending,
        }
    }

    /// Returns the output, or stores the result and returns `None`.
    pub(crate) fn keep_result(&mut self, state: State<O, R>) -> Option<O> {
        match state {
            State::Yielded(output) => Some(output),
            State::Complete(result) => {
                self.result = Some(result);
                None
            }
        }
    }
}

/// Iterates over the outputs. Returns `None` after the end.
///
/// # Panics
///
/// Panics as [`resume`](Coroutine::resume) does, except if the coroutine is finished.
impl<O, R, F> Iterator for Coroutine<'_, (), O, R, F>
where
    F: Future<Output = R> + ?Sized,
{
    type Item = O;

    #[inline]
    fn next(&mut self) -> Option<O> {
        if self.finished {
            return None;
        }
        let state = self.resume(());
        self.keep_result(state)
    }
}

impl<O, R, F> FusedIterator for Coroutine<'_, (), O, R, F> where F: Future<Output = R> + ?Sized {}

impl<I, O, R, F: ?Sized> fmt::Debug for Coroutine<'_, I, O, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine")
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

enum Body<'a, F: ?Sized> {
    Boxed(Pin<Box<F>>),
    Pinned(Pin<&'a mut F>),
}

impl<F: Future + ?Sized> Body<'_, F> {
    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self {
            Body::Boxed(body) => body.as_mut().poll(cx),
            Body::Pinned(body) => body.as_mut().poll(cx),
        }
    }
}

enum ExchangeRef<'a, I, O> {
    Owned(Rc<Exchange<I, O>>),
    Lent(&'a Exchange<I, O>),
}

impl<I, O> Deref for ExchangeRef<'_, I, O> {
    type Target = Exchange<I, O>;

    #[inline]
    fn deref(&self) -> &Exchange<I, O> {
        match self {
            ExchangeRef::Owned(exchange) => exchange,
            ExchangeRef::Lent(exchange) => exchange,
        }
    }
}
