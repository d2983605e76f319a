//! Looking up host names, off the loop.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::ToAddrs;
use super::addr::Addrs;

/// Finds the addresses of a host name, as the system does (`getaddrinfo`), off the loop.
///
/// That call blocks, so a thread makes it, and ends when no name is left to look up. There are at
/// most 32 such threads in a process, for all its loops; more lookups wait in line for them. So a
/// name server that doesn't answer holds up lookups, and nothing else.
///
/// # Errors
///
/// If the name is not known, or no thread can be had: the name is in the text.
///
/// # Cancel safety
///
/// May be dropped at any time, which takes no time. A lookup that waits in line leaves it. One that
/// has begun can't be stopped: it goes on in its thread until the system has answered, and holds up
/// neither a loop nor the end of the program.
///
/// # Examples
///
/// ```
/// use windlass_reactor::{block_on, net::lookup_host};
///
/// let addrs = block_on(lookup_host("localhost:80"))?;
/// assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn lookup_host(host: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    match host.addrs() {
        Addrs::Known(addrs) => Ok(addrs),
        Addrs::Name(host, port) => RESOLVER.look_up(host, port)?.await,
        Addrs::Nonsense(error) => Err(error),
    }
}

/// Enough for the names of a busy client. While a name server is dead, each thread waits for the
/// system's time-out (glibc: 10 s for each name server); without a limit a client that goes on
/// asking would have as many threads as it has asked in that time.
const MOST_THREADS: usize = 32;

static RESOLVER: Resolver = Resolver::new(ask_system, MOST_THREADS);

fn ask_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Threads that make a call that blocks, and the line of those who wait for them.
struct Resolver {
    call: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    most_threads: usize,
    line: Mutex<Line>,
}

/// Invariant: while anybody waits, there's a thread that will look here again.
struct Line {
    /// Whom no thread serves yet, in their order: by a number, under which a lookup that is dropped
    /// finds its place.
    waiting: BTreeMap<u64, Arc<Question>>,
    asked: u64,
    threads: usize,
}

/// What a future and a thread share.
struct Question {
    host: String,
    port: u16,
    answer: Mutex<Answer>,
}

#[derive(Default)]
struct Answer {
    addrs: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

impl Resolver {
    const fn new(
        call: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
        most_threads: usize,
    ) -> Resolver {
        Resolver {
            call,
            most_threads,
            line: Mutex::new(Line {
                waiting: BTreeMap::new(),
                asked: 0,
                threads: 0,
            }),
        }
    }

    fn look_up(&'static self, host: String, port: u16) -> io::Result<Lookup> {
        let question = Arc::new(Question {
            host,
            port,
            answer: Mutex::default(),
        });
        let mut line = lock(&self.line);
        line.asked += 1;
        let number = line.asked;
        line.waiting.insert(number, question.clone());
        if line.threads < self.most_threads {
            // Under the lock, so that nobody counts on a thread that can't be had.
            let thread = thread::Builder::new().name("windlass-lookup".into());
            match thread.spawn(move || self.serve()) {
                Ok(_) => line.threads += 1,
                Err(error) if line.threads == 0 => {
                    line.waiting.remove(&number);
                    return Err(question.failed(error));
                }
                Err(_) => {} // one of the others will come to it
            }
        }
        Ok(Lookup {
            resolver: self,
            number,
            question,
        })
    }

    /// What a thread does: one question after the other, as long as there are any.
    fn serve(&self) {
        while let Some(question) = self.next() {
            let addrs = (self.call)(&question.host, question.port);
            question.answer(addrs.map_err(|error| question.failed(error)));
        }
    }

    fn next(&self) -> Option<Arc<Question>> {
        let mut line = lock(&self.line);
        let next = line.waiting.pop_first();
        if next.is_none() {
            line.threads -= 1;
        }
        next.map(|(_, question)| question)
    }
}

impl Question {
    fn answer(&self, addrs: io::Result<Vec<SocketAddr>>) {
        let mut answer = lock(&self.answer);
        answer.addrs = Some(addrs);
        let waker = answer.waker.take();
        drop(answer);
        // A waker that panics must not take the thread with it, on which others count.
        let _ = catch_unwind(AssertUnwindSafe(|| waker.map(Waker::wake)));
    }

    fn failed(&self, error: io::Error) -> io::Error {
        let text = format!("can't find the host `{}`: {error}", self.host);
        io::Error::new(error.kind(), text)
    }
}

struct Lookup {
    resolver: &'static Resolver,
    number: u64,
    question: Arc<Question>,
}

impl Future for Lookup {
    type Output = io::Result<Vec<SocketAddr>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waker = Some(cx.waker().clone());
        let mut answer = lock(&self.question.answer);
        let addrs = answer.addrs.take();
        if addrs.is_none() {
            std::mem::swap(&mut answer.waker, &mut waker);
        }
        drop(answer);
        drop(waker); // the one before, not under the lock
        addrs.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let place = lock(&self.resolver.line).waiting.remove(&self.number);
        let waker = lock(&self.question.answer).waker.take();
        drop((place, waker)); // under no lock
    }
}

/// A panic under one of these locks can't leave anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Condvar, LazyLock};
    use std::task::Wake;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::block_on;
    use crate::time::timeout;

    /// The ports whose questions were asked, and those that are answered; each test has its own.
    #[derive(Default)]
    struct Server {
        asked: BTreeSet<u16>,
        answers: BTreeSet<u16>,
    }

    static SERVER: LazyLock<Mutex<Server>> = LazyLock::new(Mutex::default);
    static NEWS: Condvar = Condvar::new();

    /// Hangs until the port is answered.
    fn hang(_: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut server = lock(&SERVER);
        server.asked.insert(port);
        while !server.answers.contains(&port) {
            server = NEWS.wait(server).unwrap();
        }
        Ok(vec![([127, 0, 0, 1], port).into()])
    }

    fn answer(ports: impl IntoIterator<Item = u16>) {
        lock(&SERVER).answers.extend(ports);
        NEWS.notify_all();
    }

    fn is_asked(port: u16) -> bool {
        lock(&SERVER).asked.contains(&port)
    }

    fn look_up(resolver: &'static Resolver, port: u16) -> Lookup {
        resolver.look_up("far.away".into(), port).unwrap()
    }

    fn waiting(resolver: &Resolver) -> usize {
        lock(&resolver.line).waiting.len()
    }

    fn threads(resolver: &Resolver) -> usize {
        lock(&resolver.line).threads
    }

    /// What takes longer has hung.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn wait_until(done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "it hangs");
            thread::yield_now();
        }
    }

    fn found(lookup: Lookup) -> Vec<SocketAddr> {
        block_on(timeout(PATIENCE, lookup))
            .expect("it hangs")
            .unwrap()
    }

    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn there_are_no_more_threads_than_the_limit_and_the_rest_waits_in_line() {
        static RESOLVER: Resolver = Resolver::new(hang, 2);
        let lookups: Vec<_> = (1..=5).map(|port| look_up(&RESOLVER, port)).collect();
        wait_until(|| is_asked(1) && is_asked(2));
        assert_eq!((threads(&RESOLVER), waiting(&RESOLVER)), (2, 3));
        answer([2]);
        wait_until(|| is_asked(3)); // by the thread that is free
        assert_eq!((threads(&RESOLVER), waiting(&RESOLVER)), (2, 2));
        answer(1..=5);
        for (lookup, port) in lookups.into_iter().zip(1..) {
            assert_eq!(found(lookup), [SocketAddr::from(([127, 0, 0, 1], port))]);
        }
        wait_until(|| threads(&RESOLVER) == 0);
    }

    #[test]
    fn while_the_server_hangs_lookups_can_be_given_up_and_leave_nothing() {
        static RESOLVER: Resolver = Resolver::new(hang, 1);
        let hanging = look_up(&RESOLVER, 11);
        wait_until(|| is_asked(11));
        for _ in 0..1000 {
            let lookup = timeout(Duration::ZERO, look_up(&RESOLVER, 12));
            assert!(block_on(lookup).is_err());
        }
        drop(hanging);
        assert_eq!((threads(&RESOLVER), waiting(&RESOLVER)), (1, 0));
        answer([11]);
        wait_until(|| threads(&RESOLVER) == 0);
        assert!(!is_asked(12), "nobody wanted to know any more");
    }

    #[test]
    fn a_lookup_that_was_given_up_wakes_nobody() {
        static RESOLVER: Resolver = Resolver::new(hang, 1);
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(counter.clone());
        let mut lookup = look_up(&RESOLVER, 21);
        let polled = Pin::new(&mut lookup).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        wait_until(|| is_asked(21));
        drop((lookup, waker));
        assert_eq!(Arc::strong_count(&counter), 1, "its waker is dropped");
        answer([21]);
        wait_until(|| threads(&RESOLVER) == 0);
        assert_eq!(counter.0.load(SeqCst), 0);
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_else_waiting() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("a planned panic");
            }
        }
        static RESOLVER: Resolver = Resolver::new(hang, 1);
        let waker = Waker::from(Arc::new(Panics));
        let mut lookup = look_up(&RESOLVER, 31);
        let polled = Pin::new(&mut lookup).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let next = look_up(&RESOLVER, 32);
        answer([31, 32]);
        assert_eq!(found(next).len(), 1);
        wait_until(|| threads(&RESOLVER) == 0);
    }
}
