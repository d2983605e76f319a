//! Copies between descriptors through a buffer and through a pipe.

// The tests copy between pipes and Unix sockets.
#![cfg(unix)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::task::Waker;

use common::*;
use futures::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, FutureExt, join};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::time::Duration;
use windlass::Async;
use windlass::io::{copy, copy_bidirectional, pipe};
use windlass::net::unix::UnixStream;
use windlass::time::sleep;

const MUCH: usize = 8 << 20;

/// Copies the data from one connection to another. Returns the count and the bytes that arrive.
async fn relayed(data: &[u8]) -> (u64, Vec<u8>) {
    let ((from, mut source), (to, mut sink)) = (tcp_pair().await, tcp_pair().await);
    let mut read = Vec::new();
    let (_, copied, _) = join!(
        async {
            source.write_all(data).await.unwrap();
            source.close().await.unwrap();
        },
        async {
            let copied = copy(&from, &to).await.unwrap();
            to.shutdown(Shutdown::Write).unwrap();
            copied
        },
        sink.read_to_end(&mut read),
    );
    (copied, read)
}

#[test]
fn copies_of_any_size_are_intact() {
    run(async {
        for len in [0, 1, 65_535, 65_536, 65_537, MUCH] {
            let data = pattern(len, 3);
            let (copied, read) = relayed(&data).await;
            assert_eq!(copied, len as u64);
            assert!(read == data, "{len} bytes");
        }
    });
}

#[test]
fn pipes_and_sockets_of_any_kind_are_copied_between() {
    // Many times the capacity of each. A read of a pipe returns little.
    const LEN: usize = 2 << 20;
    run(async {
        let data = pattern(LEN, 5);
        let (first, mut source) = pipe().unwrap();
        let (second, third) = UnixStream::pair().unwrap();
        let (sink, mut fourth) = pipe().unwrap();
        let mut sink = Async::new(File::from(sink.into_blocking_fd().unwrap())).unwrap();
        let mut read = Vec::new();
        let (_, one, two, _) = join!(
            async {
                source.write_all(&data).await.unwrap();
                source.close().await.unwrap();
            },
            async {
                let copied = copy(first, &second).await;
                second.shutdown(Shutdown::Write).unwrap();
                copied
            },
            async {
                let copied = copy(&third, &mut fourth).await;
                fourth.close().await.unwrap();
                copied
            },
            sink.read_to_end(&mut read),
        );
        assert_eq!((one.unwrap(), two.unwrap()), (LEN as u64, LEN as u64));
        assert!(read == data);
    });
}

/// The pipe of a dropped copy still holds bytes, so another copy must not use it.
#[test]
fn bytes_left_by_a_dropped_copy_stay_out_of_other_copies() {
    run(async {
        for _ in 0..3 {
            let ((from, mut source), (to, _sink)) = (tcp_pair().await, tcp_pair().await);
            let mut stuck = Box::pin(copy(&from, &to));
            let data = vec![9; 64 << 20];
            let mut writing = Box::pin(source.write_all(&data));
            // Until both are stuck.
            for _ in 0..200 {
                assert!(writing.as_mut().now_or_never().is_none());
                assert!(stuck.as_mut().now_or_never().is_none());
                sleep(Duration::ZERO).await;
            }
            drop(stuck);
            let data = pattern(MUCH, 11);
            assert!(relayed(&data).await.1 == data);
        }
    });
}

#[test]
fn a_copy_that_waits_to_read_holds_no_bytes_or_descriptor() {
    in_child(
        "a_copy_that_waits_to_read_holds_no_bytes_or_descriptor",
        || {
            run(async {
                relayed(&pattern(MUCH, 1)).await; // creates the pipe of the thread
                let (mut from, mut source) = tcp_pair().await;
                let (to, mut sink) = tcp_pair().await;
                let before = descriptors();
                {
                    let mut copying = Box::pin(copy(&from, &to));
                    source.write_all(b"ahoy").await.unwrap();
                    let mut word = [0; 4];
                    let mut reading = sink.read_exact(&mut word);
                    while poll(&mut reading, Waker::noop()).is_pending() {
                        assert!(poll(&mut copying, Waker::noop()).is_pending());
                        sleep(Duration::ZERO).await;
                    }
                    assert_eq!(&word, b"ahoy");
                    assert!(poll(&mut copying, Waker::noop()).is_pending());
                }
                assert_eq!(descriptors(), before);
                source.write_all(b"x").await.unwrap();
                assert_eq!(from.read(&mut [0; 8]).await.unwrap(), 1);
            });
        },
    );
}

#[test]
fn copies_use_a_bounded_number_of_pipes_or_none() {
    in_child("copies_use_a_bounded_number_of_pipes_or_none", || {
        run(async {
            let mut ends = Vec::new();
            for _ in 0..40 {
                ends.push((tcp_pair().await, tcp_pair().await));
            }
            let before = descriptors();
            let data = vec![13; 32 << 20];
            let mut stuck: Vec<_> = ends
                .iter_mut()
                .map(|((from, source), (to, _))| (source.write_all(&data), copy(&*from, &*to)))
                .map(|(writing, copying)| (Box::pin(writing), Box::pin(copying)))
                .collect();
            for _ in 0..200 {
                for (writing, copying) in &mut stuck {
                    assert!(writing.as_mut().now_or_never().is_none());
                    assert!(copying.as_mut().now_or_never().is_none());
                }
                sleep(Duration::ZERO).await;
            }
            let more = descriptors() - before;
            let most = if cfg!(target_os = "linux") { 32 } else { 0 };
            assert_eq!(more, most);
            let data = pattern(MUCH, 15);
            assert!(relayed(&data).await.1 == data);
            drop(stuck);
            assert_eq!(descriptors(), before);
        });
    });
}

#[test]
fn a_copy_without_a_pipe_uses_its_buffer() {
    in_child("a_copy_without_a_pipe_uses_its_buffer", || {
        run(async {
            let ((from, mut source), (to, mut sink)) = (tcp_pair().await, tcp_pair().await);
            let data = pattern(MUCH, 17);
            let limit = Some(descriptors() as u64 - 1); // counting opens one itself
            let (current, maximum) = (limit, limit);
            setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
            assert!(pipe().is_err());
            let mut read = vec![0; MUCH];
            let (_, copied, got) = join!(
                async {
                    source.write_all(&data).await.unwrap();
                    source.close().await.unwrap();
                },
                copy(&from, &to),
                sink.read_exact(&mut read),
            );
            got.unwrap();
            assert_eq!(copied.unwrap(), MUCH as u64);
            assert!(read == data);
        });
    });
}

/// A pipe is copied into itself. Both sides are always ready, so the copy is endless.
#[test]
fn an_endless_copy_lets_other_tasks_run() {
    run(async {
        for len in [4, 65_536] {
            let (reader, mut writer) = pipe().unwrap();
            writer.write_all(&pattern(len, 23)).await.unwrap();
            let mut copying = Box::pin(copy(reader, writer));
            for _ in 0..3 {
                assert!(copying.as_mut().now_or_never().is_none());
                sleep(Duration::ZERO).await;
            }
        }
    });
}

#[test]
fn a_closed_writer_is_an_error() {
    run(async {
        let (from, mut source) = tcp_pair().await;
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        source.write_all(b"ahoy").await.unwrap();
        let error = copy(&from, writer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_reader_that_was_reset_is_an_error() {
    run(async {
        let ((from, source), (to, _sink)) = (tcp_pair().await, tcp_pair().await);
        source.set_linger(Some(Duration::ZERO)).unwrap();
        drop(source);
        let error = copy(&from, &to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn each_direction_ends_on_its_own() {
    run(async {
        let ((a, mut client), (b, mut server)) = (tcp_pair().await, tcp_pair().await);
        let (question, answer) = (pattern(MUCH, 19), pattern(MUCH, 21));
        let (copied, _, _) = join!(
            copy_bidirectional(&a, &b),
            async {
                client.write_all(&question).await.unwrap();
                client.close().await.unwrap();
                let mut got = Vec::new();
                client.read_to_end(&mut got).await.unwrap();
                assert!(got == answer);
            },
            async {
                let mut got = Vec::new();
                server.read_to_end(&mut got).await.unwrap(); // the end of the stream has arrived
                assert!(got == question);
                server.write_all(&answer).await.unwrap();
                server.close().await.unwrap();
            },
        );
        assert_eq!(copied.unwrap(), (MUCH as u64, MUCH as u64));
    });
}

#[test]
fn an_error_in_one_direction_ends_both() {
    run(async {
        let ((a, client), (b, _server)) = (tcp_pair().await, tcp_pair().await);
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let error = copy_bidirectional(&a, &b).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn std_streams_are_copied_between() {
    run(async {
        let (here, mut there) = StdUnixStream::pair().unwrap();
        let (to, sink) = StdUnixStream::pair().unwrap();
        there.write_all(b"ahoy").unwrap();
        drop(there);
        let (from, to) = (Async::new(here).unwrap(), Async::new(to).unwrap());
        assert_eq!(copy(&from, to).await.unwrap(), 4);
        let mut text = String::new();
        File::from(OwnedFd::from(sink))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "ahoy");
    });
}

/// A file that is removed when it is dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str, contents: &[u8]) -> Scratch {
        let name = format!("windlass-copy-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, contents).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_is_sent_from_its_position_and_received() {
    let (source, target) = (pattern(MUCH, 7), Scratch::new("received", b"old: "));
    let file = Scratch::new("sent", &source);
    // From the disk, so that threads read.
    let cold = File::open(&file.0).unwrap();
    cold.sync_all().unwrap();
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(&cold, 0, None, rustix::fs::Advice::DontNeed);
    for by_ring in [true, false] {
        let (source, file, target) = (source.clone(), file.0.clone(), target.0.clone());
        let thread = std::thread::spawn(move || {
            let _ = windlass::fs::use_io_uring(by_ring);
            run(async {
                let ((from, to), (receiver, _keep)) = (tcp_pair().await, tcp_pair().await);
                drop(receiver);
                let mut reader = windlass::fs::File::open(&file).await.unwrap();
                reader.seek(std::io::SeekFrom::Start(3)).await.unwrap();
                let mut writer = windlass::fs::File::options();
                let mut writer = writer.append(true).open(&target).await.unwrap();
                let (sent, received) = join!(
                    async {
                        let sent = copy(&mut reader, &to).await.unwrap();
                        to.shutdown(Shutdown::Write).unwrap();
                        sent
                    },
                    async { copy(&from, &mut writer).await.unwrap() },
                );
                assert_eq!((sent, received), (MUCH as u64 - 3, MUCH as u64 - 3));
                assert_eq!(copy(&mut reader, &to).await.unwrap(), 0, "it has ended");
                // Without a flush or a close of `writer`.
                let written = std::fs::read(&target).unwrap();
                assert!(written.starts_with(b"old: "));
                assert!(written.ends_with(&source[3..]));
            });
        });
        thread.join().unwrap();
    }
    assert_eq!(
        std::fs::metadata(&target.0).unwrap().len(),
        5 + 2 * (MUCH as u64 - 3)
    );
}

#[test]
fn a_copy_to_a_full_disk_returns_the_last_error() {
    run(async {
        let source = Scratch::new("full", b"ahoy");
        let reader = windlass::fs::File::open(&source.0).await.unwrap();
        let full = windlass::fs::File::options()
            .write(true)
            .open("/dev/full")
            .await;
        let error = copy(reader, full.unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    });
}

#[test]
fn a_dropped_copy_of_a_file_has_sent_a_first_part() {
    run(async {
        let data = pattern(MUCH, 11);
        let source = Scratch::new("dropped", &data);
        for polls in 1..4 {
            let (to, mut sink) = tcp_pair().await;
            let mut reader = windlass::fs::File::open(&source.0).await.unwrap();
            {
                let mut copying = Box::pin(copy(&mut reader, &to));
                for _ in 0..polls {
                    assert!(futures::poll!(copying.as_mut()).is_pending());
                    sleep(Duration::from_millis(1)).await;
                }
            }
            to.shutdown(Shutdown::Write).unwrap();
            let (mut sent, mut rest) = (Vec::new(), Vec::new());
            sink.read_to_end(&mut sent).await.unwrap();
            assert!(data.starts_with(&sent));
            // At most the buffer is lost.
            reader.read_to_end(&mut rest).await.unwrap();
            assert!(data.ends_with(&rest));
            assert!(sent.len() + rest.len() + 256 * 1024 >= MUCH);
        }
    });
}
