//! Tests of the usual operation. They run one after the other, each with its own program.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::load::Load;
use super::subject::{Client, Subject, command, get, lives, until};

macro_rules! tests {
    ($($name:ident)*) => {
        pub(crate) const ALL: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

tests! {
    every_worker_accepts_connections
    waiting_workers_accept_in_turn
    a_killed_worker_is_restarted_and_others_continue
    sigterm_to_a_worker_drains_and_restarts_it
    the_drain_limit_applies_after_sigterm_to_a_worker
    a_panic_of_a_thread_ends_only_its_worker
    a_crash_loop_ends_the_parent_with_the_last_crash
    run_returns_when_all_workers_have_finished
    sigterm_lets_requests_finish
    a_worker_that_exceeds_the_drain_limit_is_killed
    a_second_signal_kills_the_workers
    no_worker_outlives_a_parent_that_is_killed
    a_stuck_worker_is_restarted
    a_paused_parent_kills_no_worker
    a_stuck_thread_is_abandoned_and_replaced
    a_reload_fails_no_request
    at_most_eight_sets_of_workers_drain
    a_reload_without_executable_keeps_the_workers
    a_reload_follows_the_current_symbolic_link
    messages_reach_the_parent_and_all_workers
    a_worker_that_never_receives_delays_no_broadcast
    messages_sent_before_a_worker_exits_are_delivered
    metrics_are_served_and_a_stale_socket_is_replaced
    children_of_workers_inherit_no_descriptors
    invalid_configuration_is_an_error
    a_worker_without_free_descriptors_is_an_error
    systemd_passes_sockets_and_is_notified
    restarts_and_reloads_leak_no_descriptors
}

pub(crate) const LOCAL: &str = "listen=127.0.0.1:0";

pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("windlass-{}-{name}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

pub(crate) fn send(process: u32, signal: Signal) {
    let pid = Pid::from_raw(process as i32).unwrap();
    kill_process(pid, signal).unwrap();
}

pub(crate) fn kill(process: u32) {
    send(process, Signal::KILL);
}

fn every_worker_accepts_connections() {
    for args in [
        &["kind=processes", LOCAL, "count=3"][..],
        &["kind=processes", LOCAL, "count=3", "each=1"],
        &["kind=threads", LOCAL, "count=3"],
        &["kind=threads", LOCAL, "count=3", "pin=1"],
    ] {
        let mut subject = Subject::start(args);
        let addr = subject.addr(3);
        let mut met = BTreeSet::new();
        until("all three have answered", || {
            met.insert(get(addr, "/").unwrap().0);
            met.len() == 3
        });
        subject.end();
    }
}

fn waiting_workers_accept_in_turn() {
    if cfg!(windlass_portable) {
        return; // The kernel wakes all workers there, and the fastest accepts.
    }
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=4"]);
    let addr = subject.addr(4);
    get(addr, "/").unwrap();
    // If all workers wait each time, each of them accepts 20 connections; on a busy machine the
    // numbers vary. Without rotation of the exclusive waiters, one worker would accept nearly all.
    let (mut answers, mut clients) = ([0; 4], Vec::new());
    while answers.iter().any(|&it| it < 10) {
        assert!(clients.len() < 400, "{answers:?}");
        let mut client = Client::connect(addr).unwrap();
        let (body, _) = client.get("/").unwrap();
        answers[body.split(' ').next().unwrap().parse::<usize>().unwrap()] += 1;
        clients.push(client);
    }
    drop(clients);
    subject.end();
}

fn a_killed_worker_is_restarted_and_others_continue() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=2"]);
    let addr = subject.addr(2);
    let mut clients: Vec<_> = (0..8).map(|_| Client::connect(addr).unwrap()).collect();
    let processes: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            client
                .get("/")
                .unwrap()
                .0
                .split(' ')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    let victim: u32 = processes[0];
    kill(victim);
    subject.wait_for("was killed by signal: 9 (SIGKILL)");
    for (client, process) in clients.iter_mut().zip(processes) {
        assert_eq!(client.get("/").is_ok(), process != victim);
    }
    drop(clients);
    subject.addr(1);
    assert_eq!(subject.workers().len(), 2);
    subject.end();
}

fn sigterm_to_a_worker_drains_and_restarts_it() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1"]);
    let addr = subject.addr(1);
    let mut client = Client::connect(addr).unwrap();
    let (_, process) = get(addr, "/").unwrap();
    client.get("/").unwrap();
    send(process, Signal::TERM);
    let (_, is_kept) = client.get("/slow").unwrap();
    assert!(!is_kept);
    subject.wait_for("exited: starting another");
    subject.addr(1);
    subject.end();
}

fn the_drain_limit_applies_after_sigterm_to_a_worker() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1", "drain=200"]);
    let addr = subject.addr(1);
    let mut silent = Client::connect(addr).unwrap();
    silent.get("/").unwrap();
    send(subject.workers()[0], Signal::TERM);
    subject.wait_for("didn't end within 200ms; it was killed by signal: 9 (SIGKILL): starting");
    subject.addr(1);
    subject.end();
}

fn a_panic_of_a_thread_ends_only_its_worker() {
    let mut subject = Subject::start(&["kind=threads", "count=2", "behave=panic"]);
    assert_eq!(subject.wait().code(), Some(2));
    assert!(subject.has_logged("(a thread) panicked: the rope broke: starting another"));
}

fn a_crash_loop_ends_the_parent_with_the_last_crash() {
    for (behave, expected) in [("fail", "failed: no rope"), ("panic", "exit status: 101")] {
        let mut subject =
            Subject::start(&["kind=processes", "count=2", &format!("behave={behave}")]);
        assert_eq!(subject.wait().code(), Some(2));
        let error = subject
            .output
            .iter()
            .find(|line| line.starts_with("error: giving up"));
        assert!(
            error.is_some_and(|error| error.contains(expected)),
            "{:#?}",
            subject.output
        );
    }
}

fn run_returns_when_all_workers_have_finished() {
    for kind in ["kind=processes", "kind=threads"] {
        let mut subject = Subject::start(&[kind, "count=3", "behave=finish"]);
        assert!(subject.wait().success());
        assert!(!subject.has_logged("starting another"));
    }
}

fn sigterm_lets_requests_finish() {
    for kind in ["kind=processes", "kind=threads"] {
        let mut subject = Subject::start(&[kind, LOCAL, "count=2"]);
        let addr = subject.addr(2);
        let mut client = Client::connect(addr).unwrap();
        client.get("/").unwrap();
        let asking = std::thread::spawn(move || client.get("/slow").unwrap());
        // The signal may arrive before or after the request. In both cases the request is the
        // connection's last.
        subject.signal(Signal::TERM);
        let (_, is_kept) = asking.join().unwrap();
        assert!(!is_kept);
        assert!(subject.wait().success());
    }
}

fn a_worker_that_exceeds_the_drain_limit_is_killed() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1", "drain=200"]);
    let addr = subject.addr(1);
    let mut silent = Client::connect(addr).unwrap();
    silent.get("/").unwrap();
    subject.signal(Signal::INT);
    assert!(subject.wait().success());
    assert!(subject.has_logged("didn't end within 200ms; it was killed by signal: 9"));
}

fn a_second_signal_kills_the_workers() {
    for kind in ["kind=processes", "kind=threads"] {
        let mut subject = Subject::start(&[kind, LOCAL, "count=2"]);
        let addr = subject.addr(2);
        let mut silent = Client::connect(addr).unwrap();
        silent.get("/").unwrap();
        subject.signal(Signal::INT);
        until("the first signal is handled", || get(addr, "/").is_err());
        subject.signal(Signal::INT);
        assert_eq!(subject.wait().code(), Some(2));
        assert!(subject.has_logged("a second stop request killed the workers"));
    }
}

fn no_worker_outlives_a_parent_that_is_killed() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=3"]);
    subject.addr(3);
    let workers = subject.workers();
    assert_eq!(workers.len(), 3);
    subject.signal(Signal::KILL);
    until("all are gone", || {
        !workers.iter().any(|&worker| lives(worker))
    });
}

fn a_stuck_worker_is_restarted() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=2", "heartbeat=400"]);
    let addr = subject.addr(2);
    let before = subject.workers();
    assert!(get(addr, "/block").is_err());
    subject.wait_for("is stuck: its loop sent no heartbeat for 400ms; it was killed");
    subject.addr(1);
    let same = subject
        .workers()
        .iter()
        .filter(|worker| before.contains(worker))
        .count();
    assert_eq!(same, 1);
    subject.end();
}

fn a_paused_parent_kills_no_worker() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=2", "heartbeat=400"]);
    let addr = subject.addr(2);
    let before = subject.workers();
    get(addr, "/").unwrap();
    while !subject.has_logged(" 1 requests") {
        subject.signal(Signal::USR1); // until the metrics include the request
        subject.wait_for("worker 1 (");
    }
    subject.signal(Signal::STOP);
    let begin = Instant::now();
    until("the limit has passed", || {
        begin.elapsed() > Duration::from_secs(1)
    });
    subject.signal(Signal::CONT);
    subject.signal(Signal::USR1);
    subject.wait_for("worker 1");
    get(addr, "/").unwrap();
    assert_eq!(subject.workers(), before);
    subject.signal(Signal::TERM);
    assert!(subject.wait().success());
    assert!(!subject.has_logged("is stuck"), "{:#?}", subject.output);
}

fn a_stuck_thread_is_abandoned_and_replaced() {
    let mut subject = Subject::start(&["kind=threads", LOCAL, "count=1", "heartbeat=400"]);
    let addr = subject.addr(1);
    let mut client = Client::connect(addr).unwrap();
    std::thread::spawn(move || client.get("/block"));
    subject.wait_for("is stuck: its loop sent no heartbeat for 400ms; it is abandoned");
    subject.addr(1);
    get(addr, "/").unwrap();
    // The thread still runs, so the exit is not graceful.
    subject.signal(Signal::TERM);
    assert_eq!(subject.wait().code(), Some(2));
    assert!(subject.has_logged("error: worker 0 (a thread) is stuck"));
}

fn a_reload_fails_no_request() {
    for args in [
        &["kind=processes", LOCAL, "count=2"][..],
        &["kind=processes", LOCAL, "count=2", "each=1"],
        &["kind=threads", LOCAL, "count=2"],
    ] {
        let mut subject = Subject::start(args);
        let addr = subject.addr(2);
        let before = get(addr, "/").unwrap().1;
        let load = Load::start(addr, 8, 20);
        for _ in 0..5 {
            subject.signal(Signal::HUP);
            subject.wait_for("the workers are replaced");
        }
        let counts = load.stop();
        let failed = (counts.refused.load(Relaxed), counts.broken.load(Relaxed));
        assert_eq!(failed, (0, 0), "{counts:?}: {:#?}", subject.output);
        assert_eq!(
            get(addr, "/").unwrap().1 == before,
            args[0] == "kind=threads"
        );
        subject.end();
    }
}

fn at_most_eight_sets_of_workers_drain() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1"]);
    let addr = subject.addr(1);
    // Each set of workers has a client that keeps it draining.
    let mut clients = Vec::new();
    for set in 1..=10 {
        let newest = *subject.workers().last().unwrap();
        clients.push(client_of(newest, addr));
        subject.signal(Signal::HUP);
        subject.wait_for("the workers are replaced");
        until("there are eight old sets at most", || {
            subject.workers().len() == 1 + set.min(8)
        });
    }
    for mut client in clients.drain(..2) {
        assert!(client.get("/").is_err());
    }
    for mut client in clients {
        assert!(!client.get("/").unwrap().1);
    }
    subject.end();
}

/// Connects until that worker accepts the connection.
fn client_of(process: u32, addr: SocketAddr) -> Client {
    loop {
        let mut client = Client::connect(addr).unwrap();
        let (body, _) = client.get("/").unwrap();
        if body.ends_with(&format!(" {process}")) {
            return client;
        }
    }
}

fn a_reload_without_executable_keeps_the_workers() {
    let copy = scratch("copy");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut started = Command::new(&copy);
    started.args(["--program", "kind=processes", LOCAL, "count=2"]);
    let mut subject = Subject::start_as(&mut started);
    let addr = subject.addr(2);
    fs::remove_file(&copy).unwrap();
    subject.signal(Signal::HUP);
    let reason = subject.wait_for("the workers are not replaced");
    assert!(reason.contains("No such file"), "{reason}");
    // A crashed worker is restarted with the same program.
    kill(get(addr, "/").unwrap().1);
    subject.addr(1);
    // A broken program replaces nothing.
    fs::write(&copy, "#!/bin/false\n").unwrap();
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    subject.signal(Signal::HUP);
    subject.wait_for("the workers are not replaced");
    get(addr, "/").unwrap();
    fs::remove_file(&copy).unwrap();
    subject.end();
}

fn a_reload_follows_the_current_symbolic_link() {
    let link = scratch("current");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
    let mut started = Command::new(&link);
    started.args(["--program", "kind=processes", LOCAL, "count=1"]);
    let mut subject = Subject::start_as(&mut started);
    let addr = subject.addr(1);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", &link).unwrap();
    subject.signal(Signal::HUP);
    let reason = subject.wait_for("the workers are not replaced");
    assert!(reason.contains("No such file"), "{reason}");
    get(addr, "/").unwrap();
    fs::remove_file(&link).unwrap();
    subject.end();
}

fn messages_reach_the_parent_and_all_workers() {
    for kind in ["kind=processes", "kind=threads"] {
        let mut subject = Subject::start(&[kind, LOCAL, "count=2", "parent=echo"]);
        let addr = subject.addr(2);
        let (_, _) = get(addr, "/send").unwrap();
        let mut got = [subject.wait_for("got ahoy"), subject.wait_for("got ahoy")];
        got.sort();
        assert_eq!(got, ["worker 0 got ahoy", "worker 1 got ahoy"]);
        let (from, _) = get(addr, "/others").unwrap();
        assert_eq!(
            subject.wait_for("got avast"),
            format!("worker {} got avast", 1 - from)
        );
        subject.end();
    }
}

fn a_worker_that_never_receives_delays_no_broadcast() {
    for kind in ["kind=processes", "kind=threads"] {
        let args = [kind, LOCAL, "count=2", "parent=flood", "behave=deaf"];
        let mut subject = Subject::start(&args);
        let addr = subject.addr(2);
        get(addr, "/send").unwrap();
        subject.wait_for("got wave 1000");
        let waves = subject.output.iter().filter(|line| line.contains("wave"));
        assert!(
            waves.eq(&(1..=1000)
                .map(|wave| format!("worker 1 got wave {wave}"))
                .collect::<Vec<_>>())
        );
        subject.signal(Signal::USR1);
        assert!(!subject.wait_for("worker 0 (").contains(" 0 messages lost"));
        assert!(subject.wait_for("worker 1 (").contains(" 0 messages lost"));
        subject.end();
    }
}

fn messages_sent_before_a_worker_exits_are_delivered() {
    for kind in ["kind=processes", "kind=threads"] {
        let args = [kind, "count=1", "parent=count", "behave=farewell"];
        let mut subject = Subject::start(&args);
        assert!(subject.wait().success());
        assert!(
            subject.has_logged("has got 200"),
            "{:#?}",
            subject.output.last()
        );
    }
}

fn metrics_are_served_and_a_stale_socket_is_replaced() {
    let path = scratch("figures");
    drop(UnixListener::bind(&path).unwrap()); // the file stays
    let figures = format!("figures={}", path.display());
    let args = [
        "kind=processes",
        LOCAL,
        "count=1",
        "heartbeat=400",
        &figures,
    ];
    let mut subject = Subject::start(&args);
    let addr = subject.addr(1);
    get(addr, "/").unwrap();
    until("the connection is counted and closed", || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"));
        assert!(text.contains("windlass_polls_total{worker=\"0\"} "));
        text.contains("windlass_worker_requests_total{worker=\"0\"} 1")
            && text.contains("windlass_worker_connections_open{worker=\"0\"} 0")
    });
    subject.signal(Signal::USR1);
    subject.wait_for(
        "1 connections accepted, 0 open, 0 failed, 1 requests, 0 restarts, 0 messages lost",
    );
    let mut second = Subject::start(&args);
    assert_eq!(second.wait().code(), Some(2));
    assert!(second.has_logged("can't listen on"));
    subject.end();
    assert!(!path.exists());
}

fn children_of_workers_inherit_no_descriptors() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=2"]);
    let addr = subject.addr(2);
    let (listed, _) = Client::connect(addr).unwrap().get("/children").unwrap();
    assert!(
        listed.contains("/dev/null") && !listed.contains("socket:"),
        "{listed}"
    );
    subject.end();
}

fn invalid_configuration_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let listen = format!("listen={addr}");
    let in_use = format!("error: can't listen on {addr}: Address already in use");
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 7] = [
        (&["kind=processes", &listen], &[], &in_use),
        (&["kind=processes", &listen, "each=1"], &[], &in_use),
        (
            &["count=0"],
            &[],
            "error: 0 workers: the count must be 1 to 1024",
        ),
        (
            &["count=5000"],
            &[],
            "error: 5000 workers: the count must be 1 to 1024",
        ),
        (
            &[LOCAL],
            &[("LISTEN_FDS", "many")],
            "error: LISTEN_FDS=many: not a number",
        ),
        (
            &[LOCAL],
            &[("LISTEN_FDS", "1")],
            "descriptor 3, which is not open",
        ),
        (
            &[LOCAL],
            &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "a:b")],
            "has 2 names",
        ),
    ];
    for (args, variables, expected) in cases {
        let mut started = with_own_pid(args);
        started.envs(variables.iter().copied());
        let mut subject = Subject::start_as(&mut started);
        assert_eq!(
            subject.wait().code(),
            Some(2),
            "{expected}: {:#?}",
            subject.output
        );
        assert!(
            subject.has_logged(expected),
            "{expected}: {:#?}",
            subject.output
        );
    }
    a_missing_permission_is_an_error();
}

fn a_worker_without_free_descriptors_is_an_error() {
    // Beside the standard streams there are descriptors for the control socket and the message
    // socket.
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1", "descriptors=5"]);
    subject.wait_for("raise its limit (`ulimit -n`, LimitNOFILE)");
    assert_eq!(subject.wait().code(), Some(2));
}

/// Runs as a user without the permission.
fn a_missing_permission_is_an_error() {
    let copy = scratch("unprivileged");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut started = Command::new(&copy);
    started.args(["--program", "listen=127.0.0.1:1"]);
    if rustix::process::getuid().is_root() {
        started.uid(65534);
    }
    let mut subject = Subject::start_as(&mut started);
    assert_eq!(subject.wait().code(), Some(2));
    assert!(
        subject.has_logged("can't listen on 127.0.0.1:1: Permission denied"),
        "{:?}",
        subject.output
    );
    fs::remove_file(copy).unwrap();
}

/// Starts the program with `LISTEN_PID` set to its own PID: a shell knows the PID before it
/// executes the program.
fn with_own_pid(args: &[&str]) -> Command {
    let program = command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\""]);
    shell
        .arg(program.get_program())
        .args(program.get_args())
        .env("RUST_BACKTRACE", "0");
    shell
}

fn systemd_passes_sockets_and_is_notified() {
    let path = scratch("notify");
    let notifications = UnixDatagram::bind(&path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let program = command(&["kind=processes", "listen=127.0.0.1:1", "count=2"]);
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "export LISTEN_PID=$$; exec 3<&0 0</dev/null; exec \"$0\" \"$@\"",
    ]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "http")]);
    shell
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "60000000");
    shell.stdin(std::os::fd::OwnedFd::from(listener));
    let mut subject = Subject::start_as(&mut shell);
    assert_eq!(subject.addr(2), addr);
    get(addr, "/").unwrap();
    let mut buffer = [0; 256];
    let mut next = |wanted: &str| loop {
        let n = notifications.recv(&mut buffer).unwrap();
        if String::from_utf8_lossy(&buffer[..n]).starts_with(wanted) {
            return;
        }
    };
    next("WATCHDOG=1");
    next("READY=1");
    subject.signal(Signal::HUP);
    next("RELOADING=1\nMONOTONIC_USEC=");
    next("READY=1");
    subject.signal(Signal::TERM);
    next("STOPPING=1");
    assert!(subject.wait().success());
    fs::remove_file(path).unwrap();
}

fn restarts_and_reloads_leak_no_descriptors() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=4"]);
    let addr = subject.addr(4);
    subject.signal(Signal::HUP);
    subject.wait_for("the workers are replaced");
    until("the old ones are gone", || subject.workers().len() == 4);
    let before = subject.descriptors();
    for _ in 0..3 {
        for worker in subject.workers() {
            kill(worker);
        }
        subject.addr(4);
    }
    for _ in 0..3 {
        subject.signal(Signal::HUP);
        subject.wait_for("the workers are replaced");
    }
    until("the old ones are gone", || subject.workers().len() == 4);
    // `before` may include descriptors of the old workers.
    until("descriptors are closed", || subject.descriptors() <= before);
    assert!(subject.workers().into_iter().all(lives), "a zombie");
    get(addr, "/").unwrap();
    subject.end();
}
