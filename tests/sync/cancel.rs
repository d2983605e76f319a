//! Drops every future of `sync` at every await point. No value, permit or wake-up is lost.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::common::*;
use windlass::sync::{Event, Mutex, OnceCell, Semaphore, broadcast, mpsc, oneshot, watch};
use windlass_executor::yield_now;

/// Futures that run side by side, each with its own waker.
#[derive(Default)]
struct Jobs {
    list: Vec<Job>,
}

struct Job {
    name: &'static str,
    work: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Count>,
    waker: Waker,
    /// Whether some runs drop it early.
    may_drop: bool,
}

impl Jobs {
    /// Adds a job that some runs drop early.
    fn job(&mut self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        let (woken, waker) = Count::new();
        waker.wake_by_ref();
        self.list.push(Job {
            name,
            work: Some(Box::pin(work)),
            woken,
            waker,
            may_drop: true,
        });
    }

    /// Adds a job that always runs to its end.
    fn lasting_job(&mut self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        self.job(name, work);
        self.list.last_mut().unwrap().may_drop = false;
    }

    /// Polls woken jobs in turn, and drops one of them before step `at`. Returns the number of
    /// steps.
    fn run(&mut self, drop_at: Option<(usize, usize)>) -> usize {
        let mut step = 0;
        loop {
            let mut idle = true;
            for i in 0..self.list.len() {
                if let Some((which, at)) = drop_at {
                    if step == at {
                        self.list[which].work = None;
                    }
                }
                let job = &mut self.list[i];
                if job.woken.take() == 0 {
                    continue;
                }
                let Some(work) = &mut job.work else { continue };
                (idle, step) = (false, step + 1);
                assert!(
                    step < 1000,
                    "{} never completes: its wakes repeat for ever",
                    job.name
                );
                let mut cx = Context::from_waker(&job.waker);
                if work.as_mut().poll(&mut cx).is_ready() {
                    job.work = None;
                }
            }
            if idle {
                return step;
            }
        }
    }
}

/// Runs a scenario to its end, and then once per job and step, with that job dropped before that
/// step. In each run all other jobs must complete. Then `check` receives the name of the dropped
/// job.
fn drop_each_job_at_each_step<S>(
    scenario: impl Fn(&mut Jobs) -> S,
    check: impl Fn(&S, Option<&str>),
) {
    let run = |drop_at: Option<(usize, usize)>| {
        let mut jobs = Jobs::default();
        let state = scenario(&mut jobs);
        let dropped = drop_at.map(|(which, _)| jobs.list[which].name);
        let steps = jobs.run(drop_at);
        let stuck = jobs.list.iter().filter(|job| job.work.is_some());
        let stuck: Vec<_> = stuck.map(|job| job.name).collect();
        assert!(
            stuck.is_empty(),
            "{stuck:?} never complete after {drop_at:?}"
        );
        check(&state, dropped);
        let may_drop = jobs.list.iter().map(|job| job.may_drop).collect();
        (steps, may_drop)
    };
    let (steps, may_drop): (usize, Vec<bool>) = run(None);
    assert!(steps > may_drop.len(), "no job of the scenario waits");
    for which in (0..may_drop.len()).filter(|&which| may_drop[which]) {
        for at in 0..steps {
            run(Some((which, at)));
        }
    }
}

/// A value that counts its live copies.
struct Value(u32, Rc<Cell<i32>>);

impl Value {
    fn new(number: u32, alive: &Rc<Cell<i32>>) -> Self {
        alive.set(alive.get() + 1);
        Value(number, alive.clone())
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.1.set(self.1.get() - 1);
    }
}

/// The values that were sent, returned by a failed send, and received, and the number of live ones.
#[derive(Clone, Default)]
struct Log {
    sent: Rc<RefCell<Vec<u32>>>,
    refused: Rc<RefCell<Vec<u32>>>,
    received: Rc<RefCell<Vec<u32>>>,
    alive: Rc<Cell<i32>>,
}

impl Log {
    fn check(&self, dropped: Option<&str>) {
        assert_eq!(self.alive.get(), 0, "a value was leaked");
        if dropped == Some("receiver") {
            let sent = self.sent.borrow();
            assert!(sent.starts_with(&self.received.borrow()), "out of order");
        } else {
            assert_eq!(*self.sent.borrow(), *self.received.borrow());
            assert!(self.refused.borrow().is_empty());
        }
        if dropped.is_none() {
            assert_eq!(self.received.borrow().len(), 9);
        }
    }

    fn note(&self, number: u32, sent: bool) {
        let list = if sent { &self.sent } else { &self.refused };
        list.borrow_mut().push(number);
    }

    async fn receive(self, mut receiver: mpsc::Receiver<Value>) {
        while let Some(value) = receiver.recv().await {
            self.received.borrow_mut().push(value.0);
            yield_now().await;
        }
    }
}

const SENDERS: [&str; 3] = ["first", "second", "third"];

#[test]
fn a_bounded_channel_loses_nothing() {
    let scenario = |jobs: &mut Jobs| {
        let (sender, receiver) = mpsc::channel(1);
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (sender, log) = (sender.clone(), log.clone());
            jobs.job(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    let sent = sender.send(Value::new(number, &log.alive)).await;
                    log.note(number, sent.is_ok());
                }
            });
        }
        jobs.job("receiver", log.clone().receive(receiver));
        log
    };
    drop_each_job_at_each_step(scenario, Log::check);
}

#[test]
fn unused_reserved_capacity_goes_to_the_next_sender() {
    let scenario = |jobs: &mut Jobs| {
        let (sender, receiver) = mpsc::channel(2);
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (sender, log) = (sender.clone(), log.clone());
            jobs.job(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    drop(sender.reserve().await); // without sending
                    let Ok(permit) = sender.reserve().await else {
                        break;
                    };
                    yield_now().await; // may be dropped while it holds the permit
                    let sent = permit.send(Value::new(number, &log.alive));
                    log.note(number, sent.is_ok());
                }
            });
        }
        jobs.job("receiver", log.clone().receive(receiver));
        log
    };
    drop_each_job_at_each_step(scenario, Log::check);
}

#[test]
fn an_unbounded_channel_loses_nothing() {
    let scenario = |jobs: &mut Jobs| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (sender, log) = (sender.clone(), log.clone());
            jobs.job(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    let sent = sender.send(Value::new(number, &log.alive));
                    log.note(number, sent.is_ok());
                    yield_now().await;
                }
            });
        }
        jobs.job("receiver", log.clone().receive(receiver));
        log
    };
    drop_each_job_at_each_step(scenario, Log::check);
}

#[test]
fn dropping_each_pending_recv_loses_no_value() {
    let scenario = |jobs: &mut Jobs| {
        let (sender, mut receiver) = mpsc::channel(1);
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (sender, log) = (sender.clone(), log.clone());
            jobs.job(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    let sent = sender.send(Value::new(number, &log.alive)).await;
                    log.note(number, sent.is_ok());
                    yield_now().await;
                }
            });
        }
        let theirs = log.clone();
        jobs.job("receiver", async move {
            loop {
                match once(Box::pin(receiver.recv())).await {
                    Some(Some(value)) => theirs.received.borrow_mut().push(value.0),
                    Some(None) => break,
                    None => yield_now().await,
                }
            }
        });
        log
    };
    drop_each_job_at_each_step(scenario, Log::check);
}

/// Polls a future once and drops it.
async fn once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn a_semaphore_loses_no_permit() {
    let scenario = |jobs: &mut Jobs| {
        let semaphore = Rc::new(Semaphore::new(3));
        let used = Rc::new(Cell::new(0));
        for (name, permits) in [("a", 1), ("b", 3), ("c", 2), ("d", 1), ("e", 2)] {
            let (semaphore, used) = (semaphore.clone(), used.clone());
            jobs.job(name, async move {
                for _ in 0..2 {
                    let permit = semaphore.acquire(permits).await;
                    used.set(used.get() + permits);
                    let _used = on_drop(|| used.set(used.get() - permits));
                    assert!(used.get() <= 3, "more permits are used than exist");
                    yield_now().await;
                    assert!(permit.is_ok());
                }
            });
        }
        semaphore
    };
    drop_each_job_at_each_step(scenario, |semaphore, _| {
        assert_eq!(semaphore.available_permits(), 3);
    });
}

#[test]
fn owned_permits_are_returned_too() {
    let scenario = |jobs: &mut Jobs| {
        let semaphore = Rc::new(Semaphore::new(1));
        for name in SENDERS {
            let semaphore = semaphore.clone();
            jobs.job(name, async move {
                let permit = semaphore.acquire_owned(1).await;
                yield_now().await;
                drop(permit);
            });
        }
        semaphore
    };
    drop_each_job_at_each_step(scenario, |semaphore, _| {
        assert_eq!(semaphore.available_permits(), 1);
        assert_eq!(Rc::strong_count(semaphore), 1);
    });
}

#[test]
fn a_mutex_goes_to_the_next_waiter() {
    let scenario = |jobs: &mut Jobs| {
        let mutex = Rc::new(Mutex::new(0));
        for name in ["a", "b", "c", "d"] {
            let mutex = mutex.clone();
            jobs.job(name, async move {
                for _ in 0..2 {
                    let mut guard = mutex.lock().await;
                    let before = *guard;
                    yield_now().await;
                    assert_eq!(*guard, before, "the lock was not exclusive");
                    *guard += 1;
                }
            });
        }
        mutex
    };
    drop_each_job_at_each_step(scenario, |mutex, dropped| {
        let count = *mutex.try_lock().expect("it is unlocked");
        let fewest = if dropped.is_some() { 6 } else { 8 };
        assert!((fewest..=8).contains(&count));
    });
}

#[test]
fn a_single_notification_reaches_one_listener() {
    let scenario = |jobs: &mut Jobs| {
        let event = Rc::new(Event::new());
        let traced = Rc::new(Cell::new(0));
        for name in SENDERS {
            let (event, traced) = (event.clone(), traced.clone());
            jobs.job(name, async move {
                event.listen().await;
                traced.set(traced.get() + 1);
            });
        }
        jobs.lasting_job("notifier", async move {
            // At least two of three listeners remain, and two are notified.
            for count in 1..=2 {
                event.notify_one();
                for _ in 0..3 {
                    yield_now().await;
                }
                assert!(traced.get() >= count, "a notification was lost");
            }
            event.notify_all();
        });
    };
    drop_each_job_at_each_step(scenario, |(), _| {});
}

#[test]
fn every_receiver_sees_the_last_value() {
    let scenario = |jobs: &mut Jobs| {
        let (sender, receiver) = watch::channel(0);
        let seen = Rc::new(RefCell::new(Vec::new()));
        for name in SENDERS {
            let (mut receiver, seen) = (receiver.clone(), seen.clone());
            jobs.job(name, async move {
                let mut last = 0;
                while receiver.changed().await.is_ok() {
                    assert!(last < *receiver.borrow(), "a value was seen twice");
                    last = *receiver.borrow();
                }
                seen.borrow_mut().push((name, last));
            });
        }
        drop(receiver);
        jobs.job("sender", async move {
            for n in 1..=4 {
                sender.send_replace(n);
                yield_now().await;
            }
        });
        seen
    };
    drop_each_job_at_each_step(scenario, |seen, dropped| {
        let seen = seen.borrow();
        assert!(seen.len() >= 2);
        let last = seen[0].1;
        assert!(seen.iter().all(|seen| seen.1 == last));
        assert!(last == 4 || dropped == Some("sender"));
    });
}

#[test]
fn a_reply_arrives_or_fails() {
    let scenario = |jobs: &mut Jobs| {
        let (mut sender, receiver) = oneshot::channel();
        let alive = Rc::new(Cell::new(0));
        let heard = Rc::new(Cell::new(None));
        let theirs = alive.clone();
        jobs.job("sender", async move {
            let value = Value::new(7, &theirs);
            for _ in 0..2 {
                let _ = once(Box::pin(sender.closed())).await; // dropped after one poll
                yield_now().await;
            }
            let _ = sender.send(value);
        });
        let theirs = heard.clone();
        jobs.job("receiver", async move {
            theirs.set(Some(receiver.await.map(|value| value.0)));
        });
        (alive, heard)
    };
    drop_each_job_at_each_step(scenario, |(alive, heard), dropped| {
        assert_eq!(alive.get(), 0, "the value was leaked");
        match dropped {
            None => assert_eq!(heard.get(), Some(Ok(7))),
            Some("sender") => assert!(heard.get().is_some()),
            _ => {}
        }
    });
}

#[test]
fn closed_completes_when_the_receiver_is_gone() {
    let scenario = |jobs: &mut Jobs| {
        let (mut sender, receiver) = oneshot::channel::<()>();
        jobs.lasting_job("sender", async move { sender.closed().await });
        jobs.job("receiver", async move {
            let receiver = receiver;
            yield_now().await;
            yield_now().await;
            drop(receiver);
        });
    };
    drop_each_job_at_each_step(scenario, |(), _| {});
}

#[test]
fn capacity_for_several_values_is_returned() {
    let scenario = |jobs: &mut Jobs| {
        let (sender, receiver) = mpsc::channel(3);
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (mut sender, log) = (sender.clone(), log.clone());
            jobs.job(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    let Ok(mut permits) = sender.reserve_many(2).await else {
                        break;
                    };
                    yield_now().await; // may be dropped while it holds the permits
                    let sent = permits.next().unwrap().send(Value::new(number, &log.alive));
                    log.note(number, sent.is_ok());
                    drop(permits);
                    let Ok(permit) = sender.clone().reserve_owned().await else {
                        break;
                    };
                    yield_now().await;
                    sender = permit.release();
                }
            });
        }
        drop(sender);
        jobs.job("receiver", {
            let log = log.clone();
            async move {
                let (mut receiver, mut values) = (receiver, Vec::new());
                while receiver.recv_many(&mut values, 2).await > 0 {
                    let numbers = values.drain(..).map(|value: Value| value.0);
                    log.received.borrow_mut().extend(numbers);
                    yield_now().await;
                }
            }
        });
        log
    };
    drop_each_job_at_each_step(scenario, Log::check);
}

#[test]
fn each_receiver_of_a_broadcast_gets_each_value() {
    const RECEIVERS: [&str; 3] = ["a", "b", "c"];
    let scenario = |jobs: &mut Jobs| {
        let (sender, receiver) = broadcast::channel(8);
        let alive = Rc::new(Cell::new(0));
        let sent = Rc::new(Cell::new(0));
        let received = RECEIVERS.map(|name| {
            let (mut receiver, received) = (receiver.resubscribe(), Rc::new(Cell::new(0)));
            let theirs = received.clone();
            jobs.job(name, async move {
                while let Ok(value) = receiver.recv().await {
                    assert_eq!(value, theirs.get());
                    theirs.set(value + 1);
                    let _ = once(receiver.recv()).await.map(|got| {
                        let value = got.unwrap_or(theirs.get());
                        assert_eq!(value, theirs.get());
                        theirs.set(value + usize::from(got.is_ok()));
                    });
                    yield_now().await;
                }
            });
            received
        });
        drop(receiver);
        let (theirs, live) = (sent.clone(), alive.clone());
        jobs.job("sender", async move {
            let _alive = Value::new(0, &live);
            for number in 0..5 {
                if sender.send(number).is_ok() {
                    theirs.set(number + 1);
                }
                yield_now().await;
            }
        });
        (alive, sent, received)
    };
    drop_each_job_at_each_step(scenario, |(alive, sent, received), dropped| {
        assert_eq!(alive.get(), 0);
        for (name, received) in RECEIVERS.iter().zip(received) {
            assert!(received.get() == sent.get() || dropped == Some(name));
        }
        assert!(sent.get() == 5 || dropped == Some("sender"));
    });
}

#[test]
fn a_dropped_computation_is_continued_by_the_next_task() {
    let scenario = |jobs: &mut Jobs| {
        let cell = Rc::new(OnceCell::new());
        let got = Rc::new(RefCell::new(Vec::new()));
        for name in SENDERS {
            let (cell, got) = (cell.clone(), got.clone());
            jobs.job(name, async move {
                let compute = async || {
                    yield_now().await;
                    yield_now().await;
                    name
                };
                let value = *cell.get_or_init(compute).await;
                got.borrow_mut().push(value);
            });
        }
        (cell, got)
    };
    drop_each_job_at_each_step(scenario, |(cell, got), dropped| {
        let got = got.borrow();
        assert!(got.len() == 3 || got.len() == 2 && dropped.is_some());
        assert!(got.iter().all(|value| cell.get() == Some(value)));
    });
}

#[test]
fn an_owned_lock_goes_to_the_next_waiter() {
    let scenario = |jobs: &mut Jobs| {
        let mutex = Rc::new(Mutex::new(0));
        for name in SENDERS {
            let mutex = mutex.clone();
            jobs.job(name, async move {
                let mut guard = mutex.clone().lock_owned().await;
                yield_now().await;
                *guard += 1;
                drop(guard);
                *mutex.lock().await += 1;
            });
        }
        mutex
    };
    drop_each_job_at_each_step(scenario, |mutex, dropped| {
        assert_eq!(Rc::strong_count(mutex), 1);
        let count = *mutex.try_lock().expect("it is unlocked");
        assert!(count == 6 || count >= 4 && dropped.is_some());
    });
}

#[test]
fn each_waiter_for_a_condition_sees_that_it_is_met() {
    let scenario = |jobs: &mut Jobs| {
        let (sender, receiver) = watch::channel(0);
        let met = Rc::new(Cell::new(0));
        for name in SENDERS {
            let (mut receiver, met) = (receiver.clone(), met.clone());
            jobs.job(name, async move {
                while once(Box::pin(receiver.wait_for(|value| *value == 3)))
                    .await
                    .is_none()
                {
                    let met = receiver
                        .wait_for(|value| *value >= 2)
                        .await
                        .map(|value| *value);
                    if met.is_err() {
                        return; // the sender was dropped
                    }
                    yield_now().await;
                }
                met.set(met.get() + 1);
            });
        }
        drop(receiver);
        jobs.job("sender", async move {
            for value in 1..=3 {
                sender.send_replace(value);
                yield_now().await;
            }
            sender.closed().await;
        });
        met
    };
    drop_each_job_at_each_step(scenario, |met, dropped| {
        let missing = if dropped.is_some() { 1 } else { 0 };
        assert!(met.get() >= 3 - missing || dropped == Some("sender"));
    });
}
