//! The guards of a turn and of a `block_on`.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use windlass_executor::Entered;
use windlass_reactor::Awake;

use super::Runtime;

/// Exists while a turn of the runtime is on the stack.
pub(super) struct TurnGuard<'a> {
    runtime: &'a Runtime,
    _entered: Entered,
    _awake: Awake<'a>,
}

impl<'a> TurnGuard<'a> {
    #[track_caller]
    pub(super) fn new(runtime: &'a Runtime) -> Self {
        // Before the turn waits: inside a task, nothing would end that wait.
        assert!(
            !runtime.is_running(),
            "a turn inside a task of the same runtime: `.await` what it should wait for"
        );
        if let Some(waker) = &runtime.hook_waker {
            waker.suspend();
        }
        TurnGuard {
            runtime,
            _awake: runtime.reactor.awake(),
            _entered: runtime.executor.enter(),
        }
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        if let Some(waker) = &self.runtime.hook_waker {
            waker.resume();
        }
        self.runtime.notify_if_ready();
    }
}

/// A `block_on`. The caller pins its future after it has created this, so that the future is
/// dropped while the executor is still entered.
///
/// The public function that takes the future pins it and passes it on by reference, because debug
/// builds copy it on the stack for each function that takes it by value.
pub(crate) struct BlockOn<'a> {
    runtime: &'a Runtime,
    _hook: HookGuard<'a>,
    _entered: Entered,
}

impl<'a> BlockOn<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        let entered = runtime.executor.enter();
        BlockOn {
            runtime,
            _hook: HookGuard::new(runtime),
            _entered: entered,
        }
    }

    #[track_caller]
    pub(crate) fn run<F: Future>(&self, future: Pin<&mut F>) -> F::Output {
        let Runtime {
            executor, reactor, ..
        } = self.runtime;
        // A future that is ready at once completes before the first turn. Without this turn, a
        // series of such calls would starve the sockets and timers of the tasks.
        if executor.tasks() > 0 {
            if let Err(error) = reactor.turn(Some(Duration::ZERO)) {
                panic!("the reactor of this thread failed: {error}");
            }
        }
        reactor.block_on(executor.run(future))
    }

    /// Returns the future that polls the tasks and `main`, for another runtime that polls it. The
    /// caller turns the reactor.
    #[cfg(all(feature = "tokio", unix))]
    pub(crate) fn executor<'m, F: Future>(
        &self,
        main: Pin<&'m mut F>,
    ) -> impl Future<Output = F::Output> + use<'_, 'm, F> {
        self.runtime.executor.run(main)
    }

    /// Returns whether a task, or the main future, is ready to be polled.
    #[cfg(all(feature = "tokio", unix))]
    pub(crate) fn has_ready(&self) -> bool {
        self.runtime.executor.has_ready()
    }

    #[cfg(all(feature = "tokio", unix))]
    pub(crate) fn reactor(&self) -> &windlass_reactor::Reactor {
        &self.runtime.reactor
    }

    /// As `run`, but `step` is called after each turn, and moves the time of a simulated world. Its
    /// argument says whether nothing is ready.
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    pub(crate) fn run_by<F: Future>(
        &self,
        future: Pin<&mut F>,
        mut step: impl FnMut(bool),
    ) -> F::Output {
        let Runtime {
            executor, reactor, ..
        } = self.runtime;
        let flag = std::sync::Arc::new(WokenFlag::default());
        let waker = std::task::Waker::from(flag.clone());
        let cx = &mut std::task::Context::from_waker(&waker);
        let mut run = std::pin::pin!(executor.run(future));
        let _awake = reactor.awake();
        loop {
            if let std::task::Poll::Ready(output) = run.as_mut().poll(cx) {
                return output;
            }
            let turned = reactor.turn(Some(Duration::ZERO));
            let woken =
                turned.unwrap_or_else(|error| panic!("the simulated reactor failed: {error}"));
            step(woken.woken == 0 && !flag.take() && !executor.has_ready());
        }
    }
}

/// Suspends the hook during a `block_on`. At its end, also by a panic, it notifies the host of
/// ready tasks.
struct HookGuard<'a>(&'a Runtime);

impl<'a> HookGuard<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        if let Some(waker) = &runtime.hook_waker {
            runtime.register_waker(); // may panic, which the drop must not
            waker.suspend();
        }
        HookGuard(runtime)
    }
}

impl Drop for HookGuard<'_> {
    fn drop(&mut self) {
        if let Some(waker) = &self.0.hook_waker {
            self.0.register_waker(); // `block_on` has registered its own
            waker.resume();
        }
        self.0.notify_if_ready();
    }
}

/// Records that a loop was woken.
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
#[derive(Default)]
struct WokenFlag(std::sync::atomic::AtomicBool);

#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
impl WokenFlag {
    fn take(&self) -> bool {
        self.0.swap(false, std::sync::atomic::Ordering::AcqRel)
    }
}

#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
impl std::task::Wake for WokenFlag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }
}
