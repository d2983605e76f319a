//! windlass as the main future of a tokio runtime.

use std::cell::Cell;
use std::future::{Future, poll_fn, ready};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use ::tokio::task::coop::unconstrained;
use ::tokio::time::{Sleep, sleep};
use windlass_reactor::Reactor;

use crate::Runtime;
use crate::fs::simulation::is_simulated;
use crate::runtime::{BlockOn, Hook, HookWaker};

/// Runs a future, with the tasks that it spawns on windlass and on tokio, until the future
/// completes. Both runtimes share the calling thread.
///
/// The remaining tasks are then dropped. First the main future is dropped, then the tasks of tokio,
/// then those of windlass. Either `spawn` still works in their destructors, and its task is
/// dropped, too. As under `#[tokio::main]`, the call waits for closures that run in tokio's
/// `spawn_blocking`.
///
/// # Panics
///
/// Panics inside of a task or a future that windlass or tokio runs, because it would stop their
/// loop. Panics if a runtime cannot be created, for example because the process is out of file
/// descriptors, and in a simulation. If the future panics, the panic propagates to the caller.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// windlass::tokio::block_on(async {
///     let (sender, receiver) = tokio::sync::oneshot::channel();
///     let task = windlass::spawn(async move {
///         tokio::time::sleep(Duration::from_millis(1)).await; // tokio's timer in windlass's task
///         sender.send("hauled")
///     });
///     let local = tokio::task::spawn_local(async {
///         windlass::time::sleep(Duration::from_millis(1)).await; // and the other way
///         windlass::spawn(async { 42 }).await
///     });
///     assert_eq!(receiver.await, Ok("hauled"));
///     assert_eq!(local.await.unwrap(), 42);
///     task.await.unwrap();
/// });
/// ```
#[track_caller]
pub fn block_on<F: Future>(main: F) -> F::Output {
    assert!(
        !is_simulated(),
        "`windlass::tokio` in a simulation would use real sockets and timers: run tokio's crates \
         outside of `windlass::sim`"
    );
    assert!(
        !windlass_executor::in_task() && !is_hosted(),
        "`windlass::tokio::block_on` inside a task would stop all other tasks: `.await` the future \
         there, or `spawn` it"
    );
    let (tokio, runtime) = match create() {
        Ok(created) => created,
        Err(error) => panic!("can't create the runtimes of tokio and windlass: {error}"),
    };
    // Each of these is entered until the tasks of both are dropped.
    let handle = tokio.handle().clone();
    let _in_tokio = handle.enter();
    let runtime = runtime;
    let block_on = BlockOn::new(&runtime);
    let _hosted = Hosted::start();
    let tokio = tokio;
    let main = pin!(main);
    let output = tokio.block_on(unconstrained(run(&block_on, main)));
    block_on.reactor().block_on(ready(())); // finishes file operations, as the end of any loop
    output
}

fn create() -> io::Result<(LocalRuntime, Runtime)> {
    let tokio = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    Ok((tokio, Runtime::builder().build_unwatched()?))
}

/// The future that tokio runs. Each poll polls the tasks of windlass that are ready, and before
/// that turns the reactor, if its descriptor is readable.
///
/// Nothing else has to start a poll. A wake and a spawn of a task call tokio's waker through the
/// executor. Everything else that needs a turn makes the descriptor readable, because no loop is on
/// the stack between the polls. These are events, timers, completions, and tasks that have used up
/// a budget.
async fn run<F: Future>(block_on: &BlockOn<'_>, main: Pin<&mut F>) -> F::Output {
    let reactor = block_on.reactor();
    let mut executor = pin!(block_on.executor(main));
    let mut descriptor = match Descriptor::new(reactor) {
        Ok(descriptor) => descriptor,
        Err(error) => panic!("tokio can't watch the descriptor of the reactor: {error}"),
    };
    // The same poll runs the tasks that its turn wakes, so their wakes request no other poll.
    let host = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let waker = Arc::new(HookWaker::new(
        Waker::noop().clone(),
        Hook::new(move || host.wake_by_ref()),
    ));
    let own = Waker::from(waker.clone());
    poll_fn(|cx| {
        let _awake = reactor.awake();
        waker.suspend();
        if descriptor.take_readable(cx) {
            if let Err(error) = reactor.turn(Some(Duration::ZERO)) {
                panic!("the reactor of this thread failed: {error}");
            }
        }
        let polled = executor.as_mut().poll(&mut Context::from_waker(&own));
        waker.resume();
        if block_on.has_ready() {
            cx.waker().wake_by_ref();
        }
        descriptor.set_timer(reactor, cx);
        polled
    })
    .await
}

/// The descriptor of the reactor in tokio's poller.
struct Descriptor<'a> {
    readable: AsyncFd<BorrowedFd<'a>>,
    /// A timer of tokio for the next deadline, where the descriptor reports none.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> Descriptor<'a> {
    fn new(reactor: &'a Reactor) -> io::Result<Descriptor<'a>> {
        // SAFETY: a `BorrowedFd` always returns the same descriptor, which stays open as long as it
        // is borrowed from the reactor. The `AsyncFd` contains the borrow.
        let readable =
            unsafe { AsyncFd::register_with_interest(reactor.as_fd(), Interest::READABLE)? };
        let needs_timer = !reactor.descriptor_has_timers();
        let timer = needs_timer.then(|| Box::pin(sleep(Duration::ZERO)));
        Ok(Descriptor { readable, timer })
    }

    /// Returns whether a turn is due, and registers the waker for the next time.
    ///
    /// tokio's poller is edge-triggered. The readiness is cleared before the turn, so an event
    /// during the turn is a new edge. The turn takes all earlier events, or requests another turn.
    /// So no call has to check whether the descriptor is still readable.
    fn take_readable(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_readable = false;
        while let Poll::Ready(ready) = self.readable.poll_read_ready(cx) {
            let mut ready = ready.expect("tokio's poller exists while it polls this");
            ready.clear_ready();
            is_readable = true;
        }
        is_readable | self.timer.is_some()
    }

    fn set_timer(&mut self, reactor: &Reactor, cx: &mut Context<'_>) {
        let Some(timer) = &mut self.timer else {
            return;
        };
        let Some(deadline) = reactor.next_deadline() else {
            return;
        };
        timer.as_mut().reset(deadline.into());
        if deadline <= Instant::now() || timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

thread_local! {
    static IS_HOSTED: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread is inside of [`block_on`].
pub(crate) fn is_hosted() -> bool {
    IS_HOSTED.get()
}

/// Exists while this thread is inside of [`block_on`].
struct Hosted;

impl Hosted {
    fn start() -> Hosted {
        IS_HOSTED.set(true);
        Hosted
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        IS_HOSTED.set(false);
    }
}
