//! Programs over `sync`, decoded from bytes. Their outputs and wake-ups are compared with plain
//! models.

// The tests and the fuzz target use their own parts of this.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use windlass::sync::{
    Closed, Event, Mutex, OnceCell, Semaphore, SendError, TryAcquireError, TryRecvError,
    TrySendError, broadcast, mpsc, oneshot, watch,
};

/// The first byte selects the kind of program, the others are its steps.
pub(crate) fn check(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let steps = bytes.chunks_exact(2).map(|step| (step[0], step[1].into()));
    match which % 9 {
        0 => semaphore(steps),
        1 => mutex(steps),
        2 => event(steps),
        3 => bounded(steps),
        4 => unbounded(steps),
        5 => reply(steps),
        6 => watched(steps),
        7 => broadcasted(steps),
        _ => computed_once(steps),
    }
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A waker, and the number of expected wakes since the last comparison.
struct CheckedWaker {
    count: Arc<Count>,
    waker: Waker,
    expected: usize,
}

impl CheckedWaker {
    fn new() -> Self {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        CheckedWaker {
            waker: Waker::from(count.clone()),
            count,
            expected: 0,
        }
    }

    fn compare(&mut self) {
        assert_eq!(self.count.0.swap(0, SeqCst), self.expected, "wakes");
        self.expected = 0;
    }
}

/// Pending futures, by number.
struct Futures<'a, T> {
    made: usize,
    alive: BTreeMap<usize, (Boxed<'a, T>, CheckedWaker)>,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

impl<'a, T> Futures<'a, T> {
    fn new() -> Self {
        let (made, alive) = (0, BTreeMap::new());
        Futures { made, alive }
    }

    fn add(&mut self, future: impl Future<Output = T> + 'a) -> usize {
        self.made += 1;
        self.alive
            .insert(self.made, (Box::pin(future), CheckedWaker::new()));
        self.made
    }

    /// Selects one of them, if there is any.
    fn pick(&self, arg: usize) -> Option<usize> {
        let nth = arg % self.alive.len().max(1);
        self.alive.keys().nth(nth).copied()
    }

    fn poll(&mut self, id: usize) -> Poll<T> {
        let (future, waker) = self.alive.get_mut(&id).unwrap();
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker.waker));
        if polled.is_ready() {
            self.alive.remove(&id);
        }
        polled
    }

    fn drop(&mut self, id: usize) {
        self.alive.remove(&id);
    }

    fn expect_wake(&mut self, id: usize) {
        if let Some((_, waker)) = self.alive.get_mut(&id) {
            waker.expected += 1;
        }
    }

    fn compare(&mut self) {
        self.alive
            .values_mut()
            .for_each(|(_, waker)| waker.compare());
    }
}

/// The model of a wait queue, with the supply for its waiters.
#[derive(Default)]
struct Line {
    free: usize,
    closed: bool,
    waiting: VecDeque<(usize, usize)>,
    /// Waiters that were served, with the supply that they received, or dismissed.
    turns: BTreeMap<usize, Option<usize>>,
    woken: Vec<usize>,
}

impl Line {
    /// Returns None if it has to wait.
    fn poll(&mut self, id: usize, wants: usize) -> Option<Result<(), Closed>> {
        if let Some(turn) = self.turns.remove(&id) {
            return Some(turn.map(drop).ok_or(Closed));
        }
        if self.waiting.iter().any(|waiting| waiting.0 == id) {
            return None;
        }
        match self.try_take(wants) {
            Ok(()) => Some(Ok(())),
            Err(TryAcquireError::Closed) => Some(Err(Closed)),
            Err(TryAcquireError::NoPermits) => {
                self.waiting.push_back((id, wants));
                None
            }
        }
    }

    fn try_take(&mut self, wants: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            return Err(TryAcquireError::Closed);
        }
        if !self.waiting.is_empty() || self.free < wants {
            return Err(TryAcquireError::NoPermits);
        }
        self.free -= wants;
        Ok(())
    }

    fn give(&mut self, number: usize) {
        self.free += number;
        while let Some(&(id, wants)) = self.waiting.front() {
            if wants > self.free {
                break;
            }
            self.free -= wants;
            self.waiting.pop_front();
            self.turns.insert(id, Some(wants));
            self.woken.push(id);
        }
    }

    fn dismiss(&mut self) {
        for (id, _) in self.waiting.drain(..) {
            self.turns.insert(id, None);
            self.woken.push(id);
        }
    }

    fn drop(&mut self, id: usize) {
        self.waiting.retain(|waiting| waiting.0 != id);
        let unused = self.turns.remove(&id).flatten();
        self.give(unused.unwrap_or(0));
    }

    fn expect_wakes<T>(&mut self, futures: &mut Futures<'_, T>) {
        self.woken.drain(..).for_each(|id| futures.expect_wake(id));
    }
}

fn semaphore(steps: impl Iterator<Item = (u8, usize)>) {
    let semaphore = Semaphore::new(3);
    let mut line = Line {
        free: 3,
        ..Line::default()
    };
    let (mut futures, mut wants, mut permits) = (Futures::new(), BTreeMap::new(), Vec::new());
    for (step, arg) in steps {
        match (step % 16, futures.pick(arg)) {
            (0..4, _) => {
                let id = futures.add(semaphore.acquire(arg % 5));
                wants.insert(id, arg % 5);
            }
            (4..8, Some(id)) => match (futures.poll(id), line.poll(id, wants[&id])) {
                (Poll::Ready(Ok(permit)), Some(Ok(()))) => permits.push((permit, wants[&id])),
                (Poll::Ready(Err(Closed)), Some(Err(Closed))) | (Poll::Pending, None) => {}
                (polled, expected) => panic!("{polled:?}, not {expected:?}"),
            },
            (8..10, Some(id)) => {
                futures.drop(id);
                line.drop(id);
            }
            (10..12, _) if !permits.is_empty() => {
                let (permit, number) = permits.swap_remove(arg % permits.len());
                drop(permit);
                line.give(number);
            }
            (12, _) => match (semaphore.try_acquire(arg % 4), line.try_take(arg % 4)) {
                (Ok(permit), Ok(())) => permits.push((permit, arg % 4)),
                (got, expected) => assert_eq!(got.err(), expected.err()),
            },
            (13, _) => {
                semaphore.add_permits(arg % 3);
                line.give(arg % 3);
            }
            (14, _) if !permits.is_empty() => permits.swap_remove(0).0.forget(),
            (15, _) if arg < 16 => {
                semaphore.close();
                line.closed = true;
                line.dismiss();
            }
            _ => {}
        }
        line.expect_wakes(&mut futures);
        futures.compare();
        assert_eq!(semaphore.available_permits(), line.free);
    }
}

fn mutex(steps: impl Iterator<Item = (u8, usize)>) {
    let mutex = Mutex::new(0);
    let mut line = Line {
        free: 1,
        ..Line::default()
    };
    let (mut futures, mut guard, mut count) = (Futures::new(), None, 0);
    for (step, arg) in steps {
        match (step % 10, futures.pick(arg)) {
            (0..2, _) => drop(futures.add(mutex.lock())),
            (2..5, Some(id)) => match (futures.poll(id), line.poll(id, 1)) {
                (Poll::Ready(got), Some(_)) => assert!(guard.replace(got).is_none()),
                (polled, expected) => {
                    assert_eq!((polled.is_pending(), expected), (true, None));
                }
            },
            (5, Some(id)) => {
                futures.drop(id);
                line.drop(id);
            }
            (6..9, _) => {
                if let Some(mut got) = guard.take() {
                    assert_eq!(*got, count);
                    count += 1;
                    *got = count;
                    drop(got);
                    line.give(1);
                }
            }
            (9, _) => {
                let got = mutex.try_lock();
                assert_eq!(got.is_some(), line.try_take(1).is_ok());
                guard = guard.or(got);
            }
            _ => {}
        }
        line.expect_wakes(&mut futures);
        futures.compare();
    }
}

fn event(steps: impl Iterator<Item = (u8, usize)>) {
    let event = Event::new();
    let mut line = Line::default();
    let (mut futures, mut polled) = (Futures::new(), Vec::new());
    for (step, arg) in steps {
        match (step % 8, futures.pick(arg)) {
            (0..2, _) => {
                let id = futures.add(event.listen());
                line.waiting.push_back((id, 1)); // on creation, before the first poll
            }
            (2..4, Some(id)) => {
                let is_ready = futures.poll(id).is_ready();
                assert_eq!(is_ready, line.turns.remove(&id).is_some());
                polled.push(id);
            }
            (4, Some(id)) => {
                futures.drop(id);
                line.drop(id);
            }
            (5..7, _) => {
                event.notify(arg % 3);
                line.give(arg % 3);
            }
            (7, _) => {
                event.notify_all();
                line.dismiss();
            }
            _ => {}
        }
        line.free = 0; // an event stores nothing
        line.woken.retain(|id| polled.contains(id));
        line.expect_wakes(&mut futures);
        futures.compare();
    }
}

/// The model of a queue and its receiver, for both kinds of channel.
struct Queue {
    values: VecDeque<usize>,
    senders: usize,
    closed: bool,
    /// The receiver is waiting.
    is_waiting: bool,
    waker: CheckedWaker,
}

impl Queue {
    fn new() -> Self {
        Queue {
            values: VecDeque::new(),
            senders: 1,
            closed: false,
            is_waiting: false,
            waker: CheckedWaker::new(),
        }
    }

    fn expect_wake(&mut self) {
        self.waker.expected += usize::from(std::mem::take(&mut self.is_waiting));
    }

    fn push(&mut self, value: usize) -> Result<(), SendError<usize>> {
        if self.closed {
            return Err(SendError(value));
        }
        self.values.push_back(value);
        self.expect_wake();
        Ok(())
    }

    fn pop(&mut self) -> Result<usize, TryRecvError> {
        let ended = self.closed || self.senders == 0;
        let none = if ended {
            TryRecvError::Closed
        } else {
            TryRecvError::Empty
        };
        self.values.pop_front().ok_or(none)
    }

    fn one_sender_less(&mut self) {
        self.senders -= 1;
        if self.senders == 0 {
            self.expect_wake();
        }
    }

    /// Receives by a poll or by `try_recv`.
    fn receive(&mut self, receiver: &mut mpsc::Receiver<usize>, polls: bool) -> Option<usize> {
        assert_eq!(receiver.len(), self.values.len());
        let expected = self.pop();
        if polls {
            let polled = receiver.poll_recv(&mut Context::from_waker(&self.waker.waker));
            match expected {
                Ok(value) => assert_eq!(polled, Poll::Ready(Some(value))),
                Err(TryRecvError::Closed) => assert_eq!(polled, Poll::Ready(None)),
                Err(TryRecvError::Empty) => {
                    assert_eq!(polled, Poll::Pending);
                    self.is_waiting = true;
                }
            }
        } else {
            assert_eq!(receiver.try_recv(), expected);
        }
        expected.ok()
    }
}

fn bounded(mut steps: impl Iterator<Item = (u8, usize)>) {
    let room = steps.next().map_or(1, |(_, arg)| 1 + arg % 3);
    let (sender, receiver) = mpsc::channel(room);
    let (mut sender, mut receiver) = (Some(sender), Some(receiver));
    let (mut queue, mut line) = (
        Queue::new(),
        Line {
            free: room,
            ..Line::default()
        },
    );
    let (mut futures, mut values) = (Futures::new(), BTreeMap::new());
    for (number, (step, arg)) in steps.enumerate() {
        match (step % 16, futures.pick(arg), &sender, &mut receiver) {
            (0..3, _, Some(sender), _) => {
                let sender = sender.clone();
                let id = futures.add(async move { sender.send(number).await });
                values.insert(id, number);
                queue.senders += 1;
            }
            (3..7, Some(id), ..) => {
                let expected = line.poll(id, 1).map(|room| match room {
                    Ok(()) => queue.push(values[&id]),
                    Err(Closed) => Err(SendError(values[&id])),
                });
                let polled = futures.poll(id);
                if polled.is_ready() {
                    queue.one_sender_less();
                }
                assert_eq!(polled, expected.map_or(Poll::Pending, Poll::Ready));
            }
            (7..9, Some(id), ..) => {
                futures.drop(id);
                line.drop(id);
                queue.one_sender_less();
            }
            (9..11, _, Some(sender), _) => {
                let expected = match line.try_take(1) {
                    Ok(()) => queue.push(number).map_err(|_| unreachable!()),
                    Err(TryAcquireError::NoPermits) => Err(TrySendError::Full(number)),
                    Err(TryAcquireError::Closed) => Err(TrySendError::Closed(number)),
                };
                assert_eq!(sender.try_send(number), expected);
            }
            (11..14, _, _, Some(receiver)) => {
                let received = queue.receive(receiver, step % 2 == 0);
                line.give(received.map_or(0, |_| 1));
            }
            (14, ..) if arg < 64 => {
                queue.senders -= usize::from(sender.take().is_some());
                if queue.senders == 0 {
                    queue.expect_wake();
                }
            }
            (15, _, _, Some(open)) if arg < 48 => {
                open.close();
                if arg < 24 {
                    receiver = None;
                    (queue.is_waiting, queue.values) = (false, VecDeque::new());
                }
                (queue.closed, line.closed) = (true, true);
                line.dismiss();
            }
            _ => {}
        }
        line.expect_wakes(&mut futures);
        futures.compare();
        queue.waker.compare();
    }
}

fn unbounded(steps: impl Iterator<Item = (u8, usize)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (mut senders, mut receiver) = (vec![sender], Some(receiver));
    let mut queue = Queue::new();
    for (number, (step, arg)) in steps.enumerate() {
        match (step % 12, &mut receiver) {
            (0, _) if !senders.is_empty() => {
                senders.push(senders[arg % senders.len()].clone());
                queue.senders += 1;
            }
            (1..5, _) if !senders.is_empty() => {
                let sent = senders[arg % senders.len()].send(number);
                assert_eq!(sent, queue.push(number));
            }
            (5, _) if !senders.is_empty() => {
                drop(senders.swap_remove(arg % senders.len()));
                queue.one_sender_less();
            }
            (6..11, Some(receiver)) => drop(queue.receive(receiver, step % 2 == 0)),
            (11, Some(open)) if arg < 48 => {
                open.close();
                queue.closed = true;
                if arg < 24 {
                    receiver = None;
                    (queue.is_waiting, queue.values) = (false, VecDeque::new());
                }
            }
            _ => {}
        }
        queue.waker.compare();
    }
}

fn reply(steps: impl Iterator<Item = (u8, usize)>) {
    let (sender, receiver) = oneshot::channel();
    let (mut sender, mut receiver) = (Some(sender), Some(receiver));
    let (mut value, mut closed) = (None, false);
    let (mut is_waiting, mut watched) = (false, false);
    let (mut answers, mut ends) = (CheckedWaker::new(), CheckedWaker::new());
    for (step, arg) in steps {
        match (step % 8, &mut sender, &mut receiver) {
            (0..2, _, Some(open)) => {
                let mut expected = Poll::Pending;
                if let Some(value) = value.take() {
                    expected = Poll::Ready(Ok(value));
                } else if closed || sender.is_none() {
                    expected = Poll::Ready(Err(Closed));
                }
                let polled = Pin::new(open).poll(&mut Context::from_waker(&answers.waker));
                assert_eq!(polled, expected);
                is_waiting |= polled.is_pending();
            }
            (2, gone, Some(receiver)) => {
                let ended = closed || gone.is_none();
                let none = if ended {
                    TryRecvError::Closed
                } else {
                    TryRecvError::Empty
                };
                assert_eq!(receiver.try_recv(), value.take().ok_or(none));
            }
            (3..5, Some(open), _) => {
                let is_ready = {
                    let mut ended = Box::pin(open.closed());
                    let mut cx = Context::from_waker(&ends.waker);
                    ended.as_mut().poll(&mut cx).is_ready()
                };
                assert_eq!(is_ready, closed);
                watched |= !is_ready;
            }
            (5, Some(_), _) if arg < 96 => {
                let sent = sender.take().map(|sender| sender.send(arg));
                assert_eq!(sent, Some(if closed { Err(arg) } else { Ok(()) }));
                value = (!closed).then_some(arg);
                answers.expected += usize::from(std::mem::take(&mut is_waiting));
            }
            (6, Some(_), _) if arg < 64 => {
                sender = None;
                answers.expected += usize::from(std::mem::take(&mut is_waiting));
            }
            (7, gone, Some(open)) if arg < 128 => {
                let tells = std::mem::take(&mut watched) && gone.is_some();
                ends.expected += usize::from(tells);
                open.close();
                closed = true;
                if arg < 64 {
                    (receiver, value, is_waiting) = (None, None, false);
                }
            }
            _ => {}
        }
        answers.compare();
        ends.compare();
    }
}

fn watched(steps: impl Iterator<Item = (u8, usize)>) {
    let (sender, first) = watch::channel(0);
    let (mut sender, mut idle) = (Some(sender), vec![(first, 0)]);
    let (mut version, mut value) = (0, 0);
    let (mut futures, mut seen, mut waiting) = (Futures::new(), BTreeMap::new(), Vec::new());
    let mut conditional = BTreeSet::new();
    for (step, arg) in steps {
        let traced = match (step % 16, futures.pick(arg), &sender) {
            (0..2, ..) if !idle.is_empty() => {
                let (mut receiver, version) = idle.swap_remove(arg % idle.len());
                let id = futures.add(async move {
                    let changed = receiver.changed().await;
                    (receiver, changed)
                });
                seen.insert(id, version);
                false
            }
            (12, ..) if !idle.is_empty() => {
                let (mut receiver, version) = idle.swap_remove(arg % idle.len());
                let id = futures.add(async move {
                    let met = receiver.wait_for(|value| value % 3 == 0).await;
                    let met = met.map(|value| assert_eq!(*value % 3, 0));
                    (receiver, met)
                });
                conditional.insert(id);
                seen.insert(id, version);
                false
            }
            (2..5, Some(id), _) if conditional.contains(&id) => {
                let expected = match value % 3 {
                    0 => Poll::Ready(Ok(())),
                    _ if sender.is_none() => Poll::Ready(Err(Closed)),
                    _ => Poll::Pending,
                };
                match futures.poll(id) {
                    Poll::Ready((receiver, met)) => {
                        assert_eq!(Poll::Ready(met), expected);
                        idle.push((receiver, version));
                    }
                    Poll::Pending => {
                        assert!(expected.is_pending());
                        waiting.push(id);
                    }
                }
                false
            }
            (13, _, Some(sender)) => {
                let modify = |value: &mut usize| {
                    *value += usize::from(arg < 128);
                    arg < 128
                };
                assert_eq!(sender.send_if_modified(modify), arg < 128);
                if arg < 128 {
                    (version, value) = (version + 1, value + 1);
                }
                arg < 128
            }
            (14, ..) if !idle.is_empty() => {
                let nth = arg % idle.len();
                let (receiver, seen) = &mut idle[nth];
                if arg < 128 {
                    receiver.mark_changed();
                    *seen = usize::MAX;
                } else {
                    receiver.mark_unchanged();
                    *seen = version;
                }
                false
            }
            (15, ..) => {
                let count = idle.len() + futures.alive.len();
                let counted = sender.as_ref().map(watch::Sender::receiver_count);
                assert!(counted.is_none_or(|counted| counted == count));
                false
            }
            (2..5, Some(id), _) => {
                match futures.poll(id) {
                    Poll::Ready((receiver, Ok(()))) if seen[&id] != version => {
                        idle.push((receiver, version));
                    }
                    Poll::Ready((receiver, Err(Closed))) => {
                        assert!(sender.is_none() && seen[&id] == version);
                        idle.push((receiver, version));
                    }
                    Poll::Ready(_) => panic!("nothing has changed"),
                    Poll::Pending => {
                        assert!(sender.is_some() && seen[&id] == version);
                        waiting.push(id);
                    }
                }
                false
            }
            (5, Some(id), _) => {
                futures.drop(id);
                false
            }
            (6, _, Some(sender)) => {
                let nobody = idle.is_empty() && futures.alive.is_empty();
                assert_eq!(sender.send(arg).is_err(), nobody);
                (version, value) = if nobody {
                    (version, value)
                } else {
                    (version + 1, arg)
                };
                !nobody
            }
            (7, _, Some(sender)) => {
                assert_eq!(sender.send_replace(arg), value);
                (version, value) = (version + 1, arg);
                true
            }
            (8, _, Some(sender)) => {
                sender.send_modify(|value| *value += 1);
                (version, value) = (version + 1, value + 1);
                true
            }
            (9, _, Some(sender)) => {
                idle.push((sender.subscribe(), version));
                false
            }
            (10, ..) if !idle.is_empty() => {
                let nth = arg % idle.len();
                let (receiver, seen) = &mut idle[nth];
                let changed = *seen != version;
                let closed = sender.is_none() && !changed;
                let expected = if closed { Err(Closed) } else { Ok(changed) };
                assert_eq!(receiver.has_changed(), expected);
                assert_eq!(*receiver.borrow(), value);
                if arg < 64 {
                    assert_eq!(*receiver.borrow_and_update(), value);
                    *seen = version;
                }
                let copy = (receiver.clone(), *seen);
                idle.push(copy);
                false
            }
            (11, ..) if arg < 32 => sender.take().is_some(),
            _ => false,
        };
        if traced {
            waiting.sort_unstable();
            waiting.dedup(); // polled twice, woken once
            waiting.drain(..).for_each(|id| futures.expect_wake(id));
        }
        futures.compare();
    }
}

fn broadcasted(steps: impl Iterator<Item = (u8, usize)>) {
    const ROOM: usize = 3;
    use broadcast::{RecvError, TryRecvError};
    let (sender, first) = broadcast::channel(ROOM);
    let (mut senders, mut idle, mut sent) = (vec![sender], vec![(first, 0)], Vec::new());
    let (mut futures, mut nexts, mut waiting) = (Futures::new(), BTreeMap::new(), Vec::new());
    /// Receives by the number of the next value.
    fn receive(next: &mut usize, sent: &[usize], ended: bool) -> Result<usize, TryRecvError> {
        let oldest = sent.len().saturating_sub(ROOM);
        if *next < oldest {
            let missed = oldest - *next;
            *next = oldest;
            return Err(TryRecvError::Lagged(missed as u64));
        }
        let Some(&value) = sent.get(*next) else {
            return Err(if ended {
                TryRecvError::Closed
            } else {
                TryRecvError::Empty
            });
        };
        *next += 1;
        Ok(value)
    }
    for (number, (step, arg)) in steps.enumerate() {
        let mut is_woken = false;
        match (step % 12, futures.pick(arg)) {
            (0..2, _) if !idle.is_empty() => {
                let (mut receiver, next) = idle.swap_remove(arg % idle.len());
                let id = futures.add(async move {
                    let received = receiver.recv().await;
                    (receiver, received)
                });
                nexts.insert(id, next);
            }
            (2..5, Some(id)) => {
                let next = nexts.get_mut(&id).unwrap();
                let expected = match receive(next, &sent, senders.is_empty()) {
                    Ok(value) => Poll::Ready(Ok(value)),
                    Err(TryRecvError::Empty) => Poll::Pending,
                    Err(TryRecvError::Lagged(missed)) => {
                        Poll::Ready(Err(RecvError::Lagged(missed)))
                    }
                    Err(TryRecvError::Closed) => Poll::Ready(Err(RecvError::Closed)),
                };
                match futures.poll(id) {
                    Poll::Ready((receiver, received)) => {
                        assert_eq!(Poll::Ready(received), expected);
                        idle.push((receiver, *next));
                    }
                    Poll::Pending => {
                        assert!(expected.is_pending());
                        waiting.push(id);
                    }
                }
            }
            (5, Some(id)) if arg < 128 => {
                futures.drop(id);
                nexts.remove(&id);
            }
            (6..8, _) if !senders.is_empty() => {
                let receivers = idle.len() + futures.alive.len();
                let got = senders[arg % senders.len()].send(number);
                if receivers == 0 {
                    assert_eq!(got, Err(SendError(number)));
                } else {
                    assert_eq!(got, Ok(receivers));
                    sent.push(number);
                    is_woken = true;
                }
            }
            (8, _) if !idle.is_empty() => {
                let nth = arg % idle.len();
                let (receiver, next) = &mut idle[nth];
                assert_eq!(receiver.len(), sent.len() - *next);
                let expected = receive(next, &sent, senders.is_empty());
                assert_eq!(receiver.try_recv(), expected);
            }
            (9, _) if !idle.is_empty() => {
                let receiver = idle[arg % idle.len()].0.resubscribe();
                idle.push((receiver, sent.len()));
            }
            (10, _) if arg < 64 && !idle.is_empty() => {
                idle.swap_remove(arg % idle.len());
            }
            (10, _) if !senders.is_empty() => senders.push(senders[0].clone()),
            (11, _) if arg < 96 && !senders.is_empty() => {
                senders.pop();
                is_woken = senders.is_empty();
            }
            _ => {}
        }
        if is_woken {
            waiting.sort_unstable();
            waiting.dedup(); // polled twice, woken once
            waiting.drain(..).for_each(|id| futures.expect_wake(id));
        }
        if let Some(sender) = senders.first() {
            let next = idle.iter().map(|idle| idle.1);
            let waiting = futures.alive.keys().map(|id| nexts[id]);
            let oldest = next.chain(waiting).min().unwrap_or(sent.len());
            assert_eq!(sender.len(), ROOM.min(sent.len() - oldest));
        }
        futures.compare();
    }
}

fn computed_once(steps: impl Iterator<Item = (u8, usize)>) {
    let cell = OnceCell::new();
    let mut line = Line {
        free: 1,
        ..Line::default()
    };
    let (mut value, mut computing) = (None, None);
    let (mut futures, mut made) = (Futures::new(), BTreeMap::new());
    for (number, (step, arg)) in steps.enumerate() {
        match (step % 8, futures.pick(arg)) {
            (0..2, _) => {
                let cell = &cell;
                let id = futures.add(async move {
                    let mut is_polled = false;
                    let compute = async || {
                        poll_fn(|_| match std::mem::replace(&mut is_polled, true) {
                            false => Poll::Pending,
                            true => Poll::Ready(()),
                        })
                        .await;
                        if arg < 128 { Err(number) } else { Ok(number) }
                    };
                    cell.get_or_try_init(compute).await.copied()
                });
                made.insert(id, if arg < 128 { Err(number) } else { Ok(number) });
            }
            (2..6, Some(id)) => {
                let is_new = !line.waiting.iter().any(|waiting| waiting.0 == id)
                    && !line.turns.contains_key(&id);
                let expected = if computing == Some(id) {
                    computing = None;
                    value = value.or(made[&id].ok());
                    line.give(1);
                    Poll::Ready(made[&id])
                } else if let Some(value) = value.filter(|_| is_new) {
                    Poll::Ready(Ok(value))
                } else if line.poll(id, 1).is_none() {
                    Poll::Pending
                } else if let Some(value) = value {
                    line.give(1);
                    Poll::Ready(Ok(value))
                } else {
                    computing = Some(id);
                    Poll::Pending
                };
                assert_eq!(futures.poll(id), expected);
            }
            (6, Some(id)) => {
                futures.drop(id);
                if computing == Some(id) {
                    computing = None;
                    line.give(1);
                }
                line.drop(id);
            }
            (7, _) => {
                let is_free = value.is_none() && line.try_take(1).is_ok();
                line.free += usize::from(is_free);
                assert_eq!(cell.set(number).is_ok(), is_free);
                value = value.or(is_free.then_some(number));
            }
            _ => {}
        }
        line.expect_wakes(&mut futures);
        futures.compare();
        assert_eq!(cell.get().copied(), value);
    }
}
