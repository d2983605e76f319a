//! The log of a node: a file with one line per write, of which a crash keeps what was synced.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use futures::AsyncWriteExt;
use windlass::fs::{self, File};

/// One write of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) client: String,
    /// The client's number for this write. A retry has the same number.
    pub(crate) number: u64,
    pub(crate) key: String,
    pub(crate) value: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry {
            client,
            number,
            key,
            value,
        } = self;
        write!(f, "{client} {number} {key} {value}")
    }
}

impl FromStr for Entry {
    type Err = io::Error;

    fn from_str(line: &str) -> io::Result<Entry> {
        let mut words = line.splitn(4, ' ').map(str::to_owned);
        let mut word = || words.next().ok_or(io::ErrorKind::InvalidData);
        Ok(Entry {
            client: word()?,
            number: word()?.parse().map_err(|_| io::ErrorKind::InvalidData)?,
            key: word()?,
            value: word()?,
        })
    }
}

/// The open file of a log.
pub(crate) struct Log {
    file: File,
    /// Plants a bug: an append does not wait until the disk has it.
    skips_sync: bool,
}

impl Log {
    /// Opens the log in a directory, and reads it. Returns `None` if there is no log.
    pub(crate) async fn open(
        dir: &Path,
        skips_sync: bool,
    ) -> io::Result<Option<(Log, Vec<Entry>)>> {
        let path = dir.join("log");
        let text = match fs::read(&path).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // A crash during a write leaves a part of it, behind the lines that were synced before.
        let (mut entries, mut len) = (Vec::new(), 0);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(entry) = parse(line) else { break };
            entries.push(entry);
            len += line.len() as u64;
        }
        let file = File::options().append(true).open(&path).await?;
        file.set_len(len).await?;
        file.sync_all().await?;
        Ok(Some((Log { file, skips_sync }, entries)))
    }

    /// Creates the log in a directory. After a crash it has all of these entries, or is absent.
    pub(crate) async fn create(dir: &Path, entries: &[Entry], skips_sync: bool) -> io::Result<Log> {
        let (new, path) = (dir.join("log.new"), dir.join("log"));
        let mut file = File::create(&new).await?;
        for entry in entries {
            file.write_all(line(entry).as_bytes()).await?;
        }
        file.sync_all().await?;
        fs::rename(&new, &path).await?;
        File::open(dir).await?.sync_all().await?; // makes the name durable
        let file = File::options().append(true).open(&path).await?;
        Ok(Log { file, skips_sync })
    }

    /// Adds an entry. It survives each crash after the return.
    pub(crate) async fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.file.write_all(line(entry).as_bytes()).await?;
        self.file.flush().await?;
        if self.skips_sync {
            return Ok(());
        }
        self.file.sync_data().await
    }
}

/// A line is a checksum and an entry.
fn line(entry: &Entry) -> String {
    let entry = entry.to_string();
    format!("{:08x} {entry}\n", checksum(&entry))
}

fn parse(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, entry) = line.split_once(' ')?;
    let is_intact = u32::from_str_radix(sum, 16) == Ok(checksum(entry));
    is_intact.then(|| entry.parse().ok())?
}

/// The hash function FNV-1a.
fn checksum(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, step)
}
