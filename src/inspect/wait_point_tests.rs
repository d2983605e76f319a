use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use windlass_executor::{Task, TaskId};

use super::*;
use crate::sync::{Event, Mutex, OnceCell, Semaphore, broadcast, mpsc, oneshot, watch};
use crate::task::{StopSource, TaskGroup, scope};
use crate::{Pool, Runtime, block_on, spawn, yield_now};

/// The time after which a test has hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lists the waits of one task.
fn waits_of(task: TaskId) -> Vec<FacadeWait> {
    let mut waits = list();
    waits.retain(|wait| wait.waker.task() == Some(task));
    waits
}

/// Lists the waits for this thread's objects. Tests on other threads have waits of other kinds.
fn local_waits() -> Vec<FacadeWait> {
    let mut waits = Vec::new();
    waits::list_objects(&mut waits);
    waits
}

/// Waits until the task waits for one object.
async fn wait_of<T: 'static>(task: &Task<T>) -> FacadeWait {
    wait_of_id(task.id().unwrap()).await
}

async fn wait_of_id(task: TaskId) -> FacadeWait {
    let start = Instant::now();
    loop {
        yield_now().await;
        match waits_of(task).as_slice() {
            [] => assert!(start.elapsed() < PATIENCE, "no wait is listed"),
            [wait] => return wait.clone(),
            several => panic!("{several:?}"),
        }
    }
}

/// Returns what a future waits for, and checks that its drop leaves nothing.
async fn wait_until_dropped<F>(future: F) -> FacadeWait
where
    F: Future<Output: 'static> + 'static,
{
    let task = spawn(future);
    let wait = wait_of(&task).await;
    let id = task.id().unwrap();
    drop(task);
    assert!(waits_of(id).is_empty(), "after the drop");
    wait
}

/// Returns what a future waits for, and checks that its end leaves nothing.
async fn wait_until_ended<F>(future: F, end: impl FnOnce()) -> FacadeWait
where
    F: Future<Output: 'static> + 'static,
{
    let task = spawn(future);
    let wait = wait_of(&task).await;
    let id = task.id().unwrap();
    end();
    task.await;
    assert!(waits_of(id).is_empty(), "after the end");
    wait
}

fn line(wait: &FacadeWait) -> u32 {
    let place = wait.created_at.expect("the place is known");
    assert!(place.file().ends_with("wait_point_tests.rs"), "{place}");
    place.line()
}

fn locked(owner: Option<TaskId>, is_unpolled: bool) -> impl Fn(&FacadeWait) -> bool {
    move |wait| match wait.kind {
        WaitKind::MutexLock {
            owner: listed,
            is_unpolled: listed_as,
        } => (listed.map(|it| it.task()), listed_as) == (owner.map(Some), is_unpolled),
        _ => false,
    }
}

#[test]
fn a_lock_is_listed_with_its_owner() {
    block_on(async {
        let (mutex, created_at) = (Rc::new(Mutex::new(0)), line!());
        let lock = || {
            let mutex = mutex.clone();
            async move { mem::drop(mutex.lock().await) }
        };
        let holder = {
            let mutex = mutex.clone();
            spawn(async move {
                let _guard = mutex.lock().await;
                pending::<()>().await
            })
        };
        yield_now().await;
        let wait = wait_until_dropped(lock()).await;
        assert!(locked(holder.id(), false)(&wait), "{wait:?}");
        assert_eq!(line(&wait), created_at);
        let wait = wait_until_ended(lock(), || drop(holder)).await;
        assert_eq!(line(&wait), created_at);

        let guard = mutex.try_lock().unwrap();
        let wait = wait_until_ended(lock(), || drop(guard)).await;
        assert!(locked(None, false)(&wait), "{wait:?}");
    });
}

#[test]
fn a_lock_belongs_to_the_waiter_that_was_granted_it() {
    block_on(async {
        let mutex = Rc::new(Mutex::new(0));
        let stop = Rc::new(Cell::new(false));
        let guard = mutex.lock().await;
        let careless = {
            let (mutex, stop) = (mutex.clone(), stop.clone());
            spawn(async move {
                let mut lock = pin!(mutex.lock());
                poll_fn(|cx| {
                    // Polls the lock once, and something else afterwards.
                    if !stop.replace(true) {
                        assert!(lock.as_mut().poll(cx).is_pending());
                    }
                    Poll::<()>::Pending
                })
                .await
            })
        };
        yield_now().await;
        drop(guard);
        let waiter = spawn({
            let mutex = mutex.clone();
            async move { mem::drop(mutex.lock().await) }
        });
        let wait = wait_of(&waiter).await;
        assert!(locked(careless.id(), true)(&wait), "{wait:?}");
        drop(careless);
        waiter.await;
    });
}

#[test]
fn a_lock_is_handed_from_waiter_to_waiter() {
    block_on(async {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().await;
        let tasks = [0; 3].map(|_| {
            let mutex = mutex.clone();
            spawn(async move {
                let _guard = mutex.lock().await;
                pending::<()>().await
            })
        });
        yield_now().await;
        drop(guard);
        let mut owner: Option<TaskId> = None;
        for task in tasks {
            let id = task.id().unwrap();
            yield_now().await;
            yield_now().await;
            assert!(waits_of(id).is_empty());
            assert!(owner.is_none_or(|owner| waits_of(owner).is_empty()));
            let waits = local_waits();
            assert!(waits.iter().all(locked(Some(id), false)), "{waits:?}");
            owner = Some(id);
        }
    });
}

#[test]
fn a_mutex_may_move_after_a_lock_was_leaked() {
    let mutex = Mutex::new(0);
    let guard = mutex.try_lock().unwrap();
    let mut lock = Box::pin(mutex.lock());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(lock.as_mut().poll(&mut cx).is_pending());
    mem::forget((lock, guard));
    let moved = Box::new(mutex);
    let waits = local_waits();
    assert_eq!(waits.len(), 1);
    assert!(waits.iter().all(locked(None, false)));
    drop(moved);
    assert!(local_waits().is_empty());
}

#[test]
fn an_acquire_is_listed_with_the_available_permits() {
    block_on(async {
        let semaphore = Rc::new(Semaphore::new(2));
        let acquire = |permits| {
            let acquire = semaphore.clone().acquire_owned(permits);
            async move { acquire.await.map(|permit| permit.forget()) }
        };
        let kind = |wants, available| WaitKind::Semaphore {
            wants,
            available,
            unpolled: 0,
        };
        assert_eq!(wait_until_dropped(acquire(3)).await.kind, kind(3, 2));
        let add = || semaphore.add_permits(1);
        assert_eq!(wait_until_ended(acquire(3), add).await.kind, kind(3, 2));
        let task = spawn(acquire(3));
        assert_eq!(wait_of(&task).await.kind, kind(3, 0));
        semaphore.add_permits(2);
        assert_eq!(wait_of(&task).await.kind, kind(3, 2));
        semaphore.close();
        assert!(task.await.is_err());
    });
}

#[test]
fn a_listener_is_listed() {
    block_on(async {
        let event = Rc::new(Event::new());
        let listen = || {
            let event = event.clone();
            async move { event.listen().await }
        };
        assert_eq!(wait_until_dropped(listen()).await.kind, WaitKind::Event);
        let wait = wait_until_ended(listen(), || event.notify_one()).await;
        assert_eq!(wait.kind, WaitKind::Event);
        let unpolled = event.listen();
        assert!(local_waits().is_empty());
        drop(unpolled);
    });
}

#[test]
fn both_ends_of_a_channel_are_listed_as_one_object() {
    block_on(async {
        let ((sender, receiver), created_at) = (mpsc::channel(1), line!());
        let receiver = Rc::new(RefCell::new(receiver));
        let receive = || {
            let receiver = receiver.clone();
            async move { poll_fn(|cx| receiver.borrow_mut().poll_recv(cx)).await }
        };
        let kinds = |sender, receiver: Option<WakerId>| {
            let senders = 1;
            let capacity = 1;
            let receive = WaitKind::ChannelReceive { senders, sender };
            (receive, WaitKind::ChannelSend { capacity, receiver })
        };
        let task = spawn(receive());
        let receiving = wait_of(&task).await;
        assert_eq!(receiving.kind, kinds(None, None).0);
        assert_eq!(line(&receiving), created_at);
        sender.try_send(1).unwrap();
        assert_eq!(task.await, Some(1));
        assert!(local_waits().is_empty());

        sender.try_send(1).unwrap();
        let send = || {
            let sender = sender.clone();
            async move { sender.send(2).await }
        };
        let sending = wait_until_dropped(send()).await;
        // The task has ended. `inspect` removes it.
        assert_eq!(sending.kind, kinds(None, Some(receiving.waker)).1);
        assert_eq!(sending.object, receiving.object);
        let received = || assert_eq!(receiver.borrow_mut().try_recv(), Ok(1));
        let again = wait_until_ended(send(), received).await;
        assert_eq!(again.kind, sending.kind);
        assert_eq!(receiver.borrow_mut().try_recv(), Ok(2));
        let task = spawn(receive());
        let receiving = wait_of(&task).await;
        assert_eq!(receiving.kind, kinds(Some(again.waker), None).0);
    });
}

#[test]
fn an_unbounded_channel_lists_its_receiver_until_it_is_dropped() {
    block_on(async {
        let (sender, mut receiver) = mpsc::unbounded_channel::<u32>();
        let wait = wait_until_dropped(async move { receiver.recv().await }).await;
        let (senders, peer) = (1, None);
        assert_eq!(
            wait.kind,
            WaitKind::ChannelReceive {
                senders,
                sender: peer
            }
        );
        drop(sender);
    });
}

#[test]
fn both_ends_of_a_oneshot_channel_are_listed() {
    block_on(async {
        let ((sender, receiver), created_at) = (oneshot::channel(), line!());
        let send = move || sender.send(1).unwrap();
        let wait = wait_until_ended(receiver, send).await;
        assert_eq!(wait.kind, WaitKind::OneshotReceive);
        assert_eq!(line(&wait), created_at);

        let (sender, receiver) = oneshot::channel::<u32>();
        let wait = wait_until_dropped(receiver).await;
        assert_eq!(wait.kind, WaitKind::OneshotReceive);
        drop(sender);

        let (mut sender, receiver) = oneshot::channel::<u32>();
        let closed = async move { sender.closed().await };
        let wait = wait_until_ended(closed, || drop(receiver)).await;
        assert_eq!(wait.kind, WaitKind::Closed);
    });
}

#[test]
fn a_watcher_is_listed() {
    block_on(async {
        let ((sender, receiver), created_at) = (watch::channel(0), line!());
        let changed = || {
            let mut receiver = receiver.clone();
            async move { receiver.changed().await }
        };
        let wait = wait_until_dropped(changed()).await;
        assert_eq!((&wait.kind, line(&wait)), (&WaitKind::Watch, created_at));
        let wait = wait_until_ended(changed(), || sender.send(1).unwrap()).await;
        assert_eq!(wait.kind, WaitKind::Watch);
    });
}

#[test]
fn the_waits_for_a_broadcast_channel_are_listed() {
    block_on(async {
        let ((sender, receiver), created_at) = (broadcast::channel(1), line!());
        let receive = || {
            let mut receiver = receiver.resubscribe();
            async move { receiver.recv().await }
        };
        let wait = wait_until_dropped(receive()).await;
        assert_eq!(
            (&wait.kind, line(&wait)),
            (&WaitKind::Broadcast, created_at)
        );
        let send = || assert!(sender.send(1).is_ok());
        let wait = wait_until_ended(receive(), send).await;
        assert_eq!(wait.kind, WaitKind::Broadcast);
    });
}

#[test]
fn senders_that_wait_for_the_end_are_listed() {
    block_on(async {
        let ((sender, receiver), created_at) = (mpsc::channel::<()>(1), line!());
        let closed = async move { sender.closed().await };
        let wait = wait_until_ended(closed, || drop(receiver)).await;
        assert_eq!((&wait.kind, line(&wait)), (&WaitKind::Closed, created_at));
        let ((sender, _receiver), created_at) = (watch::channel(()), line!());
        let wait = wait_until_dropped(async move { sender.closed().await }).await;
        assert_eq!((&wait.kind, line(&wait)), (&WaitKind::Closed, created_at));
    });
}

#[test]
fn a_computation_of_a_cell_is_listed_as_a_held_lock() {
    block_on(async {
        let (cell, created_at) = (Rc::new(OnceCell::new()), line!());
        let (computing, others) = (cell.clone(), cell.clone());
        let first = spawn(async move { computing.get_or_init(pending::<()>).await.to_owned() });
        yield_now().await;
        let other = async move { others.get_or_init(async || ()).await.to_owned() };
        let wait = wait_until_dropped(other).await;
        assert_eq!(line(&wait), created_at);
        let WaitKind::MutexLock { owner, .. } = wait.kind else {
            panic!("{:?}", wait.kind)
        };
        assert_eq!(owner.and_then(WakerId::task), first.id());
    });
}

#[test]
fn a_wait_for_a_stop_is_listed() {
    block_on(async {
        let source = StopSource::new();
        let (child, created_at) = (source.token().child(), line!());
        let stopped = || child.token().stopped();
        let wait = wait_until_dropped(stopped()).await;
        assert_eq!((&wait.kind, line(&wait)), (&WaitKind::Stop, created_at));
        let wait = wait_until_ended(stopped(), || source.stop()).await;
        assert_eq!(wait.kind, WaitKind::Stop);
    });
}

#[test]
fn a_group_is_listed_with_its_children() {
    block_on(async {
        let stop = StopSource::new();
        let token = stop.token();
        let owner = spawn(async move {
            let mut group = TaskGroup::independent().limit(2);
            for _ in 0..3 {
                let token = token.clone();
                group.spawn(async move { token.stopped().await });
            }
            while group.join_next().await.is_some() {}
            group
        });
        let wait = wait_of(&owner).await;
        assert_eq!(wait.kind, WaitKind::Group);
        let groups = list_groups();
        let [group] = groups.as_slice() else {
            panic!("{groups:?}")
        };
        assert_eq!(group.object, wait.object);
        assert_eq!(Some(group.created_at), wait.created_at);
        assert_eq!(group.created_by, owner.id());
        assert_eq!((group.children.len(), group.queued), (2, 1));
        for &child in &group.children {
            assert_eq!(wait_of_id(child).await.kind, WaitKind::Stop);
        }
        stop.stop();
        let group = owner.await;
        assert!(local_waits().is_empty());
        assert!(list_groups()[0].children.is_empty());
        drop(group);
        assert!(list_groups().is_empty());
    });
}

#[test]
fn a_scope_is_listed_with_the_wakers_of_its_children() {
    block_on(async {
        let event = Rc::new(Event::new());
        let listened = event.clone();
        let scope = async move {
            scope(async |s| {
                for _ in 0..100 {
                    s.spawn(async { listened.listen().await });
                }
            })
            .await;
        };
        let task = spawn(scope);
        let wait = wait_of(&task).await;
        let WaitKind::Scope { children } = wait.kind else {
            panic!("{wait:?}")
        };
        let waits = local_waits();
        let listening = waits.iter().filter(|it| it.kind == WaitKind::Event);
        let listening: Vec<_> = listening.collect();
        assert_eq!(listening.len(), 100);
        assert!(listening.iter().all(|it| children.contains(&it.waker)));
        event.notify_all();
        task.await;
        assert!(local_waits().is_empty());
    });
}

#[test]
fn a_scope_forgets_the_wakers_of_a_burst() {
    block_on(async {
        let event = Rc::new(Event::new());
        let (listened, lasting) = (event.clone(), event.clone());
        let task = spawn(async move {
            scope(async |s| {
                for _ in 0..10_000 {
                    s.spawn(async { listened.listen().await });
                }
                listened.listen().await;
                pending::<()>().await;
            })
            .await;
        });
        wait_of(&task).await;
        let start = Instant::now();
        loop {
            lasting.notify_all();
            yield_now().await;
            if let [
                FacadeWait {
                    kind: WaitKind::Scope { children },
                    ..
                },
            ] = &local_waits()[..]
            {
                if children.len() <= 64 {
                    break;
                }
            }
            assert!(start.elapsed() < PATIENCE, "the wakers stay");
        }
    });
}

#[test]
fn a_closure_is_listed_while_it_runs_or_is_queued() {
    static POOL: Pool = Pool::new("listed", 1, Duration::ZERO);
    block_on(async {
        let ((key, locked), kind) = (std::sync::mpsc::channel::<()>(), |is_running| {
            WaitKind::Blocking {
                pool: "listed",
                is_running,
            }
        });
        let (running, created_at) = (POOL.run(move || _ = locked.recv()).unwrap(), line!());
        let running = spawn(running);
        let start = Instant::now();
        while wait_of(&running).await.kind != kind(true) {
            assert!(start.elapsed() < PATIENCE, "the closure stays queued");
        }
        assert_eq!(line(&wait_of(&running).await), created_at);
        let queued = POOL.run(|| ()).unwrap();
        assert_eq!(wait_until_dropped(queued).await.kind, kind(false));
        let id = running.id().unwrap();
        drop(key);
        running.await;
        assert!(waits_of(id).is_empty());
    });
}

#[test]
fn a_remote_task_is_listed_with_the_place_of_its_spawn() {
    let runtime = Runtime::new().unwrap();
    let remote = runtime.remote();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_stopped = stop.clone();
    let waiting = thread::spawn(move || {
        block_on(async {
            let (spawned, spawned_at) = (remote.spawn(pending::<()>), line!());
            let wait = wait_until_dropped(spawned).await;
            assert_eq!((&wait.kind, line(&wait)), (&WaitKind::Remote, spawned_at));
            let running = remote.run(|| 7);
            let task = spawn(running);
            let id = task.id().unwrap();
            assert_eq!(task.await.unwrap(), 7);
            assert!(waits_of(id).is_empty());
            is_stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        });
    });
    while !stop.load(std::sync::atomic::Ordering::SeqCst) && !waiting.is_finished() {
        runtime.turn(Some(Duration::from_millis(1))).unwrap();
    }
    waiting.join().unwrap();
}

#[cfg(unix)]
mod unix {
    use super::*;
    use crate::fs::File;
    use crate::process::Command;
    use crate::signal::{Signal, Signals};
    use crate::waits::FileOperationKind;
    use std::os::fd::AsRawFd;

    fn reads_are_listed() {
        block_on(async {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let fd = reader.as_raw_fd();
            let mut file = File::from(std::fs::File::from(reader));
            let mut buffer = [0; 8];
            let read = async move {
                let read = futures::AsyncReadExt::read(&mut file, &mut buffer).await;
                read.unwrap()
            };
            let write = || _ = rustix::io::write(&writer, b"ahoy").unwrap();
            let task = spawn(read);
            let start = Instant::now();
            loop {
                let wait = wait_of(&task).await;
                let WaitKind::File {
                    operation,
                    is_running,
                } = wait.kind
                else {
                    panic!("{wait:?}")
                };
                assert_eq!(operation.kind, FileOperationKind::Read);
                assert_eq!(operation.fd, Some(fd));
                if is_running {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "the operation stays queued");
            }
            let id = task.id().unwrap();
            write();
            assert_eq!(task.await, 4);
            assert!(waits_of(id).is_empty());
        });
    }

    #[test]
    fn an_operation_of_the_ring_is_listed() {
        reads_are_listed();
    }

    #[test]
    fn an_operation_of_the_pool_is_listed() {
        let thread = thread::spawn(|| {
            crate::fs::use_io_uring(false).unwrap();
            reads_are_listed();
        });
        thread.join().unwrap();
    }

    #[test]
    fn sources_of_signals_and_children_are_labelled() {
        block_on(async {
            assert_eq!(list_sources(), []);
            let signals = Signals::new([Signal::USR2, Signal::HUP]).unwrap();
            let sources = list_sources();
            let numbers = vec![Signal::USR2.as_raw(), Signal::HUP.as_raw()];
            assert_eq!(sources.len(), 1);
            assert_eq!(sources[0].kind, SourceKind::Signals(numbers));
            drop(signals);
            assert_eq!(list_sources(), []);

            let mut child = Command::new("sleep").arg("60").spawn().unwrap();
            let pid = child.id();
            {
                let mut wait = pin!(child.wait());
                let first = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending()));
                assert!(first.await);
                let sources = list_sources();
                assert_eq!(sources.len(), 1);
                assert_eq!(sources[0].kind, SourceKind::Child { pid });
            }
            child.kill().unwrap();
            child.wait().await.unwrap();
            assert_eq!(list_sources(), []);
        });
    }
}
