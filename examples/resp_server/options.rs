//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg::{Long, Short};
use lexopt::{Error, Parser, ValueExt};

pub(crate) const HELP: &str = "\
resp_server [OPTIONS]
  --listen ADDRESS       default 127.0.0.1:7379
  --memory SIZE          maximum size of keys and values, default 100M
  --policy evict|refuse  what happens above it, default evict
  --clients NUMBER       maximum number of clients, default 10000
  --client-memory SIZE   maximum size of all buffers of clients, default 64M
  --request SIZE         maximum size of a request, default 1M
  --output SIZE          maximum size of the queued output of a client, default 4M
  --idle SECONDS         disconnects idle clients; 0, the default, keeps them
  --log FILE             an append-only file; the default is no persistence
  --sync always|everysec|no   when the disk has to have the log, default everysec
  --grace SECONDS        time limit of the shutdown, default 10";

/// What happens to a write above the limit of the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    /// Evict keys that were not used recently.
    Evict,
    /// Refuse the write.
    Refuse,
}

/// When the log is synced to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// Before the reply. A crash of the machine loses no acknowledged write.
    Always,
    /// Once per second. A crash of the machine loses the writes of up to two seconds.
    EverySecond,
    /// When the system does it.
    Never,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) listen: String,
    pub(crate) memory: usize,
    pub(crate) policy: Policy,
    pub(crate) clients: usize,
    pub(crate) client_memory: usize,
    pub(crate) request: usize,
    pub(crate) output: usize,
    pub(crate) idle: Option<Duration>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) sync: Sync,
    pub(crate) grace: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: "127.0.0.1:7379".to_owned(),
            memory: 100 << 20,
            policy: Policy::Evict,
            clients: 10_000,
            client_memory: 64 << 20,
            request: 1 << 20,
            output: 4 << 20,
            idle: None,
            log: None,
            sync: Sync::EverySecond,
            grace: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// Returns `None` if the help is requested.
    pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Option<Options>, Error> {
        let mut parser = Parser::from_args(args);
        let mut options = Options::default();
        while let Some(arg) = parser.next()? {
            let Long(name) = arg else {
                return match arg {
                    Short('h') => Ok(None),
                    other => Err(other.unexpected()),
                };
            };
            match name {
                "help" => return Ok(None),
                "listen" => options.listen = parser.value()?.string()?,
                "memory" => options.memory = parser.value()?.parse_with(size)?,
                "policy" => options.policy = parser.value()?.parse_with(policy)?,
                "clients" => options.clients = parser.value()?.parse()?,
                "client-memory" => options.client_memory = parser.value()?.parse_with(size)?,
                "request" => options.request = parser.value()?.parse_with(size)?,
                "output" => options.output = parser.value()?.parse_with(size)?,
                "idle" => {
                    let seconds = parser.value()?.parse()?;
                    options.idle = (seconds > 0).then(|| Duration::from_secs(seconds));
                }
                "log" => options.log = Some(parser.value()?.into()),
                "sync" => options.sync = parser.value()?.parse_with(sync)?,
                "grace" => options.grace = Duration::from_secs(parser.value()?.parse()?),
                _ => return Err(Long(name).unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// Parses 100, 64K, 10M or 1G.
fn size(text: &str) -> Result<usize, &'static str> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        None => (text, 0),
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| "a size is a number, or 64K, 10M, 1G")?;
    number
        .checked_mul(1 << shift)
        .ok_or("the size is too large")
}

fn policy(text: &str) -> Result<Policy, &'static str> {
    match text {
        "evict" => Ok(Policy::Evict),
        "refuse" => Ok(Policy::Refuse),
        _ => Err("the policies are evict and refuse"),
    }
}

fn sync(text: &str) -> Result<Sync, &'static str> {
    match text {
        "always" => Ok(Sync::Always),
        "everysec" => Ok(Sync::EverySecond),
        "no" => Ok(Sync::Never),
        _ => Err("the log is synced always, everysec or no"),
    }
}
