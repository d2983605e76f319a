//! The server of `inspect::serve`. It answers during a stall, and refuses bad requests.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use windlass::inspect::{self, Server};
use windlass::{block_on, spawn};

/// The time after which a test has hung.
const PATIENCE: Duration = Duration::from_secs(30);

fn start() -> (Server, SocketAddr) {
    let server = inspect::serve("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    (server, addr)
}

/// Sends bytes, and returns the whole response.
fn send(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    exchange(&mut stream, request)
}

fn exchange(stream: &mut (impl Read + Write), request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn get(addr: SocketAddr, path: &str) -> String {
    send(
        addr,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    )
}

fn status(response: &str) -> &str {
    response
        .strip_prefix("HTTP/1.0 ")
        .unwrap()
        .get(..3)
        .unwrap()
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn each_path_has_its_content() {
    let (_server, addr) = start();
    for (path, content_type, part) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        (
            "/metrics",
            "text/plain; version=0.0.4",
            "windlass_turns_total ",
        ),
        ("/tasks.json", "application/json", "\"total\":"),
        ("/stalls.json", "application/json", "["),
        ("/state.json?now", "application/json", "\"loops\":["),
    ] {
        let response = get(addr, path);
        assert_eq!(status(&response), "200", "{path}");
        let field = format!("\r\nContent-Type: {content_type}\r\n");
        assert!(response.contains(&field), "{path}: {response}");
        assert!(response.contains("\r\nX-Content-Type-Options: nosniff\r\n"));
        assert!(body(&response).contains(part), "{path}: {response}");
    }
    assert_eq!(status(&get(addr, "/other")), "404");
    let head = send(addr, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((status(&head), body(&head)), ("200", ""));
}

/// The page loads nothing from other places, so it works without a network.
#[test]
fn the_page_is_one_file() {
    let (_server, addr) = start();
    let response = get(addr, "/");
    let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';";
    assert!(body(&response).contains(policy), "{response}");
    let frames = "\r\nContent-Security-Policy: frame-ancestors 'none'\r\n";
    assert!(response.contains(frames), "{response}");
    for other in ["src=", "@import", "<link", "https://"] {
        assert!(!body(&response).contains(other), "{other}");
    }
}

#[test]
fn the_page_answers_while_a_loop_is_stalled() {
    let (_server, addr) = start();
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let stalled = thread::Builder::new().name("subject".into());
    let stalled = stalled.spawn(move || {
        block_on(async move {
            let blocks = async move {
                begin.send(()).unwrap();
                _ = released.recv_timeout(PATIENCE); // blocks the loop
            };
            spawn(blocks).named("blocks \"everything\"").await;
        });
    });
    begun.recv().unwrap();
    let start = Instant::now();
    let subject = loop {
        let state = get(addr, "/state.json");
        let state = body(&state);
        let (_, subject) = state
            .split_once("\"thread\":\"subject\"")
            .expect("the loop is listed");
        let (subject, _) = subject.split_once("\"lags_ms\"").expect("the key is there");
        let (_, lag) = subject.split_once("\"lag_ms\":").expect("the key is there");
        let lag = lag.split(',').next().expect("a value follows");
        if lag.parse::<f64>().expect("the lag is a number") > 500.0 {
            break subject.to_owned();
        }
        assert!(start.elapsed() < PATIENCE, "{state}");
        thread::sleep(Duration::from_millis(10));
    };
    for part in [
        "\"state\":\"awake\"",
        "\"name\":\"blocks \\\"everything\\\"\"",
        "\"spawned_at\":\"tests/inspect_serve.rs:",
    ] {
        assert!(subject.contains(part), "{subject}");
    }
    for path in ["/", "/metrics", "/tasks.json", "/stalls.json"] {
        let start = Instant::now();
        assert_eq!(status(&get(addr, path)), "200");
        // Usually some milliseconds.
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{path}: {:?}",
            start.elapsed()
        );
    }
    drop(release);
    stalled.unwrap().join().unwrap();
}

#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn tasks_are_listed_with_their_waits() {
    let (_server, addr) = start();
    block_on(async {
        let slow = spawn(std::future::pending::<()>()).named("slow");
        let id = slow.id().unwrap().to_string();
        let joiner = spawn(slow).named("joiner");
        windlass::yield_now().await;
        let tasks = get(addr, "/tasks.json");
        let (_, listed) = tasks.split_once("\"name\":\"joiner\"").expect(&tasks);
        let (listed, _) = listed.split_once('}').expect(&tasks);
        assert!(listed.contains("\"state\":\"waiting\""), "{tasks}");
        assert!(listed.contains(&format!("\"tasks\":[\"{id}\"]")), "{tasks}");
        drop(joiner);

        let (sender, mut receiver) = windlass::sync::mpsc::channel(1);
        let busy = spawn(async move {
            receiver.recv().await;
            std::future::pending::<()>().await
        });
        windlass::yield_now().await;
        let id = busy.id().unwrap().to_string();
        let _producer = spawn(async move { while sender.send(1).await.is_ok() {} });
        for _ in 0..4 {
            windlass::yield_now().await;
        }
        let tasks = get(addr, "/tasks.json");
        assert!(tasks.contains("room in the channel created at "), "{tasks}");
        assert!(tasks.contains(&format!("\"probably\":\"{id}\"")), "{tasks}");
    });
}

#[test]
fn the_last_stalls_are_listed() {
    let (_server, addr) = start();
    let watchdog = inspect::Watchdog::builder()
        .threshold(Duration::from_millis(20))
        .reports_per_minute(1000)
        .start()
        .unwrap();
    let start = Instant::now();
    loop {
        // The watchdog of a busy machine may miss a stall.
        let stall = async { thread::sleep(Duration::from_millis(200)) };
        block_on(async { spawn(stall).named("sleeper").await });
        let stalls = get(addr, "/stalls.json");
        if stalls.contains("\"name\":\"sleeper\"") && stalls.contains("\"is_over\":true") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{stalls}");
    }
    watchdog.stop();
}

#[test]
fn the_loop_of_the_server_is_hidden() {
    let (_server, addr) = start();
    assert!(!get(addr, "/state.json").contains("\"thread\":\"windlass-inspect\""));
    assert!(!get(addr, "/tasks.json").contains("windlass-inspect"));
}

#[test]
fn bad_requests_are_refused() {
    let (_server, addr) = start();
    let long = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\na: {}\r\n\r\n",
        "x".repeat(17_000)
    );
    for (request, expected) in [
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("\0\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/1.1\r\n", "408"), // incomplete
        ("", "408"),
        (&long, "431"),
    ] {
        let response = send(addr, request);
        let start: String = request.chars().take(40).collect();
        assert_eq!(status(&response), expected, "{start:?}: {response}");
    }
}

#[test]
fn other_names_of_the_host_are_refused() {
    let (_server, addr) = start();
    let with_host = |addr, host: &str| {
        let response = send(
            addr,
            &format!("GET /state.json HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        status(&response).to_owned()
    };
    for host in [
        "localhost",
        "LocalHost:6060",
        "127.0.0.1",
        "[::1]:6060",
        &addr.to_string(),
    ] {
        assert_eq!(with_host(addr, host), "200", "{host}");
    }
    for host in [
        "example.com",
        "localhost.example.com:80",
        "127.0.0.1.example.com",
        "",
    ] {
        assert_eq!(with_host(addr, host), "421", "{host}");
    }
    let without = send(addr, "GET /state.json HTTP/1.1\r\n\r\n");
    assert_eq!(status(&without), "421");
    let server = Server::builder().allow_host("Service.internal");
    let server = server.serve("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    assert_eq!(with_host(addr, "service.internal:80"), "200");
    assert_eq!(with_host(addr, "example.com"), "421");
}

#[test]
fn silent_clients_do_not_delay_others() {
    let (_server, addr) = start();
    let silent: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(addr).unwrap())
        .collect();
    let start = Instant::now();
    assert_eq!(status(&get(addr, "/metrics")), "200");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    drop(silent);
}

#[test]
fn addresses_that_others_can_reach_need_a_permission() {
    let refused = inspect::serve("0.0.0.0:0").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    assert!(refused.to_string().contains("allow_remote"), "{refused}");
    let server = Server::builder().allow_remote().serve("0.0.0.0:0").unwrap();
    let port = server.local_addr().unwrap().port();
    assert_eq!(status(&get(([127, 0, 0, 1], port).into(), "/")), "200");
    assert!(inspect::serve("127.0.0.1").is_err(), "the port is missing");
}

#[test]
fn a_dropped_server_is_gone() {
    let (server, addr) = start();
    let taken = inspect::serve(&addr.to_string()).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    assert!(taken.to_string().contains(&addr.to_string()), "{taken}");
    drop(server);
    assert!(TcpStream::connect(addr).is_err());
    inspect::serve(&addr.to_string()).unwrap().detach();
    assert_eq!(status(&get(addr, "/")), "200");
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let name = format!("windlass-inspect-{name}-{}", std::process::id());
        std::env::temp_dir().join(name)
    }

    #[test]
    fn the_owner_alone_may_connect_to_the_socket() {
        let path = scratch("mode");
        let server = inspect::serve(path.to_str().unwrap()).unwrap();
        assert_eq!(server.local_addr(), None);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Any host is permitted, because no web page reaches a Unix socket.
        let mut stream = UnixStream::connect(&path).unwrap();
        let response = exchange(
            &mut stream,
            "GET /metrics HTTP/1.1\r\nHost: example.com\r\n\r\n",
        );
        assert_eq!(status(&response), "200");
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_no_other_file() {
        let (stale, file) = (scratch("stale"), scratch("file"));
        drop(UnixListener::bind(&stale).unwrap()); // the file stays
        let server = inspect::serve(stale.to_str().unwrap()).unwrap();
        let taken = inspect::serve(stale.to_str().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(server);
        fs::write(&file, "precious").unwrap();
        let taken = inspect::serve(file.to_str().unwrap()).unwrap_err();
        assert!(taken.to_string().contains("can't listen on"), "{taken}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        fs::remove_file(file).unwrap();
    }
}
