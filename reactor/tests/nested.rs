//! `block_on` and `turn` inside of another `block_on`.

mod common;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::Write;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::*;
use futures::channel::oneshot;
use futures::{AsyncReadExt, AsyncWriteExt, join};
use windlass_reactor::{Async, Reactor, block_on, time::sleep};

const MS: Duration = Duration::from_millis(1);

#[test]
fn timers_of_both_loops_fire() {
    let trace = RefCell::new(Vec::new());
    run(async {
        let outer = async {
            sleep(MS).await;
            trace.borrow_mut().push("outer slept");
        };
        let nested = async {
            sleep(Duration::ZERO).await;
            block_on(async {
                sleep(5 * MS).await;
                trace.borrow_mut().push("inner slept");
            });
        };
        join!(outer, nested);
    });
    // The inner loop ends first, unless the machine is slow to start it.
    trace.borrow_mut().sort();
    assert_eq!(*trace.borrow(), ["inner slept", "outer slept"]);
}

#[test]
fn sockets_of_both_loops_are_served() {
    run(async {
        let (mut a, mut b) = tcp_pair().await;
        let outer = async {
            let mut buffer = [0; 5];
            a.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"outer");
        };
        let nested = async {
            sleep(Duration::ZERO).await;
            block_on(async {
                let (mut c, mut d) = tcp_pair().await;
                let mut buffer = [0; 5];
                let (read, wrote_inner, wrote_outer) = join!(
                    d.read_exact(&mut buffer),
                    async {
                        sleep(MS).await;
                        c.write_all(b"inner").await
                    },
                    b.write_all(b"outer"), // the event comes to the inner loop
                );
                read.unwrap();
                wrote_inner.unwrap();
                wrote_outer.unwrap();
                sleep(MS).await;
            });
        };
        join!(outer, nested);
    });
}

#[test]
fn a_wake_of_the_outer_future_during_the_inner_loop_is_not_lost() {
    for _ in 0..50 {
        let (sender, receiver) = oneshot::channel();
        run(async {
            let nested = async {
                sleep(Duration::ZERO).await;
                block_on(async {
                    thread::spawn(move || sender.send(7))
                        .join()
                        .unwrap()
                        .unwrap();
                    sleep(Duration::ZERO).await; // the inner loop turns
                });
            };
            let (got, ()) = join!(receiver, nested);
            assert_eq!(got, Ok(7));
        });
    }
}

#[test]
fn a_block_on_between_two_turns_keeps_a_wake_from_outside() {
    let reactor = Reactor::current().unwrap();
    let _awake = reactor.awake();
    reactor.waker().wake();
    block_on(sleep(Duration::ZERO));
    reactor.turn(None).unwrap(); // does not wait: the wake was for this loop
}

#[test]
fn a_turn_inside_of_a_block_on_loses_no_wake() {
    let (mut there, here) = socket_pair();
    let here = Async::new(here).unwrap();
    run(async {
        let reading = async { (&here).read(&mut [0; 8]).await.unwrap() };
        let turning = async {
            sleep(Duration::ZERO).await;
            there.write_all(b"x").unwrap();
            for _ in 0..5 {
                Reactor::current().unwrap().turn(Some(MS)).unwrap();
            }
        };
        let (n, ()) = join!(reading, turning);
        assert_eq!(n, 1);
    });
}

#[test]
fn loops_may_nest_deep() {
    fn dive(depth: u32) -> u32 {
        block_on(async {
            sleep(Duration::ZERO).await;
            if depth == 0 { 0 } else { 1 + dive(depth - 1) }
        })
    }
    assert_eq!(dive(50), 50);
}

#[test]
fn a_panic_of_the_inner_future_leaves_both_loops_consistent() {
    run(async {
        let inner = || block_on(async { panic!("on purpose") });
        assert!(std::panic::catch_unwind(inner).is_err());
        sleep(MS).await;
    });
    let mut polls = 0;
    run(poll_fn(|cx| {
        polls += 1;
        cx.waker().wake_by_ref();
        if polls == 3 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    let reactor = Reactor::current().unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    #[cfg(unix)]
    assert!(
        !descriptor_is_ready(&reactor, false),
        "no loop counts as running"
    );
}
