//! The list of tasks, and what they wait for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt, FutureExt, StreamExt, join, select};
use windlass::inspect::{self, TaskId, TaskInfo, TaskState, Wait};
use windlass::net::{TcpListener, TcpStream, UdpSocket};
use windlass::sync::{Event, Mutex, Semaphore, mpsc, oneshot, watch};
use windlass::task::{StopSource, TaskGroup, scope};
use windlass::time::sleep;
use windlass::{Runtime, Task, block_on, spawn, spawn_blocking, yield_now};

/// Lets each task run until it waits.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// Returns the task with that id.
#[track_caller]
fn info(id: TaskId) -> TaskInfo {
    let tasks = inspect::tasks();
    let found = tasks.into_iter().find(|task| task.id == id);
    found.expect("the task is listed")
}

/// Spawns the future, and returns what its task waits for.
async fn waits_of<F: Future<Output: 'static> + 'static>(future: F) -> (Task<F::Output>, Vec<Wait>) {
    let task = spawn(future);
    settle().await;
    let waits = info(task.id().unwrap()).waits;
    (task, waits)
}

#[test]
fn a_task_has_its_name_its_place_and_its_state() {
    block_on(async {
        let task = spawn(async {
            let this = info(TaskId::current().unwrap());
            assert_eq!(this.state, TaskState::Running);
            assert!(this.waits.is_empty());
            let main = inspect::tasks()
                .into_iter()
                .find(|task| task.is_main)
                .unwrap();
            assert_eq!(main.state, TaskState::Waiting);
            assert_eq!(main.waits, [Wait::Join(this.id)]);
        });
        let task = task.named("session");
        let ready = info(task.id().unwrap());
        assert_eq!((ready.state, ready.is_main), (TaskState::Ready, false));
        assert_eq!(ready.name.as_deref(), Some("session"));
        let (file, line) = (file!(), ready.spawned_at.line());
        let text = format!("task {} \"session\", spawned at {file}:{line}:", ready.id);
        assert!(ready.to_string().starts_with(&text), "{ready}");
        assert!(ready.to_string().ends_with(", ready"), "{ready}");
        let main = inspect::tasks()
            .into_iter()
            .find(|task| task.is_main)
            .unwrap();
        assert_eq!(main.state, TaskState::Running);
        task.await;
    });
}

#[test]
fn timers_are_listed_with_the_time_left() {
    block_on(async {
        let (_task, waits) = waits_of(sleep(Duration::from_secs(3600))).await;
        let [Wait::Timer { at, left, .. }] = waits[..] else {
            panic!("{waits:?}");
        };
        let (at, left) = (at.unwrap(), left.unwrap());
        assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3500));
        assert!(at > Instant::now() + Duration::from_secs(3500));
    });
}

#[test]
fn joins_of_other_runtimes_are_listed() {
    let (one, other) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let awaited = one.spawn(pending::<()>());
    let id = awaited.id().unwrap();
    let joiner = other.spawn(awaited);
    other.turn(Some(Duration::ZERO)).unwrap();
    one.turn(Some(Duration::ZERO)).unwrap();
    let [listed] = &other.tasks()[..] else {
        panic!("{:?}", other.tasks());
    };
    assert_eq!(Some(listed.id), joiner.id());
    assert_eq!(listed.waits, [Wait::Join(id)]);
    let [awaited] = &one.tasks()[..] else {
        panic!("{:?}", one.tasks());
    };
    assert_eq!((awaited.id, &awaited.waits[..]), (id, &[Wait::Unknown][..]));
    assert_eq!(inspect::tasks().len(), 2);
}

#[test]
fn sockets_are_listed_with_their_addresses() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connected = TcpStream::connect(addr);
        let (accepted, connected) = join!(listener.accept(), connected);
        let ((mut accepted, peer), _connected) = (accepted.unwrap(), connected.unwrap());
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let udp_addr = udp.local_addr().unwrap();

        let mut byte = [0];
        let (_reader, read) = waits_of(async move { accepted.read(&mut byte).await }).await;
        let (_acceptor, accept) = waits_of(async move { listener.accept().await }).await;
        let (_receiver, receive) = waits_of(async move { udp.recv_from(&mut [0]).await }).await;
        for (waits, expected) in [
            (read, format!("TCP {addr} <- {peer}")),
            (accept, format!("TCP listener {addr}")),
            (receive, format!("UDP {udp_addr}")),
        ] {
            let [Wait::Readable { what, .. }] = &waits[..] else {
                panic!("{waits:?}");
            };
            if cfg!(unix) {
                assert_eq!(*what, expected);
            }
        }
    });
}

#[cfg(unix)]
#[test]
fn files_of_descriptors_are_described() {
    use windlass::net::unix::{UnixListener, UnixStream};

    let dir = std::env::temp_dir().join(format!("windlass-inspect-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("socket");
    let what = |waits: Vec<Wait>| match &waits[..] {
        [Wait::Readable { what, .. }] => what.clone(),
        _ => panic!("{waits:?}"),
    };
    block_on(async {
        let listener = UnixListener::bind(&path).await.unwrap();
        let (_acceptor, accept) = waits_of(async move { listener.accept().await }).await;
        assert_eq!(
            what(accept),
            format!("Unix socket listener {}", path.display())
        );

        let (mut one, _other) = UnixStream::pair().unwrap();
        let (_reader, read) = waits_of(async move { one.read(&mut [0]).await }).await;
        assert_eq!(what(read), "Unix socket");

        let (mut reader, _writer) = windlass::io::pipe().unwrap();
        let (_reader, read) = waits_of(async move { reader.read(&mut [0]).await }).await;
        assert_eq!(what(read), "pipe");
    });
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn waits_of_a_select_are_alternatives() {
    block_on(async {
        let event = Rc::new(Event::new());
        let listened = event.clone();
        let (task, waits) = waits_of(async move {
            let mut listen = pin!(listened.listen().fuse());
            select! {
                () = listen => {}
                () = sleep(Duration::from_secs(3600)).fuse() => {}
            }
        })
        .await;
        let is_timer = |wait: &Wait| matches!(wait, Wait::Timer { .. });
        let is_event = |wait: &Wait| matches!(wait, Wait::Event { .. });
        assert!(waits.len() == 2 && waits.iter().any(is_timer) && waits.iter().any(is_event));
        assert!(info(task.id().unwrap()).to_string().contains(" or "));
        event.notify(1);
        task.await;
    });
}

#[test]
fn a_combinator_with_wakers_of_its_own_is_unknown() {
    block_on(async {
        let mut all = FuturesUnordered::new();
        all.push(sleep(Duration::from_secs(3600)));
        let (_task, waits) = waits_of(async move { all.next().await }).await;
        assert_eq!(waits, [Wait::Unknown]);
    });
}

#[test]
fn waits_for_objects_of_sync_have_the_place_of_their_creation() {
    block_on(async {
        let line = line!() + 1;
        let (mutex, semaphore) = (Rc::new(Mutex::new(())), Rc::new(Semaphore::new(2)));
        let (event, (watch_sender, mut watched)) = (Rc::new(Event::new()), watch::channel(0));
        let ((full, _unread), (silent, mut unsent)) = (mpsc::channel(1), mpsc::channel::<u8>(1));
        let (late, reply) = oneshot::channel::<u8>();
        full.try_send(1).unwrap();
        let held = mutex.clone();
        let holder = spawn(async move {
            let _guard = held.lock().await;
            pending::<()>().await;
        });
        settle().await;
        let permit = semaphore.acquire(1).await.unwrap();
        let (other_mutex, other_semaphore) = (mutex.clone(), semaphore.clone());
        let awaited = line!() + 2;
        let waits = [
            waits_of(async move { drop(other_mutex.lock().await) }).await,
            waits_of(async move { drop(other_semaphore.acquire(2).await) }).await,
            waits_of(async move { event.listen().await }).await,
            waits_of(async move { _ = watched.changed().await }).await,
            waits_of(async move { _ = full.send(2).await }).await,
            waits_of(async move { _ = unsent.recv().await }).await,
            waits_of(async move { _ = reply.await }).await,
        ];
        let texts: Vec<_> = waits
            .iter()
            .map(|(_, waits)| waits[0].to_string())
            .collect();
        let at = |line| format!("created at {}:{line}:", file!());
        for ((text, start), line) in texts
            .iter()
            .zip([
                "lock ",
                "permits of the semaphore ",
                "event ",
                "value of the watch channel ",
                "room in the channel ",
                "value of the mpsc channel ",
                "value of the oneshot channel ",
            ])
            .zip([line, line, line + 1, line + 1, line + 2, line + 2, line + 3])
        {
            assert!(text.starts_with(&format!("{start}{}", at(line))), "{text}");
        }
        let held = format!("held by task {}, awaited at ", holder.id().unwrap());
        assert!(texts[0].contains(&held), "{}", texts[0]);
        assert!(texts[1].contains(": 2 wanted, 1 available, awaited at "));
        for (text, line) in texts.iter().zip(awaited..) {
            let place = format!(", awaited at {}:{line}:", file!());
            assert!(text.contains(&place), "{text}");
        }
        drop((permit, watch_sender, silent, late));
    });
}

#[test]
fn a_task_that_has_ended_holds_up_no_other() {
    block_on(async {
        let (sender, mut receiver) = mpsc::channel(1);
        let receiving = spawn(async move {
            receiver.recv().await;
            receiver
        });
        yield_now().await;
        sender.send(1).await.unwrap();
        let _receiver = receiving.await;
        let send = async move {
            sender.send(2).await.unwrap();
            sender.send(3).await.unwrap();
        };
        let (_producer, waits) = waits_of(send).await;
        assert!(
            matches!(waits[..], [Wait::Send { receiver: None, .. }]),
            "{waits:?}"
        );
    });
}

#[test]
fn an_await_in_a_box_has_no_place() {
    block_on(async {
        let mutex = Rc::new(Mutex::new(()));
        let _guard = mutex.lock().await;
        let other = mutex.clone();
        let lock = async move {
            let lock: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(other.lock());
            drop(lock.await);
        };
        let (_task, waits) = waits_of(lock).await;
        let [Wait::Lock { awaited_at, .. }] = waits[..] else {
            panic!("{waits:?}");
        };
        assert_eq!(awaited_at, None);
    });
}

#[test]
fn children_of_a_group_know_their_parent() {
    block_on(async {
        let (task, waits) = waits_of(async {
            let mut group = TaskGroup::infallible();
            group.spawn(pending::<()>());
            group.spawn(pending::<()>());
            group.join_next().await;
        })
        .await;
        let [Wait::Group { children, .. }] = &waits[..] else {
            panic!("{waits:?}");
        };
        assert_eq!(children.len(), 2);
        assert_eq!(waits[0].depends_on(), children);
        for child in children {
            assert_eq!(info(*child).parent, task.id());
        }
    });
}

#[test]
fn waits_of_children_of_a_scope_are_those_of_its_task() {
    block_on(async {
        let (_task, waits) = waits_of(scope(|scope| async move {
            scope.spawn(sleep(Duration::from_secs(3600)));
            scope.spawn(pending());
        }))
        .await;
        assert!(
            waits.iter().any(|wait| matches!(wait, Wait::Scope { .. })),
            "{waits:?}"
        );
        assert!(
            waits.iter().any(|wait| matches!(wait, Wait::Timer { .. })),
            "{waits:?}"
        );
        assert!(
            waits.contains(&Wait::Unknown),
            "of the second child: {waits:?}"
        );
    });
}

#[test]
fn stops_and_closures_are_listed() {
    block_on(async {
        let stop = StopSource::new();
        let token = stop.token();
        let (_task, waits) = waits_of(async move { token.stopped().await }).await;
        assert!(matches!(waits[..], [Wait::Stop { .. }]), "{waits:?}");

        let (end, ended) = std::sync::mpsc::channel::<()>();
        let closure = spawn_blocking(move || ended.recv());
        let (task, waits) = waits_of(closure).await;
        assert!(matches!(waits[..], [Wait::Blocking { .. }]), "{waits:?}");
        drop(end);
        assert!(task.await.is_err());
    });
}

#[test]
fn jobs_of_a_remote_are_listed() {
    let runtime = Runtime::new().unwrap();
    let remote = runtime.remote();
    let jobs = || {
        let tasks = runtime.tasks();
        assert_eq!(tasks.len(), 1);
        tasks[0].waits[0].to_string()
    };
    runtime.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(jobs(), "jobs of 1 `Remote`s");
    let other = remote.clone();
    assert_eq!(jobs(), "jobs of 2 `Remote`s");
    drop((remote, other)); // wakes the task, because its wait was listed
    runtime.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(jobs(), "jobs of 0 `Remote`s");
}

#[test]
fn another_thread_lists_tasks_by_a_remote() {
    let runtime = Runtime::new().unwrap();
    let remote = runtime.remote();
    let _idle = runtime.spawn(pending::<()>()).named("idle");
    let thread = std::thread::spawn(move || {
        let tasks: Vec<TaskInfo> = block_on(remote.run(inspect::tasks)).unwrap();
        tasks
            .iter()
            .any(|task| task.name.as_deref() == Some("idle"))
    });
    while !thread.is_finished() {
        runtime.turn(Some(Duration::from_millis(10))).unwrap();
    }
    assert!(thread.join().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn child_processes_and_signals_are_listed() {
    use windlass::process::Command;
    use windlass::signal::{Signal, Signals};

    block_on(async {
        let mut command = Command::new("sleep");
        command.arg("3600").kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let pid = child.id();
        let (_task, waits) = waits_of(async move { child.wait().await }).await;
        let [Wait::Child { pid: listed, .. }] = waits[..] else {
            panic!("{waits:?}");
        };
        assert_eq!(listed, pid);

        let mut signals = Signals::new([Signal::TERM, Signal::HUP]).unwrap();
        let (_task, waits) = waits_of(async move { signals.recv().await }).await;
        assert!(matches!(waits[..], [Wait::Signal { .. }]), "{waits:?}");
        assert!(waits[0].to_string().contains("SIGTERM"), "{waits:?}");
    });
}

#[test]
fn statistics_are_collected_while_tracked() {
    inspect::track(true);
    block_on(async {
        let burns = Duration::from_millis(20);
        let busy = spawn(async move {
            for _ in 0..5 {
                let start = Instant::now();
                while start.elapsed() < burns {}
                yield_now().await;
            }
            pending::<()>().await;
        });
        let many = spawn(async {
            for _ in 0..1000 {
                yield_now().await;
            }
            pending::<()>().await;
        });
        for _ in 0..1100 {
            yield_now().await;
        }
        let (busy, many) = (info(busy.id().unwrap()), info(many.id().unwrap()));
        assert_eq!((busy.polls, many.polls), (Some(6), Some(1001)));
        assert!(busy.busy >= Some(5 * burns));
        assert!(busy.age >= busy.busy);
        assert!(busy.to_string().contains(", 6 polls, "), "{busy}");
    });
    inspect::track(false);
    block_on(async {
        let task = spawn(pending::<()>());
        yield_now().await;
        assert_eq!(info(task.id().unwrap()).polls, None);
    });
}

#[test]
fn statistics_of_ended_tasks_are_forgotten() {
    inspect::track(true);
    block_on(async {
        let kept = spawn(pending::<()>());
        for _ in 0..10_000 {
            spawn(async {}).await;
        }
        assert_eq!(info(kept.id().unwrap()).polls, Some(1));
    });
}

#[test]
fn statistics_of_nested_loops_are_kept_apart() {
    inspect::track(true);
    let inner = Rc::new(Runtime::new().unwrap());
    let outer = Runtime::new().unwrap();
    outer.block_on(async {
        for _ in 0..3 {
            inner.block_on(yield_now());
        }
        yield_now().await;
        let main = inspect::tasks()
            .into_iter()
            .find(|task| task.is_main)
            .unwrap();
        assert_eq!(main.polls, Some(2));
    });
}

#[test]
fn a_hundred_thousand_tasks_are_listed() {
    const TASKS: usize = 100_000;
    block_on(async {
        let event = Rc::new(Event::new());
        let expected: RefCell<HashMap<TaskId, &str>> = RefCell::default();
        let note = |task: Task<()>, wait| {
            expected.borrow_mut().insert(task.id().unwrap(), wait);
            task
        };
        let mut kept = Vec::new();
        for number in 0..TASKS / 4 {
            let hour = Duration::from_secs(3600 + number as u64);
            kept.push(note(spawn(sleep(hour)), "timer in "));
            let joined = note(spawn(pending()), "unknown event");
            kept.push(note(spawn(joined), "join of task "));
            let event = event.clone();
            kept.push(note(
                spawn(async move { event.listen().await }),
                "event created at ",
            ));
        }
        for _ in 0..2 * TASKS / 256 {
            yield_now().await;
        }
        let start = Instant::now();
        let tasks = inspect::tasks();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        let expected = expected.take();
        assert_eq!(tasks.len(), expected.len() + 1);
        for task in tasks.iter().filter(|task| !task.is_main) {
            let wait = expected[&task.id];
            assert!(
                task.waits[0].to_string().starts_with(wait),
                "{task}, not {wait}"
            );
        }
        assert!(inspect::deadlock().is_none());
    });
}

#[test]
fn tasks_are_listed_while_a_thread_ends() {
    struct ListOnDrop(Runtime, std::sync::mpsc::Sender<usize>);
    impl Drop for ListOnDrop {
        fn drop(&mut self) {
            inspect::track(false);
            inspect::track(true);
            self.0.turn(Some(Duration::ZERO)).unwrap();
            self.1.send(inspect::tasks().len()).unwrap();
        }
    }
    thread_local!(static LATE: RefCell<Option<ListOnDrop>> = const { RefCell::new(None) });
    for is_tracked_first in [false, true] {
        let (post, posted) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            inspect::track(is_tracked_first);
            let runtime = Runtime::builder().on_deadlock(|_| ()).build().unwrap();
            runtime.spawn(pending::<()>()).detach();
            LATE.set(Some(ListOnDrop(runtime, post)));
            inspect::track(true);
        });
        thread.join().unwrap();
        assert_eq!(posted.recv(), Ok(1));
    }
}
