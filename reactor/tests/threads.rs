//! Sockets that several threads use, each with its own reactor.

mod common;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, join};
use windlass_reactor::net::{TcpListener, TcpStream, UdpSocket};
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Reactor, block_on, release_reactor};

/// Runs a future on a thread of its own, with a reactor of its own.
fn elsewhere<T: Send + 'static, F: Future<Output = T> + 'static>(
    future: impl FnOnce() -> F + Send + 'static,
) -> T {
    thread::spawn(|| run(future())).join().unwrap()
}

/// How many sources this thread's reactor has.
fn sources(reactor: &Reactor) -> u64 {
    reactor.pulse().read().sources
}

/// Polls a read once, which waits in this thread's reactor.
fn start_read(stream: &TcpStream, waker: &Waker) {
    let polled = Pin::new(&mut &*stream).poll_read(&mut Context::from_waker(waker), &mut [0; 8]);
    assert!(polled.is_pending());
}

struct Nothing;

impl Wake for Nothing {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_stream_that_has_waited_moves_to_another_thread() {
    let reactor = Reactor::current().unwrap();
    let (accepted, mut connected) = run(tcp_pair());
    let (counter, waker) = Counter::new();
    block_on(async { start_read(&accepted, &waker) });
    let accepted = elsewhere(move || async move {
        let mut accepted = accepted;
        let mut text = [0; 4];
        let (read, written) = join!(accepted.read_exact(&mut text), async {
            sleep(Duration::from_millis(1)).await;
            connected.write_all(b"ahoy").await
        });
        read.and(written).unwrap();
        assert_eq!(&text, b"ahoy");
        for _ in 0..100 {
            let (read, written) =
                join!(accepted.read_exact(&mut text), connected.write_all(b"ahoy"));
            read.and(written).unwrap();
        }
        accepted
    });
    settle(&reactor);
    assert_eq!(counter.wakes(), 1, "the wait here begins again, once");
    assert_eq!(sources(&reactor), 1, "the stream keeps its entry");
    drop(accepted);
    settle(&reactor);
    assert_eq!(sources(&reactor), 0);
}

/// A stream that lives on another thread does not wake the loop where it was connected.
#[test]
#[cfg(unix)]
fn the_old_reactor_gets_no_events_of_a_stream_that_has_moved() {
    let reactor = Reactor::current().unwrap();
    let (accepted, connected) = run(tcp_pair());
    let (_counter, waker) = Counter::new();
    block_on(async { start_read(&accepted, &waker) });
    let (ready, is_ready) = mpsc::channel();
    let barrier = Arc::new(Barrier::new(2));
    let theirs = barrier.clone();
    let thread = thread::spawn(move || {
        let (mut accepted, mut connected) = (accepted, connected);
        run(async {
            let mut byte = [0];
            let first = join!(accepted.read_exact(&mut byte), async {
                sleep(Duration::from_millis(1)).await;
                connected.write_all(b"1").await
            });
            first.0.and(first.1).unwrap();
        });
        ready.send(()).unwrap();
        theirs.wait(); // until the message was handled
        run(connected.write_all(b"2")).unwrap();
        run(accepted.read_exact(&mut [0])).unwrap();
        ready.send(()).unwrap();
        theirs.wait();
        drop((accepted, connected));
    });
    is_ready.recv().unwrap();
    settle(&reactor);
    barrier.wait();
    is_ready.recv().unwrap();
    assert!(!descriptor_is_ready(&reactor, false));
    barrier.wait();
    thread.join().unwrap();
    settle(&reactor);
    assert_eq!(sources(&reactor), 0);
}

#[test]
fn one_thread_reads_while_another_writes() {
    const BYTES: usize = 4 << 20;
    let (near, far) = run(tcp_pair());
    let reader = near.clone();
    let reads = thread::spawn(move || {
        let mut reader = reader;
        let mut read = Vec::new();
        run(async {
            let mut buffer = vec![0; 10_000];
            while read.len() < BYTES {
                let n = reader.read(&mut buffer).await.unwrap();
                assert!(n > 0);
                read.extend_from_slice(&buffer[..n]);
            }
        });
        read
    });
    let echoes = thread::spawn(move || {
        let (mut from, mut to) = (far.clone(), far);
        run(async { futures::io::copy(&mut from, &mut to).await.unwrap() })
    });
    let mut near = near;
    run(async {
        for chunk in pattern(BYTES, 1).chunks(30_000) {
            near.write_all(chunk).await.unwrap();
        }
    });
    assert!(reads.join().unwrap() == pattern(BYTES, 1));
    near.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(echoes.join().unwrap(), BYTES as u64);
}

#[test]
fn both_threads_wait_to_read_the_same_stream() {
    let (near, mut far) = run(tcp_pair());
    let counts = Arc::new(AtomicUsize::new(0));
    let threads = [0, 1, 2].map(|_| {
        let (mut near, counts) = (near.clone(), counts.clone());
        thread::spawn(move || {
            run(async {
                let mut byte = [0];
                while near.read(&mut byte).await.unwrap() == 1 {
                    counts.fetch_add(1, SeqCst);
                }
            });
        })
    });
    run(async {
        for sent in 1..=500 {
            far.write_all(&[1]).await.unwrap();
            while counts.load(SeqCst) < sent {
                sleep(Duration::from_micros(50)).await;
            }
        }
        far.close().await.unwrap();
    });
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_drop_on_another_thread_frees_the_slot_and_the_waker() {
    let reactor = Reactor::current().unwrap();
    let (accepted, connected) = run(tcp_pair());
    let nothing = Arc::new(Nothing);
    block_on(async { start_read(&accepted, &nothing.clone().into()) });
    assert_eq!(sources(&reactor), 2);
    assert_eq!(Arc::strong_count(&nothing), 2);
    thread::spawn(move || drop((accepted, connected)))
        .join()
        .unwrap();
    turn_until(&reactor, || Arc::strong_count(&nothing) == 1);
    assert_eq!(sources(&reactor), 0);
}

/// The descriptor leaves the poller before it is closed, because a duplicate would keep it there.
#[test]
#[cfg(target_os = "linux")]
fn a_drop_on_another_thread_deregisters_a_duplicate() {
    use std::os::fd::AsFd;
    let name = "a_drop_on_another_thread_deregisters_a_duplicate";
    in_child(name, || {
        let reactor = Reactor::current().unwrap();
        let (accepted, connected) = run(tcp_pair());
        block_on(async { start_read(&accepted, Waker::noop()) });
        let duplicate = accepted.as_fd().try_clone_to_owned().unwrap();
        let before = descriptors();
        thread::spawn(move || drop(accepted)).join().unwrap();
        assert_eq!(descriptors(), before - 1);
        settle(&reactor);
        connected.try_write(b"ahoy").unwrap();
        assert!(!descriptor_is_ready(&reactor, false));
        drop(duplicate);
    });
}

#[test]
fn a_wait_that_is_dropped_on_another_thread_leaves_no_waker() {
    let reactor = Reactor::current().unwrap();
    let (_accepted, connected) = run(tcp_pair());
    let connected = Arc::new(connected);
    let nothing = Arc::new(Nothing);
    // Other waiters, since the first waker of a source stays.
    let wait = |waker: Waker| {
        let connected = connected.clone();
        let mut wait = Box::pin(async move { connected.peek(&mut [0]).await });
        block_on(async { assert!(poll(&mut wait, &waker).is_pending()) });
        wait
    };
    let mut waits: Vec<_> = (0..3).map(|_| wait(Arc::new(Nothing).into())).collect();
    waits.push(wait(nothing.clone().into()));
    assert_eq!(Arc::strong_count(&nothing), 2);
    thread::spawn(move || drop(waits)).join().unwrap();
    turn_until(&reactor, || Arc::strong_count(&nothing) == 1);
}

#[test]
fn readable_begins_again_on_another_thread() {
    let (near, mut far) = run(tcp_pair());
    let near = Arc::new(near);
    let theirs = near.clone();
    let mut wait = Box::pin(async move { theirs.readable().await });
    block_on(async { assert!(poll(&mut wait, Waker::noop()).is_pending()) });
    elsewhere(move || async move {
        let (waited, written) = join!(wait, async {
            sleep(Duration::from_millis(1)).await;
            far.write_all(b"1").await
        });
        waited.and(written).unwrap();
        let mut byte = [0; 2];
        assert_eq!((&*near).read(&mut byte).await.unwrap(), 1);
    });
}

/// Waits on two threads, so that the second one becomes the home, and this reactor registers each
/// of its next waits for one event. The second thread waits until the result is dropped.
fn share_with_another_thread<T: Send + Sync + 'static>(
    reactor: &Reactor,
    io: &Arc<T>,
    start_wait: fn(&T),
) -> mpsc::Sender<()> {
    block_on(async { start_wait(io) });
    let (theirs, (ready, is_ready), (end, is_over)) =
        (io.clone(), mpsc::channel(), mpsc::channel());
    thread::spawn(move || {
        let _reactor = Reactor::current().unwrap();
        start_wait(&theirs);
        ready.send(()).unwrap();
        assert!(is_over.recv().is_err(), "the sender was dropped");
    });
    is_ready.recv().unwrap();
    settle(reactor);
    end
}

/// A reader takes the home over while a writer waits in the same reactor.
#[test]
#[cfg(unix)]
fn a_writer_waits_on_while_its_reactor_becomes_the_home() {
    use windlass_reactor::net::unix::UnixStream;
    fn start_read(stream: &UnixStream) {
        let mut cx = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut &*stream).poll_read(&mut cx, &mut [0; 8]);
        assert!(polled.is_pending());
    }

    let reactor = Reactor::current().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let near = Arc::new(near);
    let _other = share_with_another_thread(&reactor, &near, start_read);
    let (counter, waker) = Counter::new();
    let chunk = vec![0; 1 << 20];
    while near.try_write(&chunk).is_ok() {}
    let polled = Pin::new(&mut &*near).poll_write(&mut Context::from_waker(&waker), &chunk);
    assert!(polled.is_pending());
    for _ in 0..100 {
        start_read(&near);
    }
    settle(&reactor);
    assert_eq!(counter.wakes(), 0);
    let mut buffer = vec![0; 1 << 20];
    while far.try_read(&mut buffer).is_ok() {}
    turn_until(&reactor, || counter.wakes() > 0);
}

/// An event for a reader ends the registration of a task that waits for urgent data, too.
#[test]
#[cfg(unix)]
fn a_wait_for_urgent_data_survives_events_of_readers() {
    use windlass_reactor::Async;
    type Stream = Async<std::net::TcpStream>;
    fn start_read(stream: &Stream) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stream.poll_readable(&mut cx).is_pending());
    }

    let reactor = Reactor::current().unwrap();
    let (near, far) = run(tcp_pair());
    let near: Arc<Stream> = Arc::new(Async::new_nonblocking(near.into_std().unwrap()).unwrap());
    let _other = share_with_another_thread(&reactor, &near, start_read);
    let (counter, waker) = Counter::new();
    let mut urgent = pin!(near.priority());
    assert!(poll(&mut urgent, &waker).is_pending());
    far.try_write(b"a").unwrap();
    settle(&reactor);
    if counter.wakes() > 0 {
        assert!(poll(&mut urgent, &waker).is_pending());
    }
    let wakes = counter.wakes();
    socket2::SockRef::from(&far).send_out_of_band(b"!").unwrap();
    turn_until(&reactor, || counter.wakes() > wakes);
    assert!(poll(&mut urgent, &waker).is_ready());
}

/// A source keeps its entries, but not the descriptors of reactors that were dropped.
#[test]
#[cfg(target_os = "linux")]
fn a_stream_keeps_no_descriptor_of_the_threads_where_it_waited() {
    let name = "a_stream_keeps_no_descriptor_of_the_threads_where_it_waited";
    in_child(name, || {
        let (near, _far) = run(tcp_pair());
        let before = descriptors();
        for _ in 0..4 {
            let near = near.clone();
            let wait = move || block_on(async { start_read(&near, Waker::noop()) });
            thread::spawn(wait).join().unwrap();
        }
        assert_eq!(descriptors(), before);
    });
}

/// A message that wakes a task came to the inbox after a closure that turns the reactor for it.
#[test]
fn a_closure_may_wait_for_tasks_that_messages_wake() {
    let reactor = Reactor::current().unwrap();
    let (near, far) = run(tcp_pair());
    let near = Arc::new(near);
    block_on(async { start_read(&near, Waker::noop()) });
    let mailbox = windlass_reactor::Mailbox::current().unwrap();
    let (ready, is_ready) = mpsc::channel();
    let (theirs, done) = (near.clone(), Arc::new(AtomicUsize::new(0)));
    let is_done = done.clone();
    let thread = thread::spawn(move || {
        let _reactor = Reactor::current().unwrap();
        ready.send(()).unwrap();
        let near = theirs.clone();
        let job = move || {
            let (counter, waker) = Counter::new();
            start_read(&near, &waker);
            far.try_write(b"1").unwrap();
            turn_until(&Reactor::current().unwrap(), || counter.wakes() > 0);
            is_done.store(1, SeqCst);
        };
        assert!(mailbox.post(Box::new(job)).is_ok());
        start_read(&theirs, Waker::noop()); // takes the home
    });
    is_ready.recv().unwrap();
    thread.join().unwrap();
    turn_until(&reactor, || done.load(SeqCst) == 1);
}

#[test]
fn a_stream_outlives_the_reactor_where_it_waited() {
    let (near, far) = elsewhere(|| async {
        let (near, far) = tcp_pair().await;
        start_read(&near, Waker::noop());
        (near, far)
    });
    let (mut near, mut far) = (near, far);
    run(async {
        let mut text = [0; 4];
        let (read, written) = join!(near.read_exact(&mut text), async {
            sleep(Duration::from_millis(1)).await;
            far.write_all(b"ahoy").await
        });
        read.and(written).unwrap();
    });
}

#[test]
fn the_end_of_a_reactor_wakes_the_tasks_that_wait_in_it() {
    let (near, far) = run(tcp_pair());
    let (counter, waker) = Counter::new();
    let near = thread::spawn(move || {
        block_on(async { start_read(&near, &waker) });
        near
    });
    let near = near.join().unwrap();
    assert_eq!(counter.wakes(), 1);
    drop((near, far));
}

#[test]
fn a_reactor_with_a_waiting_stream_of_another_thread_is_kept() {
    thread::spawn(|| {
        let (near, far) = run(tcp_pair());
        block_on(async { start_read(&near, Waker::noop()) });
        release_reactor();
        let before = sources(&Reactor::current().unwrap());
        assert_eq!(before, 2);
        thread::spawn(move || drop((near, far))).join().unwrap();
        release_reactor();
        assert_eq!(sources(&Reactor::current().unwrap()), 0);
    })
    .join()
    .unwrap();
}

#[test]
fn a_wait_without_a_reactor_is_an_error() {
    let (near, mut far) = run(tcp_pair());
    let near = thread::spawn(move || {
        let mut cx = Context::from_waker(Waker::noop());
        let mut buffer = [0; 8];
        let error = near.try_read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let polled = Pin::new(&mut &near).poll_read(&mut cx, &mut buffer);
        let Poll::Ready(Err(error)) = polled else {
            panic!("it does not wait: {polled:?}");
        };
        assert!(
            error
                .to_string()
                .contains("no reactor turns on this thread")
        );
        assert_eq!(near.try_write(b"1").unwrap(), 1);
        near
    });
    let mut near = near.join().unwrap();
    run(async {
        let mut byte = [0];
        far.read_exact(&mut byte).await.unwrap();
        far.write_all(&byte).await.unwrap();
        near.read_exact(&mut byte).await.unwrap();
    });
}

#[test]
fn many_threads_receive_from_one_udp_socket() {
    const THREADS: usize = 4;
    let (socket, sender) = run(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        (socket, UdpSocket::bind("127.0.0.1:0").await.unwrap())
    });
    let to = socket.local_addr().unwrap();
    let received = Arc::new(AtomicUsize::new(0));
    let threads = [(); THREADS].map(|()| {
        let (socket, received) = (socket.clone(), received.clone());
        thread::spawn(move || {
            run(async {
                let mut buffer = [0; 16];
                while socket.recv(&mut buffer).await.unwrap() > 1 {
                    received.fetch_add(1, SeqCst);
                    socket.send_to(&buffer[..2], to).await.unwrap();
                }
            });
        })
    });
    run(async {
        for _ in 0..8 {
            sender.send_to(b"ping", to).await.unwrap();
        }
        while received.load(SeqCst) < 10_000 {
            sleep(Duration::from_millis(1)).await;
        }
        // A thread that stops leaves its datagram to no other, so each gets one.
        while Arc::strong_count(&received) > 1 {
            sender.send_to(b"1", to).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
    });
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

fn accept_from_two_threads(listener: TcpListener) {
    const EACH: usize = 50;
    let addr = listener.local_addr().unwrap();
    let listener = Arc::new(listener);
    let accepted = Arc::new(AtomicUsize::new(0));
    let threads = [0, 1].map(|_| {
        let (listener, accepted) = (listener.clone(), accepted.clone());
        thread::spawn(move || {
            run(async {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await.unwrap();
                    if byte == [0] {
                        return;
                    }
                    accepted.fetch_add(1, SeqCst);
                    stream.write_all(&byte).await.unwrap();
                }
            });
        })
    });
    run(async {
        for _ in 0..2 * EACH {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(&[1]).await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
        }
        for _ in 0..2 {
            TcpStream::connect(addr)
                .await
                .unwrap()
                .write_all(&[0])
                .await
                .unwrap();
        }
    });
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(accepted.load(SeqCst), 2 * EACH);
}

#[test]
fn two_threads_accept_from_one_listener() {
    accept_from_two_threads(run(TcpListener::bind("127.0.0.1:0")).unwrap());
}

#[test]
fn two_threads_accept_from_one_shared_listener() {
    let listener = run(TcpListener::bind("127.0.0.1:0")).unwrap();
    listener.share();
    accept_from_two_threads(listener);
}

/// If the dropped wait was the last one of its thread, that thread gets no more connections.
#[test]
fn an_accept_dropped_on_another_thread_leaves_the_connection() {
    let listener = run(TcpListener::bind("127.0.0.1:0")).unwrap();
    listener.share();
    let addr = listener.local_addr().unwrap();
    let listener = Arc::new(listener);
    let theirs = listener.clone();
    let mut first = Box::pin(async move { theirs.accept().await.map(drop) });
    block_on(async { assert!(poll(&mut first, Waker::noop()).is_pending()) });
    let accepts = thread::spawn(move || {
        run(async {
            let mut second = pin!(listener.accept());
            let mut first = Some(first);
            poll_fn(|cx| {
                let polled = second.as_mut().poll(cx).map(drop);
                drop(first.take());
                polled
            })
            .await;
        });
    });
    let stream = run(TcpStream::connect(addr)).unwrap();
    accepts.join().unwrap();
    drop(stream);
}

/// The registration is gone, and its message waits for the next turn.
#[test]
#[cfg(all(target_os = "linux", not(windlass_portable)))] // other listeners move
fn a_listener_left_on_another_thread_accepts_in_the_same_turn() {
    let reactor = Reactor::current().unwrap();
    let listener = Arc::new(run(TcpListener::bind("127.0.0.1:0")).unwrap());
    listener.share();
    let addr = listener.local_addr().unwrap();
    let accept = || {
        let listener = listener.clone();
        Box::pin(async move { listener.accept().await.map(drop) })
    };
    let connect = || std::net::TcpStream::connect(addr).unwrap();
    // Where the reactor of another thread is the home, each accept tries first.
    let mut elsewhere = accept();
    let wait =
        move || block_on(async { assert!(poll(&mut elsewhere, Waker::noop()).is_pending()) });
    thread::spawn(wait).join().unwrap();
    let mut first = accept();
    block_on(async { assert!(poll(&mut first, Waker::noop()).is_pending()) });
    thread::spawn(move || drop(first)).join().unwrap();
    let _stream = connect();
    let (counter, waker) = Counter::new();
    let mut next = accept();
    let _awake = reactor.awake();
    assert!(poll(&mut accept(), Waker::noop()).is_ready());
    assert!(poll(&mut next, &waker).is_pending());
    let _stream = connect();
    turn_until(&reactor, || counter.wakes() > 0);
    run(next).unwrap();
}

/// Streams move between threads at random, while a clone of each may be in use on another one.
#[test]
fn streams_move_at_random() {
    const THREADS: usize = 4;
    const STREAMS: usize = 12;
    const MOVES: usize = 150;

    struct Ball {
        near: TcpStream,
        far: TcpStream,
        left: usize,
        seed: u64,
    }

    impl Ball {
        fn random(&mut self) -> usize {
            self.seed = self
                .seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.seed >> 33) as usize
        }

        async fn bounce(&mut self) {
            let text = pattern(1 + self.random() % 100, self.left);
            let mut read = vec![0; text.len()];
            let (mut near, mut far) = (&self.near, &self.far);
            match self.left % 3 {
                0 => {
                    let (read, written) = join!(near.read_exact(&mut read), far.write_all(&text));
                    read.and(written).unwrap();
                }
                1 => {
                    far.write_all(&text).await.unwrap();
                    near.readable().await.unwrap();
                    near.read_exact(&mut read).await.unwrap();
                }
                _ => {
                    // A wait that is cancelled.
                    let waits = timeout(Duration::from_micros(200), far.read(&mut read));
                    assert!(waits.await.is_err());
                    near.write_all(&text).await.unwrap();
                    far.read_exact(&mut read).await.unwrap();
                }
            }
            assert_eq!(read, text);
        }
    }

    let (queues, balls): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<Ball>()).unzip();
    let done = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = balls
        .into_iter()
        .map(|balls| {
            let (queues, done) = (queues.clone(), done.clone());
            thread::spawn(move || {
                let reactor = Reactor::current().unwrap();
                while done.load(SeqCst) < STREAMS {
                    let Ok(mut ball) = balls.recv_timeout(Duration::from_millis(5)) else {
                        settle(&reactor);
                        continue;
                    };
                    run(ball.bounce());
                    match ball.left.checked_sub(1) {
                        None => {
                            done.fetch_add(1, SeqCst);
                        }
                        Some(left) => {
                            ball.left = left;
                            let to = ball.random() % THREADS;
                            if let Err(unsent) = queues[to].send(ball) {
                                panic!("thread {to} has ended: {} moves left", unsent.0.left);
                            }
                        }
                    }
                }
                turn_until(&reactor, || sources(&reactor) == 0);
            })
        })
        .collect();
    for seed in 0..STREAMS {
        let (near, far) = run(tcp_pair());
        let ball = Ball {
            near,
            far,
            left: MOVES,
            seed: seed as u64,
        };
        queues[seed % THREADS].send(ball).unwrap();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    settle(&Reactor::current().unwrap());
}
