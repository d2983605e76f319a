//! The tests of the exercises of chapter 10.

use std::cell::Cell;
use std::future::{pending, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures::AsyncRead;
use windlass::{block_on, yield_now};
use windlass_book::ch10::program::cancel_after;

use super::{Numbers, race, take_seat};

/// An input that is pending before each byte.
struct Drip(&'static [u8], bool);

impl AsyncRead for Drip {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.1 = !self.1;
        if self.1 {
            return Poll::Pending;
        }
        let count = buffer.len().min(self.0.len()).min(1);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Poll::Ready(Ok(count))
    }
}

#[test]
fn exercise_1_a_cancel_loses_no_byte() {
    for polls in 1..9 {
        let (input, line) = (Drip(b"12\n-3\n", false), String::new());
        let mut numbers = Numbers { input, line };
        let mut read = Vec::new();
        for polls in [polls, usize::MAX, usize::MAX] {
            if read.len() < 2 {
                let number = cancel_after(polls, numbers.next());
                read.extend(number.map(|number| number.unwrap()));
            }
        }
        assert_eq!(read, [12, -3], "cancelled after {polls} polls");
    }
}

#[test]
fn exercise_2_a_cancelled_seat_is_free() {
    let free = Cell::new(1);
    assert_eq!(cancel_after(1, take_seat(&free, pending())), None);
    assert_eq!(free.get(), 1, "it was cancelled");
    assert_eq!(cancel_after(1, take_seat(&free, ready(false))), Some(false));
    assert_eq!(free.get(), 1, "it was refused");
    assert_eq!(cancel_after(1, take_seat(&free, ready(true))), Some(true));
    assert_eq!(cancel_after(1, take_seat(&free, ready(true))), Some(false));
    assert_eq!(free.get(), 0);
}

#[test]
fn exercise_3_the_loser_is_gone() {
    let held = Rc::new(());
    let waits_forever = |held: Rc<()>| async move {
        let _held = held;
        pending().await
    };
    let later = async {
        yield_now().await;
        7
    };
    block_on(async {
        assert_eq!(race(waits_forever(held.clone()), later).await, 7);
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(race(ready(1), waits_forever(held.clone())).await, 1);
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(race(ready(1), ready(2)).await, 1);
    });
}
