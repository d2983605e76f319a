//! Reports of stalls. Each test has a process of its own, since a process has one watchdog.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

use std::env;
use std::fs;
use std::future::{Future, pending, poll_fn};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use windlass::inspect::{Activity, Phase, Stall, Watchdog, serve, tasks, track, watch};
use windlass::time::sleep;
use windlass::{Runtime, block_on, spawn, yield_now};

const THRESHOLD: Duration = Duration::from_millis(20);
/// Far longer than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// A stall that ends by itself. On a busy machine it is long enough, too.
const LONG: Duration = Duration::from_secs(2);

fn run(name: &str, variable: Option<&str>) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CHILD", "1")
        .env_remove("WINDLASS_WATCH");
    if let Some(value) = variable {
        command.env("WINDLASS_WATCH", value);
    }
    command.output().unwrap()
}

/// Runs the test `name` in a process of its own. Returns its standard error in the parent.
fn in_child(name: &str, variable: Option<&str>, body: impl FnOnce()) -> Option<String> {
    if env::var_os("WINDLASS_CHILD").is_some() {
        body();
        return None;
    }
    let output = run(name, variable);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "it did not run: {text}");
    Some(errors.into_owned())
}

/// The reports of a watchdog.
struct Reports {
    /// A report was the expected one, so the stall may end.
    done: Arc<AtomicBool>,
    expected: Mutex<mpsc::Receiver<Stall>>,
    all: Arc<Mutex<Vec<Stall>>>,
}

/// Starts a watchdog, and compares its reports with `is`.
fn expect(is: impl Fn(&Stall) -> bool + Send + Sync + 'static) -> Reports {
    let (sender, expected) = mpsc::channel();
    let (done, all) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let (set_done, push): (_, Arc<Mutex<Vec<Stall>>>) = (done.clone(), Arc::clone(&all));
    Watchdog::builder()
        .threshold(THRESHOLD)
        .reports_per_minute(u32::MAX)
        .on_stall(move |stall| {
            println!("{stall}");
            push.lock().unwrap().push(stall.clone());
            if is(stall) && !set_done.swap(true, SeqCst) {
                sender.send(stall.clone()).unwrap();
            }
        })
        .start()
        .unwrap();
    Reports {
        done,
        expected: Mutex::new(expected),
        all,
    }
}

impl Reports {
    fn get(&self) -> Stall {
        let expected = self.expected.lock().unwrap();
        expected.recv_timeout(PATIENCE).unwrap()
    }

    fn is_done(&self) -> bool {
        self.done.load(SeqCst)
    }
}

fn spin_until(is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < PATIENCE, "no report was the expected one");
        std::hint::spin_loop();
    }
}

fn sleep_until(is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < PATIENCE, "no report was the expected one");
        thread::sleep(Duration::from_millis(300));
    }
}

fn is_call(stall: &Stall, call: &str) -> bool {
    matches!(stall.activity, Activity::SystemCall { name: Some(name), .. } if name.contains(call))
}

/// Runs a task named `culprit`, after other tasks. Returns the line of its spawn.
fn run_culprit(block: impl FnOnce() + 'static) -> u32 {
    block_on(async {
        let others: Vec<_> = (0..3).map(|_| spawn(pending::<()>())).collect();
        sleep(Duration::from_millis(1)).await;
        let mut timers: Vec<_> = (0..3).map(|_| spawn(sleep(PATIENCE))).collect();
        yield_now().await;
        timers.truncate(2); // of those before, one has fired, and one is cancelled
        let culprit = async move { block() };
        let (line, task) = (line!(), spawn(culprit));
        task.named("culprit").await;
        drop((others, timers));
        line
    })
}

#[track_caller]
fn assert_culprit(stall: &Stall, line: u32) {
    assert_eq!(stall.phase, Phase::Polling);
    let task = stall.task.as_ref().unwrap();
    assert_eq!(task.name.as_deref(), Some("culprit"));
    let spawned_at = task.spawned_at.unwrap();
    assert_eq!((spawned_at.file(), spawned_at.line()), (file!(), line));
    assert!(stall.duration >= THRESHOLD && stall.threshold == THRESHOLD);
    assert_eq!(stall.waiting_tasks, 6, "five tasks, and the main future");
    assert_eq!(stall.waiting_timers, Some(2));
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    assert_eq!((stall.executor, stall.thread), (0, Some(tid)));
}

#[test]
fn an_endless_loop_is_on_the_cpu() {
    in_child("an_endless_loop_is_on_the_cpu", None, || {
        let reports = Arc::new(expect(|stall| {
            matches!(stall.activity, Activity::OnCpu { .. }) && stall.stack.is_some()
        }));
        let theirs = reports.clone();
        let line = run_culprit(move || spin_until(|| theirs.is_done()));
        let stall = reports.get();
        assert_culprit(&stall, line);
        let text = stall.to_string();
        assert!(
            text.contains("\"culprit\", spawned at tests/inspect_stall.rs:"),
            "{text}"
        );
        assert!(text.contains("on the CPU for"), "{text}");
        assert!(
            text.contains("; 6 other tasks and 2 timers wait\n"),
            "{text}"
        );
        assert!(
            !cfg!(feature = "stacks") || text.contains("spin_until"),
            "{text}"
        );
    });
}

#[test]
fn a_sleeping_thread_is_in_a_system_call() {
    in_child("a_sleeping_thread_is_in_a_system_call", None, || {
        let reports = Arc::new(expect(|stall| is_call(stall, "nanosleep")));
        let theirs = reports.clone();
        let line = run_culprit(move || sleep_until(|| theirs.is_done()));
        assert_culprit(&reports.get(), line);
    });
}

#[test]
fn a_blocking_read_is_shown_with_its_descriptor() {
    in_child("a_blocking_read_is_shown_with_its_descriptor", None, || {
        let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let fd = reader.as_raw_fd();
        let is_read = |stall: &Stall| is_call(stall, "re");
        let reports = expect(move |stall| {
            if is_read(stall) {
                (&writer).write_all(&[1]).unwrap();
            }
            is_read(stall)
        });
        let line = run_culprit(move || reader.read_exact(&mut [0]).unwrap());
        let stall = reports.get();
        assert_culprit(&stall, line);
        let Activity::SystemCall { fd: shown, .. } = stall.activity else {
            unreachable!("the expectation checks the activity")
        };
        assert_eq!(shown, Some(fd));
    });
}

#[test]
fn a_mutex_held_by_another_thread_is_a_futex() {
    in_child("a_mutex_held_by_another_thread_is_a_futex", None, || {
        let reports = Arc::new(expect(|stall| is_call(stall, "futex")));
        let theirs = reports.clone();
        let (held, is_held) = mpsc::channel();
        let mutex = Arc::new(Mutex::new(()));
        let ours = mutex.clone();
        let holder = thread::spawn(move || {
            let _guard = mutex.lock().unwrap();
            held.send(()).unwrap();
            sleep_until(|| theirs.is_done());
        });
        is_held.recv().unwrap();
        let line = run_culprit(move || drop(ours.lock().unwrap()));
        assert_culprit(&reports.get(), line);
        holder.join().unwrap();
    });
}

/// Blocks when it is dropped.
struct SlowDrop(Arc<Reports>);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        sleep_until(|| self.0.is_done());
    }
}

#[test]
fn a_slow_drop_is_blamed_on_the_cancelled_task() {
    in_child("a_slow_drop_is_blamed_on_the_cancelled_task", None, || {
        let reports = Arc::new(expect(|stall| is_call(stall, "nanosleep")));
        let slow = SlowDrop(reports.clone());
        let line = block_on(async {
            let cancelled = async move {
                let _slow = slow;
                pending::<()>().await;
            };
            let (line, task) = (line!(), spawn(cancelled));
            let task = task.named("cancelled");
            yield_now().await;
            spawn(async move { drop(task) }).await;
            line
        });
        let stall = reports.get();
        assert_eq!(stall.phase, Phase::Dropping);
        let task = stall.task.unwrap();
        assert_eq!(task.spawned_at.unwrap().line(), line);
        assert_eq!(task.name.as_deref(), Some("cancelled"));
    });
}

#[test]
fn tasks_dropped_with_their_runtime_are_blamed() {
    in_child("tasks_dropped_with_their_runtime_are_blamed", None, || {
        let reports = Arc::new(expect(|stall| is_call(stall, "nanosleep")));
        let runtime = Runtime::new().unwrap();
        let slow = SlowDrop(reports.clone());
        let task = runtime.spawn(async move {
            let _slow = slow;
            pending::<()>().await;
        });
        task.detach();
        runtime.block_on(yield_now());
        drop(runtime);
        assert_eq!(reports.get().phase, Phase::Dropping);
    });
}

#[test]
fn a_slow_waker_is_not_blamed_on_a_task() {
    struct Slow(Arc<Reports>, Waker);
    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            sleep_until(|| self.0.is_done());
            self.1.wake_by_ref();
        }
    }
    in_child("a_slow_waker_is_not_blamed_on_a_task", None, || {
        let reports = Arc::new(expect(|stall| is_call(stall, "nanosleep")));
        block_on(async {
            let mut timer = pin!(sleep(Duration::from_millis(1)));
            poll_fn(|cx| {
                let slow = Waker::from(Arc::new(Slow(reports.clone(), cx.waker().clone())));
                timer.as_mut().poll(&mut Context::from_waker(&slow))
            })
            .await;
        });
        let stall = reports.get();
        assert_eq!(stall.phase, Phase::Waking);
        assert!(stall.task.is_none());
    });
}

#[test]
fn the_main_future_is_blamed_with_its_place() {
    in_child("the_main_future_is_blamed_with_its_place", None, || {
        let reports = expect(|stall| is_call(stall, "nanosleep"));
        let runtime = Runtime::new().unwrap();
        let main = async {
            yield_now().await;
            sleep_until(|| reports.is_done());
        };
        let line = line!() + 1;
        runtime.block_on(main);
        let stall = reports.get();
        assert_eq!(stall.phase, Phase::MainFuture);
        assert_eq!(stall.task.unwrap().spawned_at.unwrap().line(), line);
    });
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), windlass_portable),
    ignore = "timers do not make the descriptor readable"
)]
fn a_host_without_turns_is_reported_once_a_turn_is_due() {
    in_child(
        "a_host_without_turns_is_reported_once_a_turn_is_due",
        None,
        || {
            let reports = expect(|stall| is_call(stall, "nanosleep"));
            let _idle = Runtime::new().unwrap();
            let runtime = Runtime::new().unwrap();
            let task = runtime.spawn(sleep(Duration::from_millis(100)));
            runtime.turn(Some(Duration::ZERO)).unwrap();
            sleep_until(|| reports.is_done());
            let stall = reports.get();
            assert_eq!((stall.phase, stall.waiting_tasks), (Phase::Host, 1));
            assert_eq!((stall.executor, stall.waiting_timers), (1, Some(1)));
            runtime.block_on(task);
        },
    );
}

#[test]
fn a_host_that_turns_without_a_pause_does_not_stall() {
    in_child(
        "a_host_that_turns_without_a_pause_does_not_stall",
        None,
        || {
            let reports = expect(|_| true);
            let runtime = Runtime::new().unwrap();
            let task = runtime.spawn(pending::<()>());
            let start = Instant::now();
            while start.elapsed() < 50 * THRESHOLD {
                runtime.turn(Some(Duration::ZERO)).unwrap();
            }
            drop(task);
            assert_no_blame(&reports);
        },
    );
}

/// On a busy machine, a report may state that the loop has hardly run.
fn assert_no_blame(reports: &Reports) {
    let all = reports.all.lock().unwrap();
    let is_neutral = |stall: &Stall| matches!(stall.activity, Activity::NotScheduled { .. });
    assert!(all.iter().all(is_neutral), "{all:#?}");
}

#[test]
fn a_stall_is_reported_again_and_has_an_end() {
    in_child("a_stall_is_reported_again_and_has_an_end", None, || {
        // If the watchdog does not run for a while, the duration starts again.
        let is_repeated = |stall: &Stall| stall.report >= 3 && stall.duration >= 4 * THRESHOLD;
        let reports = Arc::new(expect(is_repeated));
        let theirs = reports.clone();
        run_culprit(move || sleep_until(|| theirs.is_done()));
        reports.get();
        spin_until(|| reports.all.lock().unwrap().last().unwrap().is_over);
        let all = reports.all.lock().unwrap();
        let numbers: Vec<_> = all.iter().map(|stall| stall.report).collect();
        assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>());
        let last = all.last().unwrap();
        assert!(last.to_string().contains("continues after"), "{last}");
    });
}

#[test]
fn a_stopped_process_does_not_stall() {
    in_child("a_stopped_process_does_not_stall", None, || {
        let pid = std::process::id();
        let script = format!("kill -STOP {pid}; sleep 1; kill -CONT {pid}");
        let mut stop = Command::new("sh");
        stop.args(["-c", &script]);
        assert_no_blame_during(stop);
    });
}

#[test]
fn a_process_in_a_debugger_does_not_stall() {
    in_child("a_process_in_a_debugger_does_not_stall", None, || {
        assert_no_blame_during(debug("all"));
    });
}

/// Other threads, such as the watchdog, continue.
#[test]
fn a_thread_in_a_debugger_does_not_stall() {
    in_child("a_thread_in_a_debugger_does_not_stall", None, || {
        let tid = rustix::thread::gettid().as_raw_nonzero().to_string();
        assert_no_blame_during(debug(&tid));
    });
}

/// The command that pauses threads of this process.
fn debug(threads: &str) -> Command {
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["debugger", "--exact", "--ignored", "--nocapture"])
        .env("DEBUGGED", std::process::id().to_string())
        .env("DEBUGGED_THREADS", threads);
    command
}

#[test]
#[ignore = "a program that other tests start"]
fn debugger() {
    use nix::sys::ptrace::{Options, detach, interrupt, seize};
    use nix::sys::wait::{WaitPidFlag, waitpid};

    let variable = |name| env::var(name).unwrap();
    let tasks = format!("/proc/{}/task", variable("DEBUGGED"));
    let tids: Vec<_> = match variable("DEBUGGED_THREADS").as_str() {
        "all" => fs::read_dir(tasks)
            .unwrap()
            .map(|task| task.unwrap().file_name().into_string().unwrap())
            .collect(),
        one => vec![one.to_owned()],
    };
    let tids = tids.iter().map(|tid| tid.parse().unwrap());
    let threads: Vec<_> = tids.map(nix::unistd::Pid::from_raw).collect();
    for &thread in &threads {
        if let Err(error) = seize(thread, Options::empty()) {
            println!("not tested: a process can't be traced here: {error}");
            return;
        }
    }
    for &thread in &threads {
        interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    }
    println!("{} threads are paused", threads.len());
    thread::sleep(Duration::from_secs(1));
    for &thread in &threads {
        detach(thread, None).unwrap();
    }
}

/// Runs a loop that is busy, but does not stall, until the command has ended.
fn assert_no_blame_during(mut pause: Command) {
    let reports = expect(|_| false);
    let pause = thread::spawn(move || pause.status());
    block_on(async {
        // After the end, the watchdog has the time for a report.
        let mut left = 200;
        while left > 0 {
            busy_for(Duration::from_millis(2));
            sleep(Duration::from_millis(1)).await;
            left -= usize::from(pause.is_finished());
        }
    });
    assert!(pause.join().unwrap().unwrap().success());
    assert_no_blame(&reports);
}

fn busy_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn the_variable_starts_the_watchdog() {
    let block = || {
        run_culprit(|| thread::sleep(LONG));
    };
    if let Some(errors) = in_child("the_variable_starts_the_watchdog", Some("20ms"), block) {
        let is_report = |line: &str| {
            line.starts_with("windlass: task")
                && line.contains("\"culprit\", spawned at tests/inspect_stall.rs:")
                && line.contains(" ms: in the system call clock_nanosleep")
        };
        assert!(errors.lines().any(is_report), "{errors}");
    }
}

#[test]
fn a_malformed_variable_is_one_line() {
    let block = || {
        block_on(async {});
        thread::spawn(|| block_on(async {})).join().unwrap();
    };
    if let Some(errors) = in_child("a_malformed_variable_is_one_line", Some("fast"), block) {
        let lines = errors
            .lines()
            .filter(|line| line.contains("WINDLASS_WATCH=fast"));
        assert_eq!(lines.count(), 1, "{errors}");
    }
}

#[test]
fn without_the_variable_there_is_no_thread() {
    in_child("without_the_variable_there_is_no_thread", None, || {
        block_on(async { assert_eq!(watchdog_thread(), None) });
    });
}

/// Returns the TID of the watchdog's thread.
fn watchdog_thread() -> Option<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut tids = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    tids.find(|tid| {
        let name = fs::read_to_string(format!("/proc/self/task/{tid}/comm"));
        name.is_ok_and(|name| name.trim() == "windlass-watch")
    })
}

/// How often the thread has run.
fn switches(tid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap();
    let counts = status
        .lines()
        .filter(|line| line.contains("ctxt_switches:"));
    counts
        .map(|line| {
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum()
}

/// Waits for a second in which the watchdog does not run.
fn wait_for_quiet(mut pass: impl FnMut(Duration)) {
    spin_until(|| watchdog_thread().is_some());
    let tid = watchdog_thread().unwrap();
    let start = Instant::now();
    let mut before = switches(&tid);
    loop {
        pass(Duration::from_secs(1));
        let now = switches(&tid);
        if now == before {
            return;
        }
        before = now;
        assert!(
            start.elapsed() < PATIENCE,
            "the watchdog wakes while the loops sleep"
        );
    }
}

#[test]
fn the_watchdog_sleeps_while_the_loops_sleep() {
    in_child("the_watchdog_sleeps_while_the_loops_sleep", None, || {
        watch(THRESHOLD);
        let (end, is_ended) = futures::channel::oneshot::channel::<()>();
        let idle = thread::spawn(|| block_on(is_ended));
        wait_for_quiet(thread::sleep);
        end.send(()).unwrap();
        idle.join().unwrap().unwrap();
    });
}

#[test]
fn the_watchdog_sleeps_while_a_host_is_idle() {
    in_child("the_watchdog_sleeps_while_a_host_is_idle", None, || {
        watch(THRESHOLD);
        let runtime = Runtime::new().unwrap();
        let task = runtime.spawn(pending::<()>());
        runtime.turn(Some(Duration::ZERO)).unwrap();
        wait_for_quiet(thread::sleep);
        drop(task);
    });
}

#[test]
fn workers_are_watched_by_default() {
    let run = || {
        let workers = windlass::workers().count(1);
        let block = |_| async {
            thread::sleep(LONG);
            Ok(())
        };
        workers.run(block).unwrap();
    };
    if let Some(errors) = in_child("workers_are_watched_by_default", None, run) {
        let is_report = |line: &str| line.contains("has blocked the loop of thread worker-0");
        assert!(errors.lines().any(is_report), "{errors}");
    }
}

#[test]
fn workers_can_be_unwatched() {
    let run = || {
        let workers = windlass::workers().count(1).stall_threshold(None);
        let check = |_| async {
            assert_eq!(watchdog_thread(), None);
            Ok(())
        };
        workers.run(check).unwrap();
    };
    in_child("workers_can_be_unwatched", None, run);
}

#[test]
fn the_variable_switches_workers_off() {
    let run = || {
        let check = |_| async {
            assert_eq!(watchdog_thread(), None);
            Ok(())
        };
        windlass::workers().count(1).run(check).unwrap();
    };
    in_child("the_variable_switches_workers_off", Some("off"), run);
}

#[test]
fn the_last_options_count_until_they_are_stopped() {
    in_child(
        "the_last_options_count_until_they_are_stopped",
        None,
        || {
            let first = Watchdog::builder();
            let first = first.threshold(Duration::from_secs(3600)).start().unwrap();
            let reports = Arc::new(expect(|stall| stall.threshold == THRESHOLD));
            first.stop(); // others have replaced its options
            let theirs = reports.clone();
            run_culprit(move || sleep_until(|| theirs.is_done()));
            reports.get();
            Watchdog::builder().start().unwrap().stop();
            spin_until(|| watchdog_thread().is_none());
        },
    );
}

#[test]
fn a_signal_with_a_handler_is_refused() {
    in_child("a_signal_with_a_handler_is_refused", None, || {
        let _signal = windlass::signal::Signals::new([windlass::signal::Signal::USR1]);
        let _signal = _signal.unwrap();
        let number = nix::sys::signal::SIGUSR1 as i32;
        let error = Watchdog::builder().signal(number).start().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        Watchdog::builder()
            .signal(number)
            .stack(false)
            .start()
            .unwrap();
    });
}

#[test]
fn a_forked_child_is_watched_when_it_has_a_runtime() {
    in_child(
        "a_forked_child_is_watched_when_it_has_a_runtime",
        None,
        || {
            let reports = expect(|stall| is_call(stall, "nanosleep"));
            block_on(async {});
            // SAFETY: the child continues with a copy of this thread alone, and needs only that.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            if pid == 0 {
                // SAFETY: no preconditions. `SIGALRM` ends a child that hangs.
                unsafe { libc::alarm(60) };
                run_culprit(move || sleep_until(|| reports.is_done()));
                // SAFETY: no preconditions. Runs no destructors of the test.
                unsafe { libc::_exit(0) }
            }
            let mut status = -1;
            // SAFETY: `status` is valid for a write.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, 0, "the child has no report");
        },
    );
}

#[test]
fn statistics_of_tasks_continue_when_the_watchdog_stops() {
    in_child(
        "statistics_of_tasks_continue_when_the_watchdog_stops",
        None,
        || {
            let watchdog = Watchdog::builder().stack(false).start().unwrap();
            let runtime = Runtime::new().unwrap();
            track(true);
            watchdog.stop();
            runtime.block_on(async {
                let polls = async {
                    yield_now().await;
                    tasks().iter().find(|task| !task.is_main).unwrap().polls
                };
                assert_eq!(spawn(polls).await, Some(2));
            });
        },
    );
}

/// Returns whether loops publish the tasks that they poll.
fn publishes_polls() -> bool {
    let executor = windlass_executor::Executor::new();
    let pulse = executor.pulse();
    let main = async move { pulse.read().unwrap().is_running };
    windlass_executor::block_on(executor.run(main))
}

#[test]
fn polls_are_published_until_the_last_reader_ends() {
    let name = "polls_are_published_until_the_last_reader_ends";
    in_child(name, None, || {
        assert!(!publishes_polls());
        for watchdog_ends_first in [true, false] {
            let replaced = Watchdog::builder().start().unwrap();
            let watchdog = Watchdog::builder().start().unwrap();
            let server = serve("127.0.0.1:0").unwrap();
            replaced.stop(); // has no effect
            if watchdog_ends_first {
                watchdog.stop();
                assert!(publishes_polls());
                drop(server);
            } else {
                drop(server);
                assert!(publishes_polls());
                watchdog.stop();
            }
            assert!(!publishes_polls());
        }
    });
}
