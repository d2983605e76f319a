//! Functions that stop in the middle, hand a value out, and go on with a value handed in.
//!
//! A subroutine has one entry and returns once. A coroutine has as many entries as it has
//! [`yield_`](Co::yield_)s: it stops there with all its local variables in place, and whoever
//! called it has a value and may go on with other work. Called again, it goes on from there, with
//! the value that came with the call. So each of the two is written as if it were the main
//! program and the other one its subroutine:
//!
//! ```
//! use windlass::coroutine::{Coroutine, State};
//!
//! let mut average = Coroutine::new(async |co, first: f64| {
//!     let (mut sum, mut count) = (first, 1.0);
//!     while sum < 100.0 {
//!         sum += co.yield_(sum / count).await; // the mean goes out, the next number comes in
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
//! The first input is the argument of the body, as with any function: nothing has to be sent in
//! only to get it started. Input, output and result have each a type of their own.
//!
//! Without input a coroutine is an [`Iterator`]. What it yields may come from any depth, by handing
//! `co` down to other functions:
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
//! | to go on | `coroutine.resume(input)` | `coroutine.send(input).await` |
//! | without input | an [`Iterator`] | a [`Stream`](futures_core::Stream) |
//! | its body may await | its own yields | anything: sockets, timers, tasks |
//! | runs where | anywhere | in a task |
//!
//! Each is either boxed, by `new`, or pinned to the stack, by `pinned`:
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
//! To make a boxed one takes two allocations, to make a pinned one none, and to resume takes none.
//! A boxed one can be named and kept anywhere. The type of a pinned one ends with that of its body,
//! as the type of a closure would; so the compiler sees through it, and a resume costs less.
//!
//! # How it works
//!
//! Rust makes a state machine of an `async` block, with a state for each place where it may stop;
//! that is all that a coroutine needs. `yield_` is a leaf future that puts its value into the
//! [`Exchange`], a cell that both sides share, and is `Pending` once. `resume` puts the input
//! there, polls the body, and takes out the output. No executor is needed, no stack is switched,
//! and nothing is woken. A yield from a depth of *n* functions takes *n* nested polls.
//!
//! # What goes wrong, and what happens then
//!
//! | | |
//! |---|---|
//! | a finished coroutine is resumed | it panics; as an iterator or stream it gives `None` |
//! | the body panics | the panic goes through `resume`; the coroutine is finished |
//! | the body of a [`Coroutine`] awaits what isn't ready | `resume` panics; it is finished |
//! | a coroutine is dropped half-way | its body is dropped where it stands, or with its pin |
//! | it resumes itself | can't be: `resume` takes `&mut self` |
//! | two yields pending at once | doesn't compile: `yield_` borrows `co` |
//! | `co` leaves the body | doesn't compile: it is borrowed for the body alone |
//! | a yield is dropped before the coroutine stopped | its value is taken back |
//! | a yield is dropped after that | the input that comes for it is dropped |
//! | two bodies are made of one [`Exchange`] | the second one panics |
//! | a body is pinned with the exchange of another | `resume` panics |
//! | the await of a `send` is dropped | nothing is lost: [`answer`](AsyncCoroutine::answer) |
//!
//! # Sources
//!
//! Coroutines are Conway's (1963). That these are *asymmetric* (they go back to whoever resumed
//! them), and that the first values passed in become arguments of the body, is as in Lua (de Moura,
//! Rodriguez, Ierusalimschy 2004). The names `Yielded` and `Complete` are those of Rust's unstable
//! `std::ops::Coroutine`.

mod async_coroutine;

pub use async_coroutine::AsyncCoroutine;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::iter::FusedIterator;
use std::mem;
use std::ops::Deref;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What a coroutine gives back when it stops.
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
    /// It stopped at a [`yield_`](Co::yield_) with this value, and can be resumed.
    Yielded(O),
    /// Its body has returned this value. It can't be resumed any more.
    Complete(R),
}

/// A coroutine with inputs `I`, outputs `O` and the result `R`, whose body may borrow for `'a`.
///
/// The [module](self) has the whole story; [`AsyncCoroutine`] is the kind that may also wait for
/// sockets and timers.
///
/// As an iterator, where the input is `()`, it yields the outputs; what the body returns is then
/// had from [`into_result`](Coroutine::into_result).
///
/// `F` is the body's type if that is [pinned](Coroutine::pinned) to the stack; a box hides it.
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
    exchange: Shared<'a, I, O>,
    /// Also while the body runs; so a body that panics leaves a finished coroutine.
    finished: bool,
    /// What the body returned while this was used as an iterator or a stream.
    result: Option<R>,
}

// Neither the body nor the result is pinned in here.
impl<I, O, R, F: ?Sized> Unpin for Coroutine<'_, I, O, R, F> {}

impl<'a, I, O, R> Coroutine<'a, I, O, R> {
    /// A coroutine in a box. Its body doesn't run before the first [`resume`](Self::resume), whose
    /// input is the body's second argument.
    pub fn new<B>(body: B) -> Self
    where
        B: AsyncFnOnce(&mut Co<'_, I, O>, I) -> R + 'a,
        I: 'a,
        O: 'a,
    {
        let exchange = Rc::new(Exchange::new());
        let own = exchange.clone();
        // Not by `run`, for which debug builds would copy the body on the stack.
        let body = Box::new(async move {
            let first = own.first_input();
            let exchange = &*own;
            body(&mut Co { exchange }, first).await
        });
        Self::with(Body::Boxed(Box::into_pin(body)), Shared::Owned(exchange))
    }
}

impl<'a, I, O, R, F> Coroutine<'a, I, O, R, F>
where
    F: Future<Output = R> + ?Sized + 'a,
{
    /// A coroutine whose `body`, made by [`Exchange::body`] of the same exchange, is pinned
    /// elsewhere: on the stack, by [`pin!`](std::pin::pin). It's dropped there, too. (With another
    /// exchange, [`resume`](Self::resume) panics.)
    ///
    /// Given as `Pin<&mut dyn Future<..>>`, it makes a coroutine of the same type as a boxed one.
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
        Self::with(Body::Pinned(body), Shared::Lent(exchange))
    }

    fn with(body: Body<'a, F>, exchange: Shared<'a, I, O>) -> Self {
        Coroutine {
            body,
            exchange,
            finished: false,
            result: None,
        }
    }

    /// Goes on until the next yield, or the end. The input is the argument of the body at first,
    /// then what the pending [`yield_`](Co::yield_) gives.
    ///
    /// # Panics
    ///
    /// * If the coroutine is [finished](Self::is_finished).
    /// * If its body awaits anything but its own yields and that isn't ready at once: there is
    ///   nobody to wake it. The coroutine is finished then. [`AsyncCoroutine`] may wait.
    /// * If its body panics; the coroutine is finished then.
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
                     `resume` can't wait: make it an `AsyncCoroutine`, and `send(..).await`"
                );
            }
        }
    }

    /// True if the body has returned or panicked, or has awaited what it may not. It can't be
    /// resumed then.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What the body has returned, if that was while iterating: for an iterator ends with `None`.
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

    /// Puts the input where the body will find it.
    #[inline]
    #[track_caller]
    pub(crate) fn put(&mut self, input: I) {
        assert!(
            !self.finished,
            "this coroutine is finished and can't be resumed: see `is_finished`"
        );
        self.exchange.handed.set(Handed::In(input));
        if let Some(waker) = self.exchange.waker.take() {
            waker.wake();
        }
    }

    /// Runs the body until it yields, ends, or waits for something else.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<State<O, R>> {
        self.finished = true;
        self.exchange.polled_with.set(cx.waker());
        let polled = self.body.poll(cx);
        if let Poll::Ready(result) = polled {
            return Poll::Ready(State::Complete(result));
        }
        self.finished = false;
        match self.exchange.handed.take() {
            Handed::Out(output) => Poll::Ready(State::Yielded(output)),
            not_taken_yet => {
                self.exchange.handed.set(not_taken_yet);
                Poll::Pending
            }
        }
    }

    /// The output; or `None` at the end, whose result is kept.
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

/// The outputs. After the end, `None` for ever.
///
/// # Panics
///
/// As [`resume`](Coroutine::resume), but not if it is finished.
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

/// The coroutine as its own body sees it: the way to [`yield_`](Co::yield_).
///
/// Functions that yield for the coroutine that calls them take it as `&mut Co`:
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

impl<I, O> Co<'_, I, O> {
    /// Stops the coroutine and hands `output` to whoever resumed it. Gives the input of the next
    /// resume.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the coroutine has stopped, it takes its output back. Dropped later, the input
    /// that comes for it is dropped. Neither disturbs the next yield.
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
#[must_use = "a coroutine doesn't yield unless this is awaited"]
pub struct Yield<'x, I, O> {
    exchange: &'x Exchange<I, O>,
    step: Step<O>,
}

enum Step<O> {
    Start(O),
    Waiting,
    Over,
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
                    self.step = Step::Over;
                    return Poll::Ready(input);
                }
                not_mine => self.exchange.handed.set(not_mine),
            },
            Step::Over => panic!("this `yield_` was polled again after its end"),
        }
        // What comes with an input polls from the top, and gets here unless a combinator with
        // wakers of its own stands between, which polls only what was woken.
        if !ptr::eq(cx.waker(), self.exchange.polled_with.get()) {
            self.exchange.keep(cx.waker());
        }
        Poll::Pending
    }
}

impl<I, O> Drop for Yield<'_, I, O> {
    #[inline]
    fn drop(&mut self) {
        // What is there now is its output, or the input that came for it.
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

/// Where a coroutine and its caller hand values to each other. Only those who
/// [pin](Coroutine::pinned) a coroutine to the stack need to make one.
pub struct Exchange<I, O> {
    /// Full only from `resume` to the yield that takes the input, and from a yield to the `resume`
    /// that takes the output.
    handed: Cell<Handed<I, O>>,
    /// Of the pending yield, if it has another one than the body was polled with.
    waker: Cell<Option<Waker>>,
    /// The waker that the body is polled with, to compare by address: it stays in its place while
    /// the poll lasts.
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
    /// For one coroutine.
    pub const fn new() -> Self {
        Exchange {
            handed: Cell::new(Handed::Nothing),
            waker: Cell::new(None),
            polled_with: Cell::new(ptr::null()),
            has_body: Cell::new(false),
        }
    }

    /// The body of a coroutine, to be pinned and given to [`Coroutine::pinned`] or
    /// [`AsyncCoroutine::pinned`].
    ///
    /// # Panics
    ///
    /// If it has made one before.
    #[track_caller]
    pub fn body<R>(
        &self,
        body: impl AsyncFnOnce(&mut Co<'_, I, O>, I) -> R,
    ) -> impl Future<Output = R> {
        assert!(
            !self.has_body.replace(true),
            "an exchange is for one coroutine: make another one for another body"
        );
        run(self, body)
    }

    /// Takes the input that starts the body.
    fn first_input(&self) -> I {
        match self.handed.take() {
            Handed::In(first) => first,
            _ => panic!(
                "the body of a coroutine can't be awaited: give it to `Coroutine::pinned`, \
                 together with the exchange that has made it"
            ),
        }
    }

    #[cold]
    fn keep(&self, waker: &Waker) {
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

enum Shared<'a, I, O> {
    Owned(Rc<Exchange<I, O>>),
    Lent(&'a Exchange<I, O>),
}

impl<I, O> Deref for Shared<'_, I, O> {
    type Target = Exchange<I, O>;

    #[inline]
    fn deref(&self) -> &Exchange<I, O> {
        match self {
            Shared::Owned(exchange) => exchange,
            Shared::Lent(exchange) => exchange,
        }
    }
}
