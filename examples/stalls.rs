//! Stalls the loop in one of several ways, and shows how the watchdog reports it.
//!
//! ```text
//! cargo run --features stacks --example stalls -- spin
//! cargo run --features stacks --example stalls -- sleep 3000
//! ```
//!
//! The first argument is the kind of stall, the second its duration in milliseconds (200), and the
//! third its number of repetitions (1).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use windlass::Runtime;
use windlass::inspect::Watchdog;
use windlass::time::sleep;

const KINDS: &str = "spin, sleep, fsync, pipe, mutex, cancel, waker, main, or host";

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_default();
    let number =
        |arg: Option<String>, default| arg.and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let duration = Duration::from_millis(number(args.next(), 200));
    let repetitions = number(args.next(), 1);
    if std::env::var_os("WINDLASS_WATCH").is_none() {
        Watchdog::builder().reports_per_minute(1000).start()?;
    }
    let runtime = Runtime::new()?;
    for name in ["heartbeat", "janitor"] {
        let others = async {
            loop {
                sleep(Duration::from_millis(10)).await;
            }
        };
        runtime.spawn(others).named(name).detach();
    }
    for _ in 0..repetitions {
        match kind.as_str() {
            "host" => {
                runtime.turn(Some(Duration::from_millis(20)))?;
                mark();
                thread::sleep(duration); // a host that has other things to do
            }
            "main" => runtime.block_on(async {
                sleep(Duration::from_millis(30)).await;
                spin(duration);
            }),
            "cancel" => runtime.block_on(cancel(duration)),
            "waker" => runtime.block_on(wake(duration)),
            kind => {
                let block = blocking(kind, duration)?;
                let task = runtime.spawn(async move {
                    sleep(Duration::from_millis(30)).await;
                    block();
                    windlass::yield_now().await;
                });
                runtime.block_on(task.named("culprit"));
            }
        }
    }
    runtime.block_on(sleep(Duration::from_millis(100)));
    Ok(())
}

/// A function that blocks its thread.
fn blocking(kind: &str, duration: Duration) -> io::Result<Box<dyn FnOnce()>> {
    Ok(match kind {
        "spin" => Box::new(move || spin(duration)),
        "sleep" => Box::new(move || {
            mark();
            thread::sleep(duration);
        }),
        "fsync" => {
            let path = std::env::temp_dir().join(format!("stalls-{}", std::process::id()));
            let mut file = std::fs::File::create(&path)?;
            std::fs::remove_file(&path)?;
            Box::new(move || {
                mark();
                let start = Instant::now();
                let block = vec![7; 4 << 20];
                while start.elapsed() < duration {
                    file.write_all(&block).expect("the disk has space");
                    file.sync_all().expect("the disk works");
                }
            })
        }
        "pipe" => {
            let mut child = sleeping_child(duration)?;
            Box::new(move || {
                mark();
                let answers = child.stdout.as_mut().expect("the child has a pipe");
                answers
                    .read_to_end(&mut Vec::new())
                    .expect("the pipe is readable");
                child.wait().expect("the child ends");
            })
        }
        "mutex" => {
            let mutex = Arc::new(Mutex::new(()));
            Box::new(move || {
                let (held, is_held) = mpsc::channel();
                let theirs = mutex.clone();
                let holder = thread::spawn(move || {
                    let _guard = theirs.lock();
                    held.send(()).expect("the loop waits for this");
                    thread::sleep(duration);
                });
                is_held.recv().expect("the holder starts");
                mark();
                drop(mutex.lock());
                holder.join().expect("the holder ends");
            })
        }
        _ => return Err(io::Error::other(format!("the first argument is {KINDS}"))),
    })
}

fn sleeping_child(duration: Duration) -> io::Result<std::process::Child> {
    std::process::Command::new("sleep")
        .arg(duration.as_secs_f64().to_string())
        .stdout(std::process::Stdio::piped())
        .spawn()
}

fn spin(duration: Duration) {
    mark();
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// Cancels a task that is slow to drop.
async fn cancel(duration: Duration) {
    struct Slow(Duration);
    impl Drop for Slow {
        fn drop(&mut self) {
            spin(self.0);
        }
    }
    let slow = Slow(duration);
    let task = windlass::spawn(async move {
        let _slow = slow;
        std::future::pending::<()>().await;
    });
    let task = task.named("slow to drop");
    windlass::spawn(async move {
        sleep(Duration::from_millis(30)).await;
        drop(task);
    })
    .await;
}

/// Waits with a waker that is slow to call.
async fn wake(duration: Duration) {
    struct Slow(Duration, Waker);
    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            spin(self.0);
            self.1.wake_by_ref();
        }
    }
    let timer = RefCell::new(sleep(Duration::from_millis(30)));
    poll_fn(|cx: &mut Context<'_>| -> Poll<()> {
        let slow = Waker::from(Arc::new(Slow(duration, cx.waker().clone())));
        let mut timer = timer.borrow_mut();
        Pin::new(&mut *timer).poll(&mut Context::from_waker(&slow))
    })
    .await;
}

/// Prints when a stall begins, in microseconds, for a measurement of the watchdog.
fn mark() {
    if std::env::var_os("STALLS_MARK").is_some() {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        eprintln!("begin {}", now.as_micros());
    }
}
