//! The primary: it orders the writes, and acknowledges those that a majority of the nodes has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use windlass::net::{TcpListener, TcpStream};
use windlass::spawn;
use windlass::sync::{mpsc, oneshot, watch};
use windlass::task::TaskGroup;
use windlass::time::{sleep, timeout};

use crate::connection::{Connection, LIMIT, PAUSE};
use crate::log::{Entry, Log};

/// A bug to plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// The log does not wait until the disk has an entry.
    AckBeforeSync,
    /// A retry of a write is another write.
    RetryTwice,
}

/// How often a backup without new entries gets a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The state of the primary, which its tasks share.
struct Primary {
    /// The entries that this node has synced.
    entries: RefCell<Vec<Entry>>,
    synced: watch::Sender<usize>,
    /// How many entries each backup has synced.
    backups: RefCell<Vec<usize>>,
    /// How many entries a majority has synced.
    committed: watch::Sender<usize>,
    /// The values of the committed entries.
    values: RefCell<BTreeMap<String, String>>,
    /// Writes to the log, each with a sender for the number of entries up to it.
    writes: mpsc::Sender<(Entry, oneshot::Sender<usize>)>,
}

/// Runs the primary. Its log is in a directory of its own. There is one primary at a time.
///
/// A primary without a log takes the longest one of its backups. So it may have a new disk.
pub(crate) async fn run(
    addr: &str,
    dir: &Path,
    backups: &[String],
    bug: Option<Bug>,
) -> io::Result<Infallible> {
    let skips_sync = bug == Some(Bug::AckBeforeSync);
    let (mut log, entries) = match Log::open(dir, skips_sync).await? {
        Some(opened) => opened,
        None => {
            let entries = recover(backups).await;
            (Log::create(dir, &entries, skips_sync).await?, entries)
        }
    };
    let (writes, mut queue) = mpsc::channel(64);
    let primary = Rc::new(Primary {
        synced: watch::channel(entries.len()).0,
        entries: RefCell::new(entries),
        backups: RefCell::new(vec![0; backups.len()]),
        committed: watch::channel(0).0,
        values: RefCell::default(),
        writes,
    });
    let mut tasks = vec![spawn(primary.clone().listen(addr.to_owned())).named("listener")];
    for (number, addr) in backups.iter().enumerate() {
        let replicator = primary.clone().replicate(number, addr.clone());
        tasks.push(spawn(replicator).named("replicator"));
    }
    // The log has one writer. If it fails, the node and its tasks end.
    loop {
        let (entry, done) = queue.recv().await.expect("the primary has a sender");
        let is_new = !primary.has(&entry) || bug == Some(Bug::RetryTwice);
        if is_new {
            log.append(&entry).await?;
            primary.entries.borrow_mut().push(entry);
        }
        let len = primary.entries.borrow().len();
        primary.synced.send_replace(len);
        let _ = done.send(len); // fails if the connection has ended
    }
}

/// Returns the longest log of all backups. A committed entry is on one of them at least.
async fn recover(backups: &[String]) -> Vec<Entry> {
    let mut longest = Vec::new();
    for addr in backups {
        loop {
            match entries_of(addr, longest.len()).await {
                Ok(more) => break longest.extend(more),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
    longest
}

/// Returns the entries that a backup has beyond a number of them.
async fn entries_of(addr: &str, from: usize) -> io::Result<Vec<Entry>> {
    let mut backup = Connection::open(addr).await?;
    let have = number(&backup.receive(LIMIT).await?)?;
    backup.send(&format!("send {from}")).await?;
    let mut entries = Vec::new();
    for _ in from..have {
        entries.push(backup.receive(LIMIT).await?.parse()?);
    }
    Ok(entries)
}

/// Parses the message of a backup about the length of its log.
fn number(message: &str) -> io::Result<usize> {
    let number = message.strip_prefix("have ").and_then(|it| it.parse().ok());
    number.ok_or(io::ErrorKind::InvalidData.into())
}

impl Primary {
    /// Returns whether the log has this write of the client, which waits for one write at a time.
    fn has(&self, write: &Entry) -> bool {
        let entries = self.entries.borrow();
        let last = entries.iter().rfind(|entry| entry.client == write.client);
        last.is_some_and(|last| last.number >= write.number)
    }

    /// Keeps a backup up to date.
    async fn replicate(self: Rc<Self>, backup: usize, addr: String) -> io::Result<()> {
        loop {
            let Err(_) = self.stream_entries(backup, &addr).await;
            sleep(PAUSE).await;
        }
    }

    /// Sends entries to a backup until the connection fails.
    async fn stream_entries(&self, backup: usize, addr: &str) -> io::Result<Infallible> {
        let mut synced = self.synced.subscribe();
        let mut connection = Connection::open(addr).await?;
        let mut have = number(&connection.receive(LIMIT).await?)?;
        loop {
            self.commit(backup, have);
            synced.borrow_and_update();
            let next = self.entries.borrow().get(have).cloned();
            let request = match next {
                Some(entry) => format!("append {entry}"),
                None => {
                    let _ = timeout(HEARTBEAT, synced.changed()).await;
                    "heartbeat".to_owned()
                }
            };
            have = number(&connection.call(&request).await?)?;
        }
    }

    /// Notes that a backup has a number of entries, and applies those that a majority has.
    fn commit(&self, backup: usize, have: usize) {
        self.backups.borrow_mut()[backup] = have;
        let mut haves = self.backups.borrow().clone();
        haves.sort_unstable_by(|a, b| b.cmp(a));
        let backups_needed = haves.len().div_ceil(2); // with the primary, they are a majority
        let entries = self.entries.borrow();
        let committed = haves[backups_needed - 1].min(entries.len());
        let before = *self.committed.borrow();
        if committed > before {
            for Entry { key, value, .. } in &entries[before..committed] {
                self.values.borrow_mut().insert(key.clone(), value.clone());
            }
            self.committed.send_replace(committed);
        }
    }

    /// Adds an entry to the log, and waits until a majority has it.
    async fn write(&self, entry: Entry) -> io::Result<()> {
        let (done, len) = oneshot::channel();
        let _ = self.writes.send((entry, done)).await; // if the node ends, so does `done`
        let len = len.await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.committed(len).await;
        Ok(())
    }

    /// Waits until a majority has a number of entries.
    async fn committed(&self, number: usize) {
        let mut committed = self.committed.subscribe();
        while *committed.borrow_and_update() < number {
            let _ = committed.changed().await; // `self` has the sender
        }
    }

    /// Serves clients, after the entries of the time before the start are committed. A client may
    /// have read them.
    async fn listen(self: Rc<Self>, addr: String) -> io::Result<()> {
        let len = self.entries.borrow().len();
        self.committed(len).await;
        let listener = TcpListener::bind(&addr).await?;
        let sessions = TaskGroup::independent(); // they end with the node
        loop {
            let (stream, _) = listener.accept().await?;
            let session = self.clone().serve(stream);
            // An error of the connection ends the session.
            sessions.spawn(async { drop(session.await) });
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream) -> io::Result<()> {
        let mut client = Connection::new(stream);
        loop {
            let request = client.receive(Duration::from_secs(60)).await?;
            let answer = match request.split_once(' ') {
                Some(("put", entry)) => {
                    self.write(entry.parse()?).await?;
                    "ok".to_owned()
                }
                Some(("get", key)) => match self.values.borrow().get(key) {
                    Some(value) => format!("value {value}"),
                    None => "none".to_owned(),
                },
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
            client.send(&answer).await?;
        }
    }
}
