//! The tree of stop tokens, its deadlines, and the graceful shutdown of a server.

#[path = "../common/mod.rs"]
mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::{Future, pending, poll_fn};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{Count, OnDrop, run};
use futures::future::{FusedFuture, ready};
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, select};
use proptest::prelude::*;
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopSource, StopToken, TaskGroup};
use windlass::time::{sleep, timeout};
use windlass::{spawn, yield_now};

const HOUR: Duration = Duration::from_secs(3600);

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn stop_wakes_waiters_of_the_source_and_below_in_order() {
    run(async {
        let (root, order) = (StopSource::new(), Rc::new(Cell::new(String::new())));
        let (child, sibling) = (root.token().child(), root.token().child());
        let grandchild = child.token().child();
        let tasks = [
            ("r", &root),
            ("g", &grandchild),
            ("c", &child),
            ("s", &sibling),
        ];
        let tasks = tasks.map(|(name, source)| {
            let (token, order) = (source.token(), order.clone());
            spawn(async move {
                token.stopped().await;
                order.set(order.take() + name);
            })
        });
        yield_now().await;
        child.stop();
        yield_now().await;
        assert_eq!(order.take(), "cg", "parents first, and only waiters below");
        root.stop();
        for task in tasks {
            task.await;
        }
        assert_eq!(order.take(), "rs");
    });
}

#[test]
fn a_child_of_a_stopped_token_is_stopped() {
    let root = StopSource::default();
    root.stop();
    root.stop(); // has no effect
    assert!(root.token().child().token().is_stopped());
    assert!(format!("{root:?} {:?}", root.token()).contains("StopToken { stopped: true"));
}

#[test]
fn sources_between_parent_and_child_may_be_dropped() {
    let root = StopSource::new();
    let leaf = root.token().child().token().child().token();
    assert!(!leaf.is_stopped());
    root.stop();
    assert!(leaf.is_stopped());
}

#[test]
fn dropping_a_source_stops_nothing() {
    let token = StopSource::new().token();
    assert!(!token.is_stopped() && poll(token.stopped()).is_pending());
}

#[test]
fn run_returns_the_output_or_drops_the_future() {
    run(async {
        let (source, dropped) = (StopSource::new(), Count::default());
        let token = source.token();
        assert_eq!(token.run(async { 7 }).await, Some(7));
        let (theirs, held) = (dropped.clone(), token.clone());
        let running = spawn(async move {
            let _held = OnDrop(move || theirs.add());
            held.run(pending::<()>()).await
        });
        let counting = dropped.clone();
        let held = OnDrop(move || counting.add());
        yield_now().await;
        source.stop();
        assert_eq!(
            token.run(async move { drop(held) }).await,
            None,
            "not even polled"
        );
        assert_eq!(running.await, None);
        assert_eq!(dropped.get(), 2);
    });
}

#[test]
fn run_keeps_an_output_that_completes_with_the_stop() {
    let source = StopSource::new();
    let theirs = source.clone();
    let token = source.token();
    let stops_and_ends = poll_fn(move |_| {
        theirs.stop();
        Poll::Ready(7)
    });
    assert_eq!(poll(token.run(stops_and_ends)), Poll::Ready(Some(7)));
}

#[test]
fn a_deadline_stops_waiters() {
    run(async {
        let source = StopSource::new();
        let token = source.token();
        assert_eq!(token.deadline(), None);
        source.stop_after(Duration::from_millis(2));
        let deadline = token.deadline().expect("it is set");
        assert_eq!(token.run(pending::<()>()).await, None);
        assert!(Instant::now() >= deadline && token.is_stopped());
    });
}

#[test]
fn a_new_deadline_applies_to_waiters_below() {
    run(async {
        let root = StopSource::new();
        let leaf = root.token().child();
        leaf.stop_after(HOUR);
        let token = leaf.token();
        let waiting = spawn(async move { token.stopped().await });
        yield_now().await;
        root.stop_after(Duration::from_millis(2)); // has not passed when the waiter is woken
        waiting.await;
    });
}

#[test]
fn later_and_unreachable_deadlines_have_no_effect() {
    let source = StopSource::new();
    source.stop_after(Duration::MAX);
    assert_eq!(source.token().deadline(), None);
    let noon = Instant::now() + HOUR;
    source.stop_at(noon);
    source.stop_after(HOUR * 2);
    assert_eq!(source.token().deadline(), Some(noon));
}

/// Counts wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn waiters_are_woken_once_and_dropped_ones_never() {
    let (source, wakes) = (StopSource::new(), Arc::new(Wakes::default()));
    let (token, waker) = (source.token(), Waker::from(wakes.clone()));
    let mut waiting = token.stopped();
    for _ in 0..100 {
        // A loop that drops a pending `stopped` in each round, as servers do, leaks nothing.
        let mut dropped = token.stopped();
        for waiter in [&mut waiting, &mut dropped] {
            assert!(
                waiter
                    .poll_unpin(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
    }
    assert_eq!(
        Arc::strong_count(&wakes),
        3,
        "ours, the waker, and that of `waiting`"
    );
    source.stop();
    source.stop();
    assert_eq!(wakes.0.load(Relaxed), 1);
}

thread_local! {
    static TREE: RefCell<Option<StopSource>> = const { RefCell::new(None) };
    /// The reason of each use of the tree.
    static USES: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// A waker that uses the tree when it is woken and dropped.
struct ReEnters;

impl ReEnters {
    fn enter(&self, why: &'static str) {
        let tree = TREE.with_borrow(Option::clone);
        if let Some(source) = tree {
            drop(source.token().child());
            source.stop_after(HOUR);
            source.stop();
            USES.with_borrow_mut(|uses| uses.push(why));
        }
    }
}

impl Wake for ReEnters {
    fn wake(self: Arc<Self>) {
        self.enter("wake");
    }
}

impl Drop for ReEnters {
    fn drop(&mut self) {
        self.enter("drop");
    }
}

#[test]
fn the_waker_of_a_waiter_may_use_the_tree() {
    let all: [(_, &[_]); 3] = [
        ("woken", &["wake", "drop"]),
        ("replaced", &["drop"]),
        ("dropped", &["drop"]),
    ];
    for (how, uses) in all {
        let source = StopSource::new();
        let mut stopped = source.token().stopped();
        let waker = Waker::from(Arc::new(ReEnters));
        assert!(
            stopped
                .poll_unpin(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(waker);
        TREE.set(Some(source.clone()));
        match how {
            "woken" => source.stop(),
            "replaced" => assert!(
                poll(&mut stopped).is_ready(),
                "the old waker's drop stops it"
            ),
            _ => drop(stopped),
        }
        TREE.set(None);
        assert_eq!(USES.take(), uses, "{how}");
        assert!(source.token().is_stopped(), "{how}");
    }
}

/// A waker that panics, with a payload that panics when it is dropped.
struct Bad;

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any(OnDrop(|| panic!("a bad payload (meant)")));
    }
}

#[test]
fn a_panicking_waker_stops_no_other_wake() {
    let (source, wakes) = (StopSource::new(), Arc::new(Wakes::default()));
    let tokens = [
        source.token(),
        source.token(),
        source.token().child().token(),
    ];
    let mut waiting = tokens.each_ref().map(StopToken::stopped);
    let wakers: [Waker; 3] = [
        Arc::new(Bad).into(),
        wakes.clone().into(),
        wakes.clone().into(),
    ];
    for (waiter, waker) in waiting.iter_mut().zip(&wakers) {
        let mut cx = Context::from_waker(waker);
        assert!(waiter.poll_unpin(&mut cx).is_pending());
    }
    source.stop();
    assert_eq!(wakes.0.load(Relaxed), 2);
}

#[test]
fn run_is_hardly_larger_than_its_future() {
    let token = StopSource::new().token();
    let held = async {
        let buffer = [0_u8; 4096];
        yield_now().await;
        assert_eq!(buffer[0], 0);
    };
    let size = size_of_val(&held);
    assert!(size_of_val(&token.run(held)) < size + 128);
}

#[test]
fn select_takes_it_without_pinning() {
    run(async {
        let source = StopSource::new();
        source.stop_after(Duration::from_millis(1));
        let mut stopped = source.token().stopped().fuse();
        let mut rounds = 0;
        loop {
            select! {
                () = stopped => break,
                () = yield_now().fuse() => rounds += 1,
            }
        }
        assert!(rounds > 0);
    });
}

#[test]
fn a_woken_waiter_may_stop_another_source() {
    run(async {
        let (first, second) = (StopSource::new(), StopSource::new());
        let waits_for = first.token();
        let stops = second.clone();
        let stopper = spawn(async move {
            waits_for.stopped().await;
            stops.stop();
        });
        let token = second.token();
        yield_now().await;
        first.stop();
        token.stopped().await;
        stopper.await;
    });
}

#[test]
fn a_hundred_thousand_levels_stop_and_are_dropped() {
    let root = StopSource::new();
    let mut leaf = root.token();
    for _ in 0..100_000 {
        leaf = leaf.child().token();
    }
    root.stop();
    assert!(leaf.is_stopped());
    drop((root, leaf));
}

/// A server that answers two bytes with their sum, with graceful shutdown.
async fn serve(listener: TcpListener, stop: StopToken, limit: Duration) -> io::Result<bool> {
    let connections = TaskGroup::independent();
    while let Some(accepted) = stop.run(listener.accept()).await {
        connections.spawn(answer(accepted?.0, stop.clone()));
    }
    drop(listener);
    Ok(timeout(limit, connections.close()).await.is_ok())
}

/// A stop ends the connection between requests. A request in flight is answered.
async fn answer(mut stream: TcpStream, stop: StopToken) {
    let mut request = [0; 2];
    while let Some(Ok(())) = stop.run(stream.read_exact(&mut request[..1])).await {
        if stream.read_exact(&mut request[1..]).await.is_err() {
            return;
        }
        let sum = request[0].checked_add(request[1]).expect("it's small");
        stream.write_all(&[sum]).await.ok();
    }
}

#[test]
fn a_stopped_server_finishes_requests_in_flight() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (addr, stop) = (listener.local_addr()?, StopSource::new());
        let server = spawn(serve(listener, stop.token(), HOUR));
        let remote_stop = spawn(clients_on_a_thread(addr, stop));
        assert!(server.await?, "all connections have ended");
        remote_stop.await
    })
}

#[test]
fn a_panicking_handler_affects_no_other_client() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (addr, stop) = (listener.local_addr()?, StopSource::new());
        let server = spawn(serve(listener, stop.token(), HOUR));
        let before = TcpStream::connect(addr).await?;
        let mut bad = TcpStream::connect(addr).await?;
        bad.write_all(&[200, 100]).await?;
        assert_eq!(bad.read(&mut [0]).await?, 0, "the handler panics");
        for mut client in [before, TcpStream::connect(addr).await?] {
            client.write_all(&[1, 2]).await?;
            let mut reply = [0];
            client.read_exact(&mut reply).await?;
            assert_eq!(reply, [3]);
        }
        stop.stop();
        assert!(server.await?);
        Ok(())
    })
}

/// A client with std's blocking sockets, as in another program. The server stops between its steps.
async fn clients_on_a_thread(addr: SocketAddr, stop: StopSource) -> io::Result<()> {
    let (begun, has_begun) = futures::channel::oneshot::channel();
    let (stopped, is_stopped) = std::sync::mpsc::channel();
    let client = thread::spawn(move || {
        let mut busy = std::net::TcpStream::connect(addr)?;
        let mut idle = std::net::TcpStream::connect(addr)?;
        for stream in [&mut busy, &mut idle] {
            stream.write_all(&[1, 2])?;
            let mut reply = [0];
            stream.read_exact(&mut reply)?;
            assert_eq!(reply, [3]);
        }
        busy.write_all(&[3])?;
        begun.send(()).expect("the test waits");
        is_stopped.recv().expect("the test sends");
        assert_eq!(idle.read(&mut [0])?, 0, "the idle connection is closed");
        busy.write_all(&[4])?;
        let mut reply = Vec::new();
        busy.read_to_end(&mut reply)?;
        assert_eq!(reply, [7], "answered, and then closed");
        let refused = std::net::TcpStream::connect(addr).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        io::Result::Ok(())
    });
    has_begun.await.expect("the client continues");
    turn_once().await; // the task receives the first byte of the request
    stop.stop();
    yield_now().await;
    stopped.send(()).expect("the client waits");
    while !client.is_finished() {
        sleep(Duration::from_millis(1)).await;
    }
    client.join().expect("it doesn't panic")
}

#[test]
fn a_server_past_its_deadline_cancels_the_rest() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (addr, stop) = (listener.local_addr()?, StopSource::new());
        let server = spawn(serve(listener, stop.token(), Duration::ZERO));
        let mut client = TcpStream::connect(addr).await?;
        client.write_all(&[1, 2]).await?;
        client.read_exact(&mut [0]).await?;
        client.write_all(&[3]).await?; // the second byte never follows
        turn_once().await;
        stop.stop();
        assert!(!server.await?);
        assert_eq!(client.read(&mut [0]).await?, 0);
        Ok(())
    })
}

/// Lets the loop turn once, and the tasks run that it wakes.
async fn turn_once() {
    sleep(Duration::ZERO).await;
    yield_now().await;
}

/// A change of a tree, by the number of a node.
#[derive(Clone, Debug)]
enum Step {
    Child(usize),
    Stop(usize),
    StopAt(usize, u64),
    DropSource(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..1000usize;
    prop_oneof![
        4 => node.clone().prop_map(Step::Child),
        1 => node.clone().prop_map(Step::Stop),
        2 => (node.clone(), 0..100u64).prop_map(|(node, at)| Step::StopAt(node, at)),
        1 => node.prop_map(Step::DropSource),
    ]
}

/// The plain model, in which each node checks all nodes above it.
struct Model {
    parent: Option<usize>,
    stopped: bool,
    own_deadline: Option<Instant>,
}

fn model_of(nodes: &[Model], node: usize) -> (bool, Option<Instant>) {
    let node = &nodes[node];
    let above = node.parent.map(|parent| model_of(nodes, parent));
    let (stopped, deadline) = above.unwrap_or((false, None));
    let earliest = [deadline, node.own_deadline].into_iter().flatten().min();
    (stopped || node.stopped, earliest)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_behaves_like_a_model_that_checks_all_parents(
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let epoch = Instant::now() + HOUR;
        let root = StopSource::new();
        let mut tokens = vec![root.token()];
        let mut sources = vec![Some(root)];
        let mut model = vec![Model { parent: None, stopped: false, own_deadline: None }];
        let mut waiting = vec![(tokens[0].stopped(), false)];
        for step in steps {
            let (Step::Child(node) | Step::Stop(node) | Step::StopAt(node, _)
                | Step::DropSource(node)) = step;
            let node = node % tokens.len();
            match (step, &sources[node]) {
                (Step::Child(_), _) => {
                    let source = tokens[node].child();
                    tokens.push(source.token());
                    sources.push(Some(source));
                    let parent = Some(node);
                    model.push(Model { parent, stopped: false, own_deadline: None });
                    waiting.push((tokens[tokens.len() - 1].stopped(), false));
                }
                (Step::Stop(_), Some(source)) => {
                    source.stop();
                    model[node].stopped = true;
                }
                (Step::StopAt(_, at), Some(source)) => {
                    let deadline = epoch + Duration::from_secs(at);
                    source.stop_at(deadline);
                    let known = &mut model[node].own_deadline;
                    *known = Some(known.map_or(deadline, |known| known.min(deadline)));
                }
                (Step::DropSource(_), _) => sources[node] = None,
                (_, None) => {}
            }
            windlass::block_on(async {
                for (node, token) in tokens.iter().enumerate() {
                    let (stopped, deadline) = model_of(&model, node);
                    prop_assert_eq!(token.is_stopped(), stopped);
                    prop_assert_eq!(token.deadline(), deadline);
                    let (waiter, done) = &mut waiting[node];
                    *done = *done || poll(waiter).is_ready();
                    prop_assert_eq!(*done, stopped);
                }
                Ok(())
            })?;
        }
    }
}

#[test]
fn a_dropped_guard_stops_the_tree_below() {
    let source = StopSource::new();
    let (token, child) = (source.token(), source.token().child());
    let guard = source.clone().drop_guard();
    assert!(!token.is_stopped());
    drop(guard);
    assert!(token.is_stopped() && child.token().is_stopped());
}

#[test]
fn a_guard_stops_when_its_task_panics_or_is_cancelled() {
    run(async {
        for panics in [true, false] {
            let source = StopSource::new();
            let token = source.token();
            let task = spawn(async move {
                let _guard = source.drop_guard();
                assert!(!panics, "planned");
                pending::<()>().await;
            });
            yield_now().await;
            match panics {
                true => assert!(task.catch().await.is_err()),
                false => drop(task),
            }
            assert!(token.is_stopped());
        }
    });
}

#[test]
fn a_disarmed_guard_stops_nothing() {
    let source = StopSource::new().drop_guard().disarm();
    let token = source.token();
    drop(source);
    assert!(!token.is_stopped());
}

#[test]
#[allow(clippy::mutable_key_type, reason = "the hash is that of the address")]
fn clones_are_equal_and_other_sources_are_not() {
    let (a, b) = (StopSource::new(), StopSource::new());
    assert!(a == a.clone() && a != b && a.token() == a.token() && a.token() != b.token());
    assert_ne!(a.token(), a.token().child().token());
    let tokens = HashSet::from([a.token(), a.token(), b.token()]);
    assert_eq!(tokens.len(), 2);
    let sources = HashSet::from([a.clone(), a.clone(), b.clone()]);
    assert_eq!(sources.len(), 2);
}

#[test]
fn stopped_and_run_are_terminated_once_completed() {
    run(async {
        let source = StopSource::new();
        let token = source.token();
        let mut output = token.run(ready(7));
        assert!(!output.is_terminated());
        assert_eq!((&mut output).await, Some(7));
        assert!(output.is_terminated());

        let (mut stopped, mut none) = (token.stopped(), token.run(pending::<()>()));
        assert!(poll(&mut stopped).is_pending() && poll(&mut none).is_pending());
        source.stop();
        assert!(!stopped.is_terminated() && !none.is_terminated());
        assert!(poll(&mut stopped).is_ready());
        assert_eq!(poll(&mut none), Poll::Ready(None));
        assert!(stopped.is_terminated() && none.is_terminated());
        assert!(poll(&mut stopped).is_ready() && poll(&mut none).is_ready());
    });
}

#[test]
fn select_takes_a_token_without_fuse() {
    run(async {
        let source = StopSource::new();
        source.stop_after(Duration::from_millis(1));
        let (mut stopped, mut task) = (source.token().stopped(), spawn(yield_now()));
        let (mut stops, mut tasks) = (0, 0);
        loop {
            select! {
                () = stopped => stops += 1,
                () = task => tasks += 1,
                complete => break,
            }
        }
        assert_eq!((stops, tasks), (1, 1));
    });
}
