//! Panics as values, and panics that are discarded.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// The value that a panic was raised with.
pub(crate) type Payload = Box<dyn Any + Send>;

/// A task's panic.
///
/// # Examples
///
/// ```
/// # use windlass::{block_on, spawn};
/// block_on(async {
///     let panic = spawn(async { panic!("{} ropes", 3) }).catch().await.unwrap_err();
///     assert_eq!(panic.message(), Some("3 ropes"));
/// });
/// ```
pub struct Panic(Box<Details>);

/// Boxed, since every task has room for it.
struct Details {
    message: Option<String>,
    is_aborted: bool,
    /// The description of the task.
    task: String,
    /// The mutex is never locked. It makes the error `Sync`.
    payload: Mutex<Payload>,
}

impl Panic {
    #[cold]
    pub(crate) fn new(payload: Payload) -> Self {
        let text = payload.downcast_ref::<&'static str>();
        let text = text.map(|text| text.to_string());
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Panic(Box::new(Details {
            message,
            is_aborted: false,
            task: "a task".to_owned(),
            payload: Mutex::new(payload),
        }))
    }

    /// The end of a task that an `AbortHandle` has cancelled, as the error of `catch`.
    #[cold]
    pub(crate) fn aborted(task: String) -> Self {
        let mut panic = Panic::new(Box::new("aborted"));
        panic.0.is_aborted = true;
        panic.set_task(task);
        panic
    }

    #[cold]
    pub(crate) fn set_task(&mut self, description: String) {
        self.0.task = description;
    }

    /// Returns the text given to `panic!`. `None` if the panic was raised with another value.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// Returns true if the task did not panic, but was cancelled by an
    /// [`AbortHandle`](crate::AbortHandle).
    ///
    /// ```
    /// # use windlass::{block_on, spawn};
    /// block_on(async {
    ///     let task = spawn(std::future::pending::<()>());
    ///     task.abort_handle().abort();
    ///     assert!(task.catch().await.unwrap_err().is_aborted());
    /// });
    /// ```
    pub fn is_aborted(&self) -> bool {
        self.0.is_aborted
    }

    /// Resumes the panic here. This bypasses the panic hook, which has already reported it. For a
    /// task that was [aborted](Panic::is_aborted) it is a new panic.
    #[track_caller]
    pub fn resume(self) -> ! {
        if self.is_aborted() {
            panic!("{self}: `catch` returns this as an error");
        }
        resume_unwind(self.into_inner())
    }

    /// Returns the value that the panic was raised with.
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        let payload = self.0.payload.into_inner();
        payload.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message().unwrap_or("..");
        f.debug_tuple("Panic").field(&message).finish()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_aborted() {
            return write!(f, "{} was aborted by an `AbortHandle`", self.0.task);
        }
        let message = self.message().unwrap_or("(not with a text)");
        write!(f, "{} panicked: {message}", self.0.task)
    }
}

impl std::error::Error for Panic {}

/// Runs user code and discards its panic, which the panic hook has reported.
///
/// For code that must continue whatever a waker or a destructor does. The payload is dropped with
/// the same care, since its destructor may panic too.
///
/// # Examples
///
/// ```
/// use windlass_executor::discard_panic;
///
/// let mut called = 0;
/// for fails in [true, false] {
///     discard_panic(|| assert!(!fails));
///     called += 1;
/// }
/// assert_eq!(called, 2);
/// ```
#[inline]
pub fn discard_panic(user_code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
        drop_payload(payload);
    }
}

/// How many payloads that panic in their drop are dropped in a row.
const MAX_PAYLOADS: usize = 16;

/// Drops a payload. Its drop may panic with another payload, and so on. Leaks the last of a long
/// series, which may be endless.
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
