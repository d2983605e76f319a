//! Metrics of loops: their names, sums over loops, and readers on other threads.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use windlass::inspect::{Metrics, metrics, sample_polls};
use windlass::time::{sleep, timeout};
use windlass::{Pool, Runtime, block_on, spawn, spawn_blocking, yield_now};

/// The time after which a test has hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serializes the tests, because the sums are of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn totals(metrics: &Metrics) -> Vec<(String, f64)> {
    let text = metrics.to_prometheus();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| line.rsplit_once(' ').expect("a name and a value"));
    samples
        .filter(|(name, _)| name.contains("_total") || name.contains("_bucket"))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

fn assert_monotonic(before: &Metrics, after: &Metrics) {
    for ((name, before), (_, after)) in totals(before).iter().zip(totals(after)) {
        assert!(*before <= after, "{name} fell from {before} to {after}");
    }
}

#[test]
fn names_and_types_are_frozen() {
    let text = Metrics::default().to_prometheus();
    let types: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert_eq!(
        types,
        [
            "windlass_loops gauge",
            "windlass_turns_total counter",
            "windlass_polls_total counter",
            "windlass_wakes_total counter",
            "windlass_remote_wakes_total counter",
            "windlass_tasks_spawned_total counter",
            "windlass_tasks_live gauge",
            "windlass_timers_set_total counter",
            "windlass_timers_fired_total counter",
            "windlass_timer_lateness_seconds_total counter",
            "windlass_timer_lateness_max_seconds gauge",
            "windlass_loop_lag_seconds gauge",
            "windlass_system_calls_total counter",
            "windlass_sources gauge",
            "windlass_ring_operations gauge",
            "windlass_pool_threads gauge",
            "windlass_pool_queue gauge",
            "windlass_pool_closures_total counter",
            "windlass_stalls_total counter",
            "windlass_stalled_seconds_total counter",
            "windlass_poll_seconds histogram",
        ]
    );
    let calls: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("windlass_system_calls_total"))
        .collect();
    assert_eq!(
        calls,
        [
            "{purpose=\"wait\"} 0",
            "{purpose=\"register\"} 0",
            "{purpose=\"set_timer\"} 0",
            "{purpose=\"notify\"} 0",
            "{purpose=\"submit\"} 0",
        ]
    );
    let buckets: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("windlass_poll_seconds_bucket"))
        .collect();
    assert_eq!(buckets.len(), 12);
    assert_eq!(buckets[0], "{le=\"0.000001\"} 0");
    assert_eq!(buckets[10], "{le=\"1.048576\"} 0");
    assert_eq!(buckets[11], "{le=\"+Inf\"} 0");
}

#[test]
fn a_runtime_counts_its_own_work_alone() {
    let _alone = alone();
    let runtime = Runtime::new().unwrap();
    assert_eq!(runtime.metrics().polls, 0);
    runtime.block_on(async {
        spawn(async { yield_now().await }).await;
        sleep(Duration::from_millis(2)).await;
    });
    let counted = runtime.metrics();
    assert_eq!((counted.loops, counted.spawned, counted.live), (1, 2, 0));
    // The main future is polled at its start, after the join and after the timer.
    assert_eq!((counted.polls, counted.wakes), (5, 3));
    assert_eq!((counted.timers_set, counted.timers_fired), (1, 1));
    // On a busy machine, the timer may be due before the loop sleeps.
    assert!(counted.system_calls.timer_settings <= 1, "{counted:?}");
    assert_eq!(counted.system_calls.waits, counted.turns);
    assert!(counted.turns >= 1);
    assert!(counted.max_lateness >= counted.mean_lateness());
    let other = Runtime::new().unwrap();
    assert_eq!((other.metrics().polls, other.metrics().turns), (0, 0));
}

#[test]
fn live_tasks_sources_and_timers_are_present_values() {
    let _alone = alone();
    let runtime = Runtime::new().unwrap();
    let before = runtime.metrics();
    let (task, listener) = runtime.block_on(async {
        let bound = windlass::net::TcpListener::bind("127.0.0.1:0").await;
        (spawn(sleep(Duration::from_secs(100))), bound.unwrap())
    });
    assert_eq!(runtime.metrics().live, 1);
    let waits = runtime.block_on(timeout(Duration::from_millis(1), listener.accept()));
    assert!(waits.is_err());
    let during = runtime.metrics();
    assert_eq!(during.sources, before.sources + 1);
    assert_eq!(
        during.system_calls.registrations,
        before.system_calls.registrations + 1
    );
    drop((task, listener));
    assert_eq!(runtime.metrics().live, 0);
    assert_eq!(runtime.metrics().sources, before.sources);
}

#[test]
fn wakes_from_other_threads_are_counted() {
    let _alone = alone();
    let runtime = Runtime::new().unwrap();
    let (sender, receiver) = futures::channel::oneshot::channel();
    let before = runtime.metrics();
    runtime.block_on(async {
        let waits = spawn(receiver);
        yield_now().await;
        thread::spawn(move || sender.send(7))
            .join()
            .unwrap()
            .unwrap();
        assert_eq!(waits.await, Ok(7));
    });
    let after = runtime.metrics();
    assert_eq!(after.remote_wakes - before.remote_wakes, 1);
}

#[test]
fn sums_keep_the_totals_of_loops_that_have_ended() {
    let _alone = alone();
    let before = metrics();
    let work = || {
        block_on(async {
            for _ in 0..100 {
                spawn(async {}).await;
            }
            sleep(Duration::from_millis(1)).await;
        });
    };
    thread::spawn(work).join().unwrap();
    let between = metrics();
    assert_monotonic(&before, &between);
    assert_eq!(between.spawned - before.spawned, 101);
    assert_eq!(between.timers_fired - before.timers_fired, 1);
    // Two runtimes of this thread share a reactor. Its timers count once.
    let first = Runtime::new().unwrap();
    first.block_on(sleep(Duration::from_millis(1)));
    let second = Runtime::new().unwrap();
    second.block_on(sleep(Duration::from_millis(1)));
    assert_eq!(metrics().timers_fired - between.timers_fired, 2);
    assert_eq!(second.metrics().timers_fired, 1);
    drop(first);
    assert_eq!(metrics().timers_fired - between.timers_fired, 2);
    second.block_on(sleep(Duration::from_millis(1)));
    drop(second);
    let after = metrics();
    assert_eq!(after.timers_fired - between.timers_fired, 3);
    assert_eq!(after.loops, before.loops);
    assert_monotonic(&between, &after);
}

#[test]
fn totals_grow_while_another_thread_reads_them() {
    let _alone = alone();
    static ENDS: AtomicBool = AtomicBool::new(false);
    let worker = thread::spawn(|| {
        while !ENDS.load(SeqCst) {
            block_on(async {
                for _ in 0..1000 {
                    spawn(async { yield_now().await }).await;
                }
                sleep(Duration::from_micros(100)).await;
            });
        }
    });
    let start = metrics();
    let (begin, mut last) = (Instant::now(), start);
    while last.polls - start.polls < 50_000 || last.timers_fired - start.timers_fired < 10 {
        assert!(begin.elapsed() < PATIENCE);
        let now = metrics();
        assert_monotonic(&last, &now);
        last = now;
    }
    ENDS.store(true, SeqCst);
    worker.join().unwrap();
}

#[test]
fn readings_during_a_long_poll_show_its_lag() {
    let _alone = alone();
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let stalled = thread::spawn(move || {
        block_on(async move {
            begin.send(()).unwrap();
            _ = released.recv(); // blocks the loop
        });
    });
    begun.recv().unwrap();
    let start = Instant::now();
    while metrics().loop_lag < Duration::from_millis(20) {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    drop(release);
    stalled.join().unwrap();
    assert_eq!(metrics().loop_lag, Duration::ZERO);
}

#[test]
fn sampled_polls_fill_the_histogram() {
    let _alone = alone();
    let polls = |number| {
        block_on(async move {
            for _ in 0..number {
                yield_now().await;
            }
        });
    };
    let before = metrics().poll_times;
    polls(1000);
    assert_eq!(metrics().poll_times, before);
    sample_polls(true);
    polls(64_000);
    sample_polls(false);
    let times = metrics().poll_times;
    let count = times.count() - before.count();
    assert!((900..=1100).contains(&count), "{count} of 64,000 polls");
    assert!(times.total() > before.total());
    polls(1000);
    assert_eq!(metrics().poll_times, times);
}

#[test]
fn pools_report_their_threads_and_their_queue() {
    static POOL: Pool = Pool::new("test", 1, Duration::ZERO);
    let _alone = alone();
    let before = metrics();
    let (release, released) = mpsc::channel::<()>();
    let first = POOL.run(move || released.recv().is_err()).unwrap();
    let second = POOL.run(|| ()).unwrap();
    let start = Instant::now();
    while metrics().pool_queue != before.pool_queue + 1 {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert_eq!(metrics().pool_threads, before.pool_threads + 1);
    assert_eq!(metrics().pool_closures, before.pool_closures + 2);
    drop(release);
    assert!(block_on(async { futures::join!(first, second) }).0);
    block_on(spawn_blocking(|| ()));
    assert_eq!(metrics().pool_closures, before.pool_closures + 3);
    assert_eq!(metrics().pool_queue, before.pool_queue);
}

#[cfg(target_os = "linux")]
#[test]
fn file_operations_count_their_submissions() {
    let _alone = alone();
    let runtime = Runtime::new().unwrap();
    let path = std::env::temp_dir().join(format!("windlass-metrics-{}", std::process::id()));
    let before = runtime.metrics();
    runtime.block_on(async {
        let file = windlass::fs::File::create(&path).await.unwrap();
        file.write_at(&[7; 4096], 0).await.unwrap();
        file.sync_all().await.unwrap();
    });
    std::fs::remove_file(&path).unwrap();
    let after = runtime.metrics();
    // A system without io_uring performs them on a pool.
    let submits = after.system_calls.ring_submits - before.system_calls.ring_submits;
    assert!(submits > 0 || after.pool_closures > before.pool_closures);
    assert_eq!(after.ring_operations, 0);
}
