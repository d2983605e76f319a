//! The tests, one after the other: each has a program of its own.

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
    each_worker_gets_its_share_of_the_connections
    a_connection_goes_to_a_worker_that_waits_and_they_take_turns
    a_worker_that_is_killed_is_replaced_and_the_others_go_on
    a_worker_that_is_told_to_end_by_others_finishes_its_requests_and_is_replaced
    the_limit_holds_also_for_a_worker_that_is_told_to_end_by_others
    a_panic_of_a_thread_is_a_crash_of_that_worker_alone
    workers_that_die_at_once_make_it_give_up_and_say_how
    when_all_have_finished_it_is_over
    sigterm_lets_requests_finish
    what_takes_longer_than_the_limit_is_killed
    the_second_signal_ends_at_once
    no_worker_outlives_a_parent_that_is_killed
    a_worker_that_is_stuck_is_replaced
    a_parent_that_was_stopped_blames_no_worker
    a_thread_that_is_stuck_is_left_and_replaced
    sighup_replaces_the_workers_and_no_request_fails
    old_workers_that_drain_do_not_pile_up
    an_executable_that_is_gone_is_told_and_the_old_ones_go_on
    the_new_program_is_where_a_symbolic_link_leads_now
    messages_go_to_the_parent_and_to_all
    a_worker_that_reads_no_message_keeps_none_from_the_others
    what_was_sent_before_a_worker_ends_reaches_the_parent
    figures_are_told_on_a_socket_and_a_stale_one_is_replaced
    a_workers_children_inherit_nothing
    bad_input_is_told
    listeners_for_which_a_worker_has_no_room_are_told
    sockets_of_systemd_are_taken_and_it_is_told
    restarts_leak_nothing
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

fn each_worker_gets_its_share_of_the_connections() {
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

fn a_connection_goes_to_a_worker_that_waits_and_they_take_turns() {
    if cfg!(windlass_portable) {
        return; // All of them are woken there, and the quickest takes it.
    }
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=4"]);
    let addr = subject.addr(4);
    get(addr, "/").unwrap();
    // One after the other, they'd have 20 each, if all wait each time, which on a busy machine they
    // don't. If nobody lined up anew, one of them would get nearly all.
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

fn a_worker_that_is_killed_is_replaced_and_the_others_go_on() {
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

fn a_worker_that_is_told_to_end_by_others_finishes_its_requests_and_is_replaced() {
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

fn the_limit_holds_also_for_a_worker_that_is_told_to_end_by_others() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1", "drain=200"]);
    let addr = subject.addr(1);
    let mut silent = Client::connect(addr).unwrap();
    silent.get("/").unwrap();
    send(subject.workers()[0], Signal::TERM);
    subject.wait_for("didn't end within 200ms; it was killed by signal: 9 (SIGKILL): starting");
    subject.addr(1);
    subject.end();
}

fn a_panic_of_a_thread_is_a_crash_of_that_worker_alone() {
    let mut subject = Subject::start(&["kind=threads", "count=2", "behave=panic"]);
    assert_eq!(subject.wait().code(), Some(2));
    assert!(subject.has_said("(a thread) panicked: the rope broke: starting another"));
}

fn workers_that_die_at_once_make_it_give_up_and_say_how() {
    for (behave, told) in [("fail", "failed: no rope"), ("panic", "exit status: 101")] {
        let mut subject =
            Subject::start(&["kind=processes", "count=2", &format!("behave={behave}")]);
        assert_eq!(subject.wait().code(), Some(2));
        let error = subject
            .said
            .iter()
            .find(|line| line.starts_with("error: giving up"));
        assert!(
            error.is_some_and(|error| error.contains(told)),
            "{:#?}",
            subject.said
        );
    }
}

fn when_all_have_finished_it_is_over() {
    for kind in ["kind=processes", "kind=threads"] {
        let mut subject = Subject::start(&[kind, "count=3", "behave=finish"]);
        assert!(subject.wait().success());
        assert!(!subject.has_said("starting another"));
    }
}

fn sigterm_lets_requests_finish() {
    for kind in ["kind=processes", "kind=threads"] {
        let mut subject = Subject::start(&[kind, LOCAL, "count=2"]);
        let addr = subject.addr(2);
        let mut client = Client::connect(addr).unwrap();
        client.get("/").unwrap();
        let asking = std::thread::spawn(move || client.get("/slow").unwrap());
        // Sent when it's asked, or before: then the request is the connection's last.
        subject.signal(Signal::TERM);
        let (_, is_kept) = asking.join().unwrap();
        assert!(!is_kept);
        assert!(subject.wait().success());
    }
}

fn what_takes_longer_than_the_limit_is_killed() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1", "drain=200"]);
    let addr = subject.addr(1);
    let mut silent = Client::connect(addr).unwrap();
    silent.get("/").unwrap();
    subject.signal(Signal::INT);
    assert!(subject.wait().success());
    assert!(subject.has_said("didn't end within 200ms; it was killed by signal: 9"));
}

fn the_second_signal_ends_at_once() {
    for kind in ["kind=processes", "kind=threads"] {
        let mut subject = Subject::start(&[kind, LOCAL, "count=2"]);
        let addr = subject.addr(2);
        let mut silent = Client::connect(addr).unwrap();
        silent.get("/").unwrap();
        subject.signal(Signal::INT);
        until("it's told once", || get(addr, "/").is_err());
        subject.signal(Signal::INT);
        assert_eq!(subject.wait().code(), Some(2));
        assert!(subject.has_said("a second stop request killed the workers"));
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

fn a_worker_that_is_stuck_is_replaced() {
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

fn a_parent_that_was_stopped_blames_no_worker() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=2", "heartbeat=400"]);
    let addr = subject.addr(2);
    let before = subject.workers();
    get(addr, "/").unwrap();
    while !subject.has_said(" 1 requests") {
        subject.signal(Signal::USR1); // until it has heard of them
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
    assert!(!subject.has_said("is stuck"), "{:#?}", subject.said);
}

fn a_thread_that_is_stuck_is_left_and_replaced() {
    let mut subject = Subject::start(&["kind=threads", LOCAL, "count=1", "heartbeat=400"]);
    let addr = subject.addr(1);
    let mut client = Client::connect(addr).unwrap();
    std::thread::spawn(move || client.get("/block"));
    subject.wait_for("is stuck: its loop sent no heartbeat for 400ms; it is abandoned");
    subject.addr(1);
    get(addr, "/").unwrap();
    // It lives on, so the end is not in good order.
    subject.signal(Signal::TERM);
    assert_eq!(subject.wait().code(), Some(2));
    assert!(subject.has_said("error: worker 0 (a thread) is stuck"));
}

fn sighup_replaces_the_workers_and_no_request_fails() {
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
        assert_eq!(failed, (0, 0), "{counts:?}: {:#?}", subject.said);
        assert_eq!(
            get(addr, "/").unwrap().1 == before,
            args[0] == "kind=threads"
        );
        subject.end();
    }
}

fn old_workers_that_drain_do_not_pile_up() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1"]);
    let addr = subject.addr(1);
    // Each set of workers has a client that keeps it from ending.
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

/// A connection to that worker, as soon as no other takes them.
fn client_of(process: u32, addr: SocketAddr) -> Client {
    loop {
        let mut client = Client::connect(addr).unwrap();
        let (body, _) = client.get("/").unwrap();
        if body.ends_with(&format!(" {process}")) {
            return client;
        }
    }
}

fn an_executable_that_is_gone_is_told_and_the_old_ones_go_on() {
    let copy = scratch("copy");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut started = Command::new(&copy);
    started.args(["--program", "kind=processes", LOCAL, "count=2"]);
    let mut subject = Subject::start_as(&mut started);
    let addr = subject.addr(2);
    fs::remove_file(&copy).unwrap();
    subject.signal(Signal::HUP);
    let told = subject.wait_for("the workers are not replaced");
    assert!(told.contains("No such file"), "{told}");
    // What crashes is started again, as the same program.
    kill(get(addr, "/").unwrap().1);
    subject.addr(1);
    // A program that is broken replaces nothing.
    fs::write(&copy, "#!/bin/false\n").unwrap();
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    subject.signal(Signal::HUP);
    subject.wait_for("the workers are not replaced");
    get(addr, "/").unwrap();
    fs::remove_file(&copy).unwrap();
    subject.end();
}

fn the_new_program_is_where_a_symbolic_link_leads_now() {
    let link = scratch("current");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
    let mut started = Command::new(&link);
    started.args(["--program", "kind=processes", LOCAL, "count=1"]);
    let mut subject = Subject::start_as(&mut started);
    let addr = subject.addr(1);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", &link).unwrap();
    subject.signal(Signal::HUP);
    let told = subject.wait_for("the workers are not replaced");
    assert!(told.contains("No such file"), "{told}");
    get(addr, "/").unwrap();
    fs::remove_file(&link).unwrap();
    subject.end();
}

fn messages_go_to_the_parent_and_to_all() {
    for kind in ["kind=processes", "kind=threads"] {
        let mut subject = Subject::start(&[kind, LOCAL, "count=2", "parent=echo"]);
        let addr = subject.addr(2);
        let (_, _) = get(addr, "/tell").unwrap();
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

fn a_worker_that_reads_no_message_keeps_none_from_the_others() {
    for kind in ["kind=processes", "kind=threads"] {
        let args = [kind, LOCAL, "count=2", "parent=flood", "behave=deaf"];
        let mut subject = Subject::start(&args);
        let addr = subject.addr(2);
        get(addr, "/tell").unwrap();
        subject.wait_for("got wave 1000");
        let waves = subject.said.iter().filter(|line| line.contains("wave"));
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

fn what_was_sent_before_a_worker_ends_reaches_the_parent() {
    for kind in ["kind=processes", "kind=threads"] {
        let args = [kind, "count=1", "parent=count", "behave=farewell"];
        let mut subject = Subject::start(&args);
        assert!(subject.wait().success());
        assert!(
            subject.has_said("has got 200"),
            "{:#?}",
            subject.said.last()
        );
    }
}

fn figures_are_told_on_a_socket_and_a_stale_one_is_replaced() {
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
        text.contains("windlass_worker_requests_total{worker=\"0\"} 1")
            && text.contains("windlass_worker_connections_open{worker=\"0\"} 0")
    });
    subject.signal(Signal::USR1);
    subject.wait_for(
        "1 connections accepted, 0 open, 0 failed, 1 requests, 0 restarts, 0 messages lost",
    );
    let mut second = Subject::start(&args);
    assert_eq!(second.wait().code(), Some(2));
    assert!(second.has_said("can't listen on"));
    subject.end();
    assert!(!path.exists());
}

fn a_workers_children_inherit_nothing() {
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=2"]);
    let addr = subject.addr(2);
    let (listed, _) = Client::connect(addr).unwrap().get("/children").unwrap();
    assert!(
        listed.contains("/dev/null") && !listed.contains("socket:"),
        "{listed}"
    );
    subject.end();
}

fn bad_input_is_told() {
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
    for (args, variables, told) in cases {
        let mut started = with_own_pid(args);
        started.envs(variables.iter().copied());
        let mut subject = Subject::start_as(&mut started);
        assert_eq!(
            subject.wait().code(),
            Some(2),
            "{told}: {:#?}",
            subject.said
        );
        assert!(subject.has_said(told), "{told}: {:#?}", subject.said);
    }
    no_permission_is_told();
}

fn listeners_for_which_a_worker_has_no_room_are_told() {
    // Beside the standard ones there is room for the link and that for messages.
    let mut subject = Subject::start(&["kind=processes", LOCAL, "count=1", "descriptors=5"]);
    subject.wait_for("raise its limit (`ulimit -n`, LimitNOFILE)");
    assert_eq!(subject.wait().code(), Some(2));
}

/// As a user who may not.
fn no_permission_is_told() {
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
        subject.has_said("can't listen on 127.0.0.1:1: Permission denied"),
        "{:?}",
        subject.said
    );
    fs::remove_file(copy).unwrap();
}

/// The program with `LISTEN_PID` being its own number, which a shell knows before it becomes it.
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

fn sockets_of_systemd_are_taken_and_it_is_told() {
    let path = scratch("notify");
    let told = UnixDatagram::bind(&path).unwrap();
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
        let n = told.recv(&mut buffer).unwrap();
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

fn restarts_leak_nothing() {
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
    // The old ones' descriptors may have been among those before.
    until("descriptors are closed", || subject.descriptors() <= before);
    assert!(subject.workers().into_iter().all(lives), "a zombie");
    get(addr, "/").unwrap();
    subject.end();
}
