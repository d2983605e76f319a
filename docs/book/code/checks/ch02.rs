//! The tests of the exercises of chapter 2.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::thread;

use super::{Limit, answer, count};

#[test]
fn exercise_1_no_number_is_lost() {
    let total = AtomicI64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50_000).for_each(|_| count(&total, 2)));
        }
    });
    assert_eq!(total.into_inner(), 400_000);
}

#[test]
fn exercise_2_a_slow_client_holds_no_lock() {
    struct Slow<'a>(&'a Mutex<i64>, Vec<u8>);
    impl Write for Slow<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(
                self.0.try_lock().is_ok(),
                "the lock is held during the write"
            );
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let total = Mutex::new(40);
    let mut client = Slow(&total, Vec::new());
    answer(&total, 2, &mut client).unwrap();
    assert_eq!(client.1, b"42\n");
    assert_eq!(*total.lock().unwrap(), 42);
}

#[test]
fn exercise_3_at_most_three_threads_are_inside() {
    let limit = Limit::new(3);
    let (inside, most, passed) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..50 {
                    limit.begin();
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(1, SeqCst);
                    passed.fetch_add(1, SeqCst);
                    limit.end();
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 600);
    assert!(most.into_inner() <= 3);
}
