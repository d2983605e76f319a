//! Workers that are threads.

use std::future::{Future, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use futures_channel::oneshot;

use super::channel::{self, Link};
use super::payload::describe_panic;
use super::supervisor::{End, Kind, Sockets, Started};
use super::try_block_on;
use super::worker::{Ended, Post, work};

pub(super) struct Threads<F> {
    run: Arc<F>,
}

impl<F> Threads<F> {
    pub(super) fn new(run: F) -> Threads<F> {
        Threads { run: Arc::new(run) }
    }
}

impl<F, Fut> Kind for Threads<F>
where
    F: Fn(super::Worker) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>>,
{
    fn start(&mut self, post: Post, sockets: &Sockets, _: bool) -> io::Result<Started> {
        let (control, workers_control) = channel::ends();
        let (messages, workers_messages) = channel::ends();
        let listeners = sockets.of_worker(post.index);
        let listeners = listeners.map(|socket| socket.try_clone());
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let run = self.run.clone();
        let (end, ended) = oneshot::channel();
        let body = move || {
            let links = || [workers_control, workers_messages].map(Link::by_channel);
            let nothing_else = |_| ready(());
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let working = async { work(post, links(), listeners, &*run, nothing_else).await };
                try_block_on(working).map_or_else(End::NotStarted, end_of)
            }));
            let panicked = |payload| End::Failed(format!("panicked: {}", describe_panic(payload)));
            // Fails if the supervision is over.
            let _ = end.send(caught.unwrap_or_else(panicked));
        };
        thread::Builder::new()
            .name(format!("worker-{}", post.index))
            .spawn(body)?;
        Ok(Started {
            name: "a thread".into(),
            control: Link::by_channel(control),
            messages: Link::by_channel(messages),
            kill: Box::new(|| ()), // the supervisor closes the link, which ends the thread's loop
            survives: "is left to itself, since a thread can't be killed".into(),
            ended: Box::pin(async { ended.await.unwrap_or_else(|_| vanished()) }),
        })
    }

    fn renew(&mut self) -> io::Result<()> {
        Ok(()) // the program is the same; its workers are started anew
    }

    fn settle(&mut self, _: bool) {}
}

/// The thread has ended without a report.
fn vanished() -> End {
    End::Failed("has ended, and nothing is known of why".into())
}

fn end_of(ended: Ended) -> End {
    match ended {
        Ended::Finished => End::Finished,
        Ended::Failed(error) => End::Failed(format!("failed: {error}")),
        Ended::NotStarted(error) => End::NotStarted(error),
        Ended::Orphaned => End::Failed("was given up".into()),
    }
}
