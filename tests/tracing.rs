//! The spans of tasks, as a subscriber receives them.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, info, info_span, subscriber};
use windlass::task::{TaskGroup, scope};
use windlass::{Runtime, block_on, spawn, yield_now};

/// Records the spans and events up to a level.
#[derive(Clone)]
struct Recorder {
    level: Level,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The span with id `n` is at `n - 1`.
    spans: Vec<Recorded>,
    /// The spans that are entered, the innermost last.
    entered: HashMap<ThreadId, Vec<usize>>,
    events: Vec<Recorded>,
}

/// A span or an event.
#[derive(Clone, Debug, Default)]
struct Recorded {
    target: &'static str,
    name: &'static str,
    parent: Option<usize>,
    fields: HashMap<&'static str, String>,
    handles: usize,
    entries: usize,
}

impl Recorded {
    fn new(metadata: &'static Metadata<'static>, parent: Option<usize>) -> Recorded {
        Recorded {
            target: metadata.target(),
            name: metadata.name(),
            parent,
            handles: 1,
            ..Recorded::default()
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

impl Visit for Recorded {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

fn index(span: &Id) -> usize {
    span.into_u64() as usize - 1
}

impl State {
    fn entered(&mut self) -> &mut Vec<usize> {
        self.entered.entry(thread::current().id()).or_default()
    }
}

impl Recorder {
    fn new(level: Level) -> Recorder {
        Recorder {
            level,
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The span of the task that was named so.
    fn task(&self, name: &str) -> usize {
        let is_it = |span: &Recorded| span.name == "task" && span.field("name") == Some(name);
        let found = self.state().spans.iter().position(is_it);
        found.unwrap_or_else(|| panic!("no task is named {name}"))
    }

    fn span(&self, span: usize) -> Recorded {
        self.state().spans[span].clone()
    }

    /// The span of an event.
    fn span_of(&self, message: &str) -> Option<usize> {
        let state = self.state();
        let is_it = |event: &&Recorded| event.field("message") == Some(message);
        let event = state.events.iter().find(is_it);
        event.unwrap_or_else(|| panic!("no event {message}")).parent
    }

    fn open_spans(&self) -> usize {
        let state = self.state();
        state.spans.iter().filter(|span| span.handles > 0).count()
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut state = self.state();
        let parent = match attributes.is_contextual() {
            true => state.entered().last().copied(),
            false => attributes.parent().map(index),
        };
        let mut span = Recorded::new(attributes.metadata(), parent);
        attributes.record(&mut span);
        state.spans.push(span);
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut self.state().spans[index(span)]);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut state = self.state();
        let parent = state.entered().last().copied();
        let mut recorded = Recorded::new(event.metadata(), parent);
        event.record(&mut recorded);
        state.events.push(recorded);
    }

    fn enter(&self, span: &Id) {
        let mut state = self.state();
        state.spans[index(span)].entries += 1;
        state.entered().push(index(span));
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.state().entered().pop(), Some(index(span)));
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.state().spans[index(span)].handles += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let handles = &mut self.state().spans[index(&span)].handles;
        *handles -= 1;
        *handles == 0
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

/// Runs `test` with a subscriber for the levels up to `INFO`.
fn recorded(test: impl FnOnce(&Recorder)) {
    let recorder = Recorder::new(Level::INFO);
    subscriber::with_default(recorder.clone(), || test(&recorder));
    assert_eq!(recorder.open_spans(), 0);
    assert!(recorder.state().entered.values().all(Vec::is_empty));
}

struct EventOnDrop(&'static str);

impl Drop for EventOnDrop {
    fn drop(&mut self) {
        info!("{}", self.0);
    }
}

#[test]
fn a_task_has_a_span_with_id_name_and_location() {
    recorded(|recorder| {
        let line = line!() + 2;
        let id = block_on(async {
            let task = spawn(async {}).named("hauler");
            let id = task.id().unwrap();
            task.await;
            id
        });
        let span = recorder.span(recorder.task("hauler"));
        assert_eq!((span.target, span.name), ("windlass", "task"));
        assert_eq!(span.field("id"), Some(&*id.to_string()));
        let spawned_at = format!("{}:{line}:24", file!());
        assert_eq!(span.field("spawned_at"), Some(&*spawned_at));
        assert_eq!(recorder.state().spans.len(), 1);
    });
}

#[test]
fn a_span_is_entered_during_polls_only() {
    recorded(|recorder| {
        block_on(async {
            let task = spawn(async {
                info!("first poll");
                yield_now().await;
                info!("second poll");
            })
            .named("hauler");
            yield_now().await;
            info!("between polls");
            assert_eq!(recorder.span(recorder.task("hauler")).entries, 1);
            task.await;
        });
        let task = recorder.task("hauler");
        assert_eq!(recorder.span_of("first poll"), Some(task));
        assert_eq!(recorder.span_of("between polls"), None);
        assert_eq!(recorder.span_of("second poll"), Some(task));
        assert_eq!(recorder.span(task).entries, 3); // the third is the drop of the future
    });
}

#[test]
fn a_task_inherits_the_span_of_its_spawn() {
    recorded(|recorder| {
        block_on(async {
            let outer = info_span!("voyage").in_scope(|| {
                spawn(async {
                    yield_now().await;
                    spawn(async {}).named("inner").await;
                })
                .named("outer")
            });
            let other = spawn(async {}).named("other");
            outer.await;
            other.await;
        });
        let outer = recorder.span(recorder.task("outer"));
        assert_eq!(recorder.span(outer.parent.unwrap()).name, "voyage");
        let inner = recorder.span(recorder.task("inner"));
        assert_eq!(inner.parent, Some(recorder.task("outer")));
        assert_eq!(recorder.span(recorder.task("other")).parent, None);
    });
}

#[test]
fn a_span_is_closed_when_the_future_is_gone() {
    recorded(|recorder| {
        block_on(async {
            let finished = spawn(async { drop(EventOnDrop("end")) }).named("finished");
            yield_now().await;
            assert!(finished.is_finished());
            assert_eq!(recorder.open_spans(), 0); // although the handle exists
        });
        assert_eq!(recorder.span_of("end"), Some(recorder.task("finished")));
    });
}

#[test]
fn cancelling_closes_the_span_after_the_destructors() {
    recorded(|recorder| {
        block_on(async {
            let task = spawn(async {
                let _guard = EventOnDrop("cancelled");
                pending::<()>().await;
            });
            let task = task.named("endless");
            yield_now().await;
            assert_eq!(recorder.open_spans(), 1);
            task.cancel().await;
            assert_eq!(recorder.open_spans(), 0);
            info!("after");

            drop(spawn(async {})); // before its first poll
            assert_eq!(recorder.open_spans(), 0);
        });
        let task = recorder.task("endless");
        assert_eq!(recorder.span_of("cancelled"), Some(task));
        assert_eq!(recorder.span_of("after"), None);
    });
}

#[test]
fn a_panic_closes_the_span() {
    recorded(|recorder| {
        block_on(async {
            let task = spawn(async {
                let _guard = EventOnDrop("unwound");
                panic!("expected by the test");
            });
            let panic = task.named("broken").catch().await;
            assert_eq!(panic.unwrap_err().message(), Some("expected by the test"));
            assert_eq!(recorder.open_spans(), 0);
            info!("after");
        });
        let task = recorder.task("broken");
        assert_eq!(recorder.span_of("unwound"), Some(task));
        assert_eq!(recorder.span_of("after"), None);
    });
}

#[test]
fn dropping_a_runtime_closes_the_spans_of_its_tasks() {
    recorded(|recorder| {
        let runtime = Runtime::new().unwrap();
        info_span!("voyage").in_scope(|| runtime.spawn(pending::<()>()).detach());
        runtime.block_on(yield_now());
        let spans = recorder.state().spans.clone();
        assert_eq!((spans[0].name, spans[1].name), ("voyage", "task"));
        assert_eq!(spans[1].parent, Some(0));
        assert!(spans[1].field("spawned_at").unwrap().starts_with(file!()));
        assert_eq!(recorder.open_spans(), 1);
    });
}

#[test]
fn a_child_that_waits_for_room_inherits_the_span_of_its_spawn() {
    recorded(|recorder| {
        block_on(async {
            let group = TaskGroup::infallible().limit(1);
            for ship in ["Pequod", "Rachel"] {
                info_span!("voyage", ship).in_scope(|| {
                    group.spawn(async move { info!("{ship} hauled") });
                });
            }
            let last = group.spawner();
            info_span!("voyage", ship = "Samuel").in_scope(|| {
                last.spawn(async { info!("Samuel hauled") });
            });
            group.close().await;
        });
        for ship in ["Pequod", "Rachel", "Samuel"] {
            let task = recorder.span_of(&format!("{ship} hauled")).unwrap();
            let task = recorder.span(task);
            assert_eq!(task.name, "task");
            assert!(task.field("id").is_some());
            assert!(task.field("spawned_at").unwrap().starts_with(file!()));
            let voyage = recorder.span(task.parent.unwrap());
            assert_eq!(voyage.field("ship"), Some(ship));
        }
    });
}

#[test]
fn the_children_of_a_scope_run_in_the_span_of_their_task() {
    recorded(|recorder| {
        block_on(async {
            let task = spawn(async {
                scope(async |scope| scope.spawn(async { info!("child") })).await;
            });
            task.named("parent").await;
        });
        assert_eq!(recorder.span_of("child"), Some(recorder.task("parent")));
    });
}

#[test]
fn a_remote_task_inherits_the_span_of_the_calling_thread() {
    recorded(|recorder| {
        let runtime = Runtime::new().unwrap();
        let remote = runtime.remote();
        let theirs = recorder.clone();
        let thread = thread::spawn(move || {
            subscriber::with_default(theirs, || {
                info_span!("caller").in_scope(|| remote.spawn(|| async { info!("remote") }))
            })
        });
        runtime.block_on(thread.join().unwrap()).unwrap();
        let task = recorder.span(recorder.span_of("remote").unwrap());
        assert_eq!(task.name, "task");
        assert!(task.field("spawned_at").unwrap().starts_with(file!()));
        assert_eq!(recorder.span(task.parent.unwrap()).name, "caller");
    });
}

#[test]
fn a_subscriber_without_interest_receives_nothing() {
    let recorder = Recorder::new(Level::WARN);
    subscriber::with_default(recorder.clone(), || {
        block_on(async { spawn(yield_now()).await });
    });
    assert!(recorder.state().spans.is_empty());
}

#[test]
fn a_span_for_tokio_console_has_its_fields() {
    let recorder = Recorder::new(Level::TRACE);
    let line = line!() + 2;
    subscriber::with_default(recorder.clone(), || {
        let haul = || spawn(yield_now()).named("hauler");
        block_on(async { haul().await });
    });
    assert_eq!(recorder.open_spans(), 0);
    let state = recorder.state();
    let is_it = |span: &Recorded| span.name == "runtime.spawn";
    let console = state.spans.iter().position(is_it).unwrap();
    let span = &state.spans[console];
    let fields = ["kind", "task.name", "loc.file", "loc.line"].map(|name| span.field(name));
    let line = line.to_string();
    let expected = ["task", "hauler", file!(), &line].map(Some);
    assert_eq!(fields, expected);
    assert_eq!((span.parent, span.entries), (None, 2));
    let is_waker = |event: &&Recorded| event.target == "runtime::waker";
    let waker = state.events.iter().find(is_waker).unwrap();
    assert_eq!(waker.field("op"), Some("waker.clone"));
    let id = (console + 1).to_string();
    assert_eq!(waker.field("task.id"), Some(&*id));
}

#[test]
fn tokio_console_counts_a_wake_per_poll_after_the_first() {
    let wakes = |level| {
        let recorder = Recorder::new(level);
        subscriber::with_default(recorder.clone(), || {
            block_on(async {
                let hauler = spawn(async {
                    for _ in 0..3 {
                        yield_now().await;
                    }
                });
                hauler.named("hauler").await;
            });
        });
        let state = recorder.state();
        let is_wake = |event: &&Recorded| event.field("op") == Some("waker.wake_by_ref");
        let wakes: Vec<_> = state.events.iter().filter(is_wake).collect();
        assert!(wakes.iter().all(|wake| wake.target == "runtime::waker"));
        wakes.len()
    };
    assert_eq!(wakes(Level::TRACE), 3);
    assert_eq!(wakes(Level::INFO), 0);
}
