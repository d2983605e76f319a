//! The checks for each host.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::AsyncWriteExt;
use futures::channel::oneshot;
use futures::task::AtomicWaker;
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::Signal;
use windlass::net::TcpListener;
use windlass::net::unix::UnixStream;
use windlass::time::sleep;
use windlass::{Async, yield_now};

use crate::Host;

/// A check of a host. It returns a short result.
pub type Check = fn(&Rc<dyn Host>) -> anyhow::Result<String>;

/// The checks by their names.
pub const CHECKS: &[(&str, Check)] = &[
    ("idle", an_idle_host_takes_no_turns),
    ("timers", a_timer_is_never_early),
    ("remote wakes", a_remote_wake_is_one_poll),
    ("sockets", a_socket_is_served),
    ("busy guest", a_busy_guest_leaves_the_host_its_events),
    ("nested run", a_nested_run_is_safe),
    ("stop", the_host_can_stop_and_continue),
];

/// Returns the check with this name.
pub fn check_by_name(name: &str) -> anyhow::Result<Check> {
    let found = CHECKS.iter().find(|(known, _)| *known == name);
    let (_, check) = found.with_context(|| format!("no check is called {name}"))?;
    Ok(*check)
}

const MS: Duration = Duration::from_millis(1);

/// Runs the host until the task ends. The guest may have left it ready.
fn run_until<F: Future + 'static>(host: &Rc<dyn Host>, task: F) -> anyhow::Result<F::Output>
where
    F::Output: 'static,
{
    let (done, output) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
    let (end, slot) = (done.clone(), output.clone());
    let main = async move {
        let result = task.await;
        slot.replace(Some(result));
        end.set(true);
    };
    host.guest().runtime().spawn(main).detach();
    host.run(&done)?;
    Ok(output.take().expect("the task has set its output"))
}

/// The maximum number of turns that a host without events may take in this time.
fn frames(host: &Rc<dyn Host>, time: Duration) -> usize {
    let frames = host.frame().map(|frame| time.div_duration_f64(frame));
    frames.unwrap_or(0.0).ceil() as usize
}

/// A host that is this much later than its frames was not notified, but polls periodically. The
/// slowest machine is far below.
const LATE: Duration = Duration::from_millis(250);

fn ensure_prompt(host: &Rc<dyn Host>, median: Duration) -> anyhow::Result<()> {
    let limit = host.frame().unwrap_or_default() + LATE;
    ensure!(median < limit, "{} late", millis(median));
    Ok(())
}

/// The CPU time of this process.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage succeeds");
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64);
    Duration::from_micros(micros.iter().sum())
}

fn an_idle_host_takes_no_turns(host: &Rc<dyn Host>) -> anyhow::Result<String> {
    const SILENCE: Duration = Duration::from_millis(500);
    let runtime = host.guest().runtime();
    let (near, _far) = runtime.block_on(async { UnixStream::pair() })?;
    runtime.spawn(async move { near.readable().await }).detach();
    runtime.spawn(sleep(3600 * 1000 * MS)).detach();
    runtime.spawn(pending::<()>()).detach();
    let _remote = runtime.remote();
    run_until(host, sleep(MS))?;

    let (start, turns, passes, cpu) = (
        Instant::now(),
        host.guest().turns(),
        host.guest().passes(),
        cpu_time(),
    );
    run_until(host, sleep(SILENCE))?;
    let (turns, passes) = (host.guest().turns() - turns, host.guest().passes() - passes);
    let allowed = frames(host, start.elapsed());
    ensure!(
        turns <= allowed + 4,
        "{turns} turns in {SILENCE:?} of silence"
    );
    ensure!(
        passes <= allowed + 8,
        "{passes} passes in {SILENCE:?} of silence"
    );
    let cpu = (cpu_time() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    // The loop may spin without counted turns or iterations, which would use a whole core.
    ensure!(cpu < 0.2, "{:.0} % CPU in silence", cpu * 100.0);
    Ok(format!("{turns} turns, {:.1} % CPU", cpu * 100.0))
}

fn a_timer_is_never_early(host: &Rc<dyn Host>) -> anyhow::Result<String> {
    let mut late = run_until(host, async {
        let mut late = Vec::new();
        for _ in 0..30 {
            let (start, limit) = (Instant::now(), 10 * MS);
            sleep(limit).await;
            late.push(start.elapsed().checked_sub(limit));
        }
        late
    })?;
    late.sort();
    ensure!(late.iter().all(Option::is_some), "a timer was early");
    let [median, worst] = [late[late.len() / 2], late[late.len() - 1]].map(Option::unwrap);
    ensure_prompt(host, median)?;
    Ok(format!("{} late, worst {}", millis(median), millis(worst)))
}

fn a_remote_wake_is_one_poll(host: &Rc<dyn Host>) -> anyhow::Result<String> {
    let wakes = if host.frame().is_some() { 20 } else { 200 };
    let (waker, woken) = (Arc::new(AtomicWaker::new()), Arc::new(AtomicUsize::new(0)));
    let (seen, sights) = mpsc::channel();
    let (theirs, count) = (waker.clone(), woken.clone());
    let polls = Rc::new(Cell::new(0));
    let polled = polls.clone();
    let task = poll_fn(move |cx| {
        theirs.register(cx.waker());
        polled.set(polled.get() + 1);
        let woken = count.load(SeqCst); // continues when the poll was counted
        seen.send(Instant::now()).expect("the thread waits for it");
        if woken == wakes {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let thread = thread::spawn(move || {
        sights.recv().expect("the first poll");
        let wake = |_| {
            woken.fetch_add(1, SeqCst);
            let start = Instant::now();
            waker.wake();
            let seen = sights.recv().expect("a poll for each wake");
            seen.duration_since(start)
        };
        (0..wakes).map(wake).collect::<Vec<_>>()
    });
    let (start, turns) = (Instant::now(), host.guest().turns());
    run_until(host, task)?;
    let (turns, polls) = (host.guest().turns() - turns, polls.get());
    ensure!(polls == wakes + 1, "{polls} polls for {wakes} wakes");
    let allowed = 2 * wakes + frames(host, start.elapsed()) + 4;
    ensure!(turns <= allowed, "{turns} turns for {wakes} wakes");
    let mut latency = thread.join().expect("the thread has seen all wakes");
    latency.sort();
    ensure_prompt(host, latency[wakes / 2])?;
    burst(host)?;
    Ok(format!("{} later", millis(latency[wakes / 2])))
}

/// All wakes that arrive while the host is busy cause one poll.
fn burst(host: &Rc<dyn Host>) -> anyhow::Result<()> {
    let (left, polls) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
    let (leave, polled) = (left.clone(), polls.clone());
    let counting = host.guest().runtime().spawn(poll_fn(move |cx| {
        leave.replace(Some(cx.waker().clone()));
        polled.set(polled.get() + 1);
        Poll::<()>::Pending
    }));
    run_until(host, sleep(MS))?;
    let before = polls.get();
    let (woken, is_woken) = oneshot::channel();
    host.defer(Box::new(move || {
        let waker: Waker = left.take().expect("the task has left it");
        let waking = thread::spawn(move || (0..1000).for_each(|_| waker.wake_by_ref()));
        waking.join().expect("a wake does not panic");
        let _ = woken.send(());
    }));
    run_until(host, async {
        is_woken.await.expect("it is sent");
        sleep(MS).await;
    })?;
    drop(counting);
    ensure!(
        polls.get() == before + 1,
        "{} polls for one burst",
        polls.get() - before
    );
    Ok(())
}

fn a_socket_is_served(host: &Rc<dyn Host>) -> anyhow::Result<String> {
    const ROUNDS: usize = 200;
    if !host.serves_sockets() {
        return Ok("not covered".to_owned());
    }
    let rounds = if host.frame().is_some() {
        ROUNDS / 10
    } else {
        ROUNDS
    };
    let runtime = host.guest().runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let addr = listener.local_addr()?;
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        let mut times = Vec::new();
        for round in 0..rounds {
            let (start, mut answer) = (Instant::now(), [0; 4]);
            stream.write_all(&(round as u32).to_be_bytes())?;
            stream.read_exact(&mut answer)?;
            assert_eq!(answer, (round as u32).to_be_bytes());
            times.push(start.elapsed());
        }
        std::io::Result::Ok(times)
    });
    let served = run_until(host, async move {
        let (stream, _) = listener.accept().await?;
        let served = futures::io::copy(&stream, &mut &stream).await?;
        (&stream).close().await?;
        std::io::Result::Ok(served)
    })??;
    ensure!(served == 4 * rounds as u64, "{served} bytes were served");
    let mut times = client.join().expect("each answer is right")?;
    times.sort();
    ensure_prompt(host, times[rounds / 2])?;
    crowd(host)?;
    Ok(format!("{} a request", millis(times[rounds / 2])))
}

/// An event must be handled although more events than one turn takes precede it, none of which has
/// a waiter. The turn then leaves no task ready, but the descriptor readable.
fn crowd(host: &Rc<dyn Host>) -> anyhow::Result<()> {
    const SOCKETS: usize = 1100;
    const DESCRIPTORS: u64 = 2 * SOCKETS as u64 + 100;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        most >= DESCRIPTORS,
        "it takes {DESCRIPTORS} descriptors, and `ulimit -Hn` allows {most}"
    );
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, most)?;
    let runtime = host.guest().runtime();
    let (mut ends, mut others) = (Vec::new(), Vec::new());
    for _ in 0..SOCKETS {
        let (end, other) = StdUnixStream::pair()?;
        ends.push(end);
        others.push(runtime.block_on(async { Async::new(other) })?);
    }
    let last = others.pop().expect("there are many");
    let last = runtime.spawn(async move { last.readable().await });
    run_until(host, sleep(MS))?;
    host.defer(Box::new(move || {
        let mut write = |end: &mut StdUnixStream| end.write_all(b"!").expect("there's room");
        ends.iter_mut().for_each(&mut write);
        std::mem::forget(ends); // closing them would cause more events
    }));
    run_until(host, last)??;
    Ok(())
}

fn a_busy_guest_leaves_the_host_its_events(host: &Rc<dyn Host>) -> anyhow::Result<String> {
    const TURNS: usize = 30;
    let (done, events) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let (end, busy, before) = (done.clone(), host.clone(), host.guest().turns());
    let ready_for_long = host.guest().runtime().spawn(async move {
        while busy.guest().turns() < before + TURNS {
            yield_now().await;
        }
        end.set(true);
    });
    event_after_event(host.clone(), events.clone(), done.clone());
    host.run(&done)?;
    drop(ready_for_long);
    let (turns, events) = (host.guest().turns() - before, events.get());
    ensure!(
        events >= 10,
        "{events} events while the guest had {turns} turns"
    );
    Ok(format!("{turns} turns, {events} events"))
}

/// An event that triggers another one, until it is done.
fn event_after_event(host: Rc<dyn Host>, events: Rc<Cell<usize>>, done: Rc<Cell<bool>>) {
    let next = host.clone();
    host.defer(Box::new(move || {
        events.set(events.get() + 1);
        if !done.get() {
            event_after_event(next, events, done);
        }
    }));
}

fn a_nested_run_is_safe(host: &Rc<dyn Host>) -> anyhow::Result<String> {
    let runs = [from_an_event(host)?, from_a_task(host)?];
    let words = runs.map(|run| if run.is_ok() { "runs" } else { "refused" });
    Ok(format!("event: {}, task: {}", words[0], words[1]))
}

/// In a loop inside one of the host's events, the guest continues.
fn from_an_event(host: &Rc<dyn Host>) -> anyhow::Result<anyhow::Result<()>> {
    let (inner, outer) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let result = Rc::new(RefCell::new(None));
    let (end, ends, told, again) = (inner.clone(), outer.clone(), result.clone(), host.clone());
    let task = host.guest().runtime().spawn(async move {
        sleep(5 * MS).await;
        end.set(true);
    });
    host.defer(Box::new(move || {
        told.replace(Some(again.run(&inner)));
        ends.set(true);
    }));
    host.run(&outer)?;
    let run = result.take().expect("the event came");
    let served = task.is_finished();
    ensure!(run.is_err() || served, "the guest was not served");
    run_until(host, task)?;
    Ok(run)
}

/// In a loop inside a task, the guest waits until the task has ended, and loses nothing.
fn from_a_task(host: &Rc<dyn Host>) -> anyhow::Result<anyhow::Result<()>> {
    let runtime = host.guest().runtime();
    let (near, mut far) = StdUnixStream::pair()?;
    let near = runtime.block_on(async { Async::new(near) })?;
    let reading = runtime.spawn(async move { near.readable().await });
    let (again, remote) = (host.clone(), runtime.remote());
    let (run, ran) = run_until(host, async move {
        let inner = Rc::new(Cell::new(false));
        let (end, later) = (inner.clone(), again.clone());
        let (sender, ran) = oneshot::channel();
        again.defer(Box::new(move || {
            far.write_all(b"!").expect("there's room");
            let there = thread::spawn(move || remote.run(|| 7));
            let _ = sender.send(there.join().expect("it runs"));
            // The inner loop iterates once more, and encounters the data and the wake.
            later.defer(Box::new(move || end.set(true)));
        }));
        let run = again.run(&inner);
        (run, ran) // if it is refused, the event arrives in the outer loop
    })?;
    let ran = run_until(host, async { ran.await.expect("the event came").await })?;
    ensure!(
        ran.is_ok_and(|seven| seven == 7),
        "a wake in the inner loop is lost"
    );
    if host.serves_sockets() {
        run_until(host, reading)??;
    }
    Ok(run)
}

fn the_host_can_stop_and_continue(host: &Rc<dyn Host>) -> anyhow::Result<String> {
    let ticks = Rc::new(Cell::new(0));
    let counted = ticks.clone();
    let ticking = host.guest().runtime().spawn(async move {
        loop {
            sleep(MS).await;
            counted.set(counted.get() + 1);
        }
    });
    // The guest stops it...
    for _ in 1..=3 {
        let before = ticks.get();
        let seen = ticks.clone();
        run_until(host, async move {
            while seen.get() < before + 3 {
                sleep(MS).await;
            }
        })?;
    }
    drop(ticking);
    // ...and the second of two events of its own, while the guest sleeps.
    let done = Rc::new(Cell::new(false));
    let end = done.clone();
    host.defer(Box::new(|| ()));
    host.defer(Box::new(move || end.set(true)));
    host.run(&done)?;
    a_signal_does_not_stop_the_host(host)?;
    Ok("yes".to_owned())
}

/// A handled signal interrupts the system call that waits, and nothing else.
fn a_signal_does_not_stop_the_host(host: &Rc<dyn Host>) -> anyhow::Result<()> {
    let caught = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(Signal::SIGUSR2 as i32, caught.clone())?;
    let (end, ended) = oneshot::channel();
    let main = pthread_self();
    let signalling = thread::spawn(move || {
        for _ in 0..20 {
            pthread_kill(main, Signal::SIGUSR2).expect("the host's thread is there");
            thread::sleep(5 * MS); // usually the host sleeps by now
        }
        let _ = end.send(());
    });
    run_until(host, ended)??;
    signalling.join().expect("the thread has sent the signals");
    ensure!(caught.load(SeqCst), "no signal came");
    Ok(())
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
