//! Captures of threads that are busy, blocked, unwinding, forking, or gone.

use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::capture::{Capturer, Sample};
use super::{Stacks, ThreadHandle};

/// The tests take turns, since a process captures one stack at a time.
static TURN: Mutex<()> = Mutex::new(());

pub(super) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Far longer than a busy machine takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// A thread that runs `body` until `stop` is set.
pub(super) struct Subject {
    pub(super) handle: ThreadHandle,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Subject {
    pub(super) fn start(body: impl FnOnce(Arc<AtomicBool>) + Send + 'static) -> Subject {
        let (sender, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            sender.send(ThreadHandle::current()).unwrap();
            body(stopped);
        });
        let handle = receiver.recv().unwrap();
        Subject {
            handle,
            stop,
            thread,
        }
    }

    pub(super) fn end(self) {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap();
    }
}

#[inline(never)]
pub(super) fn spin_until(stop: &AtomicBool) {
    let count = AtomicU64::new(0);
    while !stop.load(SeqCst) {
        count.fetch_add(1, SeqCst);
    }
}

#[test]
fn the_innermost_frame_has_a_module() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(|stop| spin_until(&stop));
    let sample = sample(&mut stacks, &subject.handle);
    let stack = stacks.resolve(&sample);
    let program = std::env::current_exe().unwrap();
    let name = program.file_name().unwrap().to_str().unwrap();
    let (module, offset) = stack.frames[0].module.clone().unwrap();
    assert!([name, "libc.so.6"].contains(&module.as_str()), "{module}");
    assert!(offset > 0);
    subject.end();
}

fn sample(stacks: &mut Stacks, handle: &ThreadHandle) -> Sample {
    let start = Instant::now();
    loop {
        if let Some(sample) = stacks.capture(handle, LIMIT) {
            return sample;
        }
        assert!(start.elapsed() < PATIENCE, "no capture succeeds");
    }
}

#[test]
fn another_stack_than_the_threads_own_is_not_read() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    for body in [|stop: Arc<AtomicBool>| spin_until(&stop), |_| park()] {
        let subject = Subject::start(body);
        let mut elsewhere = subject.handle.clone();
        elsewhere.stack = 0x1000..0x2000;
        let sample = sample(&mut stacks, &elsewhere);
        assert!(sample.bytes.is_empty());
        assert_eq!(stacks.resolve(&sample).frames[0].address, sample.pc);
        subject.thread.thread().unpark();
        subject.end();
    }
}

fn park() {
    thread::park_timeout(PATIENCE);
}

#[test]
fn the_caller_and_an_exited_thread_have_no_stack() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    assert!(stacks.capture(&ThreadHandle::current(), LIMIT).is_none());
    let subject = Subject::start(|_| ());
    let handle = subject.handle.clone();
    subject.end();
    assert!(stacks.capture(&handle, LIMIT).is_none());
}

#[test]
fn a_watchdog_can_be_started_on_another_thread() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(|stop| spin_until(&stop));
    let handle = subject.handle.clone();
    let watchdog = thread::spawn(move || sample(&mut stacks, &handle).to_string());
    let text = watchdog.join().unwrap();
    assert!(
        text.starts_with("pc 0x") && text.contains(", sp 0x"),
        "{text}"
    );
    subject.end();
}

#[test]
fn a_signal_with_another_handler_is_refused() {
    signal_hook::flag::register(libc::SIGWINCH, Arc::default()).unwrap();
    let error = Stacks::new(Some(libc::SIGWINCH)).err().unwrap();
    assert!(error.to_string().contains("another handler"), "{error}");
}

/// Allocates, unwinds and loads a library, until it is stopped.
fn torture(stop: Arc<AtomicBool>) {
    let mut rounds = 0;
    while !stop.load(SeqCst) {
        // As often as not, it is in these two.
        for _ in 0..20 {
            let vectors: Vec<Vec<u8>> = (1..50).map(|size| vec![1; size * 40]).collect();
            let caught = catch_unwind(|| resume_unwind(Box::new(vectors.len())));
            assert_eq!(*caught.unwrap_err().downcast::<usize>().unwrap(), 49);
        }
        // SAFETY: the name is a string. Initializers of the C library's parts have no
        // preconditions, and nothing of the library is in use when it is closed.
        unsafe {
            let library = libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW);
            if cfg!(target_env = "gnu") {
                assert!(!library.is_null());
            }
            if !library.is_null() {
                libc::dlclose(library);
            }
        }
        rounds += 1;
    }
    assert!(rounds > 0);
}

/// How many stacks the torture captures. The environment can raise it.
fn captures() -> u32 {
    let raised = std::env::var("WINDLASS_CAPTURES").ok();
    raised.map_or(5_000, |count| count.parse().unwrap())
}

/// Captures stacks of a thread under torture, and resolves each 16th.
fn capture_at_full_speed(capture: impl Fn(&mut Stacks, &ThreadHandle) -> Option<Sample>) {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(torture);
    let (mut captured, mut resolved, mut frames, mut truncated) = (0, 0, 0, 0);
    let mut within: BTreeMap<_, u32> = BTreeMap::new();
    let start = Instant::now();
    for _ in 0..captures() {
        let Some(sample) = capture(&mut stacks, &subject.handle) else {
            continue;
        };
        captured += 1;
        if captured % 16 == 0 {
            let stack = stacks.resolve(&sample);
            resolved += 1;
            frames += stack.frames.len();
            truncated += u32::from(stack.truncated);
            for operation in ["alloc", "free", "_Unwind_", "dlopen", "dlclose"] {
                let has = |name: &String| name.contains(operation);
                let mut symbols = stack.frames.iter().filter_map(|it| it.symbol.as_ref());
                *within.entry(operation).or_default() += u32::from(symbols.any(has));
            }
        }
    }
    println!(
        "{captured} stacks in {:?}; {resolved} of them are resolved, with {frames} frames: \
         {truncated} are truncated, and so many are within {within:?}",
        start.elapsed()
    );
    assert!(captured > captures() / 2, "{captured} captures succeeded");
    subject.end();
}

#[test]
fn captures_at_full_speed_disturb_no_thread() {
    capture_at_full_speed(|stacks, thread| stacks.capture(thread, LIMIT));
}

/// A capture prefers to read the stack of a thread that is blocked, here for the loader's files.
#[test]
fn signals_at_full_speed_disturb_no_thread() {
    let capturer = Capturer::new(None).unwrap();
    capture_at_full_speed(|_, thread| capturer.interrupt(thread, Instant::now() + LIMIT));
}

#[test]
fn a_child_that_forks_during_a_capture_can_capture() {
    let _turn = turn();
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(|stop| {
        let _children: Vec<()> = (0..30).map(|_| fork(capture_in_child)).collect();
        spin_until(&stop);
    });
    let mut captured = 0;
    while captured < 1000 {
        captured += u32::from(stacks.capture(&subject.handle, LIMIT).is_some());
    }
    subject.end();
}

fn capture_in_child() {
    let mut stacks = Stacks::new(None).unwrap();
    let subject = Subject::start(|stop| spin_until(&stop));
    let sample = sample(&mut stacks, &subject.handle);
    assert!(!stacks.resolve(&sample).frames.is_empty());
    subject.end();
}

/// Runs `body` in a forked child, and waits for it to exit.
fn fork(body: fn()) {
    // SAFETY: the child continues with a copy of this thread alone. The test checks that the child
    // needs only that thread. glibc keeps its allocator usable across a fork. `_exit` runs no
    // destructors of the test.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(i32::from(catch_unwind(body).is_err()));
        }
        pid
    };
    let pid = Pid::from_raw(pid).unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG).unwrap() {
            break status;
        }
        if start.elapsed() > 2 * PATIENCE {
            kill_process(pid, Signal::KILL).unwrap();
            panic!("the child hangs");
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(status.exit_status(), Some(0), "the child failed");
}
