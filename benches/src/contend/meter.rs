//! Clocks, counters, and the number of repetitions.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashMap,
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

/// The parameters of a child: `key=value`.
pub(crate) struct Params(HashMap<String, String>);

impl Params {
    pub(crate) fn parse(args: &[String]) -> Option<Params> {
        let pairs = args.iter().map(|arg| arg.split_once('='));
        let owned = pairs.map(|pair| pair.map(|(key, value)| (key.to_owned(), value.to_owned())));
        owned.collect::<Option<_>>().map(Params)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    pub(crate) fn or(&self, key: &str, default: u64) -> u64 {
        self.number(key).unwrap_or(default)
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_millis(self.or("ms", 500))
    }
}

pub(crate) fn print(name: &str, value: f64) {
    println!("{name} {value}");
}

/// CPU time of all threads, in nanoseconds.
pub(crate) fn process_cpu() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

pub(crate) fn thread_cpu() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

pub(crate) fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("the clock is there");
    Duration::from(time).as_nanos() as u64
}

/// Repeats an operation `ops=` times if that is given, otherwise for about `ms=`, after a warm-up
/// that determines the number of repetitions. Prints the cost per operation.
pub(crate) async fn repeat(params: &Params, mut work: impl AsyncFnMut(u64)) {
    let ops = match params.number("ops") {
        Some(ops) => ops,
        None => {
            let window = params.window();
            let mut ops = params.or("batch", 1).max(1_000);
            loop {
                let start = Instant::now();
                work(ops).await;
                let took = start.elapsed();
                if took >= window / 5 {
                    break (ops as f64 * window.as_secs_f64() / took.as_secs_f64()) as u64;
                }
                ops *= 2;
            }
        }
    };
    let before = (process_cpu(), Heap::now());
    work(ops).await;
    let (cpu, heap) = (process_cpu() - before.0, Heap::now());
    let each = |total: usize| total as f64 / ops as f64;
    print("cpu_ns", cpu as f64 / ops as f64);
    print("allocs", each(heap.allocations - before.1.allocations));
    print("alloc_bytes", each(heap.allocated - before.1.allocated));
}

/// Sorts in place; `part` of 0.5 is the median.
pub(crate) fn percentile(values: &mut [u64], part: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable();
    values[((values.len() - 1) as f64 * part).round() as usize] as f64
}

/// Bytes requested from the allocator.
#[derive(Clone, Copy)]
pub(crate) struct Heap {
    pub(crate) allocations: usize,
    pub(crate) allocated: usize,
    pub(crate) live: usize,
}

impl Heap {
    pub(crate) fn now() -> Heap {
        let (allocated, freed) = (ALLOCATED.load(Relaxed), FREED.load(Relaxed));
        Heap {
            allocations: ALLOCATIONS.load(Relaxed),
            allocated,
            live: allocated.wrapping_sub(freed),
        }
    }
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);

/// Counts, in the same way for all contenders. Uses a load and a store instead of an atomic
/// instruction, which costs nothing; allocations by several threads at the same moment may be
/// miscounted.
struct Counting;

fn add(counter: &AtomicUsize, amount: usize) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

// SAFETY: passes everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(&ALLOCATIONS, 1);
        add(&ALLOCATED, layout.size());
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        add(&FREED, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(&ALLOCATIONS, 1);
        add(&ALLOCATED, size);
        add(&FREED, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
