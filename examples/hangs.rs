//! Programs that hang, each for another reason. The runtime prints a note after a second.
//!
//! ```sh
//! cargo run --example hangs -- joins
//! ```

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::{AsyncReadExt, FutureExt, StreamExt, select};
use windlass::sync::{Event, Mutex, Semaphore, mpsc, oneshot};
use windlass::task::{StopSource, TaskGroup};
use windlass::{Task, inspect, io, spawn, time, yield_now};

type Program = Pin<Box<dyn Future<Output = ()>>>;
type Start = fn() -> Program;

/// The programs by name.
const PROGRAMS: [(&str, Start); 12] = [
    ("joins", || Box::pin(joins())),
    ("locks", || Box::pin(locks())),
    ("channel", || Box::pin(channel())),
    ("channels", || Box::pin(channels())),
    ("event", || Box::pin(event())),
    ("waker", || Box::pin(waker())),
    ("semaphore", || Box::pin(semaphore())),
    ("stdin", || Box::pin(stdin())),
    ("group", || Box::pin(group())),
    ("oneshot", || Box::pin(leaked_sender())),
    ("thread", || Box::pin(wake_from_a_thread())),
    ("select", || Box::pin(select_with_a_timer())),
];

/// Returns the program of that name.
pub(crate) fn program(name: &str) -> Option<Program> {
    let found = PROGRAMS.iter().find(|(known, _)| *known == name);
    found.map(|(_, start)| start())
}

/// Two tasks join each other.
async fn joins() {
    let handle: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let first = handle.clone();
    let second = spawn(async move {
        yield_now().await;
        let first = first.take().expect("the first task is spawned by now");
        first.await;
    });
    let second = second.named("second");
    let first = spawn(second);
    *handle.borrow_mut() = Some(first.named("first"));
    pending().await
}

/// Two tasks take two locks in opposite orders.
async fn locks() {
    let anchor = Rc::new(Mutex::new(()));
    let rudder = Rc::new(Mutex::new(()));
    let (one, other) = (anchor.clone(), rudder.clone());
    let take_both = async |first: Rc<Mutex<()>>, second: Rc<Mutex<()>>| {
        let first = first.lock().await;
        yield_now().await;
        drop((first, second.lock().await));
    };
    let deck = spawn(async move { take_both(one, other).await }).named("deck");
    let helm = spawn(async move { take_both(rudder, anchor).await }).named("helm");
    deck.await;
    helm.await;
}

/// The sender waits for room, and the receiver for the end of the sender.
async fn channel() {
    let (sender, mut receiver) = mpsc::channel(1);
    let producer = spawn(async move {
        for number in 0..3 {
            let _ = sender.send(number).await;
        }
    });
    producer.named("producer").await;
    while receiver.recv().await.is_some() {}
}

/// Two tasks fill the channels to each other, because each sends two orders for one.
async fn channels() {
    let (to_port, from_starboard) = mpsc::channel(1);
    let (to_starboard, from_port) = mpsc::channel(1);
    let crew = async |mut orders: mpsc::Receiver<u32>, others: mpsc::Sender<u32>| {
        while let Some(order) = orders.recv().await {
            let _ = others.send(order).await;
            let _ = others.send(order).await;
        }
    };
    let first = to_port.clone();
    let port = spawn(async move { crew(from_starboard, to_starboard).await }).named("port");
    let starboard = spawn(async move { crew(from_port, to_port).await }).named("starboard");
    yield_now().await; // both wait for orders
    let _ = first.send(1).await;
    port.await;
    starboard.await;
}

/// A task waits for a notification that was sent before.
async fn event() {
    let (event, done) = (Event::new(), Cell::new(false));
    event.notify(1); // too early, and `done` is still false
    while !done.get() {
        event.listen().await;
    }
}

/// A future of the program's own returns `Pending` without keeping the waker.
async fn waker() {
    let ready = Rc::new(Cell::new(false));
    let set = ready.clone();
    let setter = spawn(async move { set.set(true) });
    poll_fn(|_| {
        if ready.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    setter.await;
}

/// A permit is never returned.
async fn semaphore() {
    let semaphore = Semaphore::new(1);
    std::mem::forget(semaphore.acquire(1).await);
    drop(semaphore.acquire(1).await);
}

/// Standard input stays silent. There is no note, because input may come at any time.
async fn stdin() {
    let _list = spawn(async {
        time::sleep(Duration::from_millis(50)).await;
        for task in inspect::tasks() {
            eprintln!("{task}");
        }
        eprintln!("end of the list");
    });
    let mut stdin = io::stdin();
    let _ = stdin.read(&mut [0; 16]).await;
}

/// A group waits for a child, which waits for a stop that would follow the group.
async fn group() {
    let stop = StopSource::new();
    let token = stop.token();
    let group = TaskGroup::infallible();
    group.spawn(async move { token.stopped().await });
    group.close().await;
    stop.stop();
}

/// The sender of a reply is leaked.
async fn leaked_sender() {
    let (sender, receiver) = oneshot::channel::<()>();
    std::mem::forget(sender);
    let _ = receiver.await;
}

/// Another thread wakes the task, after the note and once more. This program ends.
async fn wake_from_a_thread() {
    let (sender, mut receiver) = futures::channel::mpsc::unbounded();
    let thread = thread::spawn(move || {
        for _ in 0..2 {
            thread::sleep(Duration::from_millis(1500));
            let _ = sender.unbounded_send(());
        }
    });
    while receiver.next().await.is_some() {}
    thread.join().expect("the thread ends");
    eprintln!("the program ends");
}

/// Two tasks wait for each other, and one of them for a timer as well. This program ends.
async fn select_with_a_timer() {
    let handle: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let first = handle.clone();
    let second = spawn(async move {
        yield_now().await;
        let mut first = first
            .take()
            .expect("the first task is spawned by now")
            .fuse();
        select! {
            () = first => {}
            () = time::sleep(Duration::from_millis(1500)).fuse() => {}
        }
    });
    let first = spawn(second);
    let (end, ended) = futures::channel::oneshot::channel();
    *handle.borrow_mut() = Some(spawn(async move {
        first.await;
        let _ = end.send(());
    }));
    time::sleep(Duration::from_millis(10)).await;
    assert!(inspect::deadlock().is_none());
    let _ = ended.await; // cancelled or sent
    eprintln!("the program ends");
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    match program(&name) {
        Some(program) => windlass::block_on(program),
        None => eprintln!("usage: hangs {}", PROGRAMS.map(|(name, _)| name).join("|")),
    }
}
