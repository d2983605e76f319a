//! The spans of a task.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tracing::level_filters::LevelFilter;
use tracing::{Span, field, info_span, trace, trace_span};
use windlass_executor::TaskId;

/// The spans of a task. `None` if no subscriber was interested when the task was spawned, so that a
/// poll costs a comparison with zero.
#[derive(Debug)]
pub(crate) struct TaskSpans(Option<Box<Spans>>);

#[derive(Debug)]
struct Spans {
    task: Span,
    /// The span of tokio-console, from the first poll on.
    console: Span,
    spawned_at: &'static Location<'static>,
    is_started: bool,
}

impl TaskSpans {
    /// Opens the span of a task in the current span.
    #[inline]
    pub(crate) fn new(spawned_at: &'static Location<'static>) -> TaskSpans {
        if LevelFilter::current() < LevelFilter::INFO {
            return TaskSpans(None);
        }
        TaskSpans(Spans::new(spawned_at))
    }

    /// Makes `future` run in the spans.
    #[inline]
    pub(crate) fn wrap<F>(self, future: F) -> Traced<F> {
        Traced {
            spans: self,
            future: Some(future),
        }
    }
}

impl Spans {
    #[cold]
    fn new(spawned_at: &'static Location<'static>) -> Option<Box<Spans>> {
        let task = info_span!(
            target: "windlass",
            "task",
            id = field::Empty,
            name = field::Empty,
            spawned_at = %spawned_at,
        );
        // The subscriber of the console shows the fields that a span has when it is opened, and
        // the name is not known yet.
        let may_have_console = LevelFilter::current() >= LevelFilter::TRACE;
        (may_have_console || !task.is_disabled()).then(|| {
            Box::new(Spans {
                task,
                console: Span::none(),
                spawned_at,
                is_started: false,
            })
        })
    }

    /// Records the name and the id, which the task has by the first poll.
    #[cold]
    fn start(&mut self) {
        self.is_started = true;
        let id = TaskId::current();
        let name = id.and_then(TaskId::name);
        if let Some(id) = id {
            self.task.record("id", field::display(id));
        }
        if let Some(name) = name.as_deref() {
            self.task.record("name", name);
        }
        self.console = trace_span!(
            target: "windlass",
            parent: None,
            "runtime.spawn",
            kind = "task",
            task.name = name.as_deref(),
            task.id = id.and_then(number),
            loc.file = self.spawned_at.file(),
            loc.line = self.spawned_at.line(),
            loc.col = self.spawned_at.column(),
        );
        // The console warns of a task that has no waker left. Wakers are numbers, which nothing
        // counts, so the task has one until it ends.
        self.note_waker("waker.clone");
    }

    /// Notes an operation of the task's waker, for the console alone.
    fn note_waker(&self, op: &'static str) {
        if let Some(span) = self.console.id() {
            trace!(target: "runtime::waker", op, task.id = span.into_u64());
        }
    }

    fn poll<F: Future>(&mut self, future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.is_started {
            // Wakes that preceded this poll. The executor has merged them into one.
            self.note_waker("waker.wake_by_ref");
        } else {
            self.start();
        }
        let _console = self.console.enter();
        let _task = self.task.enter();
        future.poll(cx)
    }
}

/// The number of a task, for the console, which shows no other ids. The tasks of the second
/// executor of a process have an id of two numbers.
fn number(id: TaskId) -> Option<u64> {
    id.to_string().parse().ok()
}

pin_project! {
    /// A future in the spans of its task.
    #[derive(Debug)]
    pub(crate) struct Traced<F> {
        spans: TaskSpans,
        // Present until drop.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Traced<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(spans) = &this.spans.0 {
                let _task = spans.task.enter();
                this.future.set(None);
            }
        }
    }
}

impl<F: Future> Future for Traced<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut();
        let future = future.expect("the future is present until drop");
        match &mut this.spans.0 {
            None => future.poll(cx),
            Some(spans) => spans.poll(future, cx),
        }
    }
}

/// Wraps the future of a new task. It doesn't call [`TaskSpans::wrap`], because debug builds copy a
/// value on the stack for each function that takes it.
#[inline]
pub(crate) fn traced<F>(spawned_at: &'static Location<'static>, future: F) -> Traced<F> {
    Traced {
        spans: TaskSpans::new(spawned_at),
        future: Some(future),
    }
}
