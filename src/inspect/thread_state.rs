//! The state of a thread of this process, and its activity between two samples.
//!
//! Linux alone has the files that this reads. Elsewhere the activity is unknown.

use std::fmt;
use std::time::Duration;

/// The activity of a thread during a stall.
///
/// Known on Linux. Elsewhere it is [`Unknown`](Activity::Unknown).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// The thread ran on a CPU.
    OnCpu {
        /// The time on a CPU.
        cpu: Duration,
        /// The time in which this was measured.
        wall: Duration,
    },
    /// The thread is blocked in a system call.
    SystemCall {
        /// The number of the system call on this architecture.
        number: i64,
        /// The name, if it is a system call that commonly blocks.
        name: Option<&'static str>,
        /// The first argument, if it is a file descriptor.
        fd: Option<i32>,
    },
    /// The thread waits for a page of memory.
    PageFault,
    /// The thread is blocked in the kernel, which doesn't show where.
    Blocked,
    /// The thread was runnable, but the scheduler ran other threads, or the control group was out
    /// of CPU time.
    NotScheduled {
        /// The time in the run queue.
        delay: Duration,
    },
    /// The whole process, or the machine, was suspended.
    Suspended {
        /// The time of the suspension.
        pause: Duration,
    },
    /// A signal or a debugger has stopped the thread.
    Stopped,
    /// The system doesn't show it.
    Unknown,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Activity::OnCpu { cpu, wall } => {
                let (cpu, wall) = (cpu.as_millis(), wall.as_millis());
                write!(f, "on the CPU for {cpu} of {wall} ms")
            }
            Activity::SystemCall { number, name, fd } => {
                let name = name.unwrap_or("number");
                write!(f, "in the system call {name} ({number})")?;
                match fd {
                    Some(fd) => write!(f, " on file descriptor {fd}"),
                    None => Ok(()),
                }
            }
            Activity::PageFault => f.write_str("waiting for a page of memory"),
            Activity::Blocked => f.write_str("blocked in the kernel"),
            Activity::NotScheduled { delay } => {
                let delay = delay.as_millis();
                write!(f, "runnable for {delay} ms, but not scheduled")
            }
            Activity::Suspended { pause } => {
                write!(f, "suspended with its process for {} ms", pause.as_millis())
            }
            Activity::Stopped => f.write_str("stopped by a signal or a debugger"),
            Activity::Unknown => f.write_str("in an unknown state"),
        }
    }
}

pub(crate) use platform::{ThreadState, own_run_delay};

#[cfg(target_os = "linux")]
mod platform {
    use std::mem::MaybeUninit;
    use std::time::{Duration, Instant};

    use super::Activity;
    use crate::inspect::proc_file::{self, CAPACITY};
    use crate::inspect::system_call::{self, Position};

    /// A sample of a thread of this process.
    #[derive(Clone, Debug)]
    pub(crate) struct ThreadState {
        pub(super) at: Instant,
        /// The time on a CPU so far. It is exact, also for a thread that is running.
        pub(super) cpu: Option<Duration>,
        /// The time in run queues so far, up to the last time that the thread began to run.
        pub(super) run_delay: Option<Duration>,
        /// How often the thread has blocked so far.
        pub(super) blocks: Option<u64>,
        /// The state as a letter. `R` is runnable, `S` and `D` are blocked, `T` and `t` stopped.
        pub(super) letter: Option<u8>,
        pub(super) position: Position,
    }

    impl ThreadState {
        /// Samples a thread of this process. This makes about 15 system calls, and allocates
        /// nothing.
        pub(crate) fn of_thread(tid: i32) -> ThreadState {
            let buffer = &mut [0; CAPACITY];
            ThreadState {
                letter: proc_file::read(tid, "stat", buffer).and_then(letter),
                run_delay: proc_file::read(tid, "schedstat", buffer).and_then(run_delay),
                blocks: proc_file::read(tid, "status", buffer).and_then(blocks),
                position: Position::of_thread(tid),
                cpu: cpu_time(tid),
                at: Instant::now(),
            }
        }

        /// Returns the activity of the thread since an earlier sample. The caller passes by how
        /// much its own sleeps in that time were too long. Such a sleep means that the caller did
        /// not run either.
        pub(crate) fn activity_since(&self, earlier: &Self, overslept: Duration) -> Activity {
            let wall = self.at.saturating_duration_since(earlier.at);
            let is_most = |part: Duration| part >= wall / 2;
            let on_cpu = self.cpu_since(earlier);
            let is_stopped = |it: &Self| matches!(it.letter, Some(b'T' | b't'));
            match on_cpu {
                // A thread that has continued may not have run yet.
                _ if is_stopped(self) || is_stopped(earlier) => return Activity::Stopped,
                Some(cpu) if is_most(cpu) => return Activity::OnCpu { cpu, wall },
                _ if is_most(overslept) => return Activity::Suspended { pause: overslept },
                _ => {}
            }
            if let Some(delay) = self.delay_since(earlier, wall, on_cpu) {
                if is_most(delay) {
                    return Activity::NotScheduled { delay };
                }
            }
            match (&self.position, self.letter, on_cpu) {
                (Position::Blocked(blocked), _, _) => match blocked.number {
                    Some(number) => Activity::SystemCall {
                        number,
                        name: system_call::name(number),
                        fd: system_call::takes_fd(number).then_some(blocked.args[0] as i32),
                    },
                    None => Activity::PageFault,
                },
                (_, Some(b'R'), Some(cpu)) => Activity::OnCpu { cpu, wall },
                (_, Some(b'S' | b'D'), _) => Activity::Blocked,
                _ => Activity::Unknown,
            }
        }

        /// Returns how long the thread was on a CPU since an earlier sample.
        pub(crate) fn on_cpu_since(&self, earlier: &Self) -> Activity {
            let on_cpu = self.cpu_since(earlier);
            on_cpu.map_or(Activity::Unknown, |cpu| Activity::OnCpu {
                cpu,
                wall: self.at.saturating_duration_since(earlier.at),
            })
        }

        /// Returns the time on a CPU since an earlier sample, if it is known.
        pub(crate) fn cpu_since(&self, earlier: &Self) -> Option<Duration> {
            let (now, before) = self.cpu.zip(earlier.cpu)?;
            Some(now.saturating_sub(before))
        }

        /// Returns for how long the thread was runnable since an earlier sample, but not on a CPU.
        pub(crate) fn run_delay_since(&self, earlier: &Self) -> Duration {
            let wall = self.at.saturating_duration_since(earlier.at);
            let on_cpu = self.cpu_since(earlier);
            self.delay_since(earlier, wall, on_cpu).unwrap_or_default()
        }

        /// The time in run queues. The kernel adds it up when the thread begins to run. For a
        /// thread that still waits, and that has not blocked, it is the time off the CPU.
        fn delay_since(
            &self,
            earlier: &Self,
            wall: Duration,
            on_cpu: Option<Duration>,
        ) -> Option<Duration> {
            let is_runnable = self.letter == Some(b'R') && earlier.letter == Some(b'R');
            if is_runnable && self.blocks.is_some() && self.blocks == earlier.blocks {
                return Some(wall.saturating_sub(on_cpu?));
            }
            let (now, before) = self.run_delay.zip(earlier.run_delay)?;
            Some(now.saturating_sub(before))
        }
    }

    /// Returns the time that the calling thread has spent in run queues so far.
    pub(crate) fn own_run_delay() -> Duration {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let schedstat = proc_file::read(tid, "schedstat", &mut [0; CAPACITY]).and_then(run_delay);
        schedstat.unwrap_or_default()
    }

    /// The letter follows the name of the thread, which is in parentheses and may have some too.
    fn letter(stat: &str) -> Option<u8> {
        let (_, after) = stat.rsplit_once(')')?;
        after.trim_start().bytes().next()
    }

    fn run_delay(schedstat: &str) -> Option<Duration> {
        let nanos = schedstat.split_whitespace().nth(1)?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }

    fn blocks(status: &str) -> Option<u64> {
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        count.trim().parse().ok()
    }

    /// Reads the CPU clock of a thread of this process. Unlike the files of `/proc`, it includes
    /// the time since the last tick of the scheduler.
    fn cpu_time(tid: i32) -> Option<Duration> {
        // The layout of clock IDs is part of the kernel's interface. 4 is a thread's clock, 2 is
        // the scheduler's count.
        let clock = (!tid << 3) | 4 | 2;
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: the pointer is valid for a write. An unknown clock is an error.
        let time = unsafe {
            if libc::clock_gettime(clock, time.as_mut_ptr()) != 0 {
                return None;
            }
            time.assume_init()
        };
        Some(Duration::new(
            u64::try_from(time.tv_sec).ok()?,
            u32::try_from(time.tv_nsec).ok()?,
        ))
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::time::Duration;

    use super::Activity;

    pub(crate) fn own_run_delay() -> Duration {
        Duration::ZERO
    }

    /// A sample of a thread, which is empty on this system.
    #[derive(Clone, Debug)]
    pub(crate) struct ThreadState;

    impl ThreadState {
        pub(crate) fn of_thread(_tid: i32) -> ThreadState {
            ThreadState
        }

        pub(crate) fn activity_since(&self, _earlier: &Self, overslept: Duration) -> Activity {
            let _ = overslept;
            Activity::Unknown
        }

        pub(crate) fn on_cpu_since(&self, _earlier: &Self) -> Activity {
            Activity::Unknown
        }

        pub(crate) fn cpu_since(&self, _earlier: &Self) -> Option<Duration> {
            None
        }

        pub(crate) fn run_delay_since(&self, _earlier: &Self) -> Duration {
            Duration::ZERO
        }
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::{Arc, OnceLock, mpsc};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::process::setpriority_process;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::{Activity, ThreadState};
    use crate::inspect::system_call::{Blocked, Position};

    const INTERVAL: Duration = Duration::from_millis(50);
    /// Far longer than a busy machine takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn gettid() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }

    /// Runs `body` on a thread, and waits until the activity of the thread is the expected one.
    fn expect(body: impl FnOnce(&AtomicBool) + Send + 'static, is: impl Fn(&Activity) -> bool) {
        let (sender, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            sender.send(gettid()).unwrap();
            body(&stopped);
        });
        let tid = receiver.recv().unwrap();
        let start = Instant::now();
        let mut before = ThreadState::of_thread(tid);
        loop {
            thread::sleep(INTERVAL);
            let now = ThreadState::of_thread(tid);
            let activity = now.activity_since(&before, Duration::ZERO);
            if is(&activity) {
                println!("{activity}");
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{activity}");
            before = now;
        }
        stop.store(true, SeqCst);
        thread.join().unwrap();
    }

    fn spin_until(stop: &AtomicBool) {
        while !stop.load(SeqCst) {
            std::hint::spin_loop();
        }
    }

    /// On a busy machine, it's off the CPU for most of the time.
    #[test]
    fn a_busy_thread_is_on_the_cpu_or_not_scheduled() {
        expect(spin_until, |activity| match activity {
            Activity::OnCpu { cpu, wall } => *cpu >= *wall / 2 && *wall >= INTERVAL,
            Activity::NotScheduled { delay } => *delay >= INTERVAL / 2,
            _ => false,
        });
    }

    /// A sample at a time, all of them in milliseconds.
    fn sample(time: u64, cpu: u64, run_delay: u64, letter: u8, position: Position) -> ThreadState {
        static START: OnceLock<Instant> = OnceLock::new();
        ThreadState {
            at: *START.get_or_init(Instant::now) + Duration::from_millis(time),
            cpu: Some(Duration::from_millis(cpu)),
            run_delay: Some(Duration::from_millis(run_delay)),
            blocks: Some(3),
            letter: Some(letter),
            position,
        }
    }

    #[track_caller]
    fn check(after: ThreadState, text: &str) {
        let before = sample(0, 7, 5, b'R', Position::Running);
        let activity = after.activity_since(&before, Duration::ZERO);
        assert_eq!(activity.to_string(), text);
    }

    #[test]
    fn the_larger_share_of_the_time_is_the_activity() {
        let running = |cpu| sample(52, cpu, 5, b'R', Position::Running);
        check(running(55), "on the CPU for 48 of 52 ms");
        check(running(19), "runnable for 40 ms, but not scheduled");
        let stopped = sample(52, 55, 5, b'T', Position::Running);
        check(stopped.clone(), "stopped by a signal or a debugger");
        let continued = sample(104, 55, 5, b'R', Position::Running);
        let activity = continued.activity_since(&stopped, Duration::ZERO);
        assert_eq!(activity, Activity::Stopped);
    }

    #[test]
    fn a_blocked_thread_is_where_the_kernel_shows_it() {
        let blocked = |number, run_delay| {
            let args = [3, 0, 0, 0, 0, 0];
            let (sp, pc) = (0, 0);
            let blocked = Blocked {
                number,
                args,
                sp,
                pc,
            };
            sample(52, 9, run_delay, b'D', Position::Blocked(blocked))
        };
        let fsync = libc::SYS_fsync;
        let text = format!("in the system call fsync ({fsync}) on file descriptor 3");
        check(blocked(Some(fsync), 5), &text);
        check(
            blocked(Some(fsync), 45),
            "runnable for 40 ms, but not scheduled",
        );
        check(blocked(None, 5), "waiting for a page of memory");
        check(
            sample(52, 9, 5, b'S', Position::Unknown),
            "blocked in the kernel",
        );
    }

    #[test]
    fn a_sleeping_thread_is_in_a_system_call() {
        let sleep = |stop: &AtomicBool| {
            while !stop.load(SeqCst) {
                thread::sleep(INTERVAL * 4);
            }
        };
        let is = |activity: &Activity| {
            let text = activity.to_string();
            text == format!(
                "in the system call clock_nanosleep ({})",
                libc::SYS_clock_nanosleep
            )
        };
        expect(sleep, is);
    }

    #[test]
    fn a_reading_thread_is_in_a_system_call_on_a_descriptor() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let fd = reader.as_raw_fd();
        let read = move |_: &AtomicBool| {
            assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(1));
        };
        expect(read, |activity| {
            let expected = Activity::SystemCall {
                number: libc::SYS_read,
                name: Some("read"),
                fd: Some(fd),
            };
            if *activity == expected {
                (&writer).write_all(&[0]).unwrap();
            }
            *activity == expected
        });
    }

    #[test]
    fn a_thread_that_others_displace_is_not_scheduled() {
        let done = Arc::new(AtomicBool::new(false));
        let is_done = done.clone();
        let mut one_cpu = CpuSet::new();
        let allowed = sched_getaffinity(None).unwrap();
        one_cpu.set(
            (0..CpuSet::MAX_CPU)
                .find(|&cpu| allowed.is_set(cpu))
                .unwrap(),
        );
        let hog = thread::spawn(move || {
            sched_setaffinity(None, &one_cpu).unwrap();
            spin_until(&is_done);
        });
        let idle = move |stop: &AtomicBool| {
            sched_setaffinity(None, &one_cpu).unwrap();
            setpriority_process(None, 19).unwrap(); // of this thread alone, on Linux
            spin_until(stop);
        };
        let is = move |activity: &Activity| match activity {
            Activity::NotScheduled { delay } => {
                done.store(true, SeqCst);
                *delay >= INTERVAL / 2
            }
            _ => false,
        };
        expect(idle, is);
        hog.join().unwrap();
    }

    #[test]
    fn an_exited_thread_is_unknown() {
        let tid = thread::spawn(gettid).join().unwrap();
        let state = ThreadState::of_thread(tid);
        thread::sleep(Duration::from_millis(1));
        let activity = ThreadState::of_thread(tid).activity_since(&state, Duration::ZERO);
        assert_eq!(activity, Activity::Unknown);
    }

    #[test]
    fn a_suspended_caller_blames_no_thread() {
        let (sender, receiver) = mpsc::channel::<()>();
        let (tids, tid) = mpsc::channel();
        let thread = thread::spawn(move || {
            tids.send(gettid()).unwrap();
            receiver.recv().unwrap_err();
        });
        let tid = tid.recv().unwrap();
        let before = ThreadState::of_thread(tid);
        thread::sleep(INTERVAL);
        let pause = Duration::from_secs(60);
        let activity = ThreadState::of_thread(tid).activity_since(&before, pause);
        assert_eq!(activity, Activity::Suspended { pause });
        drop(sender);
        thread.join().unwrap();
    }
}
