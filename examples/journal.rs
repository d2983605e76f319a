//! Implements a completion source, a journal with group commit.
//!
//! ```text
//! cargo run --example journal
//! ```
//!
//! Each task appends a record and waits until the disk has it. An `fsync` per record would be slow,
//! so the journal takes part in the turn of the reactor. Once per turn it hands all records that
//! the tasks have queued to a thread, which writes them and calls `fsync` once for the batch. A GPU
//! queue, a device or another library with its own event loop can be integrated in the same way.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Poll, Waker};
use std::thread;

use windlass::completion::{CompletionSource, MayBlock, Registrar, Registration};
use windlass::task::TaskGroup;

/// A record that is not yet on the disk.
#[derive(Default)]
struct Append {
    result: Cell<Option<Result<(), io::ErrorKind>>>,
    waker: Cell<Option<Waker>>,
}

struct Journal {
    /// Records that the next turn submits, as their bytes and the waiting tasks.
    queued: RefCell<(Vec<u8>, Vec<Rc<Append>>)>,
    /// Batches at the thread, the oldest first.
    in_flight: RefCell<VecDeque<Vec<Rc<Append>>>>,
    to_thread: Sender<Vec<u8>>,
    from_thread: Receiver<io::Result<()>>,
    /// The result of the oldest batch, if `submit` has found it.
    completed: Cell<Option<io::Result<()>>>,
    batches: Cell<usize>,
}

impl Journal {
    /// Starts the thread. It ends when the journal is dropped, with the reactor.
    fn new(registrar: &Registrar<'_>) -> io::Result<Journal> {
        let mut file = File::create(std::env::temp_dir().join("windlass-journal"))?;
        let waker = registrar.waker();
        let (to_thread, batches) = channel::<Vec<u8>>();
        let (done, from_thread) = channel();
        thread::Builder::new().spawn(move || {
            for batch in batches {
                let written = file.write_all(&batch).and_then(|()| file.sync_data());
                if done.send(written).is_err() {
                    break;
                }
                waker.wake_by_ref(); // after the result is there
            }
        })?;
        Ok(Journal {
            queued: RefCell::default(),
            in_flight: RefCell::default(),
            to_thread,
            from_thread,
            completed: Cell::new(None),
            batches: Cell::new(0),
        })
    }

    fn next_completed(&self) -> Option<io::Result<()>> {
        let known = self.completed.take();
        known.or_else(|| self.from_thread.try_recv().ok())
    }
}

impl CompletionSource for Journal {
    fn submit(&self) -> io::Result<MayBlock> {
        let (bytes, appends) = self.queued.take();
        if !appends.is_empty() {
            self.to_thread.send(bytes).map_err(io::Error::other)?;
            self.in_flight.borrow_mut().push_back(appends);
            self.batches.set(self.batches.get() + 1);
        }
        // The wake for a result that is already here has been consumed.
        let completed = self.next_completed();
        let may_block = match completed {
            Some(_) => MayBlock::No,
            None => MayBlock::Yes,
        };
        self.completed.set(completed);
        Ok(may_block)
    }

    fn collect(&self, wakers: &mut Vec<Waker>) {
        while let Some(result) = self.next_completed() {
            let result = result.map_err(|error| error.kind());
            let batch = self.in_flight.borrow_mut().pop_front();
            for append in batch.into_iter().flatten() {
                append.result.set(Some(result));
                wakers.extend(append.waker.take());
            }
        }
    }
}

/// Appends a record. Returns once it is on the disk.
async fn append(record: &str) -> io::Result<()> {
    let journal = Registration::current(Journal::new)?;
    let append = Rc::new(Append::default());
    {
        let (bytes, appends) = &mut *journal.queued.borrow_mut();
        bytes.extend_from_slice(record.as_bytes());
        appends.push(append.clone());
    }
    journal.request_turn();
    poll_fn(|cx| {
        if let Some(result) = append.result.get() {
            return Poll::Ready(result.map_err(io::Error::from));
        }
        journal.check_driven()?; // an error instead of a hang
        append.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await
}

fn main() -> io::Result<()> {
    windlass::block_on(async {
        let clients = TaskGroup::new();
        for client in 0..100 {
            clients.spawn(async move {
                for record in 0..10 {
                    append(&format!("client {client}, record {record}\n")).await?;
                }
                io::Result::Ok(())
            });
        }
        clients.close().await?;
        let batches = Registration::current(Journal::new)?.batches.get();
        println!("1000 records are on the disk, by {batches} calls of fsync");
        Ok(())
    })
}
