//! Workers that are threads.

use std::future::{Future, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use futures_channel::oneshot;

use super::channel::{self, Channel};
use super::supervisor::{Exit, Launcher, Sockets, Started};
use super::worker::{Assignment, Outcome, run_worker};
use super::{describe_panic, try_block_on};

pub(super) struct Threads<F> {
    run: Arc<F>,
}

impl<F> Threads<F> {
    pub(super) fn new(run: F) -> Threads<F> {
        Threads { run: Arc::new(run) }
    }
}

impl<F, Fut> Launcher for Threads<F>
where
    F: Fn(super::Worker) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>>,
{
    fn start(&mut self, to: Assignment, sockets: &Sockets, _: bool) -> io::Result<Started> {
        let (control, workers_control) = channel::pair();
        let (messages, workers_messages) = channel::pair();
        let listeners = sockets.of_worker(to.index);
        let listeners = listeners.map(|socket| socket.try_clone());
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let run = self.run.clone();
        let (end, ended) = oneshot::channel();
        let body = move || {
            let links = || [workers_control, workers_messages].map(Channel::in_process);
            let nothing_else = |_| ready(());
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let working =
                    async { run_worker(to, links(), listeners, &*run, nothing_else).await };
                try_block_on(working).map_or_else(Exit::NotStarted, end_of)
            }));
            let panicked = |payload| Exit::Failed(format!("panicked: {}", describe_panic(payload)));
            // Fails if the supervisor has ended.
            let _ = end.send(caught.unwrap_or_else(panicked));
        };
        thread::Builder::new()
            .name(format!("worker-{}", to.index))
            .spawn(body)?;
        Ok(Started {
            name: "a thread".into(),
            control: Channel::in_process(control),
            messages: Channel::in_process(messages),
            // the supervisor closes the channel, which ends the thread's loop
            kill: Box::new(|| ()),
            survivor_text: "is abandoned, because a thread can't be killed".into(),
            ended: Box::pin(async { ended.await.unwrap_or_else(|_| vanished()) }),
        })
    }

    fn reload(&mut self) -> io::Result<()> {
        Ok(()) // the program stays the same
    }

    fn commit_reload(&mut self, _: bool) {}
}

/// The thread has ended without a report.
fn vanished() -> Exit {
    Exit::Failed("exited without a report".into())
}

fn end_of(ended: Outcome) -> Exit {
    match ended {
        Outcome::Finished => Exit::Finished,
        Outcome::Failed(error) => Exit::Failed(format!("failed: {error}")),
        Outcome::NotStarted(error) => Exit::NotStarted(error),
        Outcome::Orphaned => Exit::Failed("was abandoned".into()),
    }
}
