//! Workers that are threads.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use futures_channel::oneshot;

use super::link::{self, Link};
use super::supervisor::{End, Kind, Sockets, Started};
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
        let (control, workers_control) = link::ends();
        let (messages, workers_messages) = link::ends();
        let listeners = sockets.of_worker(post.index);
        let listeners = listeners.map(|socket| socket.try_clone());
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let run = self.run.clone();
        let (end, ended) = oneshot::channel();
        let body = move || {
            let links = || [workers_control, workers_messages].map(Link::by_channel);
            let nothing_else = |_| ready(());
            let caught = catch_unwind(AssertUnwindSafe(|| {
                crate::block_on(async { work(post, links(), listeners, &*run, nothing_else).await })
            }));
            // The supervisor may have given it up.
            let _ = end.send(caught.map_or_else(panicked, end_of));
        };
        thread::Builder::new()
            .name(format!("worker-{}", post.index))
            .spawn(body)?;
        let (give_up, given_up) = oneshot::channel::<()>();
        let give_up = RefCell::new(Some(give_up));
        Ok(Started {
            name: "a thread".into(),
            control: Link::by_channel(control),
            messages: Link::by_channel(messages),
            kill: Box::new(move || drop(give_up.take())),
            ended: Box::pin(until(ended, given_up)),
        })
    }

    fn renew(&mut self) -> io::Result<()> {
        Ok(()) // the program is the same; its workers are started anew
    }

    fn settle(&mut self, _: bool) {}
}

/// Its end, or that it was given up: a thread can't be killed. Should it go on one day, it finds
/// that its parent is gone, and ends.
async fn until(mut ended: oneshot::Receiver<End>, mut given_up: oneshot::Receiver<()>) -> End {
    poll_fn(|cx| {
        if let Poll::Ready(Ok(end)) = Pin::new(&mut ended).poll(cx) {
            return Poll::Ready(end);
        }
        let abandoned = || End::Failed("is left to itself, since a thread can't be killed".into());
        Pin::new(&mut given_up).poll(cx).map(|_| abandoned())
    })
    .await
}

fn end_of(ended: Ended) -> End {
    match ended {
        Ended::Finished => End::Finished,
        Ended::Failed(error) => End::Failed(format!("failed: {error}")),
        Ended::Orphaned => End::Failed("was given up".into()),
    }
}

fn panicked(payload: Box<dyn Any + Send>) -> End {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let end = End::Failed(format!(
        "panicked: {}",
        text.unwrap_or("with a value that is no text")
    ));
    windlass_executor::discard_panic(|| drop(payload)); // the parent must get the report
    end
}
