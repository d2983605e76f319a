//! Every future of `sync`, dropped at every await point: no value, permit or wake-up is lost.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::common::*;
use windlass::sync::{Event, Mutex, Semaphore, mpsc, oneshot, watch};
use windlass_executor::yield_now;

/// Futures that run side by side, each woken by itself alone.
#[derive(Default)]
struct Crew {
    hands: Vec<Hand>,
}

struct Hand {
    name: &'static str,
    work: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Count>,
    waker: Waker,
    /// Whether it may be dropped half-way.
    may_fall: bool,
}

impl Crew {
    /// One that is dropped half-way in some of the runs.
    fn hand(&mut self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        let (woken, waker) = Count::new();
        waker.wake_by_ref();
        self.hands.push(Hand {
            name,
            work: Some(Box::pin(work)),
            woken,
            waker,
            may_fall: true,
        });
    }

    /// One that never is.
    fn mate(&mut self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        self.hand(name, work);
        self.hands.last_mut().unwrap().may_fall = false;
    }

    /// Polls in turn whoever is woken. At step `at` drops the one that is to fall. Returns how
    /// many steps it took.
    fn run(&mut self, fall: Option<(usize, usize)>) -> usize {
        let mut step = 0;
        loop {
            let mut idle = true;
            for i in 0..self.hands.len() {
                if let Some((who, at)) = fall {
                    if step == at {
                        self.hands[who].work = None;
                    }
                }
                let hand = &mut self.hands[i];
                if hand.woken.take() == 0 {
                    continue;
                }
                let Some(work) = &mut hand.work else { continue };
                (idle, step) = (false, step + 1);
                assert!(step < 1000, "{} waits for ever, and not alone", hand.name);
                let mut cx = Context::from_waker(&hand.waker);
                if work.as_mut().poll(&mut cx).is_ready() {
                    hand.work = None;
                }
            }
            if idle {
                return step;
            }
        }
    }
}

/// Runs a scenario whole, and then again for each of its hands and each of its steps, with that
/// hand dropped at that step. Each time all others must come to their end; then `check` is told who
/// fell.
fn each_falls_at_each_step<S>(scenario: impl Fn(&mut Crew) -> S, check: impl Fn(&S, Option<&str>)) {
    let run = |fall: Option<(usize, usize)>| {
        let mut crew = Crew::default();
        let state = scenario(&mut crew);
        let fallen = fall.map(|(who, _)| crew.hands[who].name);
        let steps = crew.run(fall);
        let stuck = crew.hands.iter().filter(|hand| hand.work.is_some());
        let stuck: Vec<_> = stuck.map(|hand| hand.name).collect();
        assert!(stuck.is_empty(), "{stuck:?} wait for ever after {fall:?}");
        check(&state, fallen);
        let may_fall = crew.hands.iter().map(|hand| hand.may_fall).collect();
        (steps, may_fall)
    };
    let (steps, may_fall): (usize, Vec<bool>) = run(None);
    assert!(steps > may_fall.len(), "nobody waits in it");
    for who in (0..may_fall.len()).filter(|&who| may_fall[who]) {
        for at in 0..steps {
            run(Some((who, at)));
        }
    }
}

/// A value whose number of copies alive is known.
struct Cargo(u32, Rc<Cell<i32>>);

impl Cargo {
    fn new(number: u32, afloat: &Rc<Cell<i32>>) -> Self {
        afloat.set(afloat.get() + 1);
        Cargo(number, afloat.clone())
    }
}

impl Drop for Cargo {
    fn drop(&mut self) {
        self.1.set(self.1.get() - 1);
    }
}

/// What was sent, what has come back, what was received; and what is neither dropped nor received.
#[derive(Clone, Default)]
struct Log {
    sent: Rc<RefCell<Vec<u32>>>,
    refused: Rc<RefCell<Vec<u32>>>,
    received: Rc<RefCell<Vec<u32>>>,
    afloat: Rc<Cell<i32>>,
}

impl Log {
    fn check(&self, fallen: Option<&str>) {
        assert_eq!(self.afloat.get(), 0, "a value was leaked");
        if fallen == Some("receiver") {
            let sent = self.sent.borrow();
            assert!(sent.starts_with(&self.received.borrow()), "out of order");
        } else {
            assert_eq!(*self.sent.borrow(), *self.received.borrow());
            assert!(self.refused.borrow().is_empty());
        }
        if fallen.is_none() {
            assert_eq!(self.received.borrow().len(), 9);
        }
    }

    fn note(&self, number: u32, sent: bool) {
        let list = if sent { &self.sent } else { &self.refused };
        list.borrow_mut().push(number);
    }

    async fn receive(self, mut receiver: mpsc::Receiver<Cargo>) {
        while let Some(cargo) = receiver.recv().await {
            self.received.borrow_mut().push(cargo.0);
            yield_now().await;
        }
    }
}

const SENDERS: [&str; 3] = ["first", "second", "third"];

#[test]
fn a_bounded_channel_loses_nothing() {
    let scenario = |crew: &mut Crew| {
        let (sender, receiver) = mpsc::channel(1);
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (sender, log) = (sender.clone(), log.clone());
            crew.hand(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    let sent = sender.send(Cargo::new(number, &log.afloat)).await;
                    log.note(number, sent.is_ok());
                }
            });
        }
        crew.hand("receiver", log.clone().receive(receiver));
        log
    };
    each_falls_at_each_step(scenario, Log::check);
}

#[test]
fn unused_reserved_capacity_goes_to_the_next_sender() {
    let scenario = |crew: &mut Crew| {
        let (sender, receiver) = mpsc::channel(2);
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (sender, log) = (sender.clone(), log.clone());
            crew.hand(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    drop(sender.reserve().await); // not used
                    let Ok(permit) = sender.reserve().await else {
                        break;
                    };
                    yield_now().await; // it may fall while it has the room
                    let sent = permit.send(Cargo::new(number, &log.afloat));
                    log.note(number, sent.is_ok());
                }
            });
        }
        crew.hand("receiver", log.clone().receive(receiver));
        log
    };
    each_falls_at_each_step(scenario, Log::check);
}

#[test]
fn an_unbounded_channel_loses_nothing() {
    let scenario = |crew: &mut Crew| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (sender, log) = (sender.clone(), log.clone());
            crew.hand(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    let sent = sender.send(Cargo::new(number, &log.afloat));
                    log.note(number, sent.is_ok());
                    yield_now().await;
                }
            });
        }
        crew.hand("receiver", log.clone().receive(receiver));
        log
    };
    each_falls_at_each_step(scenario, Log::check);
}

#[test]
fn dropping_each_pending_recv_loses_no_value() {
    let scenario = |crew: &mut Crew| {
        let (sender, mut receiver) = mpsc::channel(1);
        let log = Log::default();
        for (i, name) in SENDERS.into_iter().enumerate() {
            let (sender, log) = (sender.clone(), log.clone());
            crew.hand(name, async move {
                for n in 0..3 {
                    let number = 10 * i as u32 + n;
                    let sent = sender.send(Cargo::new(number, &log.afloat)).await;
                    log.note(number, sent.is_ok());
                    yield_now().await;
                }
            });
        }
        let theirs = log.clone();
        crew.hand("receiver", async move {
            loop {
                match once(Box::pin(receiver.recv())).await {
                    Some(Some(cargo)) => theirs.received.borrow_mut().push(cargo.0),
                    Some(None) => break,
                    None => yield_now().await,
                }
            }
        });
        log
    };
    each_falls_at_each_step(scenario, Log::check);
}

/// Polls once, and drops what isn't ready.
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
    let scenario = |crew: &mut Crew| {
        let semaphore = Rc::new(Semaphore::new(3));
        let used = Rc::new(Cell::new(0));
        for (name, permits) in [("a", 1), ("b", 3), ("c", 2), ("d", 1), ("e", 2)] {
            let (semaphore, used) = (semaphore.clone(), used.clone());
            crew.hand(name, async move {
                for _ in 0..2 {
                    let permit = semaphore.acquire(permits).await;
                    used.set(used.get() + permits);
                    let _used = on_drop(|| used.set(used.get() - permits));
                    assert!(used.get() <= 3, "more permits than there are");
                    yield_now().await;
                    assert!(permit.is_ok());
                }
            });
        }
        semaphore
    };
    each_falls_at_each_step(scenario, |semaphore, _| {
        assert_eq!(semaphore.available_permits(), 3);
    });
}

#[test]
fn owned_permits_are_returned_too() {
    let scenario = |crew: &mut Crew| {
        let semaphore = Rc::new(Semaphore::new(1));
        for name in SENDERS {
            let semaphore = semaphore.clone();
            crew.hand(name, async move {
                let permit = semaphore.acquire_owned(1).await;
                yield_now().await;
                drop(permit);
            });
        }
        semaphore
    };
    each_falls_at_each_step(scenario, |semaphore, _| {
        assert_eq!(semaphore.available_permits(), 1);
        assert_eq!(Rc::strong_count(semaphore), 1);
    });
}

#[test]
fn a_mutex_goes_to_the_next_waiter() {
    let scenario = |crew: &mut Crew| {
        let mutex = Rc::new(Mutex::new(0));
        for name in ["a", "b", "c", "d"] {
            let mutex = mutex.clone();
            crew.hand(name, async move {
                for _ in 0..2 {
                    let mut guard = mutex.lock().await;
                    let before = *guard;
                    yield_now().await;
                    assert_eq!(*guard, before, "somebody else had the lock");
                    *guard += 1;
                }
            });
        }
        mutex
    };
    each_falls_at_each_step(scenario, |mutex, fallen| {
        let count = *mutex.try_lock().expect("it is open");
        let fewest = if fallen.is_some() { 6 } else { 8 };
        assert!((fewest..=8).contains(&count));
    });
}

#[test]
fn a_single_notification_reaches_one_listener() {
    let scenario = |crew: &mut Crew| {
        let event = Rc::new(Event::new());
        let told = Rc::new(Cell::new(0));
        for name in SENDERS {
            let (event, told) = (event.clone(), told.clone());
            crew.hand(name, async move {
                event.listen().await;
                told.set(told.get() + 1);
            });
        }
        crew.mate("notifier", async move {
            // Two of the three are left at least, and two are notified.
            for count in 1..=2 {
                event.notify_one();
                for _ in 0..3 {
                    yield_now().await;
                }
                assert!(told.get() >= count, "a notification was lost");
            }
            event.notify_all();
        });
    };
    each_falls_at_each_step(scenario, |(), _| {});
}

#[test]
fn every_receiver_sees_the_last_value() {
    let scenario = |crew: &mut Crew| {
        let (sender, receiver) = watch::channel(0);
        let seen = Rc::new(RefCell::new(Vec::new()));
        for name in SENDERS {
            let (mut receiver, seen) = (receiver.clone(), seen.clone());
            crew.hand(name, async move {
                let mut last = 0;
                while receiver.changed().await.is_ok() {
                    assert!(last < *receiver.borrow(), "one was seen twice");
                    last = *receiver.borrow();
                }
                seen.borrow_mut().push((name, last));
            });
        }
        drop(receiver);
        crew.hand("sender", async move {
            for n in 1..=4 {
                sender.send_replace(n);
                yield_now().await;
            }
        });
        seen
    };
    each_falls_at_each_step(scenario, |seen, fallen| {
        let seen = seen.borrow();
        assert!(seen.len() >= 2);
        let last = seen[0].1;
        assert!(seen.iter().all(|seen| seen.1 == last));
        assert!(last == 4 || fallen == Some("sender"));
    });
}

#[test]
fn a_reply_arrives_or_fails() {
    let scenario = |crew: &mut Crew| {
        let (mut sender, receiver) = oneshot::channel();
        let afloat = Rc::new(Cell::new(0));
        let heard = Rc::new(Cell::new(None));
        let theirs = afloat.clone();
        crew.hand("sender", async move {
            let cargo = Cargo::new(7, &theirs);
            for _ in 0..2 {
                let _ = once(Box::pin(sender.closed())).await; // dropped, unless it is closed
                yield_now().await;
            }
            let _ = sender.send(cargo);
        });
        let theirs = heard.clone();
        crew.hand("receiver", async move {
            theirs.set(Some(receiver.await.map(|cargo| cargo.0)));
        });
        (afloat, heard)
    };
    each_falls_at_each_step(scenario, |(afloat, heard), fallen| {
        assert_eq!(afloat.get(), 0, "the value was leaked");
        match fallen {
            None => assert_eq!(heard.get(), Some(Ok(7))),
            Some("sender") => assert!(heard.get().is_some()),
            _ => {}
        }
    });
}

#[test]
fn closed_completes_when_the_receiver_is_gone() {
    let scenario = |crew: &mut Crew| {
        let (mut sender, receiver) = oneshot::channel::<()>();
        crew.mate("sender", async move { sender.closed().await });
        crew.hand("receiver", async move {
            let receiver = receiver;
            yield_now().await;
            yield_now().await;
            drop(receiver);
        });
    };
    each_falls_at_each_step(scenario, |(), _| {});
}
