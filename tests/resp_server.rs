//! The example `resp_server`, in processes of its own. The client is blocking code of the standard
//! library.

#![cfg(unix)]

#[path = "../examples/resp_server/main.rs"]
#[allow(dead_code, reason = "main is the entry of the example")]
mod resp_server;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The arguments of a server that this program starts as a child.
const ARGS: &str = "RESP_SERVER_ARGS";
/// A generous time limit of each wait.
const LIMIT: Duration = Duration::from_secs(30);

/// The main function of the children. Without arguments, it does nothing.
#[test]
fn server_process() {
    let Some(args) = env::var_os(ARGS) else {
        return;
    };
    let args = args.into_string().unwrap();
    let args = args.split('\n').filter(|arg| !arg.is_empty());
    if let Err(error) = resp_server::start(args.map(Into::into)) {
        println!("failed: {error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

struct Server {
    process: Child,
    addr: String,
    output: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(args: &[&str]) -> Server {
        Server::try_start(args).unwrap_or_else(|output| panic!("no start: {output}"))
    }

    /// Returns the output of a server that does not start.
    fn try_start(args: &[&str]) -> Result<Server, String> {
        let args = [&["--listen", "127.0.0.1:0"], args].concat().join("\n");
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture"])
            .env(ARGS, args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Server {
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
            addr: String::new(),
        };
        let mut text = String::new();
        loop {
            let start = text.len();
            if server.output.read_line(&mut text).unwrap() == 0 {
                return Err(text);
            }
            // The test harness has not ended its own line.
            if let Some((_, addr)) = text[start..].trim_end().split_once("ready on ") {
                server.addr = addr.to_owned();
                return Ok(server);
            }
        }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Client {
            input: BufReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    /// Waits for the end of the process. Returns its output and whether it succeeded.
    fn wait(mut self) -> (String, bool) {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        (text, self.process.wait().unwrap().success())
    }

    /// Asserts that the process has grown by less than a number of bytes since it had `before`. The
    /// address sanitizer keeps freed memory for a while.
    #[track_caller]
    fn assert_growth(&self, before: usize, limit: usize) {
        let grown = self.resident_bytes().saturating_sub(before);
        assert!(
            grown < limit || env::var_os("ASAN_OPTIONS").is_some(),
            "{grown} bytes"
        );
    }

    fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
}

fn ok() -> Reply {
    Reply::Status("OK".into())
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.into())
}

struct Client {
    stream: TcpStream,
    input: BufReader<TcpStream>,
}

fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(format!("${}\r\n", word.len()).bytes());
        request.extend(*word);
        request.extend(b"\r\n");
    }
    request
}

fn words(request: &str) -> Vec<&[u8]> {
    request.split(' ').map(str::as_bytes).collect()
}

impl Client {
    fn send(&mut self, request: &str) {
        self.stream.write_all(&encode(&words(request))).unwrap();
    }

    fn call(&mut self, request: &str) -> Reply {
        self.send(request);
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        self.try_reply()
            .expect("the server has closed the connection")
    }

    /// Returns `None` at the end of the connection.
    fn try_reply(&mut self) -> Option<Reply> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            read => read.unwrap(),
        };
        let line = String::from_utf8(line).unwrap();
        let (kind, text) = line.strip_suffix("\r\n").expect("a whole line").split_at(1);
        let number = || text.parse::<i64>().unwrap();
        Some(match kind {
            "+" => Reply::Status(text.into()),
            "-" => Reply::Error(text.into()),
            ":" => Reply::Integer(number()),
            "$" if number() < 0 => Reply::Null,
            "$" => {
                let mut bytes = vec![0; number() as usize + 2];
                self.input.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes.split_off(bytes.len() - 2), b"\r\n");
                Reply::Bulk(bytes)
            }
            "*" => Reply::Array((0..number()).map(|_| self.reply()).collect()),
            _ => panic!("{line:?} is no reply"),
        })
    }

    fn info(&mut self, name: &str) -> u64 {
        let Reply::Bulk(text) = self.call("INFO") else {
            panic!()
        };
        let text = String::from_utf8(text).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap().parse().unwrap()
    }
}

/// Waits until a condition holds.
fn wait_until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "out of time");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("windlass-resp-{name}-{}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn log(&self) -> String {
        self.0.join("log").to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn commands_reply_as_those_of_redis() {
    let server = Server::start(&[]);
    let client = &mut server.client();
    let error = |text: &str| Reply::Error(text.into());
    let int = Reply::Integer;
    for (request, reply) in [
        ("PING", Reply::Status("PONG".into())),
        ("ping ahoy", bulk("ahoy")),
        ("GET rope", Reply::Null),
        ("SET rope hemp", ok()),
        ("GET rope", bulk("hemp")),
        ("SET rope steel NX", Reply::Null),
        ("SET rope steel XX", ok()),
        ("SET chain iron XX", Reply::Null),
        ("SET chain iron NX", ok()),
        (
            "MGET rope none chain",
            Reply::Array(vec![bulk("steel"), Reply::Null, bulk("iron")]),
        ),
        ("EXISTS rope rope none", int(2)),
        ("INCR turns", int(1)),
        ("INCRBY turns 41", int(42)),
        ("DECR turns", int(41)),
        ("DECRBY turns 50", int(-9)),
        ("GET turns", bulk("-9")),
        (
            "INCR rope",
            error("ERR value is not an integer or out of range"),
        ),
        (
            "INCRBY turns +1",
            error("ERR value is not an integer or out of range"),
        ),
        ("SET most 9223372036854775807", ok()),
        (
            "INCR most",
            error("ERR increment or decrement would overflow"),
        ),
        (
            "DECRBY turns -9223372036854775808",
            error("ERR value is not an integer or out of range"),
        ),
        ("TTL none", int(-2)),
        ("TTL rope", int(-1)),
        ("EXPIRE none 5", int(0)),
        ("EXPIRE rope 100", int(1)),
        ("TTL rope", int(100)),
        ("PERSIST rope", int(1)),
        ("TTL rope", int(-1)),
        ("SET rope hemp EX 100", ok()),
        ("TTL rope", int(100)),
        ("INCR turns", int(-8)),
        ("SET rope hemp", ok()),
        ("TTL rope", int(-1)),
        ("SET rope hemp EX", error("ERR syntax error")),
        ("SET rope hemp NX XX", error("ERR syntax error")),
        (
            "SET rope hemp EX 0",
            error("ERR invalid expire time in 'set' command"),
        ),
        (
            "SET rope hemp EX 9223372036854775807",
            error("ERR invalid expire time in 'set' command"),
        ),
        ("DEL rope none chain", int(2)),
        ("DBSIZE", int(2)),
        ("MSET a 1 b 2", ok()),
        ("MSET a 1 b", error("ERR wrong number of arguments")),
        ("GET", error("ERR wrong number of arguments")),
        ("WINCH", error("ERR unknown command")),
        ("A-NAME-LONGER-THAN-SIXTEEN", error("ERR unknown command")),
        ("FLUSHALL", ok()),
        ("DBSIZE", int(0)),
        (
            "CONFIG GET appendonly",
            Reply::Array(vec![bulk("appendonly"), bulk("no")]),
        ),
        ("PUBLISH deck ahoy", int(0)),
        ("QUIT", ok()),
    ] {
        assert_eq!(client.call(request), reply, "{request}");
    }
    assert_eq!(client.try_reply(), None);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut client = server.client();
    const COUNT: i64 = 20_000;
    let mut stream = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let mut requests = Vec::new();
        for i in 0..COUNT {
            requests.extend(encode(&words(&format!("SET key-{} value-{i}", i % 100))));
            requests.extend(encode(&words("INCR count")));
            requests.extend(encode(&words(&format!("GET key-{}", i % 100))));
            requests.extend(b"PING\r\n"); // a line of words
        }
        stream.write_all(&requests).unwrap();
    });
    for i in 0..COUNT {
        assert_eq!(client.reply(), ok());
        assert_eq!(client.reply(), Reply::Integer(i + 1));
        assert_eq!(client.reply(), bulk(&format!("value-{i}")));
        assert_eq!(client.reply(), Reply::Status("PONG".into()));
    }
    sender.join().unwrap();
    assert_eq!(client.info("client_buffers"), 0);
}

#[test]
fn requests_may_arrive_in_any_pieces() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.stream.set_nodelay(true).unwrap();
    let value = "x\r\n$*".repeat(20);
    let requests = [
        encode(&[b"SET", b"rope", value.as_bytes()]),
        encode(&[b"GET", b"rope"]),
        b"GET rope\n".to_vec(),
        encode(&[b"SET", b"", b""]),
        encode(&[b"GET", b""]),
    ]
    .concat();
    let replies = [ok(), bulk(&value), bulk(&value), ok(), bulk("")];
    for size in [1, 2, 3, 7] {
        for piece in requests.chunks(size) {
            client.stream.write_all(piece).unwrap();
        }
        for reply in &replies {
            assert_eq!(client.reply(), *reply);
        }
    }
    // A large value takes many reads.
    let large = vec![7; 1_000_000];
    client
        .stream
        .write_all(&encode(&[b"SET", b"large", &large]))
        .unwrap();
    assert_eq!(client.reply(), ok());
    assert_eq!(client.call("GET large"), Reply::Bulk(large));
}

#[test]
fn invalid_input_ends_its_connection_alone() {
    let server = Server::start(&["--request", "10000"]);
    let mut other = server.client();
    let too_long = format!("PING {}", "x".repeat(20_000));
    let bulk_without_end = b"*1\r\n$4\r\nPINGxx".to_vec();
    for (input, text) in [
        (b"*1\r\n:4\r\n".to_vec(), "expected '$'"),
        (b"*x\r\n".to_vec(), "invalid multibulk length"),
        (b"*100000\r\n".to_vec(), "invalid multibulk length"),
        (
            b"*99999999999999999999999999\r\n".to_vec(),
            "invalid multibulk length",
        ),
        (b"*1\r\n$-4\r\n".to_vec(), "invalid bulk length"),
        (
            b"*1\r\n$9223372036854775807\r\n".to_vec(),
            "too big request",
        ),
        (
            b"*2\r\n$4\r\nECHO\r\n$10000\r\n".to_vec(),
            "too big request",
        ),
        (bulk_without_end, "expected the end of a string"),
        (too_long.into_bytes(), "too big request"),
    ] {
        let mut client = server.client();
        let requests = [encode(&[b"ECHO", b"first"]), input].concat();
        // The server may close the connection before it has read all.
        let _ = client.stream.write_all(&requests);
        assert_eq!(client.reply(), bulk("first"));
        assert_eq!(
            client.reply(),
            Reply::Error(format!("ERR Protocol error: {text}"))
        );
        assert_eq!(client.try_reply(), None);
    }
    for empty in ["\r\n", "*0\r\n", "*-1\r\n"] {
        other.stream.write_all(empty.as_bytes()).unwrap();
    }
    assert_eq!(other.call("PING"), Reply::Status("PONG".into()));
}

/// Sends as much as the server takes. Returns when it takes no more for a while.
fn flood(client: &mut Client, request: &[u8]) -> usize {
    client.stream.set_nonblocking(true).unwrap();
    let requests = request.repeat(1_000);
    let (mut sent, mut stuck_since) = (0, Instant::now());
    while stuck_since.elapsed() < Duration::from_millis(500) {
        match client.stream.write(&requests[sent % requests.len()..]) {
            Ok(count) => {
                sent += count;
                stuck_since = Instant::now();
                assert!(sent < 1 << 30, "the server reads without an end");
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(_) => break, // the server has disconnected it
        }
    }
    client.stream.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn a_slow_reader_delays_only_itself() {
    let server = Server::start(&[]);
    let mut other = server.client();
    let value = "x".repeat(10_000);
    other.call(&format!("SET rope {value}"));
    let before = server.resident_bytes();
    let mut slow = server.client();
    let request = encode(&words("GET rope"));
    let sent = flood(&mut slow, &request);
    // Its requests wait in its socket. The server buffers one batch of replies and some requests.
    assert!(other.info("client_buffers") < 1 << 20);
    server.assert_growth(before, 8 << 20);
    assert_eq!(other.call("PING"), Reply::Status("PONG".into()));
    for _ in 0..sent / request.len() {
        assert_eq!(slow.reply(), bulk(&value));
    }
    assert_eq!(other.info("client_buffers"), (sent % request.len()) as u64);
}

#[test]
fn a_client_that_is_idle_or_stuck_is_disconnected() {
    let server = Server::start(&["--idle", "1"]);
    let mut idle = server.client();
    let mut subscriber = server.client();
    subscriber.call("SUBSCRIBE deck");
    let mut stuck = server.client();
    let value = "x".repeat(10_000);
    stuck.call(&format!("SET rope {value}"));
    stuck.send("GET rope");
    flood(&mut stuck, &encode(&words("GET rope")));
    assert_eq!(idle.try_reply(), None);
    wait_until(|| server.client().info("connected_clients") == 2);
    assert_eq!(server.client().call("PUBLISH deck ahoy"), Reply::Integer(1));
    assert_eq!(
        subscriber.reply(),
        Reply::Array(vec![bulk("message"), bulk("deck"), bulk("ahoy")])
    );
}

#[test]
fn clients_above_the_limit_are_refused() {
    let server = Server::start(&["--clients", "2"]);
    let mut first = server.client();
    let mut second = server.client();
    first.call("PING");
    second.call("PING");
    let mut third = server.client();
    let refusal = Reply::Error("ERR max number of clients reached".into());
    assert_eq!(third.reply(), refusal);
    assert_eq!(third.try_reply(), None);
    drop(second);
    wait_until(|| {
        let mut next = server.client();
        next.try_reply_to("PING") == Some(Reply::Status("PONG".into()))
    });
}

impl Client {
    /// Returns `None` if the connection is closed meanwhile.
    fn try_reply_to(&mut self, request: &str) -> Option<Reply> {
        self.stream.write_all(&encode(&words(request))).ok()?;
        self.try_reply()
    }
}

#[test]
fn buffers_of_all_clients_are_bounded() {
    let server = Server::start(&["--client-memory", "1M"]);
    // Each request is incomplete.
    let start = format!("*2\r\n$4\r\nECHO\r\n$500000\r\n{}", "x".repeat(400_000));
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut clients {
        let _ = client.stream.write_all(start.as_bytes());
    }
    let mut other = server.client();
    wait_until(|| other.info("connected_clients") == 3);
    assert_eq!(other.info("client_buffers"), 2 * start.len() as u64);
    drop(clients);
    wait_until(|| other.info("client_buffers") == 0);
}

#[test]
fn messages_reach_all_subscribers() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send("SUBSCRIBE deck hold");
        for (channel, count) in [("deck", 1), ("hold", 2)] {
            let confirmed = vec![bulk("subscribe"), bulk(channel), Reply::Integer(count)];
            assert_eq!(client.reply(), Reply::Array(confirmed));
        }
    }
    let error = "ERR only SUBSCRIBE, UNSUBSCRIBE, PING and QUIT are allowed here";
    assert_eq!(clients[0].call("GET rope"), Reply::Error(error.into()));
    assert_eq!(
        clients[0].call("PING"),
        Reply::Array(vec![bulk("pong"), bulk("")])
    );
    let left = vec![bulk("unsubscribe"), bulk("hold"), Reply::Integer(1)];
    assert_eq!(clients[2].call("UNSUBSCRIBE hold"), Reply::Array(left));
    let mut publisher = server.client();
    for i in 0..1_000 {
        assert_eq!(
            publisher.call(&format!("PUBLISH deck {i}")),
            Reply::Integer(3)
        );
        assert_eq!(
            publisher.call(&format!("PUBLISH hold {i}")),
            Reply::Integer(2)
        );
    }
    for (index, client) in clients.iter_mut().enumerate() {
        for i in 0..1_000 {
            for channel in ["deck", "hold"] {
                if index < 2 || channel == "deck" {
                    let message = vec![bulk("message"), bulk(channel), bulk(&i.to_string())];
                    assert_eq!(client.reply(), Reply::Array(message));
                }
            }
        }
    }
    let left = vec![bulk("unsubscribe"), bulk("deck"), Reply::Integer(0)];
    assert_eq!(clients[2].call("UNSUBSCRIBE"), Reply::Array(left));
    assert_eq!(clients[2].call("GET rope"), Reply::Null);
    drop(clients);
    wait_until(|| publisher.info("pubsub_channels") == 0);
}

#[test]
fn a_subscriber_that_reads_too_slowly_is_disconnected() {
    let server = Server::start(&["--output", "1M"]);
    let mut slow = server.client();
    slow.call("SUBSCRIBE deck");
    let mut publisher = server.client();
    let request = format!("PUBLISH deck {}", "x".repeat(100_000));
    wait_until(|| publisher.call(&request) == Reply::Integer(0));
    assert_eq!(publisher.info("connected_clients"), 1);
    assert_eq!(publisher.info("client_buffers"), 0);
    // What the socket has queued still arrives, and ends anywhere.
    std::io::copy(&mut slow.input, &mut std::io::sink()).unwrap();
}

#[test]
fn keys_expire_with_and_without_an_access() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call("SET rope hemp PX 50"), ok());
    assert_eq!(client.call("GET rope"), bulk("hemp"));
    wait_until(|| client.call("GET rope") == Reply::Null);
    assert_eq!(client.call("SET rope hemp NX"), ok());
    for i in 0..1_000 {
        client.call(&format!("SET short-{i} x PX 1"));
        client.call(&format!("SET long-{i} x EX 1000"));
    }
    wait_until(|| client.call("DBSIZE") == Reply::Integer(1_001));
    assert_eq!(client.call("DEL rope"), Reply::Integer(1));
    for i in 0..1_000 {
        assert_eq!(client.call(&format!("GET long-{i}")), bulk("x"));
    }
}

/// Sets keys of 100 bytes, far more than the limit.
fn fill(client: &mut Client, keys: usize) -> Vec<Reply> {
    let value = "x".repeat(100);
    let mut replies = Vec::new();
    for start in (0..keys).step_by(100) {
        let batch = (start..start + 100).map(|i| encode(&words(&format!("SET key-{i} {value}"))));
        client
            .stream
            .write_all(&batch.collect::<Vec<_>>().concat())
            .unwrap();
        replies.extend((0..100).map(|_| client.reply()));
    }
    replies
}

#[test]
fn memory_stays_below_its_limit() {
    let server = Server::start(&["--memory", "8M"]);
    let mut client = server.client();
    let before = server.resident_bytes();
    assert_eq!(client.call("SET used often"), ok());
    for _ in 0..20 {
        assert!(fill(&mut client, 10_000).iter().all(|reply| *reply == ok()));
        // Keys that are in use stay.
        assert_eq!(client.call("GET used"), bulk("often"));
    }
    assert_eq!(client.call("GET key-9999"), bulk(&"x".repeat(100)));
    assert!(
        fill(&mut client, 100_000)
            .iter()
            .all(|reply| *reply == ok())
    );
    assert!(client.info("used_memory") <= 8 << 20);
    assert!(client.info("evicted_keys") > 50_000);
    server.assert_growth(before, 12 << 20);
    let error = "OOM command not allowed when used memory > 'maxmemory'";
    let server = Server::start(&["--memory", "100K"]);
    let too_large = format!("SET rope {}", "x".repeat(110_000));
    let mut client = server.client();
    assert_eq!(client.call("SET rope hemp"), ok());
    assert_eq!(client.call(&too_large), Reply::Error(error.into()));
    assert_eq!(client.call("GET rope"), bulk("hemp"));
}

#[test]
fn writes_above_the_limit_are_refused_by_that_policy() {
    let server = Server::start(&["--memory", "1M", "--policy", "refuse"]);
    let mut client = server.client();
    let replies = fill(&mut client, 10_000);
    let full = replies.iter().position(|reply| *reply != ok()).unwrap();
    assert!(full > 2_000);
    assert!(
        replies[full..]
            .iter()
            .all(|reply| matches!(reply, Reply::Error(_)))
    );
    assert_eq!(client.call("DBSIZE"), Reply::Integer(full as i64));
    assert_eq!(client.call("SET key-0 short"), ok());
    assert_eq!(client.call("DEL key-1 key-2"), Reply::Integer(2));
    assert_eq!(client.call("SET rope hemp"), ok());
}

#[test]
fn the_log_restores_the_store() {
    for sync in ["always", "everysec", "no"] {
        let folder = Folder::new(sync);
        let args = ["--log", &folder.log(), "--sync", sync];
        let server = Server::start(&args);
        let mut client = server.client();
        client.call("SET rope hemp");
        client.call("SET chain iron EX 1000");
        client.call("SET chain steel EX 1000 XX");
        client.call("SET gone soon PX 1");
        client.call("SET anchor lead EX 1000");
        client.call("PERSIST anchor");
        client.call("SET hull oak");
        client.call("DEL hull");
        client.call("INCRBY turns 41");
        client.call("INCR turns");
        client.call("SET expiring x");
        client.call("EXPIRE expiring 1000");
        // A kill loses no acknowledged write, because the file has it.
        server.signal(Signal::SIGKILL);
        drop(server);
        for _ in 0..2 {
            let server = Server::start(&args);
            let mut client = server.client();
            let values = client.call("MGET rope chain gone anchor hull turns expiring");
            let [rope, chain, anchor] = ["hemp", "steel", "lead"].map(bulk);
            let expected = [
                rope,
                chain,
                Reply::Null,
                anchor,
                Reply::Null,
                bulk("42"),
                bulk("x"),
            ];
            assert_eq!(values, Reply::Array(expected.into()));
            assert_eq!(client.call("TTL anchor"), Reply::Integer(-1));
            for key in ["chain", "expiring"] {
                let Reply::Integer(left) = client.call(&format!("TTL {key}")) else {
                    panic!()
                };
                assert!((900..=1000).contains(&left));
            }
            assert_eq!(client.call("DBSIZE"), Reply::Integer(5));
        }
    }
}

#[test]
fn the_log_of_evictions_restores_the_same_keys() {
    let folder = Folder::new("evictions");
    let args = ["--log", &folder.log(), "--memory", "100K"];
    let server = Server::start(&args);
    let mut client = server.client();
    fill(&mut client, 2_000);
    let size = client.call("DBSIZE");
    let last = client.call("GET key-1999");
    server.signal(Signal::SIGTERM);
    assert!(server.wait().1);
    let server = Server::start(&args);
    let mut client = server.client();
    assert_eq!(client.call("DBSIZE"), size);
    assert_eq!(client.call("GET key-1999"), last);
}

#[test]
fn a_log_may_be_cut_off_anywhere_but_not_be_damaged() {
    let folder = Folder::new("cut");
    let log = folder.log();
    let mut text = Vec::new();
    let mut ends = vec![0];
    for i in 0..3 {
        text.extend(encode(&[b"SET", b"key", format!("value {i}").as_bytes()]));
        ends.push(text.len());
    }
    for cut in 0..=text.len() {
        // Each cut in the last entry, and some in the others.
        if cut < ends[2] && cut % 7 != 0 {
            continue;
        }
        fs::write(&log, &text[..cut]).unwrap();
        let server = Server::start(&["--log", &log]);
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let expected = match whole {
            0 => Reply::Null,
            whole => bulk(&format!("value {}", whole - 1)),
        };
        let mut client = server.client();
        assert_eq!(client.call("GET key"), expected, "cut at {cut}");
        // The next writes follow the last whole one.
        assert_eq!(client.call("SET other x"), ok());
        drop(server);
        let mut client = Server::start(&["--log", &log]).client_of();
        assert_eq!(client.0.call("GET key"), expected);
        assert_eq!(client.0.call("GET other"), bulk("x"));
    }
    let mut damaged = text.clone();
    damaged[ends[1]] = b'x';
    fs::write(&log, &damaged).unwrap();
    let output = Server::try_start(&["--log", &log])
        .err()
        .expect("it must not start");
    assert!(
        output.contains(&format!("damaged at offset {}", ends[1])),
        "{output}"
    );
    assert_eq!(fs::read(&log).unwrap(), damaged);
}

impl Server {
    /// A client that keeps its server running.
    fn client_of(self) -> (Client, Server) {
        (self.client(), self)
    }
}

#[test]
fn a_full_disk_stops_the_server_before_it_acknowledges() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let folder = Folder::new("full");
    let server = Server::start(&["--log", &folder.log(), "--sync", "always"]);
    let mut client = server.client();
    assert_eq!(client.call("SET rope hemp"), ok());
    // The file may not grow any more.
    let pid = server.process.id().to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=40:40"])
        .status();
    if !limited.is_ok_and(|status| status.success()) {
        println!("SKIPPED: prlimit is not installed");
        return;
    }
    assert_eq!(client.try_reply_to("SET chain iron"), None);
    let (output, succeeded) = server.wait();
    assert!(!succeeded, "{output}");
}

#[test]
fn a_signal_ends_the_server_after_its_requests() {
    let folder = Folder::new("signal");
    let args = ["--log", &folder.log(), "--sync", "always"];
    let server = Server::start(&args);
    let mut idle = server.client();
    idle.call("PING");
    let mut subscriber = server.client();
    subscriber.call("SUBSCRIBE deck");
    let mut busy = server.client();
    let mut stream = busy.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let request = encode(&words("INCR count")).repeat(100);
        while stream.write_all(&request).is_ok() {}
    });
    let mut acknowledged = 0;
    while let Some(reply) = busy.try_reply() {
        acknowledged += 1;
        assert_eq!(reply, Reply::Integer(acknowledged));
        if acknowledged == 5_000 {
            server.signal(Signal::SIGTERM);
        }
    }
    assert!(acknowledged >= 5_000);
    let _ = busy.stream.shutdown(Shutdown::Both);
    sender.join().unwrap();
    assert_eq!(idle.try_reply(), None);
    assert_eq!(subscriber.try_reply(), None);
    let (output, succeeded) = server.wait();
    assert!(succeeded && output.contains("stopped"), "{output}");
    let server = Server::start(&args);
    let Reply::Bulk(count) = server.client().call("GET count") else {
        panic!()
    };
    let count: i64 = String::from_utf8(count).unwrap().parse().unwrap();
    assert!(count >= acknowledged, "{count} of {acknowledged}");
}

/// Runs a program against the server. Returns `None` if it is not installed.
fn run_program(name: &str, server: &Server, args: &[&str]) -> Option<String> {
    let port = server.addr.rsplit(':').next().unwrap();
    let output = Command::new(name).args(["-p", port]).args(args).output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("SKIPPED: {name} is not installed");
            None
        }
        output => {
            let output = output.unwrap();
            assert!(output.status.success(), "{output:?}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
    }
}

#[test]
fn programs_of_redis_work_with_the_server() {
    let server = Server::start(&[]);
    for (args, expected) in [
        (&["SET", "rope", "hemp"][..], "OK\n"),
        (&["GET", "rope"], "hemp\n"),
        (&["INCR", "turns"], "1\n"),
        (&["MGET", "rope", "none"], "hemp\n\n"),
    ] {
        let Some(output) = run_program("redis-cli", &server, args) else {
            return;
        };
        assert_eq!(output, expected);
    }
    for depth in ["1", "16"] {
        let args = [
            "-t",
            "ping,set,get,incr,mset",
            "-n",
            "2000",
            "-P",
            depth,
            "-q",
        ];
        let Some(output) = run_program("redis-benchmark", &server, &args) else {
            return;
        };
        assert_eq!(output.matches("requests per second").count(), 6, "{output}");
    }
}
