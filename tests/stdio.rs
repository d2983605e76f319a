//! The standard streams. Each test starts itself again as a child and uses its streams.

// `stdio_windows.rs` tests Windows.
#![cfg(unix)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::task::{Poll, Waker};
use std::time::Duration;

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, join};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::termios::{Action, tcflow};
use windlass::io::{stderr, stdin, stdout};
use windlass::time::sleep;

fn is_child() -> bool {
    env::var_os("WINDLASS_CHILD").is_some()
}

/// The command that runs the test `name` in a child.
fn again(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CHILD", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Waits for the child to end, and returns its output.
fn end_of(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// A standard stream of a child, and its other end.
type Ends = (OwnedFd, File);

fn pipe_in() -> Ends {
    let (reader, writer) = pipe_pair();
    (reader, writer.into())
}

fn pipe_out() -> Ends {
    let (reader, writer) = pipe_pair();
    (writer, reader.into())
}

fn socket() -> Ends {
    let (one, other) = UnixStream::pair().unwrap();
    (one.into(), OwnedFd::from(other).into())
}

fn terminal() -> Ends {
    let (terminal, main) = terminal_pair();
    (terminal.into(), main.into())
}

/// The reverse of `terminal`. The child has the end of the terminal emulator.
fn master() -> Ends {
    let (terminal, main) = terminal();
    (main.into(), terminal.into())
}

fn wait_for(stream: &impl AsFd) {
    let limit = Timespec {
        tv_sec: PATIENCE.as_secs() as i64,
        tv_nsec: 0,
    };
    let mut watched = [PollFd::new(stream, PollFlags::IN)];
    let ready = rustix::event::poll(&mut watched, Some(&limit)).unwrap();
    assert_eq!(ready, 1, "timeout");
}

fn is_nonblocking(stream: &OwnedFd) -> bool {
    fcntl_getfl(stream).unwrap().contains(OFlags::NONBLOCK)
}

/// Waits until the child has written `word` to the stream.
fn hear(stream: &mut Option<impl Read + AsFd>, word: &str) {
    let mut said = BufReader::new(stream.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains(word) {
        if said.buffer().is_empty() {
            wait_for(said.get_ref());
        }
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the child exited");
    }
}

/// Runs in the child. Its first read is dropped, its second one receives the text, and its last one
/// is pending at the exit.
fn read_and_give_up() {
    let (mut stdin, mut buffer) = (stdin(), [0; 64]);
    let Poll::Ready(Err(error)) = poll(&mut stdin.read(&mut buffer), Waker::noop()) else {
        panic!("no reactor turns");
    };
    assert!(error.to_string().contains("block_on"), "{error}");
    run(async {
        assert!(poll(&mut stdin.read(&mut buffer), Waker::noop()).is_pending());
        sleep(Duration::ZERO).await;
        stderr().write_all(b"dropped\n").await.unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let n = stdin.read(&mut buffer).await.unwrap();
            line.extend(&buffer[..n]);
        }
        assert!(line.starts_with(b"ahoy"));
        assert!(poll(&mut stdin.read(&mut buffer), Waker::noop()).is_pending());
    });
}

#[test]
fn a_pending_read_takes_no_bytes_and_delays_no_exit() {
    let name = "a_pending_read_takes_no_bytes_and_delays_no_exit";
    if is_child() {
        return read_and_give_up();
    }
    for ends in [pipe_in, terminal, master, socket] {
        let (near, mut far) = ends();
        let shared = near.try_clone().unwrap();
        let mut child = again(name).stdin(near).spawn().unwrap();
        hear(&mut child.stderr, "dropped");
        assert!(!is_nonblocking(&shared));
        far.write_all(b"ahoy\n").unwrap();
        end_of(child); // `far` is still open
        assert!(!is_nonblocking(&shared));
        drop(far);
    }
}

fn data() -> Vec<u8> {
    // The high bit distinguishes the data from the output of the test harness.
    pattern(1 << 20, 3).iter().map(|byte| byte | 0x80).collect()
}

/// Runs in the child. The loop turns although the output is full.
fn write_to_a_closed_output() {
    run(async {
        let (mut stdout, data) = (stdout(), data());
        let (wrote, said) = join!(stdout.write_all(&data), async {
            sleep(Duration::ZERO).await;
            stderr().write_all(b"turning\n").await
        });
        wrote.unwrap();
        said.unwrap();
    });
}

#[test]
fn a_write_to_a_full_output_does_not_block_the_loop() {
    let name = "a_write_to_a_full_output_does_not_block_the_loop";
    if is_child() {
        return write_to_a_closed_output();
    }
    for ends in [pipe_out, terminal, socket] {
        let (near, mut far) = ends();
        let shared = near.try_clone().unwrap();
        let mut child = again(name).stdout(near).spawn().unwrap();
        hear(&mut child.stderr, "turning");
        assert!(!is_nonblocking(&shared));
        let (expected, mut read, mut buffer) = (data(), Vec::<u8>::new(), [0; 65536]);
        while read.len() < expected.len() {
            wait_for(&far);
            let n = far.read(&mut buffer).unwrap();
            read.extend(buffer[..n].iter().filter(|byte| **byte >= 0x80));
        }
        assert!(read == expected);
        assert!(!is_nonblocking(&shared));
        end_of(child);
    }
}

#[test]
fn a_stopped_terminal_does_not_stop_the_loop() {
    let name = "a_stopped_terminal_does_not_stop_the_loop";
    if is_child() {
        return run(async {
            let mut stderr = stderr();
            let (wrote, ()) = join!(stderr.write_all(b"ahoy"), async {
                sleep(Duration::ZERO).await;
                println!("turning");
            });
            wrote.unwrap();
        });
    }
    let (near, mut far) = terminal();
    let shared = near.try_clone().unwrap();
    tcflow(&shared, Action::OOff).unwrap(); // Ctrl-S
    let mut child = again(name).stderr(near).spawn().unwrap();
    hear(&mut child.stdout, "turning");
    tcflow(&shared, Action::OOn).unwrap();
    let mut text = [0; 4];
    wait_for(&far);
    far.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"ahoy");
    end_of(child);
}

/// A file of this test with this text.
fn file(name: &str, text: &str) -> (PathBuf, File) {
    let path = env::temp_dir().join(format!("windlass-{name}-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let mut file = options.open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    (path, file)
}

#[test]
fn a_file_is_read_from_its_position_without_a_reactor() {
    let name = "a_file_is_read_from_its_position_without_a_reactor";
    if is_child() {
        let (mut stdin, mut word) = (stdin(), [0; 5]);
        assert!(poll(&mut stdin.read_exact(&mut word), Waker::noop()).is_ready());
        assert_eq!(&word, b"heave");
        return;
    }
    let (path, mut file) = file("stdin", "heave ho");
    end_of(
        again(name)
            .stdin(file.try_clone().unwrap())
            .spawn()
            .unwrap(),
    );
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " ho");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_is_written_at_its_position() {
    let name = "a_file_is_written_at_its_position";
    if is_child() {
        return run(async {
            print!("heave ");
            std::io::stdout().flush().unwrap();
            stdout().write_all(b"ho\n").await.unwrap();
        });
    }
    let (path, mut file) = file("stdout", "");
    let output = file.try_clone().unwrap();
    end_of(again(name).stdout(output).spawn().unwrap());
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(text.contains("heave ho\n"), "{text}");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_missing_input_reads_as_end_of_file() {
    let name = "a_missing_input_reads_as_end_of_file";
    if is_child() {
        let mut text = String::new();
        run(stdin().read_to_string(&mut text)).unwrap();
        assert_eq!(text, "");
        return;
    }
    end_of(again(name).stdin(Stdio::null()).spawn().unwrap());
    let this = again(name);
    let mut closed = Command::new("sh");
    let closed = closed
        .args(["-c", "exec \"$0\" \"$@\" <&-"])
        .arg(this.get_program())
        .args(this.get_args())
        .env("WINDLASS_CHILD", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let said = end_of(closed.spawn().unwrap());
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn concurrent_readers_get_each_byte_once() {
    let name = "concurrent_readers_get_each_byte_once";
    if is_child() {
        return run(async {
            let (mut one, mut other) = (stdin(), stdin());
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let (read, too) = join!(one.read_to_end(&mut first), other.read_to_end(&mut second));
            assert_eq!(read.unwrap() + too.unwrap(), 100_000);
        });
    }
    for ends in [pipe_in, socket] {
        let (near, mut far) = ends();
        let child = again(name).stdin(near).spawn().unwrap();
        far.write_all(&[7; 100_000]).unwrap();
        drop(far);
        end_of(child);
    }
}

#[test]
fn an_output_without_readers_is_an_error() {
    let name = "an_output_without_readers_is_an_error";
    if is_child() {
        return run(async {
            stderr().write_all(b"writing\n").await.unwrap();
            let error = stdout().write_all(&[b'x'; 1 << 20]).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
            stderr().write_all(b"broken\n").await.unwrap();
            std::process::exit(0); // the harness would print again
        });
    }
    for ends in [pipe_out, socket] {
        let (near, far) = ends();
        let mut child = again(name).stdout(near).spawn().unwrap();
        hear(&mut child.stderr, "writing"); // the harness writes no more
        drop(far);
        hear(&mut child.stderr, "broken");
        end_of(child);
    }
}

/// Runs in the child. Reads into two buffers and writes from three.
fn copy_by_many_buffers() {
    run(async {
        let (mut one, mut two) = ([0; 2], [0; 64]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(stdin().read_vectored(&mut bufs).await.unwrap(), 10);
        let bufs = [
            IoSlice::new(b"<<"),
            IoSlice::new(&one),
            IoSlice::new(&two[..8]),
        ];
        assert_eq!(stdout().write_vectored(&bufs).await.unwrap(), 12);
        assert_eq!(stderr().write_vectored(&bufs).await.unwrap(), 12);
    });
}

#[test]
fn vectored_reads_and_writes_take_one_call() {
    let name = "vectored_reads_and_writes_take_one_call";
    if is_child() {
        return copy_by_many_buffers();
    }
    for (stdin, stdout) in [
        (pipe_in as fn() -> Ends, pipe_out as fn() -> Ends),
        (terminal, terminal),
        (socket, socket),
    ] {
        let ((near_in, mut far_in), (near_out, mut far_out)) = (stdin(), stdout());
        far_in.write_all(b"all hands\n").unwrap();
        let child = again(name).stdin(near_in).stdout(near_out).spawn().unwrap();
        let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
        while !read
            .windows(12)
            .any(|part| part.starts_with(b"<<all hands"))
        {
            wait_for(&far_out);
            let n = far_out.read(&mut buffer).unwrap();
            assert!(n > 0, "the child exited");
            read.extend_from_slice(&buffer[..n]);
        }
        let reads =
            std::thread::spawn(move || while far_out.read(&mut buffer).is_ok_and(|n| n > 0) {});
        let said = end_of(child);
        assert!(said.contains("<<all hands"), "{said}");
        reads.join().unwrap();
    }
}
