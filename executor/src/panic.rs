//! Panics as values, and panics that have nobody to go to.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// What a task panicked with.
///
/// # Examples
///
/// ```
/// # use windlass_executor::{block_on, spawn, Executor};
/// block_on(Executor::new().run(async {
///     let panic = spawn(async { panic!("{} ropes", 3) }).catch().await.unwrap_err();
///     assert_eq!(panic.message(), Some("3 ropes"));
/// }));
/// ```
pub struct Panic(Box<Details>);

/// Boxed, since the place for it is in every task.
struct Details {
    message: Option<String>,
    /// Which task it was.
    task: String,
    /// The mutex makes a `Sync` error of what is only `Send`; it's never locked.
    value: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    #[cold]
    pub(crate) fn new(value: Box<dyn Any + Send>) -> Self {
        let text = value
            .downcast_ref::<&'static str>()
            .map(|text| text.to_string());
        let message = text.or_else(|| value.downcast_ref::<String>().cloned());
        let value = Mutex::new(value);
        let task = "a task".to_owned();
        Panic(Box::new(Details {
            message,
            task,
            value,
        }))
    }

    /// Says which task it was, which only the task's handle knows.
    #[cold]
    pub(crate) fn set_task(&mut self, task: String) {
        self.0.task = task;
    }

    /// The text given to `panic!`, if it was a text.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// Goes on with the panic, here. The panic hook is not called again.
    pub fn resume(self) -> ! {
        resume_unwind(self.into_inner())
    }

    /// The value given to `panic_any`, or the text.
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        let value = self.0.value.into_inner();
        value.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic")
            .field(&self.message().unwrap_or(".."))
            .finish()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} panicked: {}",
            self.0.task,
            self.message().unwrap_or("(not with a text)")
        )
    }
}

impl std::error::Error for Panic {}

/// What a panic was raised with.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs user code and discards its panic, which the panic hook has reported.
///
/// For code that must go on whatever a waker or a destructor does. The payload is dropped with the
/// same care: its destructor may panic as well.
///
/// # Examples
///
/// ```
/// use windlass_executor::discard_panic;
///
/// let mut woken = 0;
/// for fails in [true, false] {
///     discard_panic(|| assert!(!fails));
///     woken += 1;
/// }
/// assert_eq!(woken, 2);
/// ```
#[inline]
pub fn discard_panic(user_code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
        drop_payload(payload);
    }
}

/// Drops a panic's payload. That is user code, and may panic with another payload, and so on: this
/// goes on until one is dropped without a panic. The last of a long series is leaked, since it may
/// be one without an end.
#[cold]
pub(crate) fn drop_payload(mut payload: Payload) {
    for _ in 0..MAX_PAYLOADS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

/// How many payloads that panic in their drop are dropped in a row.
const MAX_PAYLOADS: usize = 16;
