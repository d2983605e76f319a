//! Disturbance by other processes, and the distance of the two cores.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering::*},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use super::{interrupt, machine::Cores};

/// The disturbance of a sample.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// CPU time that the hypervisor gave to other guests, in cores.
    pub(crate) steal: f64,
    /// CPU time of other processes, in cores.
    pub(crate) foreign: f64,
    /// Time spent waiting for the machine to become quiet before the sample, in seconds.
    pub(crate) waited_s: f64,
}

/// Services of an otherwise idle machine stay below these.
const MOST_STEAL: f64 = 0.02;
const MOST_FOREIGN: f64 = 0.10;

/// A snapshot of `/proc/stat`, whose clock ticks a hundred times a second.
const LOOK: Duration = Duration::from_millis(100);
const TICKS_A_SECOND: f64 = 100.0;

impl Noise {
    pub(crate) fn is_quiet(&self) -> bool {
        self.steal <= MOST_STEAL && self.foreign <= MOST_FOREIGN
    }
}

/// Waits until no other process is busy, with a time limit. Returns the duration in seconds.
pub(crate) fn wait_for_quiet(patience: Duration) -> f64 {
    let began = Instant::now();
    while began.elapsed() < patience && !interrupt::happened() {
        let watch = Watch::begin(0.0);
        sleep(LOOK);
        if watch.end().is_quiet() {
            break;
        }
    }
    began.elapsed().as_secs_f64()
}

/// From the start of a sample to its end.
pub(crate) struct Watch {
    began: Instant,
    machine: Ticks,
    ours: f64,
    waited_s: f64,
}

impl Watch {
    pub(crate) fn begin(waited_s: f64) -> Watch {
        Watch {
            began: Instant::now(),
            machine: Ticks::now(),
            ours: own_cpu(),
            waited_s,
        }
    }

    /// All child processes that count as ours have exited.
    pub(crate) fn end(self) -> Noise {
        let (machine, seconds) = (Ticks::now(), self.began.elapsed().as_secs_f64());
        let ours = own_cpu() - self.ours;
        let busy = machine.busy - self.machine.busy;
        // A tick is charged entirely to the process that runs when it occurs.
        let grain = 2.0 / TICKS_A_SECOND;
        Noise {
            steal: (machine.steal - self.machine.steal) / seconds,
            foreign: (busy - ours - grain).max(0.0) / seconds,
            waited_s: self.waited_s,
        }
    }
}

/// In seconds since boot, all cores together. All 0 without such a file.
struct Ticks {
    /// In processes, not in interrupts, which mostly handle our own packets on loopback.
    busy: f64,
    steal: f64,
}

impl Ticks {
    fn now() -> Ticks {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let numbers: Vec<f64> = line
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let at = |i: usize| numbers.get(i).copied().unwrap_or(0.0) / TICKS_A_SECOND;
        // user, nice, system, idle, iowait, irq, softirq, steal
        Ticks {
            busy: at(0) + at(1) + at(2),
            steal: at(7),
        }
    }
}

/// Of this process and of its children that have exited.
pub(crate) fn own_cpu() -> f64 {
    let of = |who| {
        getrusage(who).map_or(0.0, |usage| {
            let (user, system) = (usage.user_time(), usage.system_time());
            let seconds = (user.tv_sec() + system.tv_sec()) as f64;
            seconds + (user.tv_usec() + system.tv_usec()) as f64 / 1e6
        })
    };
    of(UsageWho::RUSAGE_SELF) + of(UsageWho::RUSAGE_CHILDREN)
}

/// The round trip of a cache line between the two cores in nanoseconds. Two threads pass a number
/// back and forth. `None` on one core.
pub(crate) fn distance(cores: &Cores) -> Option<f64> {
    let load = cores.load?;
    let ball = AtomicU32::new(0);
    let batches = scope(|scope| {
        scope.spawn(|| {
            Cores::pin(load);
            for expected in (1..2 * TRIPS * BATCHES).step_by(2) {
                hand_over(&ball, expected);
            }
        });
        let timing = scope.spawn(|| {
            Cores::pin(cores.work);
            (0..BATCHES)
                .map(|batch| time_batch(&ball, batch))
                .collect::<Vec<_>>()
        });
        timing.join()
    });
    // The minimum, because either side may be preempted.
    batches.ok()?.into_iter().min_by(f64::total_cmp)
}

const TRIPS: u32 = 500;
const BATCHES: u32 = 8;

fn time_batch(ball: &AtomicU32, batch: u32) -> f64 {
    let began = Instant::now();
    for trip in batch * TRIPS..(batch + 1) * TRIPS {
        hand_over(ball, 2 * trip);
    }
    began.elapsed().as_nanos() as f64 / f64::from(TRIPS)
}

fn hand_over(ball: &AtomicU32, expected: u32) {
    while ball.load(Acquire) != expected {
        std::hint::spin_loop();
    }
    ball.store(expected + 1, Release);
}
