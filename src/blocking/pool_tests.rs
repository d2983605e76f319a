use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Wake;
use std::time::Instant;

use super::*;
use crate::block_on;
use crate::time::timeout;

/// The time after which a test has hung.
const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "the condition stays false");
        thread::yield_now();
    }
}

fn output<T>(task: BlockingTask<T>) -> T {
    block_on(timeout(PATIENCE, task)).expect("the closure has completed in time")
}

/// Starts `N` closures on the pool. Each sends its number when it begins, and ends when its key
/// is dropped.
fn gates<const N: usize>(
    pool: &'static Pool,
) -> ([Sender<()>; N], [BlockingTask<usize>; N], Receiver<usize>) {
    let (begins, begun) = channel();
    let mut keys = Vec::new();
    let tasks = std::array::from_fn(|number| {
        let (key, locked) = channel::<()>();
        let begins = begins.clone();
        keys.push(key);
        let gate = move || {
            begins.send(number).unwrap();
            _ = locked.recv();
            number
        };
        pool.run(gate).unwrap()
    });
    (keys.try_into().unwrap(), tasks, begun)
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn closures_beyond_the_thread_limit_wait_in_the_queue() {
    static POOL: Pool = Pool::new("test", 2, Duration::ZERO);
    let (keys, tasks, begun) = gates::<5>(&POOL);
    assert_eq!(begun.recv().unwrap() + begun.recv().unwrap(), 1);
    assert_eq!((POOL.threads(), POOL.waiting()), (2, 3));
    let [first, second, rest @ ..] = keys;
    drop(second);
    assert_eq!(begun.recv(), Ok(2)); // by the idle thread
    assert_eq!((POOL.threads(), POOL.waiting()), (2, 2));
    drop((first, rest));
    assert_eq!(tasks.map(output), [0, 1, 2, 3, 4]);
    wait_until(|| POOL.threads() == 0);
}

#[test]
#[should_panic(expected = "at least one thread")]
fn a_pool_that_may_have_no_thread_is_refused() {
    let _ = Pool::new("test", 0, Duration::ZERO);
}

#[test]
#[should_panic(expected = "contains a zero byte")]
fn a_pool_name_that_threads_cannot_have_is_refused() {
    let _ = Pool::new("te\0st", 1, Duration::ZERO);
}

#[test]
fn an_idle_thread_takes_the_next_closure_or_ends() {
    static POOL: Pool = Pool::new("test", 9, Duration::from_millis(20));
    for _ in 0..100 {
        output(POOL.run(|| ()).unwrap());
        wait_until(|| POOL.threads() == 0 || lock(&POOL.inner().queue).idle == 1);
        assert!(POOL.threads() <= 1);
    }
    wait_until(|| POOL.threads() == 0);
}

#[test]
fn a_notified_thread_does_not_count_as_idle() {
    static POOL: Pool = Pool::new("test", 9, PATIENCE);
    output(POOL.run(|| ()).unwrap());
    wait_until(|| lock(&POOL.inner().queue).idle == 1);
    let (keys, tasks, begun) = gates::<9>(&POOL);
    for _ in 0..9 {
        begun.recv_timeout(PATIENCE).expect("all have a thread");
    }
    drop(keys);
    assert_eq!(tasks.map(output), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_queued_closure_can_be_cancelled_without_a_trace() {
    static POOL: Pool = Pool::new("test", 1, Duration::ZERO);
    let ([key], [task], begun) = gates(&POOL);
    assert_eq!(begun.recv(), Ok(0));
    for _ in 0..1000 {
        let late = POOL.run(|| panic!("nobody wants it")).unwrap();
        assert!(block_on(timeout(Duration::ZERO, late)).is_err());
    }
    assert_eq!((POOL.threads(), POOL.waiting()), (1, 0));
    drop((task, key));
    wait_until(|| POOL.threads() == 0);
}

#[test]
fn a_cancelled_closure_wakes_no_task() {
    static POOL: Pool = Pool::new("test", 1, Duration::ZERO);
    let counter = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = Waker::from(counter.clone());
    let ([key], [mut task], _begun) = gates(&POOL);
    let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop((task, waker));
    assert_eq!(Arc::strong_count(&counter), 1, "its waker is dropped");
    drop(key);
    wait_until(|| POOL.threads() == 0);
    assert_eq!(counter.0.load(SeqCst), 0);
}

#[test]
fn panicking_wakers_and_values_delay_no_other_closure() {
    struct PanicsOnWake;
    impl Wake for PanicsOnWake {
        fn wake(self: Arc<Self>) {
            panic!("a planned panic");
        }
    }
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("a planned panic");
        }
    }
    static POOL: Pool = Pool::new("test", 1, Duration::ZERO);
    let ([key], [mut task], begun) = gates(&POOL);
    let waker = Waker::from(Arc::new(PanicsOnWake));
    let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    assert_eq!(begun.recv(), Ok(0));
    POOL.run(|| PanicsOnDrop).unwrap().detach();
    let last = POOL.run(|| 7).unwrap();
    drop(key);
    assert_eq!(output(last), 7);
    wait_until(|| POOL.threads() == 0);
}

/// A payload of a panic that panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a planned panic");
    }
}

#[test]
fn payloads_that_panic_when_dropped_end_no_thread() {
    struct WakesWithBomb;
    impl Wake for WakesWithBomb {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any(Bomb);
        }
    }
    struct DropsWithBomb;
    impl Drop for DropsWithBomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }
    static POOL: Pool = Pool::new("test", 1, PATIENCE);
    let ([key], [mut task], begun) = gates(&POOL);
    let waker = Waker::from(Arc::new(WakesWithBomb));
    let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    assert_eq!(begun.recv(), Ok(0));
    POOL.run(|| DropsWithBomb).unwrap().detach();
    POOL.run(|| std::panic::panic_any(Bomb)).unwrap().detach();
    let last = POOL.run(|| 7).unwrap();
    drop(key);
    assert_eq!(output(last), 7);
    wait_until(|| lock(&POOL.inner().queue).idle == 1);
    assert_eq!((POOL.threads(), POOL.waiting()), (1, 0));
}
