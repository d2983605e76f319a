//! A task with operations that are always ready yields to other tasks.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
#[cfg(unix)]
use futures::{AsyncReadExt, AsyncWriteExt, stream::FuturesUnordered};
use windlass::coroutine::AsyncCoroutine;
use windlass::sync::{Event, Mutex, Semaphore, mpsc, oneshot, watch};
use windlass::task::{StopSource, TaskGroup, budget, scope};
use windlass::time::timeout;
use windlass::{block_on, spawn, yield_now};

/// Operations that one poll may complete.
const MOST: u32 = 3 * budget::OPERATIONS;

const ROUNDS: u32 = 1_000;

/// Runs `hog`, which calls its argument for each round, beside a task that only yields. Returns the
/// maximum number of rounds between two polls of that task.
fn most_rounds_in_a_row<F>(hog: impl FnOnce(Rounds) -> F) -> u32
where
    F: Future<Output = ()>,
{
    let rounds = Rounds::default();
    let seen = rounds.clone();
    block_on(async {
        let sibling = spawn(async move {
            let mut most = 0;
            let mut before = 0;
            while !seen.are_over() {
                most = most.max(seen.0.get() - before);
                before = seen.0.get();
                yield_now().await;
            }
            most.max(seen.0.get() - before)
        });
        hog(rounds).await;
        sibling.await
    })
}

#[derive(Clone, Default)]
struct Rounds(Rc<Cell<u32>>);

impl Rounds {
    fn are_over(&self) -> bool {
        self.0.get() >= ROUNDS
    }

    fn next(&self) -> bool {
        self.0.set(self.0.get() + 1);
        !self.are_over()
    }
}

/// Runs `setup` once, then `round` until all rounds are done.
macro_rules! yields {
    ($($name:ident: { $($setup:stmt)* } $round:expr;)*) => {$(
        #[test]
        #[allow(redundant_semicolons)]
        fn $name() {
            let most = most_rounds_in_a_row(|rounds| async move {
                $($setup)*
                while rounds.next() {
                    $round;
                }
            });
            // A round is counted before its operation, because the operation may have to wait.
            assert!((1..=MOST + 1).contains(&most), "{most} rounds without a yield");
        }
    )*};
}

yields! {
    a_channel_that_always_has_a_value_yields: {
        let (sender, mut receiver) = mpsc::unbounded_channel();
    } {
        sender.send(1).unwrap();
        receiver.recv().await
    };
    a_channel_read_as_a_stream_yields: {
        let (sender, mut receiver) = mpsc::unbounded_channel();
    } {
        sender.send(1).unwrap();
        receiver.next().await
    };
    a_channel_that_always_has_room_yields: {
        let (sender, mut receiver) = mpsc::channel(1);
    } {
        sender.send(1).await.unwrap();
        receiver.try_recv().unwrap()
    };
    a_oneshot_that_was_sent_yields: {} {
        let (sender, receiver) = oneshot::channel();
        sender.send(1).unwrap();
        receiver.await.unwrap()
    };
    the_closing_of_a_oneshot_yields: {
        let (mut sender, receiver) = oneshot::channel::<()>();
        drop(receiver);
    } sender.closed().await;
    a_watch_that_has_always_changed_yields: {
        let (sender, mut receiver) = watch::channel(0);
    } {
        sender.send(1).unwrap();
        receiver.changed().await.unwrap()
    };
    a_watch_without_a_sender_yields: {
        let (sender, mut receiver) = watch::channel(0);
        drop(sender);
    } receiver.changed().await.unwrap_err();
    a_mutex_that_is_free_yields: { let mutex = Mutex::new(0); } *mutex.lock().await += 1;
    a_semaphore_with_permits_yields: { let semaphore = Semaphore::new(1); } {
        drop(semaphore.acquire(1).await.unwrap())
    };
    an_event_that_was_notified_yields: { let event = Event::new(); } {
        let listener = event.listen();
        event.notify_one();
        listener.await
    };
    tasks_that_have_finished_yield: {
        let mut tasks: Vec<_> = (0..=ROUNDS).map(|_| spawn(async {})).collect();
        yield_now().await;
    } tasks.pop().unwrap().await;
    children_of_a_group_that_have_ended_yield: {
        let mut group = TaskGroup::infallible();
        (0..=ROUNDS).for_each(|_| group.spawn(async {}));
        yield_now().await;
    } group.join_next().await.unwrap();
    the_room_of_a_group_yields: {
        let mut group = TaskGroup::<()>::infallible();
    } group.room().await;
    scopes_that_end_at_once_yield: {} scope(async |_| ()).await;
    an_async_coroutine_that_never_waits_yields: {
        let mut numbers = AsyncCoroutine::new(async |co, ()| loop {
            co.yield_(1).await;
        });
    } { let _: Option<u8> = numbers.next().await; };
    a_computation_that_charges_yields: {} budget::charge().await;
    a_socket_that_always_has_a_datagram_yields: {
        let socket = windlass::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
    } {
        socket.send_to(b"x", addr).await.unwrap();
        socket.recv_from(&mut [0; 8]).await.unwrap()
    };
}

#[cfg(unix)]
yields! {
    a_pipe_that_always_has_bytes_yields: {
        let (mut reader, mut writer) = windlass::io::pipe().unwrap();
    } {
        writer.write_all(b"x").await.unwrap();
        reader.read_exact(&mut [0]).await.unwrap()
    };
    many_streams_read_in_turn_yield: {
        let mut streams: Vec<_> = (0..100).map(|_| stream_with(&[7; 16])).collect();
        let mut at = 0;
    } {
        streams[at].0.read_exact(&mut [0]).await.unwrap();
        at = (at + 1) % streams.len()
    };
}

#[cfg(unix)]
type StdStream = std::os::unix::net::UnixStream;

/// Returns a stream with bytes to read, and its peer.
#[cfg(unix)]
fn stream_with(bytes: &[u8]) -> (windlass::net::unix::UnixStream, StdStream) {
    let (ours, mut peer) = StdStream::pair().unwrap();
    io::Write::write_all(&mut peer, bytes).unwrap();
    (ours.try_into().unwrap(), peer)
}

#[test]
fn a_timeout_fires_around_a_channel_that_is_always_ready() {
    let limited = timeout(Duration::from_millis(1), async {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        loop {
            sender.send(1).unwrap();
            receiver.recv().await;
        }
    });
    assert!(block_on(limited).is_err());
}

#[test]
fn a_stop_token_ends_a_loop_whose_lock_is_always_free() {
    block_on(async {
        let stop = StopSource::new();
        let token = stop.token();
        let looping = spawn(async move {
            let mutex = Mutex::new(0_u64);
            token
                .run(async {
                    loop {
                        *mutex.lock().await += 1;
                    }
                })
                .await
        });
        yield_now().await;
        stop.stop();
        assert_eq!(looping.await, None::<()>);
    });
}

#[cfg(unix)]
#[test]
fn many_ready_futures_in_one_task_share_its_budget() {
    let most = most_rounds_in_a_row(|rounds| async move {
        let readers = FuturesUnordered::new();
        for _ in 0..100 {
            let rounds = rounds.clone();
            readers.push(async move {
                let (mut stream, _peer) = stream_with(&[7; 64]);
                for _ in 0..64 {
                    rounds.next();
                    stream.read_exact(&mut [0]).await.unwrap();
                }
            });
        }
        readers.for_each(async |()| ()).await;
    });
    // Each reader counts a round before the read that may have to wait.
    assert!(most <= MOST + 100, "{most} rounds without a yield");
}

#[test]
fn futures_polled_in_order_by_one_task_all_progress() {
    block_on(async {
        let count = || Rc::new(Cell::new(0));
        let counts = [count(), count(), count(), count()];
        let turns = counts.clone().map(async |count| {
            let mutex = Mutex::new(());
            loop {
                drop(mutex.lock().await);
                count.set(count.get() + 1);
            }
        });
        let _task = spawn(futures::future::join_all(turns.map(Box::pin)));
        while counts.iter().any(|count| count.get() < 100) {
            yield_now().await;
        }
    });
}

#[cfg(unix)]
#[test]
fn sockets_read_in_order_by_one_task_all_progress() {
    block_on(async {
        let read = async || {
            let (mut stream, _peer) = stream_with(&[7; 4096]);
            stream.read_exact(&mut [0]).await.unwrap();
            for _ in 0..100 {
                stream.read_exact(&mut [0]).await.unwrap();
            }
        };
        let endless = async || {
            let (mut reader, mut writer) = windlass::io::pipe().unwrap();
            loop {
                writer.write_all(b"x").await.unwrap();
                reader.read_exact(&mut [0]).await.unwrap();
            }
        };
        // `select` polls the endless branch first, each time.
        let (endless, reads) = (pin!(endless()), pin!(read()));
        futures::future::select(endless, reads).await;
    });
}

#[test]
fn operations_that_wait_charge_nothing() {
    // A task that waits for more channels than the budget has operations is polled once per value.
    let polls = block_on(async {
        let channels: Vec<_> = (0..10 * MOST).map(|_| mpsc::channel::<u32>(1)).collect();
        let (senders, mut receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        let task = spawn(poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            let mut polled = receivers.iter_mut().map(|receiver| receiver.poll_recv(cx));
            match polled.any(|polled| polled.is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        for _ in 0..10 {
            yield_now().await;
        }
        senders.last().unwrap().try_send(1).unwrap();
        task.await;
        polls.get()
    });
    assert_eq!(polls, 2);
}

#[test]
fn a_budget_is_refilled_in_a_loop_without_the_executor() {
    let received = block_on(async {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        (0..10 * MOST).for_each(|number| sender.send(number).unwrap());
        drop(sender);
        let mut received = pin!(async {
            let mut count = 0;
            while receiver.recv().await.is_some() {
                count += 1;
            }
            count
        });
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let Poll::Ready(count) = received.as_mut().poll(&mut cx) {
                break count;
            }
        }
    });
    assert_eq!(received, 10 * MOST);
}

#[test]
fn operations_outside_of_tasks_are_unlimited() {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    (0..10 * MOST).for_each(|number| sender.send(number).unwrap());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for number in 0..10 * MOST {
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(number)));
    }
}

#[test]
fn files_that_are_always_ready_yield() {
    let path = std::env::current_exe().unwrap();
    let limited = timeout(Duration::from_millis(10), async {
        let file = windlass::fs::File::open(path).await?;
        loop {
            file.read_at(&mut [0; 16], 0).await?;
            windlass::fs::metadata(".").await?;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    assert!(block_on(limited).is_err());
}

/// Elsewhere the accept queue may be shorter.
#[cfg(target_os = "linux")]
#[test]
fn busy_tasks_do_not_delay_a_burst_of_connections() -> io::Result<()> {
    use std::net::TcpStream;
    use windlass::net::TcpListener;

    const CLIENTS: usize = 300;
    const BUSY: u32 = 2_000;
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let connect = |_| TcpStream::connect(addr);
        let _clients: Vec<_> = (0..CLIENTS).map(connect).collect::<io::Result<_>>()?;
        let polls = Rc::new(Cell::new(0));
        let spin = |_| {
            let polls = polls.clone();
            spawn(async move {
                loop {
                    polls.set(polls.get() + 1);
                    yield_now().await;
                }
            })
        };
        let _busy: Vec<windlass::Task<()>> = (0..BUSY).map(spin).collect();
        let mut served = Vec::new();
        for _ in 0..CLIENTS {
            let (stream, _) = listener.accept().await?;
            served.push(spawn(async move {
                std::future::pending::<()>().await;
                drop(stream);
            }));
        }
        let polls: u32 = polls.get();
        assert!(polls <= 3 * BUSY, "{polls} polls before the last one");
        Ok(())
    })
}
