//! Small programs in worlds. Each holds in every world, unless a bug is planted.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::fs::{self, OpenOptions};
use windlass::io::copy_bidirectional;
use windlass::net::{TcpListener, TcpStream, UdpSocket};
use windlass::sim::World;
use windlass::sync::{Event, Mutex, Semaphore, mpsc};
use windlass::task::{StopSource, TaskGroup};
use windlass::time::{Sleep, now, sleep, timeout};
use windlass::{Task, spawn, yield_now};

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Whether an attempt may succeed later: nothing listens yet, or there is no descriptor.
fn is_temporary(error: &io::Error) -> bool {
    let source = error.get_ref().and_then(|it| it.source());
    let code = source.and_then(|it| it.downcast_ref::<io::Error>());
    let code = code.unwrap_or(error).raw_os_error();
    error.kind() == io::ErrorKind::ConnectionRefused || code == Some(24)
}

async fn patiently<T>(mut attempt: impl AsyncFnMut() -> io::Result<T>) -> T {
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if is_temporary(&error) => sleep(ms(20)).await,
            Err(error) => panic!("it fails: {error}"),
        }
    }
}

async fn connect(addr: &str) -> TcpStream {
    patiently(|| TcpStream::connect(addr)).await
}

/// A future that must complete in this time. At the limit, `timeout` polls it once more, which
/// would hide a lost wake.
async fn in_time<F: Future>(limit: Duration, future: F) -> F::Output {
    let start = now();
    let output = timeout(limit, future).await.expect("it takes too long");
    assert!(now() - start < limit, "a wake is lost");
    output
}

/// Accepts connections for ever, and serves each in a task.
async fn serve<F: Future<Output = ()> + 'static>(addr: &str, handle: impl Fn(TcpStream) -> F) {
    let listener = patiently(|| TcpListener::bind(addr)).await;
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            spawn(handle(stream)).detach();
        }
    }
}

async fn echo(stream: TcpStream) {
    let mut buf = [0; 64];
    loop {
        match (&stream)
            .read(&mut buf)
            .await
            .expect("the peer closes in order")
        {
            0 => break,
            len => (&stream)
                .write_all(&buf[..len])
                .await
                .expect("the peer reads"),
        }
    }
    (&stream).close().await.expect("the peer is there");
}

/// Sends bytes and closes its half, while it reads the answer to the end.
async fn exchange(stream: &TcpStream, sent: &[u8], pause: Duration) -> Vec<u8> {
    let (mut writer, mut reader) = (stream, stream);
    let write = async {
        for part in sent.chunks(1 + sent.len() / 5) {
            writer.write_all(part).await?;
            sleep(pause).await;
        }
        writer.close().await
    };
    let mut answer = Vec::new();
    let read = reader.read_to_end(&mut answer);
    futures::try_join!(write, read).expect("the server is there");
    answer
}

/// Clients send bytes to an echo server, half-close, and read everything back.
pub(crate) fn echoes(world: &World) {
    world.host("server", || async {
        serve("0.0.0.0:7000", echo).await;
    });
    for (name, len, pause) in [("a", 1000, 0), ("b", 90, 3), ("c", 5, 0)] {
        world.host(name, move || async move {
            for _ in 0..2 {
                let stream = connect("server:7000").await;
                let sent = bytes(len);
                let answer = in_time(600 * SECOND, exchange(&stream, &sent, ms(pause))).await;
                assert_eq!(answer, sent);
            }
        });
    }
}

/// As `echoes`, with more bytes than the buffers of both ends have, so that both directions wait.
pub(crate) fn bulk(world: &World) {
    world.host("server", || async {
        serve("0.0.0.0:7000", async |stream| {
            let (mut reader, mut writer) = (stream.clone(), stream);
            let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(2);
            let reading = async move {
                loop {
                    let mut buf = vec![0; 8000];
                    let len = reader
                        .read(&mut buf)
                        .await
                        .expect("the peer closes in order");
                    buf.truncate(len);
                    if len == 0 || sender.send(buf).await.is_err() {
                        break;
                    }
                }
            };
            let reading = spawn(reading);
            while let Some(part) = receiver.recv().await {
                writer.write_all(&part).await.expect("the peer reads");
            }
            writer.close().await.expect("the peer is there");
            reading.await;
        })
        .await;
    });
    world.host("client", || async {
        let stream = connect("server:7000").await;
        let sent = bytes(600_000);
        let answer = in_time(600 * SECOND, exchange(&stream, &sent, ms(1))).await;
        assert!(answer == sent);
    });
}

/// Requests of a head and a body. A client sends the next one after the answer.
pub(crate) fn requests(world: &World) {
    world.host("server", || async {
        serve("0.0.0.0:7000", async |stream| {
            let mut head = [0; 1];
            while (&stream).read_exact(&mut head).await.is_ok() {
                let mut body = vec![0; head[0].into()];
                let read = (&stream).read_exact(&mut body).await;
                read.expect("the client sends whole requests");
                let answer = (&stream).write_all(&body).await;
                answer.expect("the client reads");
            }
        })
        .await;
    });
    world.host("client", || async {
        let stream = connect("server:7000").await;
        for len in [10_u8, 200, 1, 90] {
            let sent = bytes(len.into());
            let request = [&[len][..], &sent].concat();
            let mut answer = vec![0; len.into()];
            let exchange = async {
                (&stream).write_all(&request).await?;
                (&stream).read_exact(&mut answer).await
            };
            let exchanged = in_time(600 * SECOND, exchange).await;
            exchanged.expect("the server is there");
            assert_eq!(answer, sent);
        }
    });
}

/// Each wait is cancelled many times, and nothing is lost.
pub(crate) fn cancellations(world: &World) {
    world.host("server", || async {
        let listener = patiently(|| TcpListener::bind("0.0.0.0:7000")).await;
        let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1);
        for number in 0..3_u64 {
            let stream = loop {
                match timeout(ms(1 + number), listener.accept()).await {
                    Ok(Ok((stream, _))) => break stream,
                    Ok(Err(error)) => panic!("it fails: {error}"),
                    Err(_) => {}
                }
            };
            let sender = sender.clone();
            spawn(async move {
                let (mut all, mut buf) = (Vec::new(), [0; 50]);
                loop {
                    match timeout(ms(number), (&stream).read(&mut buf)).await {
                        Ok(Ok(0)) => break,
                        Ok(read) => all.extend(&buf[..read.expect("the peer is there")]),
                        Err(_) => sleep(Duration::from_micros(300)).await,
                    }
                }
                let (mut writer, mut rest) = (&stream, &all[..]);
                while !rest.is_empty() {
                    let written = timeout(Duration::from_micros(400), writer.write(rest));
                    if let Ok(written) = written.await {
                        rest = &rest[written.expect("the peer reads")..];
                    }
                }
                drop(stream);
                sender.send(all).await.expect("it is received");
            })
            .detach();
        }
        drop(sender);
        let mut received = Vec::new();
        loop {
            match timeout(ms(1), receiver.recv()).await {
                Ok(Some(bytes)) => received.push(bytes),
                Ok(None) => break,
                Err(_) => {}
            }
        }
        assert!(received.len() == 3 && received.iter().all(|all| *all == bytes(2000)));
    });
    for name in ["a", "b", "c"] {
        world.host(name, || async {
            let stream = connect("server:7000").await;
            let sent = bytes(2000);
            let exchange = exchange(&stream, &sent, ms(2));
            assert_eq!(in_time(600 * SECOND, exchange).await, sent);
        });
    }
}

/// A server is stopped while clients are connected. Each request that it has read is answered.
pub(crate) fn shutdown(world: &World) {
    world.host("server", || async {
        let stop = StopSource::new();
        let stopping = stop.clone();
        spawn(async move {
            sleep(ms(20)).await;
            stopping.stop();
        })
        .detach();
        let connections = TaskGroup::independent();
        let listener = patiently(|| TcpListener::bind("0.0.0.0:7000")).await;
        while let Some(Ok((stream, _))) = stop.token().run(listener.accept()).await {
            let stop = stop.token();
            connections.spawn(async move {
                let mut request = [0];
                while let Some(Ok(1)) = stop.run((&stream).read(&mut request)).await {
                    sleep(ms(3)).await;
                    let answered = (&stream).write_all(&request).await;
                    answered.expect("the client waits for it");
                }
            });
        }
        in_time(SECOND, connections.close()).await;
    });
    for name in ["a", "b", "c"] {
        world.host(name, || async {
            let mut answered = 0;
            while let Ok(stream) = TcpStream::connect("server:7000").await {
                let mut answer = [0];
                for number in 0..4 {
                    if (&stream).write_all(&[number]).await.is_err() {
                        break;
                    }
                    match (&stream).read_exact(&mut answer).await {
                        Ok(()) => assert_eq!(answer, [number]),
                        Err(_) => break,
                    }
                    answered += 1;
                }
                if answered > 100 {
                    break;
                }
            }
        });
    }
}

/// A proxy between a client that half-closes and a server that answers afterwards.
pub(crate) fn proxy(world: &World) {
    world.host("server", || async {
        serve("0.0.0.0:7000", async |stream| {
            let mut request = Vec::new();
            let read = (&stream).read_to_end(&mut request).await;
            read.expect("the client closes in order");
            sleep(ms(5)).await;
            (&stream)
                .write_all(&request)
                .await
                .expect("the client reads");
        })
        .await;
    });
    world.host("proxy", || async {
        serve("0.0.0.0:8000", async |client| {
            let server = connect("server:7000").await;
            let copied = copy_bidirectional(&client, &server).await;
            copied.expect("both ends close in order");
        })
        .await;
    });
    world.host("client", || async {
        for len in [10, 3000, 150_000] {
            let stream = connect("proxy:8000").await;
            let sent = bytes(len);
            let answer = in_time(600 * SECOND, exchange(&stream, &sent, ms(1))).await;
            assert!(answer == sent);
        }
    });
}

/// A server has descriptors for three connections. Five clients get an answer in the end.
pub(crate) fn shortage(world: &World) {
    let server = world.host("server", || async {
        serve("0.0.0.0:7000", echo).await;
    });
    server.descriptor_limit(4);
    for name in ["a", "b", "c", "d", "e"] {
        world.host(name, || async {
            let stream = connect("server:7000").await;
            let exchange = exchange(&stream, b"ahoy", ms(5));
            assert_eq!(in_time(600 * SECOND, exchange).await, b"ahoy");
        });
    }
}

/// A server counts its connections. All but the last one have ended when that one asks.
pub(crate) fn connections_end(world: &World) {
    world.host("server", || async {
        let open = Rc::new(Cell::new(0_u32));
        serve("[::]:7000", |stream| {
            let open = open.clone();
            open.set(open.get() + 1);
            async move {
                let mut word = Vec::new();
                let read = (&stream).read_to_end(&mut word).await;
                if read.is_ok() && word == b"count" {
                    let answer = format!("{}", open.get());
                    let _ = (&stream).write_all(answer.as_bytes()).await;
                }
                open.set(open.get() - 1);
            }
        })
        .await;
    });
    world.host("client", || async {
        for _ in 0..5 {
            let stream = connect("server:7000").await;
            assert!(exchange(&stream, b"word", ms(1)).await.is_empty());
        }
        for patience in [0, 1, 2, 240, 260] {
            // Dropping the future of `connect` ends its attempts.
            let connect = TcpStream::connect("server:7000");
            drop(timeout(ms(patience), connect).await);
        }
        sleep(300 * SECOND).await;
        let stream = connect("server:7000").await;
        assert_eq!(exchange(&stream, b"count", ms(1)).await, b"1");
    });
    // A lost handshake starts the next attempt of the race.
    world.link("client", "server").loss(0.05);
}

/// Messages postpone the end of a session. It ends after a second without one.
pub(crate) fn idle_sessions(world: &World) {
    world.host("server", || async {
        let idle: Rc<RefCell<Pin<Box<Sleep>>>> = Rc::new(RefCell::new(Box::pin(sleep(SECOND))));
        let expiry = idle.clone();
        let session = spawn(async move {
            futures::future::poll_fn(|cx| expiry.borrow_mut().as_mut().poll(cx)).await;
            now()
        });
        let mut last = now();
        for pause in [0, 300, 900, 10] {
            sleep(ms(pause)).await;
            last = now();
            idle.borrow_mut().as_mut().reset(last + SECOND);
        }
        let ended = in_time(60 * SECOND, session).await;
        assert!(ended >= last + SECOND);
    });
}

/// Workers share a permit. Some are cancelled at the moment when the permit is returned.
pub(crate) fn permits(world: &World) {
    world.host("pool", || async {
        let pool = Rc::new(Semaphore::new(1));
        for _ in 0..4 {
            let (holds, waits) = (pool.clone(), pool.clone());
            let holder = spawn(async move {
                let permit = holds.acquire(1).await;
                sleep(ms(10)).await;
                drop(permit);
            });
            yield_now().await;
            let waiter = spawn(async move {
                let permit = waits.acquire(1).await;
                sleep(ms(5)).await;
                drop(permit);
            });
            sleep(ms(10)).await;
            drop(waiter);
            holder.await;
        }
        assert_eq!(pool.available_permits(), 1);
    });
}

/// Each notification reaches a listener, although a listener may be cancelled.
pub(crate) fn notifications(world: &World) {
    world.host("events", || async {
        let event = Rc::new(Event::new());
        for _ in 0..4 {
            let listen = |event: Rc<Event>| spawn(async move { event.listen().await });
            let (first, second) = (listen(event.clone()), listen(event.clone()));
            yield_now().await;
            let notifies = event.clone();
            spawn(async move {
                sleep(ms(10)).await;
                notifies.notify_one();
            })
            .detach();
            sleep(ms(10)).await;
            if first.is_finished() {
                continue;
            }
            drop(first);
            in_time(60 * SECOND, second).await;
        }
    });
}

/// Producers hand jobs to a consumer, which ends after the last of them.
pub(crate) fn producers(world: &World) {
    world.host("queue", || async {
        let (sender, mut receiver) = mpsc::channel::<u64>(2);
        for number in 0..4_u64 {
            let sender = sender.clone();
            spawn(async move {
                for job in 0..50 {
                    sender
                        .send(number * 50 + job)
                        .await
                        .expect("it is received");
                    sleep(ms(number)).await;
                }
            })
            .detach();
        }
        drop(sender);
        let receive = async {
            let mut sum = 0;
            while let Some(job) = receiver.recv().await {
                sum += job;
            }
            sum
        };
        assert_eq!(in_time(600 * SECOND, receive).await, 199 * 200 / 2);
    });
}

/// A log survives a power failure as far as it was acknowledged.
pub(crate) fn durable_log(world: &World, has_bug: bool) {
    let acknowledged = Rc::new(Cell::new(0_usize));
    let host = world.host("database", move || {
        let acknowledged = acknowledged.clone();
        async move {
            let found = fs::read("/log").await.unwrap_or_default();
            assert!(
                found.len() >= acknowledged.get(),
                "acknowledged bytes are lost"
            );
            let mut options = OpenOptions::new();
            let mut log = options.append(true).create(true).open("/log").await?;
            log.sync_all().await?;
            fs::File::open("/").await?.sync_all().await?;
            for _ in found.len()..200 {
                log.write_all(b"x").await?;
                log.flush().await?;
                if !has_bug {
                    log.sync_data().await?;
                }
                acknowledged.set(acknowledged.get() + 1);
                sleep(ms(10)).await;
            }
            io::Result::Ok(())
        }
    });
    host.crash_at(ms(333));
    host.restart_at(ms(500));
}

async fn count(has_bug: bool) {
    let socket = patiently(|| UdpSocket::bind("0.0.0.0:53")).await;
    let (mut count, mut last) = (0_u8, 0);
    loop {
        let mut buf = [0; 8];
        let Ok((_, from)) = socket.recv_from(&mut buf).await else {
            continue;
        };
        // A copy of an earlier request may arrive late.
        if has_bug || buf[0] > last {
            count += 1;
        }
        last = last.max(buf[0]);
        let _ = socket.send_to(&[buf[0], count], from).await;
    }
}

/// A client counts on a server over UDP, and repeats requests without an answer.
pub(crate) fn counted_once(world: &World, has_bug: bool) {
    world.host("server", move || count(has_bug));
    world.host("client", || async {
        let socket = patiently(|| UdpSocket::bind("0.0.0.0:0")).await;
        for number in 1..=10_u8 {
            let count = loop {
                let _ = socket.send_to(&[number], "server:53").await;
                let answer = async {
                    loop {
                        let mut buf = [0; 8];
                        if socket.recv(&mut buf).await.is_ok() && buf[0] == number {
                            break buf[1];
                        }
                    }
                };
                if let Ok(count) = timeout(SECOND, answer).await {
                    break count;
                }
            };
            assert_eq!(count, number);
        }
    });
}

/// A client gives up requests that take too long. The next one needs another connection, because
/// the rest of the answer may follow.
pub(crate) fn timeouts_of_answers(world: &World, has_bug: bool) {
    world.host("server", || async {
        serve("0.0.0.0:7000", async |stream| {
            let mut request = [0; 1];
            while (&stream).read_exact(&mut request).await.is_ok() {
                for _ in 0..4 {
                    if (&stream).write_all(&request).await.is_err() {
                        return;
                    }
                    sleep(ms(1)).await;
                }
            }
        })
        .await;
    });
    world.host("client", move || async move {
        let mut stream = connect("server:7000").await;
        for number in 0..20_u8 {
            let request = async {
                let mut answer = [0; 4];
                (&stream).write_all(&[number]).await?;
                (&stream).read_exact(&mut answer).await?;
                io::Result::Ok(answer)
            };
            match timeout(ms(150), request).await {
                Ok(answer) => assert_eq!(answer.expect("the server is there"), [number; 4]),
                Err(_) if has_bug => {}
                Err(_) => stream = connect("server:7000").await,
            }
        }
    });
    world.link("client", "server").loss(0.02);
    world.link("server", "client").loss(0.02);
}

/// Two transfers between two accounts, which are locked in one order.
pub(crate) fn locks(world: &World, has_bug: bool) {
    world.host("bank", move || async move {
        let accounts = Rc::new([Mutex::new(100_i32), Mutex::new(100)]);
        let (there, back) = (accounts.clone(), accounts.clone());
        let there = spawn(async move {
            let mut from = there[0].lock().await;
            yield_now().await;
            let mut to = there[1].lock().await;
            *from -= 1;
            *to += 1;
        });
        let back = spawn(async move {
            yield_now().await;
            yield_now().await;
            let order = if has_bug { [1, 0] } else { [0, 1] };
            let mut first = back[order[0]].lock().await;
            let mut second = back[order[1]].lock().await;
            std::mem::swap(&mut *first, &mut *second);
        });
        there.await;
        back.await;
        let sum = *accounts[0].lock().await + *accounts[1].lock().await;
        assert_eq!(sum, 200);
    });
}

/// A consumer waits for a flag that a producer sets before it notifies.
pub(crate) fn flags(world: &World, has_bug: bool) {
    world.host("flag", move || async move {
        let flag = Rc::new((Cell::new(false), Event::new()));
        let producing = flag.clone();
        spawn(async move {
            yield_now().await;
            producing.0.set(true);
            producing.1.notify_all();
        })
        .detach();
        let wait = async {
            while !flag.0.get() {
                if has_bug {
                    yield_now().await; // such as a line of a log
                }
                flag.1.listen().await;
            }
        };
        in_time(60 * SECOND, wait).await;
    });
}

/// Messages of eight bytes.
pub(crate) fn messages(world: &World, has_bug: bool) {
    world.host("server", move || async move {
        serve("0.0.0.0:7000", move |stream| async move {
            let mut message = [0; 8];
            loop {
                if has_bug {
                    if (&stream).read(&mut message).await.is_ok_and(|len| len == 0) {
                        return;
                    }
                } else if (&stream).read_exact(&mut message).await.is_err() {
                    return;
                }
                let answer = [message
                    .iter()
                    .fold(0_u8, |sum, byte| sum.wrapping_add(*byte))];
                if (&stream).write_all(&answer).await.is_err() {
                    return;
                }
            }
        })
        .await;
    });
    world.host("client", || async {
        let stream = connect("server:7000").await;
        for number in 1..=10_u8 {
            let mut answer = [0];
            let result = async {
                (&stream).write_all(&[number; 8]).await?;
                (&stream).read_exact(&mut answer).await
            };
            in_time(60 * SECOND, result)
                .await
                .expect("the server is there");
            assert_eq!(answer, [number * 8]);
        }
    });
}

/// Two buyers share a stock of one.
pub(crate) fn stock(world: &World, has_bug: bool) {
    world.host("shop", move || async move {
        let (stock, sold) = (Rc::new(Cell::new(1_i32)), Rc::new(Cell::new(0)));
        let buyers: Vec<Task<()>> = [0, 2]
            .map(|delay| {
                let (stock, sold) = (stock.clone(), sold.clone());
                spawn(async move {
                    for _ in 0..delay {
                        yield_now().await;
                    }
                    if stock.get() > 0 {
                        if has_bug {
                            yield_now().await; // the payment
                        }
                        stock.set(stock.get() - 1);
                        sold.set(sold.get() + 1);
                    }
                })
            })
            .into();
        for buyer in buyers {
            buyer.await;
        }
        assert_eq!((stock.get(), sold.get()), (0, 1));
    });
}

/// A reader that reads at once when a stream is readable. The event may be spurious.
pub(crate) fn readable_streams(world: &World, has_bug: bool) {
    world.host("server", || async {
        serve("0.0.0.0:7000", async |stream| {
            for number in 0..10_u8 {
                sleep(ms(5)).await;
                if (&stream).write_all(&[number]).await.is_err() {
                    return;
                }
            }
        })
        .await;
    });
    world.host("client", move || async move {
        let stream = connect("server:7000").await;
        for number in 0..10 {
            let mut byte = [0];
            loop {
                stream.readable().await.expect("it is registered");
                match stream.try_read(&mut byte) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !has_bug => {}
                    read => break assert_eq!(read.expect("the server is there"), 1),
                }
            }
            assert_eq!(byte, [number]);
        }
    });
}
