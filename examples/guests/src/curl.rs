//! The reverse case, where windlass has the loop and libcurl is a guest in it.
//!
//! libcurl's multi interface uses callbacks to request which sockets to watch and when to call it
//! for its timers. Here each socket has a task, and so does the timer. All transfers run
//! concurrently on this thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::mpsc;
use std::time::Duration;

use curl::easy::{Easy2, Handler, WriteError};
use curl::multi::{Easy2Handle, Events, Multi, Socket};
use futures::channel::oneshot;
use futures::future::{Either, pending, select};
use windlass::time::sleep;
use windlass::{Async, Task, spawn};

/// Fetches documents with libcurl. Clones share their connections.
#[derive(Clone)]
pub struct Curl {
    inner: Rc<Inner>,
}

struct Inner {
    multi: Multi,
    /// Pending requests of libcurl's callbacks.
    asked: mpsc::Receiver<Ask>,
    /// These tasks hold weak references to libcurl, which owns them.
    watches: RefCell<HashMap<Socket, Task<()>>>,
    alarm: RefCell<Option<Task<()>>>,
    /// The receivers of transfers' results, by the token of the transfer.
    transfers: RefCell<HashMap<usize, oneshot::Sender<Result<(), curl::Error>>>>,
    tokens: Cell<usize>,
}

enum Ask {
    /// Replaces an earlier request for this socket.
    Watch {
        socket: Socket,
        descriptor: OwnedFd,
        input: bool,
        output: bool,
    },
    Forget(Socket),
    Alarm(Option<Duration>),
}

impl Curl {
    /// Creates a client that runs its tasks on this thread's runtime.
    pub fn new() -> anyhow::Result<Curl> {
        let mut multi = Multi::new();
        let (ask, asked) = mpsc::channel();
        let time = ask.clone();
        // libcurl must not be called in these callbacks, so they store the requests for
        // `handle_requests`.
        multi.socket_function(move |socket, events, _| {
            let _ = ask.send(match own(socket) {
                Ok(descriptor) if !events.remove() => Ask::Watch {
                    socket,
                    descriptor,
                    input: events.input() || events.input_and_output(),
                    output: events.output() || events.input_and_output(),
                },
                _ => Ask::Forget(socket),
            });
        })?;
        multi.timer_function(move |after| time.send(Ask::Alarm(after)).is_ok())?;
        Ok(Curl {
            inner: Rc::new(Inner {
                multi,
                asked,
                watches: RefCell::default(),
                alarm: RefCell::default(),
                transfers: RefCell::default(),
                tokens: Cell::new(0),
            }),
        })
    }

    /// Fetches the body at `url`. `set` may set other options of libcurl, which reads variables
    /// such as `http_proxy` itself. Dropping the future cancels the transfer.
    pub async fn fetch(
        &self,
        url: &str,
        set: impl FnOnce(&mut Easy2<Body>) -> Result<(), curl::Error>,
    ) -> anyhow::Result<Vec<u8>> {
        let mut easy = Easy2::new(Body::default());
        easy.url(url)?;
        easy.fail_on_error(true)?;
        set(&mut easy)?;
        let mut handle = self.inner.multi.add2(easy)?;
        let token = self.inner.tokens.replace(self.inner.tokens.get() + 1);
        handle.set_token(token)?;
        let (end, ended) = oneshot::channel();
        self.inner.transfers.borrow_mut().insert(token, end);
        let mut transfer = Transfer {
            inner: self.inner.clone(),
            token,
            handle: Some(handle),
        };
        self.inner.obey();
        ended.await??;
        let handle = transfer.handle.take().expect("it is there until the drop");
        Ok(std::mem::take(
            &mut self.inner.multi.remove2(handle)?.get_mut().0,
        ))
    }
}

/// The received part of a document.
#[derive(Default)]
pub struct Body(Vec<u8>);

impl Handler for Body {
    fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        self.0.extend_from_slice(data);
        Ok(data.len())
    }
}

/// A transfer. Dropping it ends the transfer if it is not finished.
struct Transfer {
    inner: Rc<Inner>,
    token: usize,
    handle: Option<Easy2Handle<Body>>,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.inner.transfers.borrow_mut().remove(&self.token);
        drop(self.handle.take());
        self.inner.obey();
    }
}

impl Inner {
    /// Handles the requests of libcurl's callbacks. Must be called after each call of libcurl.
    fn obey(self: &Rc<Self>) {
        while let Ok(ask) = self.asked.try_recv() {
            let mut watches = self.watches.borrow_mut();
            // A task may drop its own handle here, and then ends at its next await.
            let old = match ask {
                Ask::Watch {
                    socket,
                    descriptor,
                    input,
                    output,
                } => {
                    let watch = spawn(watch(
                        Rc::downgrade(self),
                        socket,
                        descriptor,
                        input,
                        output,
                    ));
                    watches.insert(socket, watch)
                }
                Ask::Forget(socket) => watches.remove(&socket),
                Ask::Alarm(after) => {
                    let alarm = after.map(|after| spawn(alarm(Rc::downgrade(self), after)));
                    self.alarm.replace(alarm)
                }
            };
            drop(watches);
            drop(old);
        }
    }

    /// Sends the results of finished transfers.
    fn finish(self: &Rc<Self>) {
        let mut ended = Vec::new();
        self.multi.messages(|message| {
            if let (Ok(token), Some(result)) = (message.token(), message.result()) {
                ended.push((token, result));
            }
        });
        for (token, result) in ended {
            let end = self.transfers.borrow_mut().remove(&token);
            let _ = end.map(|end| end.send(result)); // fails if the receiver was dropped
        }
        self.obey();
    }
}

async fn alarm(inner: Weak<Inner>, after: Duration) {
    sleep(after).await;
    let Some(inner) = inner.upgrade() else { return };
    inner.multi.timeout().expect("libcurl is in no callback");
    inner.finish();
}

async fn watch(inner: Weak<Inner>, socket: Socket, descriptor: OwnedFd, input: bool, output: bool) {
    let descriptor = Async::new(descriptor).expect("the poller watches sockets");
    loop {
        let readable = async {
            if input {
                descriptor.readable().await
            } else {
                pending().await
            }
        };
        let writable = async {
            if output {
                descriptor.writable().await
            } else {
                pending().await
            }
        };
        let mut events = Events::new();
        match select(Box::pin(readable), Box::pin(writable)).await {
            Either::Left((result, _)) => events.input(true).error(result.is_err()),
            Either::Right((result, _)) => events.output(true).error(result.is_err()),
        };
        let Some(inner) = inner.upgrade() else { return };
        let action = inner.multi.action(socket, &events);
        action.expect("libcurl is in no callback");
        inner.finish();
    }
}

/// A duplicate of libcurl's descriptor, because libcurl may close its own before the callback's
/// request is handled.
fn own(socket: Socket) -> std::io::Result<OwnedFd> {
    // SAFETY: libcurl keeps the socket open during the callback that reports it.
    unsafe { BorrowedFd::borrow_raw(socket) }.try_clone_to_owned()
}
