//! The append-only log of writes, from which the store is loaded at the start.
//!
//! It is a sequence of requests. Each has an absolute effect, also for INCR, EXPIRE and
//! evictions: `SET key value [deadline]`, `DEL key`, `DEADLINE key time`, `PERSIST key` or `FLUSH`.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::mem;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use windlass::fs::{self, File};
use windlass::sync::Event;
use windlass::time::{MissedTicks, interval};

use super::options::{self, Sync};
use super::reply::Reply;
use super::request::{Parser, Request};
use super::store::{Store, UnixMillis};

/// Number of bytes that are read or written at once.
const CHUNK_BYTES: usize = 1 << 20;
/// The buffer of the writer keeps its memory up to this size.
const KEPT_BYTES: usize = 1 << 20;

/// The writes that a task appends to the log, and their progress.
///
/// Positions are numbers of bytes since the start of the process.
pub(crate) struct Journal {
    pending: RefCell<Vec<u8>>,
    added: Event,
    /// The end of `pending`.
    end: Cell<u64>,
    /// Replies to writes before this position may leave.
    reached: Cell<u64>,
    advanced: Event,
    has_failed: Cell<bool>,
    is_closing: Cell<bool>,
    sync: Sync,
}

impl Journal {
    pub(crate) fn new(sync: Sync) -> Journal {
        Journal {
            pending: RefCell::default(),
            added: Event::new(),
            end: Cell::new(0),
            reached: Cell::new(0),
            advanced: Event::new(),
            has_failed: Cell::new(false),
            is_closing: Cell::new(false),
            sync,
        }
    }

    pub(crate) fn set(&self, key: &[u8], value: &[u8], deadline: Option<UnixMillis>) {
        self.add(|out| set(out, key, value, deadline));
    }

    pub(crate) fn del(&self, key: &[u8]) {
        self.add(|out| entry(out, &[b"DEL", key]));
    }

    pub(crate) fn deadline(&self, key: &[u8], deadline: UnixMillis) {
        let deadline = deadline.to_string();
        self.add(|out| entry(out, &[b"DEADLINE", key, deadline.as_bytes()]));
    }

    pub(crate) fn persist(&self, key: &[u8]) {
        self.add(|out| entry(out, &[b"PERSIST", key]));
    }

    pub(crate) fn flush(&self) {
        self.add(|out| entry(out, &[b"FLUSH"]));
    }

    fn add(&self, add: impl FnOnce(&mut Vec<u8>)) {
        let mut pending = self.pending.borrow_mut();
        let before = pending.len();
        add(&mut pending);
        self.end
            .set(self.end.get() + (pending.len() - before) as u64);
        drop(pending);
        self.added.notify_one();
    }

    /// Returns the position after the last write.
    pub(crate) fn end(&self) -> u64 {
        self.end.get()
    }

    /// Returns true if the log has all writes before a position.
    pub(crate) fn has_reached(&self, position: u64) -> bool {
        self.reached.get() >= position
    }

    /// Waits until the log has all writes before a position, on the disk if the policy is
    /// [`Sync::Always`].
    ///
    /// # Errors
    ///
    /// Fails if the log can't be written. The server ends then.
    pub(crate) async fn reached(&self, position: u64) -> io::Result<()> {
        while !self.has_reached(position) {
            if self.has_failed.get() {
                return Err(io::Error::other("the log cannot be written"));
            }
            self.advanced.listen().await;
        }
        Ok(())
    }

    /// Lets [`Journal::write_to`] return after it has written and synced all.
    pub(crate) fn close(&self) {
        self.is_closing.set(true);
        self.added.notify_all();
    }

    /// Appends the writes to a file until the journal is closed. Syncs the file by the policy.
    ///
    /// # Errors
    ///
    /// Fails if a write or a sync fails. The log then misses writes, so no later one may follow.
    pub(crate) async fn write_to(&self, file: &File, offset: u64) -> io::Result<()> {
        let appends = pin!(self.append(file, offset));
        let syncs = pin!(self.sync_each_second(file));
        let (Either::Left((result, _)) | Either::Right((result, _))) = select(appends, syncs).await;
        self.has_failed.set(result.is_err());
        self.advanced.notify_all();
        result
    }

    async fn append(&self, file: &File, mut offset: u64) -> io::Result<()> {
        let mut spare = Vec::new();
        loop {
            while self.pending.borrow().is_empty() {
                if self.is_closing.get() {
                    return file.sync_all().await;
                }
                self.added.listen().await;
            }
            // All writes that were added since the last turn share one write and one sync.
            let batch = mem::replace(&mut *self.pending.borrow_mut(), spare);
            let end = self.end.get();
            (offset, spare) = write_all(file, batch, offset).await?;
            if self.sync == Sync::Always {
                file.sync_data().await?;
            }
            self.reached.set(end);
            self.advanced.notify_all();
        }
    }

    /// Returns only if a sync fails.
    async fn sync_each_second(&self, file: &File) -> io::Result<()> {
        let mut ticks = interval(Duration::from_secs(1)).missed_ticks(MissedTicks::Skip);
        let mut synced = 0;
        loop {
            ticks.tick().await;
            let reached = self.reached.get();
            if self.sync == Sync::EverySecond && reached > synced {
                file.sync_data().await?;
                synced = reached;
            }
        }
    }
}

/// Writes the batch at an offset. Returns the next offset, and the empty buffer.
async fn write_all(file: &File, mut batch: Vec<u8>, offset: u64) -> io::Result<(u64, Vec<u8>)> {
    let mut offset = offset;
    while !batch.is_empty() {
        let (written, buffer) = file.write_buf_at(batch, offset).await;
        let written = match written {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            written => written?,
        };
        batch = buffer;
        offset += written as u64;
        if written == batch.len() {
            batch.clear();
        } else {
            batch.drain(..written); // rare
        }
    }
    batch.shrink_to(KEPT_BYTES);
    Ok((offset, batch))
}

fn set(out: &mut Vec<u8>, key: &[u8], value: &[u8], deadline: Option<UnixMillis>) {
    match deadline {
        None => entry(out, &[b"SET", key, value]),
        Some(deadline) => entry(out, &[b"SET", key, value, deadline.to_string().as_bytes()]),
    }
}

fn entry(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.array(words.len());
    for word in words {
        out.bulk(word);
    }
}

/// Loads the log, and replaces it with a shorter one that has the loaded keys alone. Returns the
/// store, and the file with its size.
///
/// # Errors
///
/// Fails if the log can't be read or replaced, or if it is damaged. The error names the offset. An
/// incomplete write at the end is no damage.
pub(crate) async fn open(
    path: &Path,
    options: &options::Options,
) -> io::Result<(Store, File, u64)> {
    let mut store = Store::new(options.memory, options.policy);
    match File::open(path).await {
        Ok(file) => load(&file, path, options.request, &mut store).await?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    while store.pop_evicted().is_some() {}
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let file = File::create(&new).await?;
    let (mut chunk, mut offset, mut entries) = (Vec::new(), 0, store.iter());
    loop {
        let next = entries.next();
        if let Some((key, value, deadline)) = next {
            set(&mut chunk, key, value, deadline);
        }
        if next.is_none() || chunk.len() > CHUNK_BYTES {
            (offset, chunk) = write_all(&file, chunk, offset).await?;
        }
        if next.is_none() {
            break;
        }
    }
    drop(entries);
    // After a crash, the name has all of the new log or all of the old one.
    file.sync_all().await?;
    fs::rename(&new, path).await?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))
        .await?
        .sync_all()
        .await?;
    Ok((store, file, offset))
}

async fn load(file: &File, path: &Path, request: usize, store: &mut Store) -> io::Result<()> {
    // An entry is longer than its request by the name of the command and a deadline.
    let mut parser = Parser::new(request + 100);
    let (mut input, mut offset) = (Vec::new(), 0);
    loop {
        input.reserve(CHUNK_BYTES);
        let end = offset + input.len() as u64;
        let (read, buffer) = file.read_buf_at(input, end).await;
        input = buffer;
        match read? {
            0 if input.is_empty() => return Ok(()),
            0 => {
                let lost = input.len();
                eprintln!(
                    "{}: {lost} bytes of an incomplete write dropped",
                    path.display()
                );
                return Ok(());
            }
            _ => {}
        }
        let mut at = 0;
        loop {
            let damaged = |error: &str| {
                let offset = offset + at as u64;
                io::Error::new(
                    ErrorKind::InvalidData,
                    format!("{}: damaged at offset {offset}: {error}", path.display()),
                )
            };
            match parser.parse(&input[at..]) {
                Ok(None) => break,
                Ok(Some((request, size))) => {
                    apply(request, store).map_err(damaged)?;
                    at += size;
                }
                Err(error) => return Err(damaged(error)),
            }
        }
        input.drain(..at);
        offset += at as u64;
    }
}

fn apply(request: Request<'_>, store: &mut Store) -> Result<(), &'static str> {
    let number = |index| {
        let text = std::str::from_utf8(request.arg(index)).ok();
        text.and_then(|text| text.parse().ok())
            .ok_or("invalid deadline")
    };
    if request.len() == 0 {
        return Err("empty entry");
    }
    match (request.arg(0), request.len()) {
        (b"SET", 3 | 4) => {
            let deadline = if request.len() == 4 {
                Some(number(3)?)
            } else {
                None
            };
            // A key that is too large for a lower limit is absent, as an evicted one.
            let _ = store.set(request.arg(1), request.arg(2), deadline);
        }
        (b"DEL", 2) => drop(store.remove(request.arg(1))),
        (b"DEADLINE", 3) => drop(store.set_deadline(request.arg(1), Some(number(2)?))),
        (b"PERSIST", 2) => drop(store.set_deadline(request.arg(1), None)),
        (b"FLUSH", 1) => store.clear(),
        _ => return Err("unknown entry"),
    }
    Ok(())
}
