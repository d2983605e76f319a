//! Sleeps, timeouts and intervals.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn, ready};
use std::io;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use futures::future::{FusedFuture, join_all, select};
use futures::{FutureExt, StreamExt, join};
use windlass_reactor::time::{
    MissedTicks, Sleep, interval, interval_at, sleep, sleep_until, timeout, timeout_at,
};
use windlass_reactor::{Reactor, block_on};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_sleep_of_zero_waits_for_the_next_turn() {
    let reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut sleep = sleep(Duration::ZERO);
    assert!(poll(&mut sleep, &waker).is_pending());
    assert_eq!(reactor.turn(None).unwrap().woken, 1);
    assert_eq!(counter.wakes(), 1);
    assert!(poll(&mut sleep, &waker).is_ready());
    assert!(poll(&mut sleep, &waker).is_ready(), "and stays so");
}

#[test]
fn a_deadline_in_the_past_is_due_in_the_next_turn() {
    let reactor = Reactor::current().unwrap();
    let past = Instant::now();
    thread::sleep(MS);
    let mut sleep = sleep_until(past);
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    reactor.turn(None).unwrap();
    assert!(poll(&mut sleep, Waker::noop()).is_ready());
}

#[test]
fn the_longest_sleeps_neither_fire_nor_overflow() {
    let reactor = Reactor::current().unwrap();
    let years = |n: u64| Duration::from_secs(n * 365 * 24 * 3600);
    let u64_of_nanos = Duration::from_nanos(u64::MAX);
    let (counter, waker) = Counter::new();
    let long = [
        Duration::MAX,
        years(1),
        years(584),
        years(585),
        years(10_000),
        u64_of_nanos,
    ];
    let mut sleeps: Vec<_> = long.into_iter().map(sleep).collect();
    for sleep in &mut sleeps {
        assert!(poll(sleep, &waker).is_pending());
    }
    run(sleep(2 * MS));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(counter.wakes(), 0);
    assert!(
        sleeps
            .iter_mut()
            .all(|sleep| poll(sleep, &waker).is_pending())
    );
    assert_eq!(sleeps[0].deadline(), None);
}

#[test]
fn no_sleep_ends_early() {
    let naps = (0..300_u64).map(|i| async move {
        let start = Instant::now();
        let nap = Duration::from_nanos(i * i * 37);
        sleep(nap).await;
        assert!(start.elapsed() >= nap, "{:?} for {nap:?}", start.elapsed());
    });
    run(join_all(naps));
    for i in 0..50 {
        let (start, nap) = (Instant::now(), Duration::from_micros(13 * i));
        run(sleep(nap));
        assert!(start.elapsed() >= nap);
    }
}

#[test]
fn sleeps_end_in_order_of_deadline_and_then_of_start() {
    let (start, trace) = (Instant::now(), RefCell::new(Vec::new()));
    let order = [(3, 'e'), (1, 'a'), (2, 'c'), (1, 'b'), (2, 'd'), (9, 'f')];
    run(async {
        let naps = futures::stream::FuturesUnordered::new();
        for (ms, name) in order {
            naps.push(async move {
                sleep_until(start + 20 * ms * MS).await; // none is due at the first poll
                name
            });
        }
        trace.replace(naps.collect().await);
    });
    assert_eq!(*trace.borrow(), ['a', 'b', 'c', 'd', 'e', 'f']);
}

#[test]
fn a_dropped_sleep_wakes_no_task() {
    let _reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut dropped = sleep(MS);
    assert!(poll(&mut dropped, &waker).is_pending());
    drop(dropped);
    run(sleep(3 * MS));
    assert_eq!(counter.wakes(), 0);
}

#[test]
fn a_reset_sleep_ends_at_its_new_deadline_only() {
    let reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut nap = sleep(MS);
    assert!(poll(&mut nap, &waker).is_pending());
    let later = Instant::now() + 5 * MS;
    nap.reset(later);
    assert_eq!(nap.deadline(), Some(later));
    assert!(poll(&mut nap, &waker).is_pending());
    turn_until(&reactor, || counter.wakes() > 0);
    assert!(Instant::now() >= later);
    assert!(poll(&mut nap, &waker).is_ready());
    nap.reset(Instant::now());
    assert!(poll(&mut nap, &waker).is_pending(), "it restarted");
    run(nap);
}

#[test]
fn a_waiter_is_woken_at_the_new_deadline_of_a_reset_sleep() {
    let reactor = Reactor::current().unwrap();
    // The old deadline is later, earlier, or absent.
    for old in [Duration::from_secs(60), Duration::ZERO, Duration::MAX] {
        let (counter, waker) = Counter::new();
        let mut nap = sleep(old);
        assert!(poll(&mut nap, &waker).is_pending());
        let new = Instant::now() + 3 * MS;
        for deadline in [new + Duration::from_secs(60), Instant::now(), new] {
            nap.reset(deadline); // polled in between or not
        }
        turn_until(&reactor, || counter.wakes() > 0);
        assert!(Instant::now() >= new, "an old deadline woke the waiter");
        assert!(poll(&mut nap, &waker).is_ready());
        assert_eq!(counter.wakes(), 1);
    }
}

#[test]
fn a_task_that_awaits_a_sleep_ends_when_another_resets_it() {
    run(async {
        let nap = RefCell::new(sleep(Duration::from_secs(60)));
        let waits = poll_fn(|cx| nap.borrow_mut().poll_unpin(cx));
        let mut waits = futures::stream::FuturesUnordered::from_iter([waits]);
        assert!(waits.next().now_or_never().is_none());
        let resets = async {
            sleep(MS).await;
            nap.borrow_mut().reset(Instant::now());
        };
        join!(waits.next(), resets);
    });
}

#[test]
fn resetting_an_elapsed_sleep_wakes_no_task() {
    let reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut nap = sleep(Duration::ZERO);
    assert!(poll(&mut nap, &waker).is_pending());
    turn_until(&reactor, || counter.wakes() == 1);
    nap.reset(Instant::now());
    reactor.turn(Some(MS)).unwrap();
    assert_eq!(counter.wakes(), 1);
    assert!(poll(&mut nap, &waker).is_pending(), "it restarted");
    run(nap);
}

/// The timer stays registered at the old deadline.
#[test]
fn a_sleep_reset_on_another_thread_wakes_at_the_old_deadline() {
    let reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut nap = sleep(5 * MS);
    assert!(poll(&mut nap, &waker).is_pending());
    let reset = thread::spawn(move || {
        let _reactor = Reactor::current().unwrap();
        nap.reset(Instant::now());
        nap
    });
    let mut nap = reset.join().unwrap();
    turn_until(&reactor, || counter.wakes() == 1);
    assert!(poll(&mut nap, &waker).is_pending());
    turn_until(&reactor, || counter.wakes() == 2);
    assert!(poll(&mut nap, &waker).is_ready());
}

#[test]
fn only_the_last_of_changing_wakers_is_called() {
    let reactor = Reactor::current().unwrap();
    let wakers: Vec<_> = (0..5).map(|_| Counter::new()).collect();
    let mut nap = sleep(MS);
    for (_, waker) in &wakers {
        assert!(poll(&mut nap, waker).is_pending());
    }
    turn_until(&reactor, || wakers[4].0.wakes() == 1);
    assert!(wakers[..4].iter().all(|(counter, _)| counter.wakes() == 0));
}

#[test]
fn a_sleep_that_fires_during_a_waker_clone_completes() {
    let reactor = Reactor::current().unwrap();
    let mut nap = sleep(Duration::ZERO);
    assert!(poll(&mut nap, Waker::noop()).is_pending());
    hook(move |what| {
        if what == "clone" {
            reactor.turn(None).unwrap();
        }
    });
    assert!(poll(&mut nap, &hooked()).is_ready());
    unhook();
}

#[test]
fn wakers_of_sleeps_may_turn_the_reactor_and_use_timers() {
    let reactor = Reactor::current().unwrap();
    let victim = Rc::new(RefCell::new(Some(sleep(Duration::from_secs(9)))));
    let (counter, plain) = Counter::new();
    assert!(poll(victim.borrow_mut().as_mut().unwrap(), &plain).is_pending());
    let (inside, inner, count) = (reactor.clone(), victim.clone(), counter.clone());
    hook(move |_| {
        drop(inner.take());
        let before = count.wakes();
        let mut nap = sleep(Duration::ZERO);
        assert!(poll(&mut nap, &plain).is_pending());
        turn_until(&inside, || count.wakes() > before);
    });
    let waker = hooked();
    let mut nap = sleep(MS);
    assert!(poll(&mut nap, &waker).is_pending());
    nap.reset(Instant::now() + Duration::from_secs(9)); // keeps its waker
    assert!(poll(&mut nap, &waker).is_pending());
    assert!(poll(&mut nap, Waker::noop()).is_pending()); // drops it
    drop(nap);
    drop(waker);
    unhook();
    assert!(victim.borrow().is_none());
    settle(&reactor);
}

#[test]
fn a_sleep_may_move_to_another_thread_and_end_there() {
    let _reactor = Reactor::current().unwrap();
    let (_, waker) = Counter::new();
    let (deadline, mut nap) = (Instant::now() + 2 * MS, sleep(2 * MS));
    let mut dropped_there = sleep(2 * MS);
    assert!(poll(&mut nap, &waker).is_pending());
    assert!(poll(&mut dropped_there, &waker).is_pending());
    let there = thread::spawn(move || {
        drop(dropped_there);
        run(nap);
        Instant::now()
    });
    assert!(there.join().unwrap() >= deadline);
    run(sleep(MS)); // what is left of it here does no harm
}

#[test]
fn a_hundred_thousand_timers_start_and_stop() {
    let reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut naps: Vec<_> = (0..100_000)
        .map(|i| sleep(Duration::from_secs(60) + Duration::from_micros(i * 7)))
        .collect();
    for nap in &mut naps {
        assert!(poll(nap, &waker).is_pending());
    }
    let first = naps[0].deadline().unwrap();
    assert!(reactor.next_deadline().unwrap() <= first + reactor.timer_slack());
    run(sleep(MS));
    drop(naps);
    assert_eq!(reactor.next_deadline(), None);
    assert_eq!(counter.wakes(), 0);
}

#[test]
fn many_due_timers_all_fire_over_several_turns() {
    let reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut naps: Vec<_> = (0..10_000).map(|_| sleep(Duration::ZERO)).collect();
    for nap in &mut naps {
        assert!(poll(nap, &waker).is_pending());
    }
    let first = reactor.turn(None).unwrap().woken;
    assert!(first < 10_000, "{first}");
    turn_until(&reactor, || counter.wakes() == 10_000);
    assert!(naps.iter_mut().all(|nap| poll(nap, &waker).is_ready()));
}

#[test]
fn timers_fire_under_a_future_that_is_always_woken() {
    let busy = poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    run(select(busy, sleep(2 * MS)));
}

#[test]
fn timers_fire_in_short_calls_of_block_on() {
    let start = Instant::now();
    let mut nap = sleep(2 * MS);
    loop {
        let mut first = true;
        let done = block_on(poll_fn(|cx| {
            let done = Pin::new(&mut nap).poll(cx).is_ready();
            if std::mem::take(&mut first) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(done)
        }));
        if done {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "timed out");
    }
}

#[test]
fn a_timeout_polls_its_future_first() {
    run(async {
        assert_eq!(timeout(Duration::ZERO, ready(1)).await, Ok(1));
        assert_eq!(timeout_at(Instant::now(), ready(2)).await, Ok(2));
        assert_eq!(timeout(Duration::MAX, sleep(MS)).await, Ok(()));
        let elapsed = timeout(MS, pending::<()>()).await.unwrap_err();
        let error = io::Error::from(elapsed);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), elapsed.to_string());
    });
}

#[test]
fn a_future_that_is_ready_in_time_needs_no_reactor() {
    assert_eq!(timeout(MS, ready(1)).now_or_never(), Some(Ok(1)));
}

#[test]
fn ticks_occur_at_whole_periods() {
    run(async {
        let start = Instant::now() + MS;
        let mut interval = interval_at(start, MS);
        for n in 0..10 {
            assert_eq!(interval.tick().await, start + n * MS);
            assert!(Instant::now() >= start + n * MS);
        }
        assert_eq!(interval.next().await, Some(start + 10 * MS));
    });
}

/// The first two ticks of an interval that is at least ten and a half periods late.
fn late(missed: MissedTicks) -> (Instant, [Instant; 2], Instant) {
    let period = 2 * MS;
    let start = Instant::now();
    thread::sleep(21 * MS);
    run(async {
        let mut interval = interval_at(start, period).missed_ticks(missed);
        let first = interval.tick().await;
        let taken = Instant::now();
        (start, [first, interval.tick().await], taken)
    })
}

#[test]
fn missed_ticks_burst_or_are_skipped_or_delay_the_next() {
    let period = 2 * MS;
    let (start, ticks, _) = late(MissedTicks::Burst);
    assert_eq!(ticks, [start, start + period]);
    let (start, [first, second], taken) = late(MissedTicks::Skip);
    assert_eq!(first, start);
    assert_eq!((second - start).as_nanos() % period.as_nanos(), 0);
    assert!(
        second >= start + 11 * period && second > taken - period,
        "{:?}",
        second - start
    );
    let (start, [first, second], taken) = late(MissedTicks::Delay);
    assert_eq!(first, start);
    assert!(second >= start + 21 * MS + period && second <= taken + period);
}

#[test]
fn an_interval_of_all_time_ticks_once() {
    for missed in [MissedTicks::Burst, MissedTicks::Skip, MissedTicks::Delay] {
        let mut interval = interval(Duration::MAX).missed_ticks(missed);
        run(interval.tick());
        assert!(run(timeout(MS, interval.tick())).is_err());
    }
}

#[test]
fn no_tick_is_lost_when_its_future_is_dropped() {
    run(async {
        let start = Instant::now() + 100 * MS;
        let mut interval = interval_at(start, MS);
        assert!(timeout(Duration::ZERO, interval.tick()).await.is_err());
        assert_eq!(interval.tick().await, start);
    });
}

#[test]
fn a_period_of_zero_is_refused() {
    assert!(catch_unwind(|| interval(Duration::ZERO)).is_err());
}

#[test]
fn a_sleep_without_a_running_reactor_names_what_to_call() {
    let panic = thread::spawn(|| futures::executor::block_on(sleep(MS)))
        .join()
        .unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(
        text.contains("block_on") && text.contains("Reactor"),
        "{text}"
    );
}

#[test]
fn a_sleep_after_its_reactor_is_dropped_names_what_to_call() {
    run(sleep(MS));
    let panic = catch_unwind(|| futures::executor::block_on(sleep(MS)));
    assert!(panic.is_err());
}

#[test]
fn another_executor_can_turn_the_reactor_for_timers() {
    let reactor = Reactor::current().unwrap();
    let mut nap: Pin<Box<Sleep>> = Box::pin(sleep(MS));
    let waker = reactor.waker();
    let mut cx = Context::from_waker(&waker);
    while nap.as_mut().poll(&mut cx).is_pending() {
        reactor.turn(None).unwrap();
    }
}

#[test]
#[cfg(unix)] // on Windows there is no descriptor to watch
fn a_due_timer_makes_the_descriptor_readable_between_turns() {
    if cfg!(not(target_os = "linux")) || cfg!(windlass_portable) {
        return; // elsewhere there is `next_deadline`
    }
    let reactor = Reactor::current().unwrap();
    let mut nap = sleep(2 * MS);
    {
        let _awake = reactor.awake();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(poll(&mut nap, Waker::noop()).is_pending());
    }
    wait_for_descriptor(&reactor);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(poll(&mut nap, Waker::noop()).is_ready());
}

#[test]
fn a_new_earliest_timer_fires_in_time() {
    let reactor = Reactor::current().unwrap();
    let (mut late, start) = (sleep(PATIENCE), Instant::now());
    assert!(poll(&mut late, Waker::noop()).is_pending());
    drop(reactor.awake()); // the alarm is set for it
    let mut early = sleep(MS);
    assert!(poll(&mut early, Waker::noop()).is_pending());
    while poll(&mut early, Waker::noop()).is_pending() {
        reactor.turn(None).unwrap();
    }
    assert!(start.elapsed() < PATIENCE / 2);
}

#[test]
fn a_loop_that_holds_the_guard_sleeps_in_its_turns() {
    let reactor = Reactor::current().unwrap();
    let _awake = reactor.awake();
    let waker = reactor.waker();
    let mut turns = 0;
    for _ in 0..10 {
        let mut nap = sleep(2 * MS);
        while poll(&mut nap, &waker).is_pending() {
            reactor.turn(None).unwrap();
            turns += 1;
        }
    }
    assert!(turns <= 30, "{turns}");
}

#[test]
fn sleeps_on_both_sides_of_a_join_end() {
    run(async { join!(sleep(MS), sleep(2 * MS), sleep(Duration::ZERO)) });
}

#[test]
fn a_sleep_is_terminated_once_it_has_completed() {
    let reactor = Reactor::current().unwrap();
    let mut sleep = sleep(Duration::ZERO);
    let waker = Waker::noop();
    assert!(poll(&mut sleep, waker).is_pending());
    reactor.turn(None).unwrap();
    assert!(!sleep.is_terminated(), "fired, and not polled since");
    assert!(poll(&mut sleep, waker).is_ready());
    assert!(sleep.is_terminated() && sleep.deadline().is_some());
    assert!(poll(&mut sleep, waker).is_ready());
    sleep.reset(Instant::now());
    assert!(!sleep.is_terminated());
    assert!(poll(&mut sleep, waker).is_pending());
    reactor.turn(None).unwrap();
    assert!(poll(&mut sleep, waker).is_ready());
}

#[test]
fn a_completed_sleep_stays_so_on_another_thread() {
    let mut sleep = sleep(Duration::ZERO);
    block_on(&mut sleep);
    let again = thread::spawn(move || block_on(sleep));
    again.join().unwrap();
}

#[test]
fn a_timeout_is_terminated_after_its_output_and_after_elapsed() {
    block_on(async {
        let mut in_time = timeout(MS * 60_000, ready(7));
        assert!(!in_time.is_terminated());
        assert_eq!((&mut in_time).await, Ok(7));
        assert!(in_time.is_terminated());

        let mut late = timeout(MS, pending::<()>());
        assert!((&mut late).await.is_err());
        assert!(late.is_terminated());
        assert!((&mut late).await.is_err(), "and stays so");
    });
}

#[test]
fn the_output_of_a_timeout_stops_its_timer() {
    let reactor = Reactor::current().unwrap();
    let mut first = true;
    let twice = poll_fn(move |_| match std::mem::take(&mut first) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    });
    let mut in_time = timeout(MS * 60_000, twice);
    assert!(poll(&mut in_time, Waker::noop()).is_pending());
    assert!(reactor.next_deadline().is_some());
    assert!(poll(&mut in_time, Waker::noop()).is_ready());
    assert!(reactor.next_deadline().is_none());
}

#[test]
fn select_needs_no_fuse() {
    block_on(async {
        let (mut short, mut long) = (sleep(MS), sleep(Duration::MAX));
        let mut limit = timeout(MS * 60_000, pending::<()>());
        let mut ticks = interval(MS);
        let (mut ended, mut ticked) = (0, 0);
        while ended < 1 || ticked < 3 {
            futures::select! {
                () = short => ended += 1,
                () = long => unreachable!(),
                _ = limit => unreachable!(),
                _ = ticks.select_next_some() => ticked += 1,
            }
        }
        assert_eq!(ended, 1, "a completed sleep is skipped");
    });
}

#[test]
fn an_interval_can_be_reset() {
    let hour = MS * 3_600_000;
    block_on(async {
        let mut ticks = interval(hour);
        let start = ticks.tick().await;
        ticks.reset_immediately();
        let second = ticks.tick().await;
        assert!(second >= start && second <= Instant::now());

        let noon = Instant::now() + MS;
        ticks.reset_at(noon);
        assert_eq!(ticks.tick().await, noon);

        let before = Instant::now();
        ticks.reset_after(MS);
        assert!(ticks.tick().await >= before + MS);

        ticks.reset();
        let waits = poll(&mut Box::pin(ticks.tick()), Waker::noop());
        assert!(waits.is_pending());
        ticks.reset_after(Duration::MAX); // stops
        ticks.reset_at(noon); // and starts
        assert_eq!(ticks.tick().await, noon);
        assert_eq!(ticks.period(), hour);
    });
}

#[test]
fn a_reset_moves_the_ticks_after_it() {
    block_on(async {
        let mut ticks = interval_at(Instant::now(), MS);
        ticks.tick().await;
        let start = Instant::now() + MS;
        ticks.reset_at(start);
        assert_eq!(ticks.tick().await, start);
        assert_eq!(ticks.tick().await, start + MS);
    });
}

#[test]
fn a_reset_wakes_the_task_that_waits_for_the_tick() {
    let reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut ticks = interval_at(Instant::now() + MS * 3_600_000, MS);
    let cx = &mut Context::from_waker(&waker);
    assert!(ticks.poll_tick(cx).is_pending());
    ticks.reset_immediately();
    reactor.turn(None).unwrap();
    assert_eq!(counter.wakes(), 1);
    assert!(ticks.poll_tick(cx).is_ready());
}
