//! Reads memory with errors in it.

use std::cell::Cell;
use std::future::pending;
use std::ptr;
use std::time::Duration;

use super::Snapshot;
use super::core_file::CoreFile;
use super::memory::{MOST_BYTES, Memory};
use super::process::Process;
use super::runtime::Surroundings;
use crate::inspect::root::{ROOT, Root};
use crate::net::UdpSocket;
use crate::time::sleep;
use crate::{block_on, spawn, yield_now};

/// This process, as if one of so many words had a random value.
struct Corrupt {
    process: Process,
    seed: u64,
    one_of: u64,
    /// Everything else is intact.
    within: std::ops::Range<u64>,
    /// Addresses that are not mapped have random values too.
    is_endless: bool,
    changed: Cell<usize>,
    bytes_read: Cell<u64>,
}

/// A random number that depends on nothing but the arguments.
fn random(seed: u64, number: u64) -> u64 {
    // The mixing function of splitmix64.
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Corrupt {
    fn new(seed: u64, one_of: u64, within: std::ops::Range<u64>) -> Corrupt {
        Corrupt {
            process: Process::open(None).unwrap(),
            seed,
            one_of,
            within,
            is_endless: false,
            changed: Cell::new(0),
            bytes_read: Cell::new(0),
        }
    }

    /// A value that a reader could fall for: any, a small one, an address, a high address.
    fn garbage(&self, address: u64) -> u64 {
        let value = random(!self.seed, address);
        let root = ptr::from_ref(&ROOT).expose_provenance() as u64;
        match value % 6 {
            0 => value,
            1 => value >> 50,
            2 => value >> 38,
            3 => root.wrapping_add(value >> 54),
            4 => address.wrapping_sub(value >> 52),
            _ => !(value >> 54),
        }
    }
}

impl Memory for Corrupt {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut read = self.process.read(address, buffer);
        if self.is_endless {
            read = buffer.len();
        }
        self.bytes_read
            .set(self.bytes_read.get() + buffer.len() as u64);
        for (word, at) in buffer[..read]
            .chunks_exact_mut(8)
            .zip((address..).step_by(8))
        {
            if self.within.contains(&at) && random(self.seed, at) % self.one_of == 0 {
                word.copy_from_slice(&self.garbage(at).to_ne_bytes());
                self.changed.set(self.changed.get() + 1);
            }
        }
        read
    }
}

/// The tasks of this thread.
fn names(snapshot: &Snapshot) -> Vec<String> {
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    let runtimes = snapshot.runtimes.iter().filter(|it| it.thread == tid);
    let tasks = runtimes.flat_map(|runtime| &runtime.tasks);
    tasks
        .map(|task| format!("{:?} {:?}", task.name, task.waits.len()))
        .collect()
}

/// Runs `test` in a task of a runtime in which others wait.
fn with_tasks(test: impl FnOnce() + 'static) {
    block_on(async {
        let socket = std::rc::Rc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let _tasks: Vec<_> = (0..50)
            .map(|number| {
                let socket = socket.clone();
                spawn(async move {
                    match number % 3 {
                        0 => sleep(Duration::from_secs(3600)).await,
                        1 => drop(socket.recv(&mut [0]).await),
                        _ => pending().await,
                    }
                })
                .named(format!("task {number}"))
            })
            .collect();
        yield_now().await;
        spawn(async move { test() }).await;
    });
}

fn root_range() -> std::ops::Range<u64> {
    let root = ptr::from_ref(&ROOT).expose_provenance() as u64;
    root..root + size_of::<Root>() as u64
}

fn read(memory: &Corrupt) -> Snapshot {
    Snapshot::try_read(memory, &memory.process, &[root_range().start])
}

#[test]
fn corrupt_memory_gives_an_incomplete_snapshot_at_worst() {
    with_tasks(|| {
        let intact = names(&read(&Corrupt::new(0, 1, 0..0)));
        assert_eq!(intact.len(), 52);
        let (mut changed, mut differing) = (0, 0);
        for seed in 0..400 {
            // The root is mostly intact, since little else is read without it.
            let after_root = root_range().end..u64::MAX;
            let one_of = [1, 4, 16, 64, 256, 1024, 4096, 16384][seed as usize % 8];
            let within = match seed % 5 {
                0 => 0..u64::MAX,
                _ => after_root,
            };
            let mut memory = Corrupt::new(seed, one_of, within);
            memory.is_endless = seed % 7 == 0;
            let snapshot = read(&memory);
            assert!(memory.bytes_read.get() <= MOST_BYTES);
            changed += usize::from(memory.changed.get() > 0);
            differing += usize::from(names(&snapshot) != intact);
            for task in snapshot.runtimes.iter().flat_map(|runtime| &runtime.tasks) {
                assert!(!task.spawned_at.contains(char::is_control));
            }
        }
        println!("{changed} of 400 memories have errors, and {differing} snapshots");
        assert!(changed > 300 && differing > 100);
    });
}

#[test]
fn random_bytes_are_no_core_file_or_one_without_runtimes() {
    let path = std::env::temp_dir().join(format!("windlass-random-{}", std::process::id()));
    for seed in 0..300 {
        let words = (0..4096).map(|number| random(seed, number) >> (seed % 64));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, order]);
        if seed > 0 {
            bytes[16..18].copy_from_slice(&4_u16.to_ne_bytes());
            bytes[32..40].copy_from_slice(&64_u64.to_ne_bytes());
            bytes[54..56].copy_from_slice(&56_u16.to_ne_bytes());
            bytes[64..68].copy_from_slice(&(1 + 3 * (seed as u32 % 2)).to_ne_bytes());
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(Snapshot::of_core(&path, None).is_err());
        if let Ok(core) = CoreFile::open(&path, None) {
            assert!(seed > 0 && core.now().is_none());
            let mut buffer = [0; 100];
            for address in words_of(&bytes) {
                assert!(core.read(address, &mut buffer) <= buffer.len());
            }
        }
    }
    std::fs::remove_file(path).unwrap();
}

fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let words = bytes[..4096].chunks_exact(8);
    words.map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
}
