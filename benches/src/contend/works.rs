//! The works, written once for all runtimes.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    hint::black_box,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures::{
    StreamExt,
    channel::{mpsc, oneshot},
    future::{Either, select},
};

use super::meter::{Heap, Params, percentile, print, process_cpu, repeat, resident};
use super::runtime::{Runtime, yield_once};
use super::wake;

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn run<R: Runtime>(work: &str, params: &Params) -> Result<()> {
    match work {
        "spawn" => R::block_on(spawn::<R>(params)),
        "yield" => R::block_on(yields::<R>(params)),
        "ping_pong" => R::block_on(ping_pong::<R>(params)),
        "wake" => return wake::run::<R>(params),
        "select" => R::block_on(selects::<R>(params)),
        "timer_drop" => R::block_on(timer_drop::<R>(params)),
        "timers" => {
            let slack = params.number("slack_us").map(Duration::from_micros);
            R::block_on_with_slack(slack, timers::<R>(params.or("n", 100_000)));
        }
        "idle_task" => R::block_on(idle_task::<R>(params.or("n", 100_000) as usize)),
        // In a task, because one of the runtimes polls a root future that yields before all tasks.
        "million" => R::block_on(async { R::join(R::spawn(million::<R>())).await }),
        other => bail!("no such work: {other}"),
    }
    Ok(())
}

async fn spawn<R: Runtime>(params: &Params) {
    let batch = params.or("batch", 1);
    repeat(params, async |ops| {
        let mut sum = 0;
        if batch == 1 {
            for i in 0..ops {
                sum += R::join(R::spawn(async move { black_box(i) })).await;
            }
        } else {
            let mut handles = Vec::with_capacity(batch as usize);
            for _ in 0..ops.div_ceil(batch) {
                handles.extend((0..batch).map(|i| R::spawn(async move { black_box(i) })));
                for handle in handles.drain(..) {
                    sum += R::join(handle).await;
                }
            }
        }
        black_box(sum);
    })
    .await;
}

/// Measures only the yields. The tasks exist before and after.
async fn yields<R: Runtime>(params: &Params) {
    let tasks = params.or("tasks", 1);
    let measured = async |each: u64| {
        let (done, end) = oneshot::channel();
        let done = Rc::new(Cell::new(Some(done)));
        let left = Rc::new(Cell::new(tasks));
        let start = Rc::new(Cell::new((0, Instant::now())));
        for i in 0..tasks {
            let (done, left, start) = (done.clone(), left.clone(), start.clone());
            R::detach(R::spawn(async move {
                yield_once().await; // all were polled
                if i == 0 {
                    start.set((process_cpu(), Instant::now()));
                }
                for _ in 0..each {
                    yield_once().await;
                }
                left.set(left.get() - 1);
                if left.get() == 0 {
                    let start = start.get();
                    let took = (process_cpu() - start.0, start.1.elapsed());
                    let _ = done.take().map(|done| done.send(took));
                }
                pending::<()>().await
            }));
        }
        end.await.expect("the last task tells")
    };
    let each = match params.number("ops") {
        Some(ops) => ops / tasks,
        None => {
            let few = (100_000 / tasks).max(3);
            let (_, took) = measured(few).await;
            let more = params.window().as_secs_f64() / took.as_secs_f64();
            ((few as f64 * more) as u64).max(3)
        }
    };
    let (cpu, _) = measured(each).await;
    print("cpu_ns", cpu as f64 / (each * tasks) as f64);
}

async fn ping_pong<R: Runtime>(params: &Params) {
    let (ping, mut pings) = mpsc::unbounded();
    let (pong, mut pongs) = mpsc::unbounded();
    R::detach(R::spawn(async move {
        while let Some(number) = pings.next().await {
            let _: Result<(), _> = pong.unbounded_send(number);
        }
    }));
    repeat(params, async |ops| {
        for number in 0..ops {
            ping.unbounded_send(number).expect("the other is there");
            assert_eq!(pongs.next().await, Some(number));
        }
    })
    .await;
}

async fn selects<R: Runtime>(params: &Params) {
    let (sender, mut receiver) = mpsc::unbounded();
    R::detach(R::spawn(async move {
        while sender.unbounded_send(()).is_ok() {
            yield_once().await;
        }
    }));
    repeat(params, async |ops| {
        for _ in 0..ops {
            match select(receiver.next(), pin!(R::sleep(HOUR))).await {
                Either::Left((Some(()), _)) => {}
                _ => panic!("an hour is not over"),
            }
        }
    })
    .await;
}

async fn timer_drop<R: Runtime>(params: &Params) {
    for i in 0..params.or("pending", 100_000) {
        R::detach(R::spawn(R::sleep(HOUR + Duration::from_micros(i))));
    }
    yield_once().await;
    repeat(params, async |ops| {
        for _ in 0..ops {
            poll_once(R::sleep(HOUR)).await;
        }
    })
    .await;
}

async fn poll_once(future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// Deadlines within one second, the same for all. The first is after all tasks have started.
async fn timers<R: Runtime>(n: u64) {
    let start_cpu = process_cpu();
    let first = Instant::now() + Duration::from_micros(100_000 + n);
    let late = Rc::new(RefCell::new(Vec::with_capacity(n as usize)));
    let early = Rc::new(Cell::new(0));
    let (done, end) = oneshot::channel();
    let done = Rc::new(Cell::new(Some(done)));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..n {
        let deadline = first + Duration::from_nanos(random.u64(0..1_000_000_000));
        let (late, early, done) = (late.clone(), early.clone(), done.clone());
        R::detach(R::spawn(async move {
            R::sleep(deadline.saturating_duration_since(Instant::now())).await;
            let now = Instant::now();
            if now < deadline {
                early.set(early.get() + 1);
            }
            let mut late = late.borrow_mut();
            late.push(now.saturating_duration_since(deadline).as_nanos() as u64);
            if late.len() as u64 == n {
                let _ = done.take().map(|done| done.send(process_cpu()));
            }
        }));
    }
    let cpu = end.await.expect("the last timer tells") - start_cpu;
    let mut late = late.borrow_mut();
    print("cpu_ns", cpu as f64 / n as f64);
    print("late_p50_ns", percentile(&mut late, 0.5));
    print("late_p99_ns", percentile(&mut late, 0.99));
    print("late_max_ns", percentile(&mut late, 1.0));
    print("early", f64::from(early.get()));
}

/// The handles are dropped, so this measures a task alone.
async fn idle_task<R: Runtime>(n: usize) {
    // A multiple of the word size, so that no contender has to round up.
    let future = || {
        let payload = [7_u64; 8];
        async move {
            pending::<()>().await;
            black_box(payload);
        }
    };
    let size = size_of_val(&future()).next_multiple_of(8);
    for _ in 0..10 {
        R::detach(R::spawn(future()));
    }
    yield_once().await;
    let before = (Heap::now().live, resident());
    for _ in 0..n {
        R::detach(R::spawn(future()));
    }
    yield_once().await;
    let grown = Heap::now().live - before.0;
    print("heap_bytes", grown as f64 / n as f64 - size as f64);
    print("rss_bytes", (resident() - before.1) as f64 / n as f64);
}

/// The same with a thousand and with a million.
async fn million<R: Runtime>() {
    for (n, name) in [(1_000, "_1000"), (1_000_000, "")] {
        // The work with a thousand is repeated a thousand times, so that both take long enough.
        let rounds = 1_000_000 / n;
        let mut total = [0; 5];
        for _ in 0..rounds {
            let took = crowd::<R>(n).await;
            total
                .iter_mut()
                .zip(took)
                .for_each(|(sum, part)| *sum += part);
        }
        let works = ["spawn", "wake", "drop", "timer_start", "timer_drop"];
        for (work, total) in works.iter().zip(total) {
            print(
                &format!("{work}{name}_ns"),
                total as f64 / (n * rounds) as f64,
            );
        }
    }
    print("rss_bytes", resident() as f64);
}

/// Spawns tasks, wakes them all, and lets them end; starts the same number of timers and drops
/// them.
async fn crowd<R: Runtime>(n: usize) -> [u64; 5] {
    let wakers = Rc::new(RefCell::new(Vec::with_capacity(n)));
    let polled = Rc::new(Cell::new(0));
    let mut clock = process_cpu();
    let mut lap = || {
        let before = std::mem::replace(&mut clock, process_cpu());
        clock - before
    };
    for _ in 0..n {
        let (wakers, polled) = (wakers.clone(), polled.clone());
        let mut polls = 0;
        R::detach(R::spawn(poll_fn(move |cx| {
            polls += 1;
            polled.set(polled.get() + 1);
            match polls {
                1 => wakers.borrow_mut().push(cx.waker().clone()),
                2 => {}
                _ => return Poll::Ready(()),
            }
            Poll::Pending
        })));
    }
    let until = async |polls| {
        while polled.get() < polls {
            yield_once().await;
        }
    };
    until(n).await;
    let spawned = lap();
    wakers
        .borrow()
        .iter()
        .for_each(std::task::Waker::wake_by_ref);
    until(2 * n).await;
    let woken = lap();
    wakers.take().into_iter().for_each(std::task::Waker::wake);
    until(3 * n).await;
    let ended = lap();
    let mut sleeps: Vec<_> = (0..n).map(|_| Box::pin(R::sleep(HOUR))).collect();
    poll_fn(|cx| {
        let pending = sleeps
            .iter_mut()
            .all(|sleep| sleep.as_mut().poll(cx).is_pending());
        assert!(pending, "an hour is not over");
        Poll::Ready(())
    })
    .await;
    let started = lap();
    drop(sleeps);
    [spawned, woken, ended, started, lap()]
}
