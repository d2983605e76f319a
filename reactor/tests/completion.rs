//! Completion sources. Covers the calls that a turn makes, when it blocks, and how it handles
//! failures.

mod common;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use windlass_reactor::completion::{CompletionSource, MayBlock, Registrar, Registration};
use windlass_reactor::time::sleep;
use windlass_reactor::{Reactor, check_driven, is_driven};

/// Operations that a thread completes, one batch per submission.
struct Batches {
    queued: RefCell<Vec<Waker>>,
    in_flight: Cell<usize>,
    completed: Arc<Mutex<Vec<Waker>>>,
    /// The waker of the loop.
    waker: Waker,
    log: Log,
}

type Log = Rc<RefCell<Vec<&'static str>>>;

impl Batches {
    fn new(registrar: &Registrar<'_>, log: &Log) -> io::Result<Batches> {
        Ok(Batches {
            queued: RefCell::default(),
            in_flight: Cell::new(0),
            completed: Arc::default(),
            waker: registrar.waker(),
            log: log.clone(),
        })
    }

    fn here(log: &Log) -> Registration<Batches> {
        Registration::current(|registrar| Batches::new(registrar, log)).unwrap()
    }
}

impl CompletionSource for Batches {
    fn submit(&self) -> io::Result<MayBlock> {
        let batch = self.queued.take();
        if !batch.is_empty() {
            self.log.borrow_mut().push("batch");
            self.in_flight.set(self.in_flight.get() + batch.len());
            let (completed, waker) = (self.completed.clone(), self.waker.clone());
            thread::spawn(move || {
                completed.lock().unwrap().extend(batch);
                waker.wake();
            });
        }
        let is_idle = self.completed.lock().unwrap().is_empty();
        Ok(if is_idle { MayBlock::Yes } else { MayBlock::No })
    }

    fn collect(&self, wakers: &mut Vec<Waker>) {
        let completed = std::mem::take(&mut *self.completed.lock().unwrap());
        self.in_flight.set(self.in_flight.get() - completed.len());
        wakers.extend(completed);
    }

    fn finish(&self) {
        self.log.borrow_mut().push("finish");
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.log.borrow_mut().push("drop");
    }
}

/// One operation, which is queued at its first poll and completes at its second.
async fn operation(log: &Log) {
    let (batches, mut is_queued) = (Batches::here(log), false);
    poll_fn(move |cx| {
        if std::mem::replace(&mut is_queued, true) {
            return Poll::Ready(());
        }
        batches.queued.borrow_mut().push(cx.waker().clone());
        batches.request_turn();
        Poll::Pending
    })
    .await;
}

#[test]
fn operations_queued_in_one_turn_are_one_batch() {
    let log = Log::default();
    run(async {
        futures::join!(operation(&log), operation(&log), operation(&log));
        operation(&log).await;
    });
    let batches = Registration::<Batches>::existing().unwrap();
    assert_eq!(batches.in_flight.get(), 0);
    assert!(
        log.borrow().starts_with(&["batch", "batch", "finish"]),
        "{log:?}"
    );
}

#[test]
fn a_source_is_dropped_with_the_reactor_of_its_thread() {
    let is_dropped = Arc::new(());
    struct Held(#[allow(dead_code)] Arc<()>);
    impl CompletionSource for Held {
        fn submit(&self) -> io::Result<MayBlock> {
            Ok(MayBlock::Yes)
        }
        fn collect(&self, _: &mut Vec<Waker>) {}
    }
    let held = is_dropped.clone();
    thread::spawn(move || {
        let first = Registration::current(|_| Ok(Held(held))).unwrap();
        let second = Registration::<Held>::current(|_| panic!("it is registered")).unwrap();
        assert!(std::ptr::eq(&*first, &*second));
        assert!(!first.is_driven() && first.check_driven().is_err());
        run(async { assert!(first.is_driven()) });
    })
    .join()
    .unwrap();
    assert_eq!(Arc::strong_count(&is_dropped), 1);
}

type Answer = io::Result<MayBlock>;

/// A source that returns the results set by the test.
#[derive(Default)]
struct Scripted {
    submit: Cell<Option<fn() -> Answer>>,
    collect: Cell<Option<fn()>>,
    submissions: Cell<u32>,
    waker: Cell<Option<Waker>>,
}

impl CompletionSource for Scripted {
    fn submit(&self) -> io::Result<MayBlock> {
        self.submissions.set(self.submissions.get() + 1);
        self.submit
            .get()
            .map_or(Ok(MayBlock::Yes), |submit| submit())
    }

    fn collect(&self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.waker.take());
        if let Some(collect) = self.collect.get() {
            collect();
        }
    }
}

fn scripted() -> Registration<Scripted> {
    Registration::current(|_| Ok(Scripted::default())).unwrap()
}

#[test]
fn a_turn_does_not_block_while_a_source_has_completions() {
    let (reactor, source) = (Reactor::current().unwrap(), scripted());
    source.submit.set(Some(|| Ok(MayBlock::No)));
    let start = Instant::now();
    reactor.turn(Some(PATIENCE)).unwrap();
    assert!(start.elapsed() < PATIENCE, "the turn has blocked");
}

#[test]
fn a_source_has_a_turn_at_its_deadline() {
    let (reactor, source) = (Reactor::current().unwrap(), scripted());
    let until = || Ok(MayBlock::Until(Instant::now() + Duration::from_millis(20)));
    source.submit.set(Some(until));
    reactor.turn(Some(Duration::ZERO)).unwrap(); // it was requested by the registration
    let start = Instant::now();
    reactor.turn(Some(PATIENCE)).unwrap();
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(19), "after {elapsed:?}");
    assert!(elapsed < PATIENCE, "the turn has missed the deadline");
    let next = reactor.next_deadline().expect("the source has a deadline");
    assert!(next <= Instant::now() + Duration::from_millis(20));
}

#[test]
fn an_error_of_a_source_is_returned_by_the_turn() {
    let (reactor, source) = (Reactor::current().unwrap(), scripted());
    source
        .submit
        .set(Some(|| Err(io::Error::other("the device is gone"))));
    let error = reactor.turn(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(error.to_string(), "the device is gone");
    source.submit.set(None);
    reactor.turn(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_panic_of_a_source_propagates_after_all_wakes() {
    let (reactor, source) = (Reactor::current().unwrap(), scripted());
    let (counter, waker) = Counter::new();
    source.waker.set(Some(waker));
    source
        .collect
        .set(Some(|| panic!("a defect of the source")));
    let turned = catch_unwind(AssertUnwindSafe(|| reactor.turn(Some(Duration::ZERO))));
    let payload = turned.unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"a defect of the source"));
    assert_eq!(counter.wakes(), 1, "the waker was lost");
    source.collect.set(None);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    // The same in `submit`, which a host's turn calls twice.
    source.submit.set(Some(|| panic!("another one")));
    let turned = catch_unwind(AssertUnwindSafe(|| reactor.turn(Some(Duration::ZERO))));
    assert!(turned.is_err());
    source.submit.set(None);
    run(sleep(Duration::from_millis(1)));
}

#[cfg(unix)]
#[test]
fn a_panic_whose_payload_panics_does_not_stop_a_detach() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("the drop of the payload");
        }
    }
    let (reactor, source) = (Reactor::current().unwrap(), scripted());
    let awake = reactor.awake();
    source.submit.set(Some(|| std::panic::panic_any(Payload)));
    drop(awake);
    source.submit.set(None);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(!descriptor_is_ready(&reactor, false));
    reactor.waker().wake();
    assert!(descriptor_is_ready(&reactor, false), "the wake was lost");
}

thread_local!(static ERRORS: RefCell<Vec<String>> = RefCell::default());

fn turn_inside() {
    let turned = Reactor::current().unwrap().turn(Some(Duration::ZERO));
    let error = turned.unwrap_err().to_string();
    ERRORS.with_borrow_mut(|errors| errors.push(error));
}

#[test]
fn a_source_cannot_turn_the_reactor_inside_its_calls() {
    let (reactor, source) = (Reactor::current().unwrap(), scripted());
    let awake = reactor.awake();
    source.submit.set(Some(|| {
        turn_inside();
        Ok(MayBlock::Yes)
    }));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    source.submit.set(None);
    source.collect.set(Some(turn_inside));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let errors = ERRORS.take();
    assert_eq!(errors.len(), 2);
    for error in errors {
        assert!(error.contains("must not turn the reactor"), "{error}");
    }
    drop(awake);
}

#[test]
fn a_source_that_is_registered_in_a_turn_takes_part_in_it() {
    struct Other(Cell<u32>);
    impl CompletionSource for Other {
        fn submit(&self) -> io::Result<MayBlock> {
            self.0.set(self.0.get() + 1);
            Ok(MayBlock::No)
        }
        fn collect(&self, _: &mut Vec<Waker>) {}
    }
    let (reactor, source) = (Reactor::current().unwrap(), scripted());
    source.submit.set(Some(|| {
        Registration::current(|_| Ok(Other(Cell::new(0))))?;
        Ok(MayBlock::Yes)
    }));
    let awake = reactor.awake();
    reactor.turn(Some(PATIENCE)).unwrap();
    assert_eq!(Registration::<Other>::existing().unwrap().0.get(), 1);
    drop(awake);
}

#[cfg(unix)]
#[test]
fn a_source_that_needs_a_turn_makes_the_descriptor_readable() {
    let (reactor, source) = (Reactor::current().unwrap(), scripted());
    while descriptor_is_ready(&reactor, false) {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    source.request_turn();
    assert!(
        descriptor_is_ready(&reactor, false),
        "a request is not reported"
    );
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(!descriptor_is_ready(&reactor, false));
    source.submit.set(Some(|| Ok(MayBlock::No)));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(
        descriptor_is_ready(&reactor, false),
        "completions are not reported"
    );
    let until = || Ok(MayBlock::Until(Instant::now() + Duration::from_millis(20)));
    source.submit.set(Some(until));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let deadline = reactor.next_deadline().expect("the source has a deadline");
    assert!(deadline <= Instant::now() + Duration::from_millis(20));
    // Other pollers have no timer, so the host has to wait until the deadline by itself.
    if cfg!(all(target_os = "linux", not(windlass_portable))) {
        assert!(
            descriptor_is_ready(&reactor, true),
            "the deadline is not reported"
        );
    }
}

#[test]
fn a_future_can_check_that_its_thread_turns() {
    assert!(!is_driven());
    let error = check_driven().unwrap_err().to_string();
    assert!(error.contains("block_on"), "{error}");
    run(async { check_driven().unwrap() });
}

#[test]
fn a_registration_reports_what_drives_its_reactor() {
    let source = scripted();
    assert!(!source.is_driven() && !source.is_inherited());
    let error = source.check_driven().unwrap_err().to_string();
    assert!(error.contains("block_on"), "{error}");
    let reactor = Reactor::current().unwrap();
    assert!(source.is_driven() && !source.is_inherited());
    source.check_driven().unwrap();
    drop(reactor);
    assert!(!source.is_driven());
}
