//! The tests of the exercises of chapter 4.

use windlass::coroutine::{Coroutine, Exchange, State::Yielded};

use super::{different, fibonacci, named};

#[test]
fn exercise_1_the_first_line_is_the_name() {
    let mut session = Coroutine::new(named);
    for (line, reply) in [("Ada", "hello Ada"), ("5", "Ada: 5"), ("-2", "Ada: 3")] {
        assert_eq!(session.resume(line.to_owned()), Yielded(reply.to_owned()));
    }
}

#[test]
fn exercise_2_fibonacci_is_an_iterator() {
    let numbers: Vec<u64> = Coroutine::new(fibonacci).take(8).collect();
    assert_eq!(numbers, [1, 1, 2, 3, 5, 8, 13, 21]);
}

#[test]
fn exercise_3_the_state_is_small() {
    let mut session = Coroutine::new(different);
    assert_eq!(session.resume("hello".to_owned()), Yielded(4));
    assert_eq!(session.resume("aaa".to_owned()), Yielded(1));
    let exchange = Exchange::new();
    let size = size_of_val(&exchange.body(different));
    assert!(size < 1024, "{size} bytes");
}
