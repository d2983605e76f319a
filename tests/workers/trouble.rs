//! Tests with blocked readers, unkillable workers, silent clients and panics.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use super::subject::{Client, Subject, command, get, until};
use super::tests::{LOCAL, kill, scratch, send};

macro_rules! tests {
    ($($name:ident)*) => {
        pub(crate) const ALL: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

tests! {
    a_full_standard_error_does_not_block_the_supervision
    an_unkillable_worker_is_named_in_the_error
    an_unkillable_worker_is_replaced
    an_abandoned_thread_is_named_in_the_error
    a_panic_payload_that_panics_ends_only_its_worker
    a_panic_of_the_parent_future_is_an_error
    a_signal_after_parent_stop_is_the_first_signal
    signals_that_are_ignored_at_the_start_stay_ignored
    a_worker_that_does_not_receive_loses_only_its_messages
    a_burst_of_messages_arrives_complete_and_in_order
    a_parent_that_does_not_receive_delays_no_workers
    the_metrics_socket_replaces_no_other_files
    silent_clients_do_not_delay_the_metrics
    requests_for_metrics_have_limits
    malformed_systemd_variables_do_not_end_the_service
    systemd_sockets_of_other_types_stay_open
    a_restart_is_retried_when_processes_run_out
}

const KINDS: [&str; 2] = ["kind=processes", "kind=threads"];

/// Returns the reading end and the writing end of a full pipe.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    fill(&writer);
    (reader, writer)
}

fn full_socket() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = UnixStream::pair().unwrap();
    let writer = OwnedFd::from(writer);
    fill(&writer);
    (reader.into(), writer)
}

fn fill(writer: &OwnedFd) {
    rustix::io::ioctl_fionbio(writer, true).unwrap();
    for size in [4096, 1] {
        while rustix::io::write(writer, &b"\n".repeat(size)) != Err(Errno::AGAIN) {}
    }
    rustix::io::ioctl_fionbio(writer, false).unwrap();
}

fn a_full_standard_error_does_not_block_the_supervision() {
    for (kind, full) in [
        (KINDS[0], full_pipe as fn() -> _),
        (KINDS[0], full_socket),
        (KINDS[1], full_pipe),
    ] {
        let (reader, writer) = full();
        let mut started = command(&[kind, LOCAL, "count=2", "drain=2000", "heartbeat=1000"]);
        let mut subject = Subject::start_into(&mut started, writer);
        let addr = subject.addr(2);
        for _ in 0..5 {
            subject.signal(Signal::USR1);
        }
        let (_, process) = get(addr, "/").unwrap();
        if kind == KINDS[0] {
            kill(process);
        } else {
            let _ = get(addr, "/fail");
        }
        subject.addr(1);
        subject.signal(Signal::HUP);
        subject.addr(2);
        subject.signal(Signal::TERM);
        let begin = Instant::now();
        assert!(subject.wait().success());
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{:?}",
            begin.elapsed()
        );
        drop(reader);
    }
    queued_messages_are_written_when_there_is_room();
}

fn queued_messages_are_written_when_there_is_room() {
    let (reader, writer) = full_pipe();
    let mut started = command(&["kind=processes", LOCAL, "count=1"]);
    let mut subject = Subject::start_into(&mut started, writer);
    subject.addr(1);
    kill(subject.workers()[0]);
    subject.addr(1);
    let lines = BufReader::new(fs::File::from(reader)).lines();
    let mut lines = lines.map_while(Result::ok).filter(|line| !line.is_empty());
    let line = lines.next().unwrap();
    assert!(line.contains("was killed by signal: 9 (SIGKILL)"), "{line}");
    subject.end();
}

/// Keeps a process from exiting until this is dropped.
struct Tracer(Child);

impl Tracer {
    /// Returns `None` where the system does not permit tracing.
    fn of(process: u32) -> Option<Tracer> {
        let mut tracer = Command::new(std::env::current_exe().unwrap());
        tracer.arg("--tracer").arg(process.to_string());
        let mut child = tracer.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let tracer = Tracer(child);
        if line == "traces\n" {
            return Some(tracer);
        }
        println!("    not tested: a process can't be traced here: {line}");
        None
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The tracer. The exit of a traced process is not reported to its parent until its tracer has
/// waited for it.
pub(crate) fn trace(process: i32) {
    use nix::sys::ptrace::{Options, seize};
    let pid = nix::unistd::Pid::from_raw(process);
    match seize(pid, Options::empty()) {
        Ok(()) => println!("traces"),
        Err(error) => println!("{error}"),
    }
    std::thread::sleep(Duration::from_secs(60));
}

fn an_unkillable_worker_is_named_in_the_error() {
    // With a graceful shutdown, and with a second signal.
    for signals in [1, 2] {
        let args = [
            "kind=processes",
            LOCAL,
            "count=1",
            "drain=200",
            "behave=traced",
        ];
        let mut subject = Subject::start(&args);
        let addr = subject.addr(1);
        let mut silent = Client::connect(addr).unwrap();
        silent.get("/").unwrap();
        let worker = subject.workers()[0];
        let Some(_tracer) = Tracer::of(worker) else {
            return;
        };
        subject.signal(Signal::TERM);
        if signals == 2 {
            until("the first signal is handled", || get(addr, "/").is_err());
            subject.signal(Signal::TERM);
        }
        assert_eq!(subject.wait().code(), Some(2));
        let name = format!("worker 0 (process {worker})");
        let error = subject
            .output
            .iter()
            .find(|line| line.starts_with("error: "));
        let error = error.expect("it ends with an error");
        assert!(
            error.contains(&name) && error.contains("hasn't exited"),
            "{error}"
        );
    }
}

fn an_unkillable_worker_is_replaced() {
    let args = [
        "kind=processes",
        LOCAL,
        "count=1",
        "drain=200",
        "heartbeat=400",
        "behave=traced",
    ];
    let mut subject = Subject::start(&args);
    let addr = subject.addr(1);
    get(addr, "/").unwrap(); // after its first heartbeat
    let worker = subject.workers()[0];
    let Some(tracer) = Tracer::of(worker) else {
        return;
    };
    kill(worker);
    let line = subject.wait_for("hasn't exited within");
    assert!(
        line.contains(&format!("worker 0 (process {worker})")),
        "{line}"
    );
    subject.addr(1);
    get(addr, "/").unwrap();
    drop(tracer);
    subject.wait_for(&format!(
        "worker 0 (process {worker}), which was abandoned, has exited"
    ));
    // The same after a reload.
    let worker = subject.workers()[0];
    let mut silent = client_of(addr, worker);
    let Some(_tracer) = Tracer::of(worker) else {
        return;
    };
    subject.signal(Signal::HUP);
    subject.wait_for("the workers are replaced");
    silent.get("/").unwrap_or_default();
    subject.wait_for("hasn't exited within");
    get(addr, "/").unwrap();
    subject.signal(Signal::TERM);
    assert_eq!(subject.wait().code(), Some(2));
    assert!(subject.has_logged(&format!("error: worker 0 (process {worker})")));
}

fn client_of(addr: std::net::SocketAddr, process: u32) -> Client {
    loop {
        let mut client = Client::connect(addr).unwrap();
        let (body, _) = client.get("/").unwrap();
        if body.ends_with(&format!(" {process}")) {
            return client;
        }
    }
}

fn an_abandoned_thread_is_named_in_the_error() {
    let mut subject = Subject::start(&["kind=threads", LOCAL, "count=1", "drain=200"]);
    let addr = subject.addr(1);
    let mut client = Client::connect(addr).unwrap();
    std::thread::spawn(move || client.get("/block"));
    until("the loop is blocked", || {
        let mut other = Client::connect(addr).unwrap();
        other.get_within("/", Duration::from_millis(200)).is_err()
    });
    subject.signal(Signal::TERM);
    assert_eq!(subject.wait().code(), Some(2));
    let error = "error: worker 0 (a thread) didn't end within 200ms; it is abandoned";
    assert!(subject.has_logged(error), "{:#?}", subject.output);
}

fn a_panic_payload_that_panics_ends_only_its_worker() {
    for (kind, expected) in [
        (KINDS[0], "was killed by signal: 6 (SIGABRT)"),
        (KINDS[1], "panicked: with a value that is not a string"),
    ] {
        let mut subject = Subject::start(&[kind, "count=2", "behave=bomb"]);
        let begin = Instant::now();
        assert_eq!(subject.wait().code(), Some(2));
        // A detection by heartbeat would take 10 s.
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "{:#?}",
            subject.output
        );
        assert!(subject.has_logged(expected), "{:#?}", subject.output);
        assert!(
            subject.has_logged("error: giving up"),
            "{:#?}",
            subject.output
        );
    }
}

fn a_panic_of_the_parent_future_is_an_error() {
    for kind in KINDS {
        for (parent, expected) in [
            (
                "parent=panic",
                "the parent's future panicked: the mast broke",
            ),
            (
                "parent=bomb",
                "the parent's future panicked: with a value that is not a string",
            ),
        ] {
            let mut subject = Subject::start(&[kind, LOCAL, "count=2", parent]);
            let addr = subject.addr(2);
            get(addr, "/send").unwrap();
            assert_eq!(subject.wait().code(), Some(2));
            for line in [
                format!("windlass: {expected}"),
                format!("error: {expected}"),
            ] {
                assert!(subject.has_logged(&line), "{:#?}", subject.output);
            }
        }
    }
}

fn a_signal_after_parent_stop_is_the_first_signal() {
    for kind in KINDS {
        let mut subject = Subject::start(&[kind, LOCAL, "count=1", "parent=stop"]);
        let addr = subject.addr(1);
        let mut client = Client::connect(addr).unwrap();
        client.get("/").unwrap();
        get(addr, "/send").unwrap();
        subject.wait_for("the parent has called stop");
        until("it drains", || get(addr, "/").is_err());
        subject.signal(Signal::TERM);
        let (_, is_kept) = client.get("/slow").unwrap();
        assert!(!is_kept);
        assert!(subject.wait().success(), "{:#?}", subject.output);
    }
}

fn signals_that_are_ignored_at_the_start_stay_ignored() {
    for kind in KINDS {
        let program = command(&[kind, LOCAL, "count=1"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\""]);
        shell.arg(program.get_program()).args(program.get_args());
        let mut subject = Subject::start_as(&mut shell);
        let addr = subject.addr(1);
        for process in subject.workers().into_iter().chain([subject.id()]) {
            let ignored = ignored_signals(process);
            for signal in [Signal::HUP, Signal::INT] {
                let bit = 1 << (signal.as_raw() - 1);
                assert!(ignored & bit != 0, "{signal:?} of {process}: {ignored:x}");
                send(process, signal);
            }
        }
        get(addr, "/").unwrap();
        subject.end();
    }
}

fn ignored_signals(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    u64::from_str_radix(mask.unwrap().trim(), 16).unwrap()
}

fn a_worker_that_does_not_receive_loses_only_its_messages() {
    for kind in KINDS {
        let args = [
            kind,
            LOCAL,
            "count=3",
            "parent=echo",
            "behave=deaf",
            "drain=5000",
        ];
        let mut subject = Subject::start(&args);
        let addr = subject.addr(3);
        let sender = client_of_other_worker(addr);
        let (mut client, worker) = sender;
        client.get("/much").unwrap();
        // To the last worker, to all, and back from the parent.
        for text in ["worker 2 got ahoy", "got avast", "got ahoy"] {
            if !subject.has_logged(text) {
                subject.wait_for(text);
            }
        }
        let mut lost = 0;
        while lost == 0 {
            subject.signal(Signal::USR1);
            let line = subject.wait_for("worker 0 (");
            lost = lost_of(&line);
        }
        assert!(lost > 50, "{lost}");
        subject.signal(Signal::USR1);
        let line = subject.wait_for(&format!("worker {worker} ("));
        assert_eq!(lost_of(&line), 0);
        drop(client);
        let begin = Instant::now();
        subject.signal(Signal::TERM);
        assert!(subject.wait().success(), "{:#?}", subject.output);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}

fn a_burst_of_messages_arrives_complete_and_in_order() {
    for kind in KINDS {
        let mut subject = Subject::start(&[kind, LOCAL, "count=2"]);
        let addr = subject.addr(2);
        let (mut client, _) = client_of_other_worker(addr);
        client.get("/burst").unwrap();
        subject.wait_for("worker 0 got 20000 in order");
        drop(client);
        subject.end();
    }
}

/// Connects to any worker but the first, and returns its index.
fn client_of_other_worker(addr: std::net::SocketAddr) -> (Client, usize) {
    loop {
        let mut client = Client::connect(addr).unwrap();
        let (body, _) = client.get("/").unwrap();
        let worker = body.split(' ').next().unwrap().parse().unwrap();
        if worker != 0 {
            return (client, worker);
        }
    }
}

fn lost_of(line: &str) -> u64 {
    let (before, _) = line.split_once(" messages lost").unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

fn a_parent_that_does_not_receive_delays_no_workers() {
    for kind in KINDS {
        let mut subject = Subject::start(&[kind, LOCAL, "count=2", "parent=deaf", "drain=2000"]);
        let addr = subject.addr(2);
        for _ in 0..200 {
            get(addr, "/send").unwrap();
        }
        get(addr, "/others").unwrap();
        subject.wait_for("got avast");
        // A worker that uses all of the drain limit leaves no time for the parent to receive.
        let mut silent = Client::connect(addr).unwrap();
        silent.get("/").unwrap();
        let begin = Instant::now();
        subject.end();
        assert!(
            begin.elapsed() < Duration::from_millis(3900),
            "{:?}",
            begin.elapsed()
        );
    }
}

fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    answer_of(&mut stream)
}

fn answer_of(stream: &mut UnixStream) -> String {
    let timeout = Some(Duration::from_secs(20));
    stream.set_read_timeout(timeout).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Returns the program and the path of its metrics socket.
fn with_metrics(name: &str, kind: &str) -> (Subject, std::path::PathBuf) {
    let path = scratch(name);
    let figures = format!("figures={}", path.display());
    let mut subject = Subject::start(&[kind, LOCAL, "count=1", &figures]);
    subject.addr(1);
    (subject, path)
}

fn the_metrics_socket_replaces_no_other_files() {
    let (path, file) = (scratch("full"), scratch("file"));
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap(); // fills the accept queue
    fs::write(&file, "precious").unwrap();
    for path in [&path, &file] {
        let figures = format!("figures={}", path.display());
        let mut subject = Subject::start(&["kind=threads", LOCAL, "count=1", &figures]);
        assert_eq!(subject.wait().code(), Some(2));
        assert!(
            subject.has_logged("can't listen on"),
            "{:#?}",
            subject.output
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    // Another program's file at that path is not removed.
    let (subject, own) = with_metrics("own", "kind=threads");
    fs::rename(&file, &own).unwrap();
    subject.end();
    assert_eq!(fs::read_to_string(&own).unwrap(), "precious");
    fs::remove_file(own).unwrap();
    fs::remove_file(path).unwrap();
}

fn silent_clients_do_not_delay_the_metrics() {
    let (subject, path) = with_metrics("silent", "kind=processes");
    let connect = |_| UnixStream::connect(&path).unwrap();
    let silent: Vec<_> = (0..200).map(connect).collect();
    let begin = Instant::now();
    let answer = ask(&path, "GET / HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    // If the silent clients were served 16 at a time, they would take 12 s.
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    drop(silent);
    subject.end();
}

fn requests_for_metrics_have_limits() {
    let (subject, path) = with_metrics("limits", "kind=threads");
    let long = "x".repeat(17 * 1024);
    let body = format!(
        "GET / HTTP/1.1\r\nContent-Length: 20000\r\n\r\n{}",
        "x".repeat(20_000)
    );
    for (request, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET / HTTP/1.1\n\n", "200"),
        ("GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", "200"),
        ("GET / HTTP/1.1\r\n\r\nGET", "200"),
        ("HEAD / HTTP/1.1\r\n\r\n", "200"),
        (&body, "200"),
        ("POST / HTTP/1.1\r\n\r\n", "405"),
        ("\0\r\n\r\n", "400"),
        (&long, "431"),
        ("GET / HTTP/1.1\r\n", "408"),
        ("", "408"),
    ] {
        let answer = ask(&path, request);
        let start: String = request.chars().take(40).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{start:?}: {answer}"
        );
        let has_body = answer.contains("windlass_worker_requests_total");
        assert_eq!(
            has_body,
            status == "200" && !start.starts_with("HEAD"),
            "{start:?}"
        );
    }
    // A request that ends before it is complete.
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET / HT").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(answer_of(&mut stream).starts_with("HTTP/1.0 400 "));
    subject.end();
}

fn malformed_systemd_variables_do_not_end_the_service() {
    let own_pid = "export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    for (variables, expected) in [
        (
            &[("NOTIFY_SOCKET", "vsock:2:1234")][..],
            "NOTIFY_SOCKET=vsock:2:1234: only Unix",
        ),
        (
            &[("NOTIFY_SOCKET", "relative")],
            "NOTIFY_SOCKET=relative: only Unix",
        ),
        (&[("NOTIFY_SOCKET", "/nowhere/at/all")], ""),
        (&[("NOTIFY_SOCKET", "")], ""),
        (
            &[("WATCHDOG_USEC", "soon")],
            "WATCHDOG_USEC=soon: not a number",
        ),
        (&[("WATCHDOG_USEC", "")], "WATCHDOG_USEC=: not a number"),
        (&[("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")], ""),
    ] {
        let program = command(&["kind=threads", LOCAL, "count=1"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", own_pid]);
        shell.arg(program.get_program()).args(program.get_args());
        shell.envs(variables.iter().copied());
        let mut subject = Subject::start_as(&mut shell);
        get(subject.addr(1), "/").unwrap();
        subject.signal(Signal::TERM);
        assert!(
            subject.wait().success(),
            "{variables:?}: {:#?}",
            subject.output
        );
        assert!(
            subject.has_logged(expected),
            "{variables:?}: {:#?}",
            subject.output
        );
    }
}

fn systemd_sockets_of_other_types_stay_open() {
    let path = scratch("other");
    let unix = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let udp = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap();
    let tcp = OwnedFd::from(tcp);
    let (mut redirections, mut inherited) = (String::new(), Vec::new());
    for (number, socket) in [&unix, &udp, &tcp].into_iter().enumerate() {
        let other = rustix::io::fcntl_dupfd_cloexec(socket, 20).unwrap();
        rustix::io::fcntl_setfd(&other, rustix::io::FdFlags::empty()).unwrap();
        redirections += &format!(" {}<&{} {1}<&-", number + 3, other.as_raw_fd());
        inherited.push(other);
    }
    let script = format!("export LISTEN_PID=$$; exec \"$0\" \"$@\"{redirections}");
    let program = command(&["kind=processes", "listen=127.0.0.1:1", "count=1"]);
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.env("LISTEN_FDS", "3");
    let mut subject = Subject::start_as(&mut shell);
    drop(inherited);
    assert_eq!(subject.addr(1), addr);
    get(addr, "/").unwrap();
    for (number, socket) in [(3, &unix), (4, &udp)] {
        let inode = rustix::fs::fstat(socket.as_fd()).unwrap().st_ino;
        let theirs = fs::metadata(format!("/proc/{}/fd/{number}", subject.id())).unwrap();
        assert_eq!(theirs.ino(), inode, "{number}");
    }
    subject.end();
    fs::remove_file(path).unwrap();
}

/// Runs as a user to whom the limit applies.
fn a_restart_is_retried_when_processes_run_out() {
    for kind in KINDS {
        let copy = scratch("limited");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mut started = Command::new(&copy);
        started.args(["--program", kind, LOCAL, "count=1", "parent=limit"]);
        started.env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        if rustix::process::getuid().is_root() {
            started.uid(65534);
        }
        let mut subject = Subject::start_as(&mut started);
        let addr = subject.addr(1);
        if !subject.has_logged("the limit can be changed") {
            subject.wait_for("the limit can be changed");
        }
        subject.signal(Signal::USR2);
        subject.wait_for("the limit is changed");
        let _ = get(addr, "/fail");
        subject.wait_for("no process or thread is left");
        subject.wait_for("trying again in 1.6s"); // after more attempts than a broken program gets
        subject.signal(Signal::USR2);
        subject.addr(1);
        get(addr, "/").unwrap();
        fs::remove_file(&copy).unwrap();
        subject.end();
    }
}
