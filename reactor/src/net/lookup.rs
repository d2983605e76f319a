//! Host name lookups, on threads.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::addr::Addrs;
use super::{ToAddrs, context, sys};
use crate::fork::{Origin, PerProcess};
use crate::shortage::cannot_start_thread;
use crate::wake::wake_all;

/// Finds the addresses of a host name by the system's resolver (`getaddrinfo`).
///
/// That call blocks, so a thread makes it, and exits when the queue is empty. A process has at most
/// 32 such threads, and further lookups are queued. So an unresponsive name server delays other
/// lookups, but never a loop.
///
/// # Errors
///
/// Fails if the name is unknown or no thread can be started, with the name in the text. Fails in a
/// forked child if the lookup was started before the fork.
///
/// # Cancel safety
///
/// Dropping the future cancels a queued lookup. A lookup that has started runs on in its thread
/// until the system responds. It delays neither a loop nor the end of the program.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, net::lookup_host};
///
/// let addrs = block_on(lookup_host("localhost:80"))?;
/// assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn lookup_host(host: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    match host.addrs() {
        Addrs::Known(addrs) => Ok(addrs),
        Addrs::Name(host, port) => look_up(host, port).await,
        Addrs::Invalid(error) => Err(error),
    }
}

/// Enough for the names of a busy client. While a name server is unresponsive, each thread waits
/// for the timeout of the system (glibc: 10 s per name server). Without a limit, a client that
/// keeps resolving would start a thread per name.
const MAX_THREADS: usize = 32;

async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let name = host.clone();
    if let Some(found) = super::simulated::resolve(&name, port) {
        return found
            .map_err(|error| context("can't find the host", format_args!("`{name}`"), error));
    }
    let found = match Lookup::start(host, port) {
        Ok(lookup) => lookup.await,
        Err(error) => Err(error),
    };
    found.map_err(|error| context("can't find the host", format_args!("`{name}`"), error))
}

static QUEUE: PerProcess<Mutex<Queue>> = PerProcess::new();

/// The queued lookups of this process.
#[derive(Default)]
struct Queue {
    /// In their order, by number.
    waiting: BTreeMap<u64, Arc<Request>>,
    /// The lookups whose futures exist, by number.
    awaited: BTreeMap<u64, Arc<Request>>,
    last_number: u64,
    threads: usize,
}

/// A lookup as the future and its thread share it.
struct Request {
    host: String,
    port: u16,
    answer: Mutex<Answer>,
}

#[derive(Default)]
struct Answer {
    found: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

/// The future of a lookup. Dropping it removes a request that is still queued.
struct Lookup {
    request: Arc<Request>,
    number: u64,
    origin: Origin,
}

impl Lookup {
    fn start(host: String, port: u16) -> io::Result<Lookup> {
        let answer = Mutex::default();
        let request = Arc::new(Request { host, port, answer });
        let queue = QUEUE.get(Mutex::default);
        let mut locked = lock(queue);
        if locked.threads < MAX_THREADS {
            let thread = thread::Builder::new().name("windlass-lookup".into());
            match thread.spawn(|| serve(queue)) {
                Ok(_) => locked.threads += 1,
                Err(error) if locked.threads == 0 => return Err(cannot_start_thread(error)),
                Err(_) => {} // one of the other threads takes the request
            }
        }
        locked.last_number += 1;
        let number = locked.last_number;
        locked.waiting.insert(number, request.clone());
        locked.awaited.insert(number, request.clone());
        Ok(Lookup {
            request,
            number,
            origin: Origin::here(),
        })
    }
}

impl Future for Lookup {
    type Output = io::Result<Vec<SocketAddr>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.origin.check("this lookup")?;
        let waker = cx.waker().clone();
        let mut answer = lock(&self.request.answer);
        let replaced = match answer.found.take() {
            Some(found) => return Poll::Ready(found),
            None => answer.waker.replace(waker),
        };
        drop(answer);
        drop(replaced); // user code, outside of the lock
        Poll::Pending
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if self.origin.is_here() {
            let mut queue = lock(QUEUE.get(Mutex::default));
            queue.waiting.remove(&self.number);
            queue.awaited.remove(&self.number); // this holds another reference
            drop(queue);
            let waker = lock(&self.request.answer).waker.take();
            drop(waker); // user code, outside of the lock
        }
    }
}

/// Passes the wakers of the lookups of all threads to `visit`, which must not run user code.
pub(crate) fn for_each_waiter(mut visit: impl FnMut(&Waker)) {
    for request in lock(QUEUE.get(Mutex::default)).awaited.values() {
        lock(&request.answer).waker.iter().for_each(&mut visit);
    }
}

/// Resolves names until the queue is empty. Runs on a thread.
fn serve(queue: &Mutex<Queue>) {
    while let Some(request) = next(queue) {
        let found = sys::resolve(&request.host, request.port);
        let mut answer = lock(&request.answer);
        answer.found = Some(found);
        let waker = answer.waker.take();
        drop(answer);
        wake_all(waker);
    }
}

fn next(queue: &Mutex<Queue>) -> Option<Arc<Request>> {
    let mut queue = lock(queue);
    let next = queue.waiting.pop_first();
    if next.is_none() {
        queue.threads -= 1;
    }
    next.map(|(_, request)| request)
}

/// No panic can occur while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
