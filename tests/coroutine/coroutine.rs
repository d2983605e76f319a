//! Inputs, outputs and misuse of coroutines.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::common::*;
use futures::future::{Either, select};
use futures::stream::{FusedStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, join};
use windlass::coroutine::State::{Complete, Yielded};
use windlass::coroutine::{AsyncCoroutine, Co, Coroutine, Exchange, State};
use windlass_executor::{Executor, block_on, spawn, yield_now};

const FINISHED: &str = "this coroutine is finished and cannot be resumed: see `is_finished`";
const FOREIGN: &str = "this coroutine awaits something that is not a `yield_` of its own, and \
                       `resume` cannot wait: make it an `AsyncCoroutine` and `send(..).await`";
const NOT_RESUMED: &str = "the body of a coroutine cannot be awaited: pass it to \
                           `Coroutine::pinned`, together with the exchange that has made it";

/// Pends once and wakes its task like `yield_now`. The crate treats it as a foreign future.
async fn turn() {
    let mut turned = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        match std::mem::replace(&mut turned, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

#[test]
fn each_resume_passes_a_value_in_and_one_out() {
    let trace = Trace::new();
    let mut coroutine = Coroutine::new(async |co, first: i32| {
        trace.push(format!("begins with {first}"));
        let second = co.yield_("one").await;
        trace.push(format!("goes on with {second}"));
        let third = co.yield_("two").await;
        trace.push(format!("ends with {third}"));
        first + second + third
    });
    trace.is(&[]); // the body runs only when it is resumed
    assert_eq!(coroutine.resume(1), Yielded("one"));
    trace.is(&["begins with 1"]);
    assert_eq!(coroutine.resume(10), Yielded("two"));
    trace.is(&["goes on with 10"]);
    assert!(!coroutine.is_finished());
    assert_eq!(coroutine.resume(100), Complete(111));
    trace.is(&["ends with 100"]);
    assert!(coroutine.is_finished());
}

#[test]
fn a_pinned_coroutine_behaves_like_a_boxed_one() {
    let word = String::from("rope"); // borrowed by the body
    let exchange = Exchange::new();
    let body = pin!(exchange.body(async |co, first: usize| {
        let second = co.yield_(&word[first..]).await;
        &word[second..]
    }));
    let mut coroutine = Coroutine::pinned(&exchange, body);
    assert_eq!(coroutine.resume(1), Yielded("ope"));
    assert_eq!(coroutine.resume(2), Complete("pe"));
    assert_eq!(panic_of(|| coroutine.resume(3)), FINISHED);
}

#[test]
fn boxed_and_pinned_coroutines_can_have_one_type() {
    async fn numbers(co: &mut Co<'_, (), u32>, (): ()) {
        co.yield_(1).await;
        co.yield_(2).await;
    }
    let exchange = Exchange::new();
    let body: Pin<&mut dyn Future<Output = ()>> = pin!(exchange.body(numbers));
    let both: [Coroutine<'_, (), u32, ()>; 2] =
        [Coroutine::new(numbers), Coroutine::pinned(&exchange, body)];
    let all: Vec<_> = both.into_iter().flatten().collect();
    assert_eq!(all, [1, 2, 1, 2]);
}

#[test]
fn functions_at_any_depth_yield_for_the_coroutine() {
    async fn ruler(marks: u32, co: &mut Co<'_, (), u32>) {
        if marks > 0 {
            Box::pin(ruler(marks - 1, co)).await;
            co.yield_(marks).await;
            Box::pin(ruler(marks - 1, co)).await;
        }
    }
    let marks = Coroutine::new(async |co, ()| ruler(3, co).await);
    assert_eq!(marks.collect::<Vec<_>>(), [1, 2, 1, 3, 1, 2, 1]);
}

#[test]
fn an_iterator_stays_ended_and_keeps_the_result() {
    let mut coroutine = Coroutine::new(async |co, ()| {
        co.yield_(1).await;
        "the end"
    });
    assert_eq!(coroutine.next(), Some(1));
    assert_eq!(coroutine.next(), None);
    assert_eq!(coroutine.next(), None);
    assert_eq!(panic_of(|| coroutine.resume(())), FINISHED);
    assert_eq!(coroutine.into_result(), Some("the end"));

    let unfinished = Coroutine::new(async |co, ()| co.yield_(1).await);
    assert_eq!(unfinished.into_result(), None);
}

#[test]
fn resuming_a_finished_coroutine_panics_and_drops_the_input() {
    let trace = Trace::new();
    let mut coroutine = Coroutine::new(async |_: &mut Co<'_, _, ()>, _input| ());
    assert_eq!(
        coroutine.resume(records_drop(&trace, "first")),
        Complete(())
    );
    trace.is(&["drop first"]);
    let text = panic_of(|| coroutine.resume(records_drop(&trace, "second")));
    assert_eq!(text, FINISHED);
    trace.is(&["drop second"]);
}

#[test]
fn a_pending_foreign_await_panics() {
    let trace = Trace::new();
    let mut coroutine = Coroutine::new(async |co, ()| {
        let _local = records_drop(&trace, "local");
        ready(()).await;
        co.yield_(1).await;
        yield_now().await;
        unreachable!("the coroutine is never resumed");
    });
    assert_eq!(coroutine.resume(()), Yielded(1));
    assert_eq!(panic_of(|| coroutine.resume(())), FOREIGN);
    assert!(coroutine.is_finished());
    assert_eq!(panic_of(|| coroutine.resume(())), FINISHED);
    trace.is(&[]);
    drop(coroutine);
    trace.is(&["drop local"]);
}

#[test]
fn a_yield_to_another_coroutine_is_a_foreign_await() {
    let mut outer = Coroutine::new(async |outer, ()| {
        let mut inner = Coroutine::new(async |_: &mut Co<'_, (), ()>, ()| {
            outer.yield_("through the inner one").await;
        });
        let text = panic_of(|| inner.resume(()));
        assert_eq!(text, FOREIGN);
        drop(inner); // discards its output
        outer.yield_("directly").await;
    });
    assert_eq!(outer.next(), Some("directly"));
    assert_eq!(outer.next(), None);
}

#[test]
fn awaiting_a_body_panics_with_advice() {
    let exchange = Exchange::<(), ()>::new();
    let body = exchange.body(async |co, ()| co.yield_(()).await);
    assert_eq!(panic_of(|| block_on(body)), NOT_RESUMED);
}

#[test]
fn a_body_with_a_foreign_exchange_panics_with_advice() {
    let [own, other] = [(); 2].map(|()| Exchange::<(), ()>::new());
    let body = pin!(own.body(async |co, ()| co.yield_(()).await));
    let mut coroutine = Coroutine::pinned(&other, body);
    assert_eq!(panic_of(|| coroutine.resume(())), NOT_RESUMED);
}

#[test]
fn an_exchange_makes_one_body() {
    let exchange = Exchange::<(), ()>::new();
    let _body = exchange.body(async |_, ()| ());
    assert_eq!(
        panic_of(|| drop(exchange.body(async |_, ()| ()))),
        "an exchange serves one coroutine: create another one for another body"
    );
}

#[test]
fn dropping_a_suspended_coroutine_drops_its_body() {
    let trace = Trace::new();
    let mut coroutine = Coroutine::new(async |co, _input| {
        let _outer = records_drop(&trace, "outer");
        let _inner = records_drop(&trace, "inner");
        co.yield_(records_drop(&trace, "output")).await;
        trace.push("never");
    });
    let output = coroutine.resume(records_drop(&trace, "input"));
    trace.is(&[]);
    drop(coroutine);
    trace.is(&["drop inner", "drop outer", "drop input"]);
    drop(output);
    trace.is(&["drop output"]);

    // A body that never ran holds only its captures.
    let captured = records_drop(&trace, "captured");
    let unused = Coroutine::<(), (), _>::new(async move |_, ()| drop(captured));
    drop(unused);
    trace.is(&["drop captured"]);
}

#[test]
fn a_panic_of_the_body_propagates_and_finishes_it() {
    let trace = Trace::new();
    let mut coroutine = Coroutine::new(async |co, ()| {
        let _local = records_drop(&trace, "local");
        co.yield_(1).await;
        panic!("the rope broke");
    });
    assert_eq!(coroutine.next(), Some(1));
    assert_eq!(panic_of(|| coroutine.resume(())), "the rope broke");
    trace.is(&["drop local"]);
    assert!(coroutine.is_finished());
    assert_eq!(coroutine.next(), None);
    assert_eq!(panic_of(|| coroutine.resume(())), FINISHED);
}

#[test]
fn the_body_cannot_reach_its_own_coroutine() {
    type Shared<'a> = RefCell<Option<Coroutine<'a, (), bool, ()>>>;
    let shared: Rc<Shared<'_>> = Rc::default();
    let own = shared.clone();
    *shared.borrow_mut() = Some(Coroutine::new(async move |co, ()| {
        co.yield_(own.try_borrow_mut().is_err()).await;
        drop(own);
    }));
    assert_eq!(shared.borrow_mut().as_mut().unwrap().next(), Some(true));
    assert_eq!(shared.borrow_mut().as_mut().unwrap().next(), None);
    assert_eq!(Rc::strong_count(&shared), 1);
}

#[test]
fn a_yield_beside_other_futures_suspends_the_coroutine() {
    let mut coroutine = Coroutine::new(async |co, first: u32| {
        // `turn` completes at the next resume, so it is polled again.
        let (second, ()) = join!(co.yield_("beside"), turn());
        first + second
    });
    assert_eq!(coroutine.resume(1), Yielded("beside"));
    assert_eq!(coroutine.resume(2), Complete(3));
}

#[test]
fn a_yield_wakes_the_combinator_that_waits_for_it() {
    let mut coroutine = Coroutine::new(async |co, first: u32| {
        let mut all = FuturesUnordered::from_iter([co.yield_("woken")]); // polls woken futures only
        first + all.next().await.unwrap()
    });
    assert_eq!(coroutine.resume(1), Yielded("woken"));
    assert_eq!(coroutine.resume(2), Complete(3));
}

#[test]
fn a_yield_dropped_before_the_suspend_discards_its_output() {
    let trace = Trace::new();
    let mut coroutine = Coroutine::new(async |co, ()| {
        drop(co.yield_(records_drop(&trace, "unpolled")));
        trace.is(&["drop unpolled"]);
        let cancelled = select(co.yield_(records_drop(&trace, "cancelled")), ready(())).await;
        assert!(matches!(cancelled, Either::Right(_)));
        drop(cancelled);
        trace.is(&["drop cancelled"]);
        co.yield_(records_drop(&trace, "kept")).await;
        drop(select(co.yield_(records_drop(&trace, "at the end")), ready(())).await);
    });
    let Yielded(output) = coroutine.resume(()) else {
        panic!("the last yield suspends it");
    };
    drop(output);
    trace.is(&["drop kept"]);
    assert!(matches!(coroutine.resume(()), Complete(())));
    trace.is(&["drop at the end"]);
}

#[test]
fn a_yield_dropped_after_the_suspend_drops_the_input() {
    let trace = Trace::new();
    let mut coroutine = Coroutine::new(async |co, _first| {
        drop(select(turn().boxed_local(), co.yield_(1)).await);
        trace.is(&["drop second"]);
        let _third = co.yield_(2).await;
        trace.push("third came");
    });
    assert_eq!(coroutine.resume(records_drop(&trace, "first")), Yielded(1));
    assert_eq!(coroutine.resume(records_drop(&trace, "second")), Yielded(2));
    assert_eq!(
        coroutine.resume(records_drop(&trace, "third")),
        Complete(())
    );
    trace.is(&["third came", "drop third", "drop first"]);
}

#[test]
fn a_leaked_yield_does_not_affect_the_next() {
    let mut coroutine = Coroutine::new(async |co, ()| {
        let mut forgotten = co.yield_(1);
        assert!(poll(&mut forgotten).is_pending());
        std::mem::forget(forgotten);
        co.yield_(2).await;
    });
    assert_eq!(coroutine.next(), Some(2));
    assert_eq!(coroutine.next(), None);
}

#[test]
fn polling_a_yield_after_completion_panics() {
    let mut coroutine = Coroutine::new(async |co, ()| {
        let mut yielding = co.yield_(1);
        poll_fn(|cx| poll_with(&mut yielding, cx.waker())).await;
        panic_of(|| poll(&mut yielding))
    });
    assert_eq!(coroutine.resume(()), Yielded(1));
    let text = "this `yield_` was polled after completion";
    assert_eq!(coroutine.resume(()), Complete(text.to_owned()));
}

#[test]
fn values_dropped_in_the_exchange_may_resume() {
    let count = Cell::new(0);
    let resumes = || {
        on_drop(|| {
            let other = Coroutine::new(async |co, ()| co.yield_(1).await);
            count.set(count.get() + other.sum::<u32>());
        })
    };
    let mut coroutine = Coroutine::new(async |co, _input| {
        drop(select(co.yield_(resumes()), ready(())).await);
        drop(select(turn().boxed_local(), co.yield_(resumes())).await);
    });
    drop(coroutine.resume(resumes()));
    drop(coroutine.resume(resumes()));
    assert!(coroutine.is_finished());
    assert_eq!(count.get(), 4);
}

#[test]
fn a_coroutine_runs_in_a_task_and_in_another_coroutine() {
    block_on(Executor::new().run(async {
        let mut outer = Coroutine::new(async |co, ()| {
            let inner = Coroutine::new(async |co, ()| {
                co.yield_(1).await;
                co.yield_(2).await;
            });
            for number in inner {
                co.yield_(number * 10).await;
            }
        });
        assert_eq!(outer.next(), Some(10));
        yield_now().await;
        assert_eq!(outer.next(), Some(20));
        assert_eq!(outer.next(), None);
    }));
}

#[test]
fn an_async_coroutine_waits_between_its_yields() {
    let trace = Trace::new();
    block_on(Executor::new().run(async {
        let mut coroutine = AsyncCoroutine::new(async |co, first: u32| {
            let mut sum = first;
            while sum < 10 {
                yield_now().await;
                sum += co.yield_(sum).await;
            }
            "done"
        });
        let (inner, mut others) = (trace.clone(), 0);
        let beside = spawn(async move {
            loop {
                others += 1;
                inner.push(format!("beside {others}"));
                yield_now().await;
            }
        });
        assert_eq!(coroutine.send(1).await, Yielded(1));
        trace.push("yielded 1");
        assert_eq!(coroutine.send(2).await, Yielded(3));
        trace.push("yielded 3");
        assert_eq!(coroutine.send(7).await, Complete("done"));
        assert!(coroutine.is_finished());
        drop(beside);
    }));
    trace.is(&["beside 1", "yielded 1", "beside 2", "yielded 3"]);
}

#[test]
fn an_async_coroutine_without_input_is_a_stream() {
    let mut numbers = AsyncCoroutine::new(async |co, ()| {
        for number in 1..=3 {
            turn().await;
            co.yield_(number).await;
        }
        Err::<(), _>("the rope broke")
    });
    block_on(async {
        assert_eq!(numbers.by_ref().collect::<Vec<_>>().await, [1, 2, 3]);
        assert!(numbers.is_terminated());
        assert_eq!(numbers.next().await, None);
    });
    assert_eq!(numbers.into_result(), Some(Err("the rope broke")));
}

#[test]
fn an_async_coroutine_is_not_woken_by_its_own_yields() {
    let (count, waker) = Count::new();
    let signal = Kept::default();
    let mut coroutine = AsyncCoroutine::new(async |co, ()| {
        co.yield_(1).await;
        let mut waiting = true;
        poll_fn(|cx| {
            signal.replace(Some(cx.waker().clone()));
            match std::mem::replace(&mut waiting, false) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
        co.yield_(2).await;
    });
    assert_eq!(
        poll_with(&mut coroutine.next(), &waker),
        Poll::Ready(Some(1))
    );
    assert!(poll_with(&mut coroutine.next(), &waker).is_pending());
    assert_eq!(count.take(), 0);
    kept(&signal).wake();
    assert_eq!(count.take(), 1);
    assert_eq!(
        poll_with(&mut coroutine.next(), &waker),
        Poll::Ready(Some(2))
    );
    assert_eq!(poll_with(&mut coroutine.next(), &waker), Poll::Ready(None));
    assert_eq!(count.take(), 0);
}

#[test]
fn an_input_waits_for_a_late_poll_of_the_yield() {
    let mut coroutine = AsyncCoroutine::new(async |co, first: u32| {
        let mut yielding = co.yield_(first);
        assert!(poll(&mut yielding).is_pending());
        turn().await; // suspended here
        turn().await; // the input has arrived
        yielding.await
    });
    assert_eq!(coroutine.send(1).now_or_never(), Some(Yielded(1)));
    assert_eq!(coroutine.send(2).now_or_never(), None);
    assert_eq!(coroutine.answer().now_or_never(), Some(Complete(2)));
}

#[test]
fn the_waker_of_a_yield_is_user_code_and_runs_under_no_borrow() {
    let (hooks, waker) = hooked();
    let trace = Trace::new();
    // Each call resumes its coroutine, which would panic if a borrow was held.
    let resumes = |what: &'static str| {
        let trace = trace.clone();
        move || {
            let other = Coroutine::new(async |co, ()| co.yield_(1).await);
            trace.push(format!("{what}: {}", other.sum::<u32>()));
        }
    };
    let mut coroutine = Coroutine::new(async |co, ()| {
        let mut yielding = co.yield_(1);
        assert!(poll_with(&mut yielding, &waker).is_pending());
        poll_fn(|_| poll_with(&mut yielding, &waker)).await; // drops the previous waker
    });
    hooks.on_clone.set(resumes("clone"));
    hooks.on_drop.set(resumes("drop"));
    assert_eq!(coroutine.next(), Some(1));
    trace.is(&["clone: 1", "drop: 1"]);
    hooks.on_wake.set(resumes("wake"));
    assert_eq!(coroutine.next(), None);
    trace.is(&["wake: 1"]);
}

#[test]
fn the_answer_to_a_dropped_send_is_not_lost() {
    let mut coroutine = AsyncCoroutine::new(async |co, mut input: u32| {
        loop {
            turn().await;
            turn().await;
            input = co.yield_(input * 10).await;
        }
        #[allow(unreachable_code)]
        ()
    });
    assert_eq!(
        panic_of(|| coroutine.answer().now_or_never()),
        "no answer is due: call `send` first"
    );
    drop(coroutine.send(1)); // never polled, so nothing was sent
    assert_eq!(coroutine.send(2).now_or_never(), None);
    assert_eq!(
        panic_of(|| coroutine.send(3).now_or_never()),
        "an earlier `send` was dropped before it completed: await its `answer` first"
    );
    assert_eq!(coroutine.answer().now_or_never(), None);
    assert_eq!(coroutine.answer().now_or_never(), Some(Yielded(20)));
    assert_eq!(block_on(coroutine.send(4)), Yielded(40));
}

#[test]
fn a_stream_continues_after_a_dropped_await() {
    let mut numbers = AsyncCoroutine::new(async |co, ()| {
        for number in 1..=2 {
            turn().await;
            co.yield_(number).await;
        }
    });
    let mut seen = Vec::new();
    while !numbers.is_terminated() {
        seen.push(numbers.next().now_or_never());
    }
    assert_eq!(seen, [None, Some(Some(1)), None, Some(Some(2)), Some(None)]);
}

#[test]
fn a_finished_or_panicked_async_coroutine_reports_it() {
    let mut coroutine = AsyncCoroutine::new(async |co, ()| {
        co.yield_(1).await;
        turn().await;
        panic!("the rope broke");
    });
    assert_eq!(block_on(coroutine.send(())), Yielded(1));
    assert_eq!(panic_of(|| block_on(coroutine.send(()))), "the rope broke");
    assert!(coroutine.is_finished());
    assert_eq!(panic_of(|| block_on(coroutine.send(()))), FINISHED);
    assert_eq!(block_on(coroutine.next()), None);
}

#[test]
fn dropping_a_suspended_async_coroutine_drops_its_body() {
    let trace = Trace::new();
    let mut coroutine = AsyncCoroutine::<_, (), _>::new(async |_, _input| {
        hold(records_drop(&trace, "local")).await;
    });
    let waiting = coroutine.send(records_drop(&trace, "input"));
    assert!(
        pin!(waiting)
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    trace.is(&[]);
    drop(coroutine);
    trace.is(&["drop local", "drop input"]);
}

#[test]
fn a_pinned_async_coroutine_yields_through_another() {
    let exchange = Exchange::new();
    let body = pin!(exchange.body(async |outer, ()| {
        let mut inner = AsyncCoroutine::new(async |inner, question: &str| {
            outer.yield_(format!("outer received {question}")).await;
            let next = inner.yield_("inner answers").await;
            format!("inner ends with {next}")
        });
        let answer = inner.send("one").await;
        let end = inner.send("two").await;
        drop(inner);
        outer.yield_(format!("{answer:?}, {end:?}")).await;
    }));
    let coroutine = AsyncCoroutine::pinned(&exchange, body);
    let words: Vec<_> = block_on(coroutine.collect());
    let both = r#"Yielded("inner answers"), Complete("inner ends with two")"#;
    assert_eq!(words, ["outer received one", both]);
}

#[test]
fn debug_output_shows_whether_it_is_finished() {
    let mut coroutine = Coroutine::new(async |co: &mut Co<'_, (), String>, ()| {
        let co_debug = format!("{co:?}");
        co.yield_(co_debug).await;
    });
    assert_eq!(
        format!("{coroutine:?}"),
        "Coroutine { finished: false, .. }"
    );
    assert_eq!(coroutine.by_ref().collect::<String>(), "Co { .. }");
    assert_eq!(format!("{coroutine:?}"), "Coroutine { finished: true, .. }");
    let coroutine: AsyncCoroutine<'_, (), (), ()> = AsyncCoroutine::new(async |_, ()| ());
    assert_eq!(
        format!("{coroutine:?}"),
        "AsyncCoroutine { finished: false, .. }"
    );
    let state: State<u8, ()> = Yielded(1);
    assert_eq!(format!("{state:?}"), "Yielded(1)");
}
