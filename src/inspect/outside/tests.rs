//! Reads the memory of this process, also with errors in it.

use std::cell::Cell;
use std::future::pending;
use std::ptr;
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use windlass_executor::{Task, TaskId, TaskState};

use super::Snapshot;
use super::core_file::CoreFile;
use super::memory::{MOST_BYTES, Memory};
use super::process::Process;
use super::runtime::Surroundings;
use super::view::{TaskNumber, TaskView, TimerView, WaitView};
use crate::fs::File;
use crate::inspect::root::{ROOT, Root};
use crate::inspect::{TaskInfo, Wait, tasks};
use crate::net::UdpSocket;
use crate::process::Command;
use crate::signal::{Signal, Signals};
use crate::sync::{Event, Mutex, Semaphore, broadcast, mpsc, oneshot, watch};
use crate::task::{StopSource, TaskGroup, scope};
use crate::time::sleep;
use crate::{Pool, Runtime, spawn, yield_now};

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

/// Tasks, and what their waits need.
#[derive(Default)]
struct Waiting {
    /// Dropped first, so that operations end instead of outliving their tasks.
    kept: Vec<Box<dyn std::any::Any>>,
    tasks: Vec<Task<()>>,
}

impl Waiting {
    fn spawn(&mut self, name: &str, future: impl Future<Output = ()> + 'static) {
        self.tasks.push(spawn(future).named(name));
    }

    fn keep(&mut self, value: impl Sized + 'static) {
        self.kept.push(Box::new(value));
    }

    /// Adds tasks that wait for locks, channels and tokens.
    fn add_sync(&mut self) {
        let mutex = Rc::new(Mutex::new(()));
        for name in ["holder", "locker"] {
            let mutex = mutex.clone();
            self.spawn(name, async move {
                let _guard = mutex.lock().await;
                pending().await
            });
        }
        let semaphore = Rc::new(Semaphore::new(1));
        self.spawn("acquirer", async move { drop(semaphore.acquire(2).await) });
        let event = Rc::new(Event::new());
        self.spawn("listener", async move { event.listen().await });
        let (sender, mut receiver) = mpsc::channel(1);
        self.spawn("busy receiver", async move {
            receiver.recv().await;
            pending().await
        });
        self.spawn("producer", async move {
            yield_now().await;
            while sender.send(()).await.is_ok() {}
        });
        let (sender, mut receiver) = mpsc::unbounded_channel::<()>();
        self.keep(sender);
        self.spawn("receiver", async move { _ = receiver.recv().await });
        self.add_ends();
        let source = StopSource::new();
        let token = source.token();
        self.keep(source);
        self.spawn("stoppable", async move { token.stopped().await });
    }

    /// Adds tasks that wait for the other channels.
    fn add_ends(&mut self) {
        let (sender, receiver) = oneshot::channel::<()>();
        self.keep(sender);
        self.spawn("asker", async move { _ = receiver.await });
        let (mut sender, receiver) = oneshot::channel::<()>();
        self.keep(receiver);
        self.spawn("answerer", async move { sender.closed().await });
        let (sender, mut receiver) = watch::channel(0);
        self.keep(sender);
        self.spawn("watcher", async move { _ = receiver.changed().await });
        let (sender, mut receiver) = broadcast::channel::<()>(1);
        self.keep(sender);
        self.spawn("crew", async move { _ = receiver.recv().await });
        let (sender, receiver) = mpsc::channel::<()>(1);
        self.keep(receiver);
        self.spawn("patient sender", async move { sender.closed().await });
    }

    /// Adds tasks that wait for groups and scopes.
    fn add_groups(&mut self) {
        self.spawn("parent", async {
            let mut group = TaskGroup::infallible();
            for _ in 0..40 {
                group.spawn(yield_now());
            }
            (0..2).for_each(|_| group.spawn(pending()));
            while group.join_next().await.is_some() {}
        });
        self.spawn("scope", async {
            let event = Event::new();
            scope(async |outer| {
                outer.spawn(event.listen());
                outer.spawn(scope(async |inner| inner.spawn(event.listen())));
                outer.spawn(pending());
            })
            .await;
        });
    }

    /// Adds tasks that wait for other threads and for the system.
    fn add_outer(&mut self) {
        // Tests that run at the same time do not share its thread.
        let pool: &'static Pool = Box::leak(Box::new(Pool::new("outside", 1, Duration::ZERO)));
        for name in ["running closure", "queued closure"] {
            let (sender, receiver) = std_mpsc::channel::<()>();
            self.keep(sender);
            let closure = pool.run(move || _ = receiver.recv()).unwrap();
            self.spawn(name, closure);
        }
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        self.keep(writer);
        let mut file = File::from(std::fs::File::from(reader));
        self.spawn("file", async move {
            let _ = futures::AsyncReadExt::read(&mut file, &mut [0; 8]).await;
        });
        let mut child = Command::new("sleep")
            .arg("60")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.spawn("child", async move { drop(child.wait().await) });
        let mut signals = Signals::new([Signal::USR2, Signal::HUP]).unwrap();
        self.spawn("signals", async move { drop(signals.recv().await) });
        let (sender, remotes) = std_mpsc::channel();
        let (end, ended) = std_mpsc::channel::<()>();
        thread::spawn(move || {
            let runtime = Runtime::new().unwrap();
            sender.send(runtime.remote()).unwrap();
            runtime.turn(Some(Duration::ZERO)).unwrap();
            let _ = ended.recv();
        });
        self.keep(end);
        let remote = remotes.recv().unwrap().spawn(pending::<()>);
        self.spawn("remote task", async move { drop(remote.await) });
    }
}

/// Returns whether all tasks except the main one wait, a thread runs the closure, and the operation
/// on a file runs.
fn have_started(tasks: &[TaskInfo]) -> bool {
    let waits = || tasks.iter().flat_map(|task| &task.waits);
    let is_closure = |wait: &Wait| {
        matches!(
            wait,
            Wait::Blocking {
                is_running: true,
                ..
            }
        )
    };
    let is_operation = |wait: &Wait| {
        matches!(
            wait,
            Wait::File {
                is_running: true,
                ..
            }
        )
    };
    let is_waiting = |task: &TaskInfo| task.is_main || task.state == TaskState::Waiting;
    tasks.iter().all(is_waiting) && waits().any(is_closure) && waits().any(is_operation)
}

/// Runs `test` in a task of a runtime in which others wait, for events of all kinds.
fn with_tasks(test: impl FnOnce() + 'static) {
    let runtime = Runtime::new().unwrap();
    let _remote = runtime.remote();
    runtime.block_on(async {
        let mut waiting = Waiting::default();
        let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        for number in 0..30 {
            let socket = socket.clone();
            waiting.spawn(&format!("task {number}"), async move {
                match number % 3 {
                    0 => sleep(Duration::from_secs(3600)).await,
                    1 => drop(socket.recv(&mut [0]).await),
                    _ => pending().await,
                }
            });
        }
        waiting.spawn("joiner", spawn(sleep(Duration::MAX)));
        waiting.add_sync();
        waiting.add_groups();
        waiting.add_outer();
        let start = Instant::now();
        while !have_started(&tasks()) {
            sleep(Duration::from_millis(1)).await;
            assert!(start.elapsed() < Duration::from_secs(30), "{:#?}", tasks());
        }
        spawn(async move { test() }).await;
    });
}

fn is_same(id: TaskId, number: TaskNumber) -> bool {
    id.to_string() == number.to_string()
}

fn is_same_event(wait: &Wait, view: &WaitView) -> bool {
    match (wait, view) {
        (Wait::Readable { fd, .. }, WaitView::Readable(view)) => *fd == view.fd,
        (Wait::Child { pid }, WaitView::Child(view)) => pid == view,
        (Wait::Signal { what }, WaitView::Signal(view)) => what == view,
        (Wait::Timer { at: None, .. }, WaitView::Timer(view)) => *view == TimerView::Never,
        (Wait::Timer { .. }, WaitView::Timer(TimerView::In(_))) => true,
        (Wait::Join(id), WaitView::Join(number)) => is_same(*id, *number),
        _ => false,
    }
}

fn is_same_sync(wait: &Wait, view: &WaitView) -> bool {
    match (wait, view) {
        (Wait::Lock { .. }, WaitView::Lock { .. }) => true,
        (
            Wait::Semaphore {
                wanted, available, ..
            },
            WaitView::Semaphore {
                wanted: w,
                available: a,
                ..
            },
        ) => (*wanted as u64, *available as u64) == (*w, *a),
        (
            Wait::Send { capacity, .. },
            WaitView::Send {
                capacity: shown, ..
            },
        ) => *capacity as u64 == *shown,
        (
            Wait::Receive {
                channel: "mpsc",
                senders,
                ..
            },
            WaitView::Receive { senders: shown, .. },
        ) => *senders == Some(*shown as usize),
        (Wait::Event { .. }, WaitView::Object { operation, .. }) => *operation == "the event",
        (Wait::Receive { channel, .. }, WaitView::Object { operation, .. }) => {
            operation.contains(channel)
        }
        (Wait::Closed { .. }, WaitView::Object { operation, .. }) => operation.contains("the end"),
        (Wait::Stop { .. }, WaitView::Object { operation, .. }) => *operation == "the stop",
        (Wait::Group { .. }, WaitView::Group { .. }) => true,
        (Wait::Scope { children }, WaitView::Scope { children: shown }) => children == shown,
        _ => false,
    }
}

fn is_same_outer(wait: &Wait, view: &WaitView) -> bool {
    let place = |place: &Option<&std::panic::Location<'_>>| {
        place.map_or_else(String::new, ToString::to_string)
    };
    match (wait, view) {
        (
            Wait::Blocking {
                pool,
                started_at,
                is_running,
            },
            WaitView::Blocking {
                pool: p,
                started_at: s,
                is_running: r,
            },
        ) => (*pool, place(started_at), is_running) == (&**p, s.clone(), r),
        (
            Wait::File {
                operation,
                fd,
                is_running,
                ..
            },
            WaitView::File {
                operation: o,
                fd: f,
                is_running: r,
            },
        ) => (operation, *fd, is_running) == (o, f.as_ref().map(|it| it.fd), r),
        (Wait::RemoteTask { .. }, WaitView::RemoteTask { .. }) => true,
        (Wait::Jobs { remotes }, WaitView::Jobs { remotes: shown }) => *remotes as u64 == *shown,
        (Wait::Unknown, WaitView::Unknown) => true,
        _ => false,
    }
}

/// Returns whether the view from outside has the facts of a listed wait.
fn is_same_wait(wait: &Wait, view: &WaitView) -> bool {
    let ids = |ids: &[TaskId], numbers: &[TaskNumber]| {
        ids.iter()
            .map(ToString::to_string)
            .eq(numbers.iter().map(ToString::to_string))
    };
    let text = wait.to_string();
    // The places are in both texts.
    let shown = view.to_string();
    let places = |text: &str| -> Vec<String> {
        let words = text.split([' ', ',']);
        let places = words.filter(|word| word.contains(".rs:"));
        places
            .map(|it| it.trim_end_matches(':').to_owned())
            .collect()
    };
    let (peer, peer_shown) = (wait.probably_depends_on(), view.probably_depends_on());
    let peers = (peer.as_slice(), peer_shown.as_slice());
    if places(&text) != places(&shown)
        || !ids(wait.depends_on(), view.depends_on())
        || !ids(peers.0, peers.1)
    {
        return false;
    }
    is_same_event(wait, view) || is_same_sync(wait, view) || is_same_outer(wait, view)
}

fn kind(wait: &Wait) -> String {
    let debug = format!("{wait:?}");
    debug.split([' ', '(']).next().unwrap().to_owned()
}

#[test]
fn the_snapshot_has_the_waits_of_the_listing() {
    with_tasks(|| {
        let listed = tasks();
        let snapshot = Snapshot::of_self().unwrap();
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let mut runtimes = snapshot.runtimes.iter();
        let runtime = runtimes.find(|it| it.thread == tid).unwrap();
        assert!(!runtime.is_incomplete && listed.len() > 50);
        let mut kinds = std::collections::BTreeSet::new();
        for task in &listed {
            let is_it = |view: &&TaskView| is_same(task.id, view.id);
            let view = runtime.tasks.iter().find(is_it).unwrap();
            let (mut waits, mut views) = (task.waits.clone(), view.waits.clone());
            // The view shows that nothing is known by an empty list.
            waits.retain(|wait| !views.is_empty() || *wait != Wait::Unknown);
            waits.retain(|wait| {
                let same = views.iter().position(|view| is_same_wait(wait, view));
                same.map(|position| views.remove(position)).is_none()
            });
            assert!(
                waits.is_empty() && views.is_empty(),
                "{task}: {waits:?}, {view:?}"
            );
            kinds.extend(task.waits.iter().map(kind));
        }
        let expected = "Blocking Child Closed Event File Group Jobs Join Lock Readable Receive \
                        RemoteTask Scope Semaphore Send Signal Stop Timer Unknown";
        assert_eq!(kinds.into_iter().collect::<Vec<_>>().join(" "), expected);
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
        assert!(intact.len() > 50);
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
