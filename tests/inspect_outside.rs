//! Runtimes, tasks and waits, as another process or a core file shows them.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::future::pending;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use windlass::inspect::outside::{
    LoopState, RuntimeView, Snapshot, StateView, TaskView, TimerView, WaitView,
};
use windlass::net::{UdpSocket, unix::UnixStream};
use windlass::sync::{Event, Mutex, Semaphore, mpsc, oneshot};
use windlass::time::{sleep, sleep_until};
use windlass::{Runtime, Task, spawn, yield_now};

const HOUR: Duration = Duration::from_secs(3600);

/// Longer than any of these tests takes. A program ends then, even if its test was killed.
const LIFETIME: Duration = Duration::from_secs(120);

fn block_for_a_while() {
    let start = Instant::now();
    while start.elapsed() < LIFETIME {
        std::hint::spin_loop();
    }
}

/// A program with tasks in all states, which ends in an endless loop.
#[test]
#[ignore = "a program that other tests start"]
fn stuck_program() -> io::Result<()> {
    let (sender, receiver) = std_mpsc::channel();
    let host = thread::Builder::new().name("host \u{1b}[7m".to_owned());
    host.spawn(move || {
        let runtime = Runtime::new().unwrap();
        runtime.spawn(pending::<()>()).named("guest").detach();
        runtime.turn(Some(Duration::ZERO)).unwrap();
        drop(Runtime::new().unwrap());
        sender.send(()).unwrap();
        thread::sleep(LIFETIME);
    })?;
    receiver.recv().unwrap();
    windlass::block_on(async {
        let mut tasks = spawn_waiting_tasks().await?;
        let kept = spawn_synchronizing_tasks(&mut tasks);
        let last = async {
            for _ in 0..10 {
                yield_now().await;
            }
            spawn(async {}).named("ready").detach();
            println!("stuck");
            block_for_a_while();
        };
        spawn(last).named("stuck").await;
        drop((tasks, kept));
        Ok(())
    })
}

async fn spawn_waiting_tasks() -> io::Result<Vec<Task<()>>> {
    let mut tasks = Vec::new();
    let timer = spawn(sleep(HOUR)).named("timer");
    tasks.push(spawn(timer).named("joiner"));
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").await?);
    for name in ["first reader", "second reader", "third reader"] {
        let socket = socket.clone();
        let read = async move { drop(socket.recv(&mut [0; 8]).await) };
        tasks.push(spawn(read).named(name));
    }
    let (near, far) = UnixStream::pair()?;
    while near.try_write(&[0; 1 << 16]).is_ok() {}
    let write = async move {
        let _far = far;
        drop(near.writable().await);
    };
    tasks.push(spawn(write).named("writer"));
    let combine = async {
        let end = Instant::now() + HOUR;
        let mut sleeps = FuturesUnordered::from_iter([sleep_until(end), sleep_until(end)]);
        sleeps.next().await;
    };
    tasks.push(spawn(combine).named("combiner"));
    // Two tasks that wait for each other.
    let slot = Rc::new(RefCell::new(None::<Task<()>>));
    let slots = (slot.clone(), slot);
    let one = spawn(async move {
        let other = slots.0.borrow_mut().take();
        other.unwrap().await;
    });
    let other = spawn(one.named("one"));
    slots.1.borrow_mut().replace(other.named("other"));
    let greedy = async move {
        let target = socket.local_addr().unwrap();
        loop {
            drop(socket.send_to(&[], target).await);
        }
    };
    tasks.push(spawn(greedy).named("greedy"));
    tasks.push(spawn(pending()));
    Ok(tasks)
}

/// Spawns tasks that wait for locks and channels. They wait until the result is dropped.
fn spawn_synchronizing_tasks(tasks: &mut Vec<Task<()>>) -> impl Sized + use<> {
    let mutex = Rc::new(Mutex::new(()));
    let semaphore = Rc::new(Semaphore::new(1));
    let event = Rc::new(Event::new());
    let (full, receiver) = mpsc::channel(1);
    full.try_send(()).unwrap();
    let (sender, mut empty) = mpsc::unbounded_channel::<()>();
    let (answer, question) = oneshot::channel::<()>();
    let locked = mutex.clone();
    tasks.push(spawn(async move {
        let _guard = locked.lock().await;
        pending::<()>().await;
    }));
    let mut waits = |name: &'static str, future: Pin<Box<dyn Future<Output = ()>>>| {
        tasks.push(spawn(future).named(name));
    };
    let kept = (sender, receiver, answer);
    for name in ["first locker", "second locker"] {
        let mutex = mutex.clone();
        waits(name, Box::pin(async move { drop(mutex.lock().await) }));
    }
    let acquire = async move { drop(semaphore.acquire(2).await) };
    waits("acquirer", Box::pin(acquire));
    waits("listener", Box::pin(async move { event.listen().await }));
    waits(
        "sender",
        Box::pin(async move {
            let _ = full.send(()).await;
        }),
    );
    waits(
        "receiver",
        Box::pin(async move {
            let _ = empty.recv().await;
        }),
    );
    waits(
        "asker",
        Box::pin(async move {
            let _ = question.await;
        }),
    );
    kept
}

/// A running program, which ends with this value.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Program {
    /// Starts one of the programs of this file, and waits until it is stuck.
    fn start(file: &Path, name: &str, folder: &Path) -> Program {
        let mut command = Command::new(file);
        command
            .args(["--exact", name, "--ignored", "--nocapture"])
            .current_dir(folder);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let program = Program(child);
        let is_stuck = |line: io::Result<String>| line.unwrap().ends_with("stuck");
        assert!(lines.into_iter().any(is_stuck), "{name} ended");
        program
    }

    fn start_stuck() -> Program {
        Program::start(
            &env::current_exe().unwrap(),
            "stuck_program",
            Path::new("."),
        )
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

/// An empty folder, which is removed with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("windlass-outside-{name}-{}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The waits of a task, without numbers that differ from run to run.
fn waits(task: &TaskView, tasks: &[TaskView]) -> String {
    let name = |wait: &WaitView| match wait {
        WaitView::Join(joined) => {
            let task = tasks.iter().find(|task| task.id == *joined).unwrap();
            format!("join {}", name(task))
        }
        WaitView::Timer(TimerView::In(left)) if *left <= HOUR => "timer".to_owned(),
        WaitView::Timer(TimerView::At(at)) if *at >= HOUR => "timer".to_owned(),
        wait => {
            let text = wait.to_string();
            let text = text.split(" fd ").next().unwrap();
            let Some((text, places)) = text.split_once(" created at ") else {
                return text.to_owned();
            };
            assert!(places.starts_with(file!()), "{wait}");
            // All of them are awaited in this file.
            let awaited = format!(", awaited at {}:", file!());
            let (_, rest) = places.split_once(&awaited).expect(places);
            let rest = rest.split_once(", ").map_or("", |(_, rest)| rest);
            format!("{text} {rest}").trim_end().to_owned()
        }
    };
    let waits: Vec<_> = task.waits.iter().map(name).collect();
    waits.join(", ")
}

fn name(task: &TaskView) -> &str {
    let unnamed = if task.is_main { "main" } else { "" };
    task.name.as_deref().unwrap_or(unnamed)
}

fn lines(runtime: &RuntimeView) -> Vec<String> {
    let tasks = runtime.tasks.iter();
    let line = |task: &TaskView| {
        format!(
            "{}, {}: {}",
            name(task),
            task.state,
            waits(task, &runtime.tasks)
        )
    };
    tasks.map(line).collect()
}

/// The runtimes of `stuck_program`.
fn check_stuck(snapshot: &Snapshot) {
    assert!(!snapshot.is_torn);
    let [host, stuck] = &snapshot.runtimes[..] else {
        panic!("{snapshot:#?}");
    };
    // The escape sequence is replaced.
    assert_eq!(host.thread_name.as_deref(), Some("host \u{fffd}[7m"));
    assert_eq!(host.loop_state, LoopState::Detached);
    assert_eq!(lines(host), ["guest, waiting: "]);
    assert_eq!((host.polls, host.timers, host.sources), (1, 0, 0));
    assert_eq!(stuck.loop_state, LoopState::Awake);
    assert_eq!(
        lines(stuck),
        [
            "main, waiting: join stuck",
            "timer, waiting: timer",
            "joiner, waiting: join timer",
            "first reader, waiting: readable",
            "second reader, waiting: readable",
            "third reader, waiting: readable",
            "writer, waiting: writable",
            "combiner, waiting: ",
            "one, waiting: join other",
            "other, waiting: join one",
            "greedy, waiting: next turn",
            ", waiting: ",
            ", waiting: ",
            "first locker, waiting: lock of the mutex held by task 1:12",
            "second locker, waiting: lock of the mutex held by task 1:12",
            "acquirer, waiting: permits of the semaphore 2 wanted, 1 available",
            "listener, waiting: the event",
            "sender, waiting: room in the channel capacity 1",
            "receiver, waiting: a value of the channel senders: 1",
            "asker, waiting: the value of the oneshot channel",
            "stuck, running: ",
            "ready, ready: ",
        ]
    );
    let timers = stuck.other_waits.iter();
    let timers = timers.filter(|wait| matches!(wait, WaitView::Timer(_)));
    assert_eq!((timers.count(), stuck.other_waits.len()), (2, 2));
    assert_eq!((stuck.timers, stuck.sources), (3, 2)); // one socket has not waited
    assert!(!stuck.is_incomplete && !stuck.is_dropping);
    let tasks: BTreeMap<_, _> = stuck.tasks.iter().map(|task| (name(task), task)).collect();
    assert_eq!(stuck.current_task, Some(tasks["stuck"].id));
    assert_eq!(tasks["timer"].joiner, Some(tasks["joiner"].id));
    for task in &stuck.tasks {
        assert!(
            task.spawned_at.starts_with(concat!(file!(), ":")),
            "{task:?}"
        );
    }
}

#[test]
fn a_stuck_process_is_read() {
    let program = Program::start_stuck();
    let start = Instant::now();
    let stuck = loop {
        let snapshot = Snapshot::of_process(program.pid()).unwrap();
        check_stuck(&snapshot);
        let mut runtimes = snapshot.runtimes.into_iter();
        let (host, stuck) = (runtimes.next().unwrap(), runtimes.next().unwrap());
        // The thread may be on the way into the system call.
        if host.activity.starts_with("in the system call") {
            break stuck;
        }
        assert!(start.elapsed() < LIFETIME / 2, "{}", host.activity);
    };
    assert_eq!(stuck.activity, "on a CPU, or ready to run");
    let reader = &stuck.tasks[3].waits[0];
    assert!(reader.to_string().contains("(socket:["), "{reader}");
}

#[test]
fn a_stripped_program_is_read() {
    let folder = Folder::new("stripped");
    let stripped = folder.0.join("stripped");
    let strip = Command::new("strip")
        .arg("-o")
        .args([&stripped, &env::current_exe().unwrap()])
        .status();
    if !strip.is_ok_and(|status| status.success()) {
        println!("skipped, because `strip` is missing");
        return;
    }
    let program = Program::start(&stripped, "stuck_program", &folder.0);
    check_stuck(&Snapshot::of_process(program.pid()).unwrap());
}

#[test]
fn the_core_file_of_a_debugger_is_read() {
    let folder = Folder::new("gcore");
    let program = Program::start_stuck();
    let pid = program.pid().to_string();
    let gcore = Command::new("gcore")
        .arg("-o")
        .args([folder.0.join("core"), PathBuf::from(&pid)])
        .output();
    if !gcore.is_ok_and(|output| output.status.success()) {
        println!("skipped, because `gcore` is missing or may not trace");
        return;
    }
    drop(program);
    let core = folder.0.join(format!("core.{pid}"));
    check_stuck(&Snapshot::of_core(&core, None).unwrap());
}

/// A program that ends with a core file in its working directory, if the system writes them there.
#[test]
#[ignore = "a program that other tests start"]
fn aborting_program() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY).unwrap_or_default();
    let abort = async {
        let _timer = spawn(sleep(HOUR)).named("timer");
        yield_now().await;
        println!("stuck");
        std::process::abort();
    };
    windlass::block_on(async { spawn(abort).named("aborter").await });
}

#[test]
fn the_core_file_of_the_kernel_is_read() {
    let folder = Folder::new("core");
    let copy = folder.0.join("program");
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    let mut program = Program::start(&copy, "aborting_program", &folder.0);
    program.0.wait().unwrap();
    let entries = fs::read_dir(&folder.0).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let is_core = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("core")
    };
    let Some(core) = paths.find(is_core) else {
        println!("skipped, because the system writes core files elsewhere");
        return;
    };
    let check = |program: Option<&Path>, expected_place: &str| {
        let snapshot = Snapshot::of_core(&core, program).unwrap();
        let [runtime] = &snapshot.runtimes[..] else {
            panic!("{snapshot:#?}");
        };
        let expected = [
            "main, waiting: join aborter",
            "aborter, running: ",
            "timer, waiting: timer",
        ];
        assert_eq!(lines(runtime), expected);
        let place = &runtime.tasks[1].spawned_at;
        assert!(place.starts_with(expected_place), "{place}");
        snapshot.missing_files
    };
    assert_eq!(check(None, file!()), [""; 0]);
    // The program's file is elsewhere by now.
    let moved = folder.0.join("moved");
    fs::rename(&copy, &moved).unwrap();
    assert_eq!(check(Some(&moved), file!()), [""; 0]);
    assert_eq!(check(None, "?:"), [copy.to_str().unwrap()]);
    // Another program has its place.
    fs::copy("/proc/self/exe", &copy).unwrap();
    let mut other = fs::read(&copy).unwrap();
    other[0x40..0x400].fill(7);
    fs::write(&copy, other).unwrap();
    assert_eq!(check(None, "?:"), [copy.to_str().unwrap()]);
}

#[test]
fn threads_of_a_process_read_it_while_its_loop_is_stuck() {
    let (sender, receiver) = std_mpsc::channel();
    let reader = thread::spawn(move || {
        let (resume, tid) = receiver.recv().unwrap();
        let snapshot = Snapshot::of_self().unwrap();
        drop::<std_mpsc::Sender<()>>(resume);
        let mut runtimes = snapshot.runtimes.into_iter();
        runtimes.find(|runtime| runtime.thread == tid).unwrap()
    });
    windlass::block_on(async {
        let task = spawn(async move {
            let _sleeper = spawn(sleep(HOUR)).named("sleeper");
            yield_now().await;
            let (resume, resumed) = std_mpsc::channel();
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            sender.send((resume, tid)).unwrap();
            assert!(resumed.recv().is_err());
        });
        let id = task.id().unwrap().to_string();
        task.await;
        let runtime = reader.join().unwrap();
        let expected = [
            "main, waiting: join ",
            ", running: ",
            "sleeper, waiting: timer",
        ];
        assert_eq!(lines(&runtime), expected);
        assert_eq!(runtime.current_task.unwrap().to_string(), id);
    });
}

#[test]
fn a_main_future_that_is_polled_is_running() {
    windlass::block_on(async {
        let _task = spawn(pending::<()>());
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let snapshot = Snapshot::of_self().unwrap();
        let mut runtimes = snapshot.runtimes.iter();
        let runtime = runtimes.find(|runtime| runtime.thread == tid).unwrap();
        let states: Vec<_> = runtime.tasks.iter().map(|task| task.state).collect();
        assert_eq!(states, [StateView::Running, StateView::Ready]);
    });
}

/// A program that never stops to poll, spawn and end tasks.
#[test]
#[ignore = "a program that other tests start"]
fn busy_program() {
    let start = Instant::now();
    windlass::block_on(async {
        println!("stuck");
        let mut tasks = Vec::new();
        for number in 0.. {
            tasks.push(spawn(yield_now()).named(format!("task {number}")));
            if number % 1000 == 999 {
                tasks.clear();
                yield_now().await;
                if start.elapsed() > LIFETIME {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_busy_process_is_read() {
    let program = Program::start(&env::current_exe().unwrap(), "busy_program", Path::new("."));
    let mut most = 0;
    for _ in 0..200 {
        let snapshot = Snapshot::of_process(program.pid()).unwrap();
        assert_eq!(snapshot.runtimes.len(), 1);
        let tasks = &snapshot.runtimes[0].tasks;
        most = most.max(tasks.len());
        // Memory of the task that starts or ends meanwhile may have another use already.
        let is_other =
            |task: &&TaskView| !task.spawned_at.is_empty() && !task.spawned_at.starts_with(file!());
        let others: Vec<_> = tasks.iter().filter(is_other).collect();
        assert!(snapshot.is_torn || others.len() <= 1, "{others:?}");
    }
    assert!(most > 1);
}

fn windlass_ps(args: &[&str]) -> Output {
    let ps = Command::new(env!("CARGO_BIN_EXE_windlass-ps"))
        .args(args)
        .output();
    ps.unwrap()
}

fn output_of(args: &[&str]) -> String {
    let output = windlass_ps(args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn windlass_ps_prints_tables_trees_and_json() {
    let program = Program::start_stuck();
    let pid = program.pid().to_string();
    let table = output_of(&[&pid]);
    let columns = |name: &str| {
        let line = table
            .lines()
            .find(|line| line.contains(name))
            .expect(&table);
        let columns = line.split("  ").map(str::trim);
        columns
            .filter(|column| !column.is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        columns("SPAWNED AT"),
        ["ID", "NAME", "STATE", "SPAWNED AT", "WAITS FOR"]
    );
    let [id, "timer", "waiting", place, wait] = columns(" timer ")[..] else {
        panic!("{table}");
    };
    assert!(place.starts_with(file!()) && wait.starts_with("timer in "));
    assert_eq!(columns(" joiner ")[4], format!("task {id}"));
    assert_eq!(columns(" combiner ")[4], "unknown");
    assert_eq!(columns(" stuck ")[2], "running");
    let tree = output_of(&["--tree", &pid]);
    let depth = |name: &str| {
        let line = tree.lines().find(|line| line.contains(name)).expect(&tree);
        line.len() - line.trim_start().len()
    };
    assert!(depth(" timer ") > depth(" joiner ") && depth(" stuck ") > depth(" (main) "));
    assert_eq!(tree.matches("see above").count(), 1);
    // Without the two headers of columns, and with the end of the circle.
    assert_eq!(
        tree.lines().count(),
        table.lines().count() - 2 + 1,
        "{table}{tree}"
    );
    let json = output_of(&["--json", &pid]);
    assert!(
        json.contains(&format!("{{\"id\":\"{id}\",\"name\":\"timer\",")),
        "{json}"
    );
}

#[test]
fn errors_name_the_cause() {
    let error = |args: &[&str], expected: &str| {
        let output = windlass_ps(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(text.contains(expected), "{text}");
    };
    error(&[], "usage: ");
    error(&["1", "2"], "usage: ");
    error(&["--quickly", "1"], "usage: ");
    error(&["999999999"], "there is no process 999999999");
    error(&["/nowhere"], "/nowhere: No such file");
    error(&["Cargo.toml"], "not a core file");
    let sleeper = Command::new("sleep").arg("100").spawn().unwrap();
    let sleeper = Program(sleeper);
    error(&[&sleeper.pid().to_string()], "no windlass runtime found");
}
