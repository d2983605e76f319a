//! The commands.

use std::fmt::Write as _;
use std::rc::Rc;

use itoa::Buffer;

use super::channels::Mailbox;
use super::clients::Client;
use super::reply::Reply;
use super::request::Request;
use super::state::State;
use super::store::{self, Full, UnixMillis};

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX: &str = "ERR syntax error";
const FULL: &str = "OOM command not allowed when used memory > 'maxmemory'";
/// Longest name of a command.
const NAME_BYTES: usize = 16;

/// The result of a command that has appended its reply, or the text of an error.
type Done = Result<(), &'static str>;

/// The state of one client's connection.
pub(crate) struct Session {
    client: Rc<Client>,
    channels: Vec<Box<[u8]>>,
    /// Present while there are subscriptions.
    pub(crate) mailbox: Option<Rc<Mailbox>>,
    /// The client has quit, so no further request is executed.
    pub(crate) has_quit: bool,
}

impl Session {
    pub(crate) fn new(client: Rc<Client>) -> Session {
        Session {
            client,
            channels: Vec::new(),
            mailbox: None,
            has_quit: false,
        }
    }

    /// Ends all subscriptions.
    pub(crate) fn end(&mut self, state: &State) {
        if let Some(mailbox) = self.mailbox.take() {
            for channel in self.channels.drain(..) {
                state.channels.unsubscribe(&channel, &mailbox);
            }
        }
    }
}

/// Executes a request, and appends its reply to the output.
pub(crate) fn execute(
    state: &State,
    session: &mut Session,
    request: Request<'_>,
    out: &mut Vec<u8>,
) {
    if request.len() == 0 {
        return; // an empty line
    }
    state.requests.set(state.requests.get() + 1);
    let given = request.arg(0);
    let mut name = [0; NAME_BYTES];
    let len = given.len().min(NAME_BYTES);
    name[..len].copy_from_slice(&given[..len]);
    name.make_ascii_uppercase();
    let name = if given.len() > NAME_BYTES {
        b""
    } else {
        &name[..len]
    };
    if session.mailbox.is_some() && !is_allowed_for_subscribers(name) {
        return out.error("ERR only SUBSCRIBE, UNSUBSCRIBE, PING and QUIT are allowed here");
    }
    let start = out.len();
    if let Err(text) = dispatch(state, session, name, request, out) {
        out.truncate(start);
        out.error(text);
    }
}

fn is_allowed_for_subscribers(name: &[u8]) -> bool {
    matches!(name, b"SUBSCRIBE" | b"UNSUBSCRIBE" | b"PING" | b"QUIT")
}

fn dispatch(
    state: &State,
    session: &mut Session,
    name: &[u8],
    request: Request<'_>,
    out: &mut Vec<u8>,
) -> Done {
    match (name, request.len()) {
        (b"GET", 2) => get(state, request, out)?,
        (b"SET", 3..) => set(state, request, out)?,
        (b"INCR", 2) => add(state, request, Ok(1), out)?,
        (b"DECR", 2) => add(state, request, Ok(-1), out)?,
        (b"INCRBY", 3) => add(state, request, integer(request.arg(2)), out)?,
        (b"DECRBY", 3) => {
            let by = integer(request.arg(2));
            let by = by.and_then(|by| by.checked_neg().ok_or(NOT_AN_INTEGER));
            add(state, request, by, out)?;
        }
        (b"MGET", 2..) => mget(state, request, out)?,
        (b"MSET", 3..) => mset(state, request, out)?,
        (b"DEL" | b"UNLINK", 2..) => del(state, request, out)?,
        (b"EXISTS", 2..) => {
            let mut store = state.store.borrow_mut();
            let found = request.args_from(1).filter(|key| store.contains(key));
            out.integer(found.count() as i64)
        }
        (b"EXPIRE", 3) => expire(state, request, 1000, out)?,
        (b"PEXPIRE", 3) => expire(state, request, 1, out)?,
        (b"PERSIST", 2) => persist(state, request, out)?,
        (b"TTL", 2) => ttl(state, request, 1000, out)?,
        (b"PTTL", 2) => ttl(state, request, 1, out)?,
        (b"PUBLISH", 3) => {
            let reached = state.channels.publish(request.arg(1), request.arg(2));
            out.integer(reached as i64)
        }
        (b"SUBSCRIBE", 2..) => subscribe(state, session, request, out)?,
        (b"UNSUBSCRIBE", 1..) => unsubscribe(state, session, request, out)?,
        (b"PING", 1) if session.mailbox.is_some() => {
            out.array(2);
            out.bulk(b"pong");
            out.bulk(b"")
        }
        (b"PING", 1) => out.status("PONG"),
        (b"PING" | b"ECHO", 2) => out.bulk(request.arg(1)),
        (b"QUIT", 1) => {
            session.has_quit = true;
            out.status("OK")
        }
        (b"DBSIZE", 1) => out.integer(state.store.borrow().len() as i64),
        (b"FLUSHALL" | b"FLUSHDB", 1..) => {
            state.store.borrow_mut().clear();
            log(state, |log| log.flush());
            out.status("OK")
        }
        (b"INFO", 1..) => out.bulk(info(state).as_bytes()),
        (b"CONFIG", 3..) => config(state, request, out)?,
        // Clients send these at their start.
        (b"SELECT", 2) if request.arg(1) == b"0" => out.status("OK"),
        (b"SELECT", 2) => return Err("ERR DB index is out of range"),
        (b"CLIENT", 3..) => out.status("OK"),
        (b"COMMAND", 1..) => out.array(0),
        _ if is_known(name) => return Err("ERR wrong number of arguments"),
        _ => return Err("ERR unknown command"),
    }
    Ok(())
}

fn is_known(name: &[u8]) -> bool {
    const NAMES: &str = " GET SET INCR DECR INCRBY DECRBY MGET MSET DEL UNLINK EXISTS EXPIRE \
         PEXPIRE PERSIST TTL PTTL PUBLISH SUBSCRIBE PING ECHO QUIT DBSIZE CONFIG SELECT CLIENT ";
    NAMES
        .as_bytes()
        .split(|byte| *byte == b' ')
        .any(|known| known == name && !name.is_empty())
}

fn integer(text: &[u8]) -> Result<i64, &'static str> {
    // `parse` allows a plus sign.
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok())
        .ok_or(NOT_AN_INTEGER)
}

fn get(state: &State, request: Request<'_>, out: &mut Vec<u8>) -> Done {
    match state.store.borrow_mut().get(request.arg(1)) {
        Some(value) => out.bulk(value),
        None => out.null(),
    }
    Ok(())
}

/// `SET key value [EX seconds | PX milliseconds] [NX | XX]`
fn set(state: &State, request: Request<'_>, out: &mut Vec<u8>) -> Done {
    let (mut deadline, mut only_if) = (None, None);
    let mut options = request.args_from(3);
    while let Some(option) = options.next() {
        let unit = match option.to_ascii_uppercase().as_slice() {
            b"NX" if only_if.is_none() => {
                only_if = Some(false);
                continue;
            }
            b"XX" if only_if.is_none() => {
                only_if = Some(true);
                continue;
            }
            b"EX" if deadline.is_none() => 1000,
            b"PX" if deadline.is_none() => 1,
            _ => return Err(SYNTAX),
        };
        let number = integer(options.next().ok_or(SYNTAX)?)?;
        if number <= 0 {
            return Err("ERR invalid expire time in 'set' command");
        }
        deadline = Some(after(number, unit).ok_or("ERR invalid expire time in 'set' command")?);
    }
    let (key, value) = (request.arg(1), request.arg(2));
    let exists = only_if.is_some() && state.store.borrow_mut().contains(key);
    if only_if.is_some_and(|has_to_exist| has_to_exist != exists) {
        out.null();
        return Ok(());
    }
    store(state, key, value, deadline)?;
    out.status("OK");
    Ok(())
}

/// A time after now, given as a number of milliseconds times `unit`.
fn after(number: i64, unit: i64) -> Option<UnixMillis> {
    let now = store::now() as i64;
    let deadline = number.checked_mul(unit)?.checked_add(now)?;
    Some(deadline.max(0) as u64)
}

fn store(state: &State, key: &[u8], value: &[u8], deadline: Option<UnixMillis>) -> Done {
    let set = state.store.borrow_mut().set(key, value, deadline);
    log_evictions(state);
    set.map_err(|Full| FULL)?;
    log(state, |log| log.set(key, value, deadline));
    Ok(())
}

fn log(state: &State, add: impl FnOnce(&super::log::Journal)) {
    if let Some(journal) = &state.journal {
        add(journal);
    }
}

fn log_evictions(state: &State) {
    while let Some(key) = state.store.borrow_mut().pop_evicted() {
        log(state, |log| log.del(&key));
    }
}

fn add(
    state: &State,
    request: Request<'_>,
    by: Result<i64, &'static str>,
    out: &mut Vec<u8>,
) -> Done {
    let (key, by) = (request.arg(1), by?);
    let mut store = state.store.borrow_mut();
    let current = store.get(key).map_or(Ok(0), integer)?;
    let sum = current
        .checked_add(by)
        .ok_or("ERR increment or decrement would overflow")?;
    let deadline = store.deadline(key).flatten();
    drop(store);
    self::store(state, key, Buffer::new().format(sum).as_bytes(), deadline)?;
    out.integer(sum);
    Ok(())
}

fn mget(state: &State, request: Request<'_>, out: &mut Vec<u8>) -> Done {
    let (mut store, start) = (state.store.borrow_mut(), out.len());
    out.array(request.len() - 1);
    for key in request.args_from(1) {
        match store.get(key) {
            Some(value) => out.bulk(value),
            None => out.null(),
        }
        if out.len() - start > state.options.output {
            return Err("ERR the reply is larger than the output limit");
        }
    }
    Ok(())
}

fn mset(state: &State, request: Request<'_>, out: &mut Vec<u8>) -> Done {
    let pairs = (request.len() - 1) / 2;
    if request.len() != 1 + 2 * pairs {
        return Err("ERR wrong number of arguments");
    }
    for pair in (1..request.len()).step_by(2) {
        store(state, request.arg(pair), request.arg(pair + 1), None)?;
    }
    out.status("OK");
    Ok(())
}

fn del(state: &State, request: Request<'_>, out: &mut Vec<u8>) -> Done {
    let mut removed = 0;
    for key in request.args_from(1) {
        if state.store.borrow_mut().remove(key) {
            removed += 1;
            log(state, |log| log.del(key));
        }
    }
    out.integer(removed);
    Ok(())
}

fn expire(state: &State, request: Request<'_>, unit: i64, out: &mut Vec<u8>) -> Done {
    let (key, number) = (request.arg(1), integer(request.arg(2))?);
    let deadline = after(number, unit).ok_or("ERR invalid expire time")?;
    let is_set = state.store.borrow_mut().set_deadline(key, Some(deadline));
    if is_set {
        log(state, |log| log.deadline(key, deadline));
    }
    out.integer(is_set.into());
    Ok(())
}

fn persist(state: &State, request: Request<'_>, out: &mut Vec<u8>) -> Done {
    let key = request.arg(1);
    let mut store = state.store.borrow_mut();
    let has_deadline = store.deadline(key).flatten().is_some();
    if has_deadline {
        store.set_deadline(key, None);
        log(state, |log| log.persist(key));
    }
    out.integer(has_deadline.into());
    Ok(())
}

fn ttl(state: &State, request: Request<'_>, unit: u64, out: &mut Vec<u8>) -> Done {
    let left = match state.store.borrow_mut().deadline(request.arg(1)) {
        None => -2,
        Some(None) => -1,
        // Rounded to the nearest unit.
        Some(Some(deadline)) => ((deadline.saturating_sub(store::now()) + unit / 2) / unit) as i64,
    };
    out.integer(left);
    Ok(())
}

fn subscribe(
    state: &State,
    session: &mut Session,
    request: Request<'_>,
    out: &mut Vec<u8>,
) -> Done {
    for channel in request.args_from(1) {
        let mailbox = session.mailbox.get_or_insert_with(|| {
            let limit = state.options.output;
            Rc::new(Mailbox::new(session.client.clone(), limit))
        });
        if !session.channels.iter().any(|known| **known == *channel) {
            if session.channels.len() == MAX_CHANNELS {
                return Err("ERR too many subscriptions");
            }
            session.channels.push(channel.into());
            state.channels.subscribe(channel, mailbox);
        }
        confirm("subscribe", Some(channel), session.channels.len(), out);
    }
    Ok(())
}

/// Maximum number of subscriptions of a client.
const MAX_CHANNELS: usize = 1_000;

/// Without a channel, all subscriptions end.
fn unsubscribe(
    state: &State,
    session: &mut Session,
    request: Request<'_>,
    out: &mut Vec<u8>,
) -> Done {
    let named: Vec<Box<[u8]>> = match request.len() {
        1 => session.channels.clone(),
        _ => request.args_from(1).map(Box::from).collect(),
    };
    if named.is_empty() {
        confirm("unsubscribe", None, 0, out);
    }
    for channel in named {
        if let Some(mailbox) = &session.mailbox {
            state.channels.unsubscribe(&channel, mailbox);
        }
        session.channels.retain(|known| *known != channel);
        confirm("unsubscribe", Some(&channel), session.channels.len(), out);
    }
    if session.channels.is_empty() {
        session.mailbox = None;
    }
    Ok(())
}

fn confirm(kind: &str, channel: Option<&[u8]>, subscriptions: usize, out: &mut Vec<u8>) {
    out.array(3);
    out.bulk(kind.as_bytes());
    match channel {
        Some(channel) => out.bulk(channel),
        None => out.null(),
    }
    out.integer(subscriptions as i64);
}

/// `CONFIG GET name`. redis-benchmark prints two of them.
fn config(state: &State, request: Request<'_>, out: &mut Vec<u8>) -> Done {
    if !request.arg(1).eq_ignore_ascii_case(b"GET") {
        return Err("ERR only CONFIG GET is supported");
    }
    let memory = state.options.memory.to_string();
    let has_log = if state.journal.is_some() { "yes" } else { "no" };
    let known = [
        ("save", ""),
        ("appendonly", has_log),
        ("maxmemory", &*memory),
    ];
    let wanted = |name: &str| request.args_from(2).any(|arg| arg == name.as_bytes());
    let found: Vec<_> = known.into_iter().filter(|(name, _)| wanted(name)).collect();
    out.array(2 * found.len());
    for (name, value) in found {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    Ok(())
}

fn info(state: &State) -> String {
    let store = state.store.borrow();
    let mut text = String::from("# Server\r\n");
    let mut line = |name: &str, value: u64| {
        let _ = write!(text, "{name}:{value}\r\n"); // a string never fails
    };
    line("process_id", std::process::id().into());
    line("connected_clients", state.clients.len() as u64);
    line("client_buffers", state.clients.buffered() as u64);
    line("used_memory", store.bytes() as u64);
    line("maxmemory", store.limit() as u64);
    line("total_commands_processed", state.requests.get());
    line("evicted_keys", store.evictions);
    line("expired_keys", store.expirations);
    line("pubsub_channels", state.channels.len() as u64);
    line("aof_enabled", state.journal.is_some().into());
    let (keys, expires) = (store.len(), store.deadlines());
    let _ = write!(text, "# Keyspace\r\ndb0:keys={keys},expires={expires}\r\n");
    text
}
