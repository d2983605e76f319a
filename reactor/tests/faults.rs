//! Exhausted descriptors, signals and child processes.
//!
//! Tests that affect a whole process run in their own process.

// Needs descriptor limits and `/proc`.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use windlass_reactor::net::unix::{UnixDatagram, UnixListener};
use windlass_reactor::net::{TcpListener, TcpStream, UdpSocket, lookup_host, unix};
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Async, Reactor, block_on};

const MS: Duration = Duration::from_millis(1);

/// Opens files until no descriptors are left.
fn exhaust() -> Vec<fs::File> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(limit.maximum.map_or(200, |most| most.min(200)));
    setrlimit(Resource::Nofile, Rlimit { ..limit }).unwrap();
    std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect()
}

#[test]
fn an_accept_loop_without_descriptors_pauses_and_recovers() {
    in_child(
        "an_accept_loop_without_descriptors_pauses_and_recovers",
        || {
            run(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let addr = listener.local_addr().unwrap();
                let mut hoard = exhaust();
                drop(hoard.pop());
                let _client = TcpStream::connect(addr).await.unwrap();
                let (mut errors, start) = (0, Instant::now());
                let accepting = async {
                    loop {
                        match listener.accept().await {
                            Ok((stream, _)) => return stream,
                            Err(error) => {
                                let emfile = rustix::io::Errno::MFILE.raw_os_error();
                                assert_eq!(error.raw_os_error(), Some(emfile));
                                assert!(errors < 1000);
                                errors += 1;
                            }
                        }
                    }
                };
                let freeing = async {
                    sleep(120 * MS).await;
                    hoard.clear();
                };
                join!(accepting, freeing);
                let most = start.elapsed().as_millis() / 50 + 1;
                assert!(
                    (1..=most).contains(&errors),
                    "{errors} in {:?}",
                    start.elapsed()
                );
            });
        },
    );
}

#[test]
fn incoming_continues_when_descriptors_are_free_again() {
    in_child("incoming_continues_when_descriptors_are_free_again", || {
        let path = std::env::temp_dir().join(format!("windlass-hoard-{}", std::process::id()));
        run(async {
            let listener = UnixListener::bind(&path).await.unwrap();
            let mut hoard = exhaust();
            drop(hoard.pop());
            let _client = unix::UnixStream::connect(&path).await.unwrap();
            let mut incoming = listener.incoming();
            assert!(incoming.next().await.unwrap().is_err());
            hoard.clear();
            assert!(incoming.next().await.unwrap().is_ok());
        });
        fs::remove_file(path).unwrap();
    });
}

#[test]
fn two_accepts_without_descriptors_both_continue() {
    in_child("two_accepts_without_descriptors_both_continue", || {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let mut hoard = exhaust();
            hoard.truncate(hoard.len() - 2);
            let _clients = join!(TcpStream::connect(addr), TcpStream::connect(addr));
            let accept = || async {
                let mut errors = 0;
                while listener.accept().await.is_err() {
                    errors += 1;
                }
                errors
            };
            let (one, two, ()) = join!(accept(), accept(), async {
                sleep(120 * MS).await;
                hoard.clear();
            });
            assert!((1..100).contains(&(one + two)), "{one} and {two}");
        });
    });
}

#[test]
fn a_reactor_without_descriptors_is_an_error_with_the_cause() {
    in_child(
        "a_reactor_without_descriptors_is_an_error_with_the_cause",
        || {
            let hoard = exhaust();
            assert!(Reactor::current().is_err());
            let panic = std::panic::catch_unwind(|| block_on(async {})).unwrap_err();
            let text = panic.downcast_ref::<String>().unwrap();
            assert!(text.contains("reactor"), "{text}");
            drop(hoard);
            run(sleep(MS));
        },
    );
}

#[test]
fn a_turn_survives_signals() {
    in_child("a_turn_survives_signals", || {
        let (seen, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, seen.clone()).unwrap();
        let flag = done.clone();
        let thread = thread::spawn(move || {
            while !flag.load(SeqCst) {
                kill_process(rustix::process::getpid(), Signal::USR1).unwrap();
                thread::sleep(MS / 5);
            }
        });
        let start = Instant::now();
        run(async {
            let (mut here, mut there) = tcp_pair().await;
            for _ in 0..50 {
                let mut byte = [0];
                let (wrote, read) = join!(
                    async {
                        sleep(MS).await;
                        here.write_all(b"x").await
                    },
                    there.read_exact(&mut byte)
                );
                wrote.unwrap();
                read.unwrap();
            }
        });
        assert!(start.elapsed() >= 50 * MS, "no sleep was cut short");
        done.store(true, SeqCst);
        thread.join().unwrap();
        assert!(seen.load(SeqCst));
    });
}

/// The body of the child process of the next test.
fn echo_for_ever() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("\nport {}", listener.local_addr().unwrap().port());
        let (stream, _) = listener.accept().await.unwrap();
        let ticks = async {
            loop {
                sleep(MS).await;
            }
        };
        let echo = async {
            futures::io::copy(&stream, &mut &stream).await.unwrap();
        };
        futures::future::select(Box::pin(ticks), Box::pin(echo)).await;
    });
}

#[test]
fn a_stopped_server_resumes_when_it_is_continued() {
    let name = "a_stopped_server_resumes_when_it_is_continued";
    if std::env::var_os("WINDLASS_CHILD").is_some() {
        return echo_for_ever();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CHILD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| line.unwrap().strip_prefix("port ").map(str::to_owned));
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{}", port.unwrap())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let pid = Pid::from_child(&child);
    for i in 0..20 {
        kill_process(pid, Signal::STOP).unwrap();
        if i % 2 == 0 {
            stream.write_all(&[i]).unwrap();
        }
        kill_process(pid, Signal::CONT).unwrap();
        if i % 2 == 1 {
            stream.write_all(&[i]).unwrap();
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [i]);
    }
    drop(stream);
    thread::spawn(move || lines.for_each(drop));
    assert!(child.wait().unwrap().success());
}

#[test]
fn all_descriptors_are_closed_on_exec() {
    in_child("all_descriptors_are_closed_on_exec", || {
        let path = std::env::temp_dir().join(format!("windlass-exec-{}", std::process::id()));
        let count = |dir: &str| fs::read_dir(dir).unwrap().count();
        let list = || {
            let child = Command::new("ls").arg("/proc/self/fd").output().unwrap();
            String::from_utf8(child.stdout).unwrap().lines().count()
        };
        let (before, inherited) = (count("/proc/self/fd"), list());
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let (client, server) = join!(TcpStream::connect(addr), listener.accept());
            let (client, server) = (client.unwrap(), server.unwrap().0);
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let unix = UnixListener::bind(&path).await.unwrap();
            let (near, far) = join!(unix::UnixStream::connect(&path), unix.accept());
            let (near, far) = (near.unwrap(), far.unwrap().0);
            let (a, b) = unix::UnixStream::pair().unwrap();
            let (c, d) = UnixDatagram::pair().unwrap();
            let (e, reactor) = (
                UnixDatagram::unbound().unwrap(),
                Reactor::current().unwrap(),
            );
            let all = [
                listener.as_fd(),
                client.as_fd(),
                server.as_fd(),
                udp.as_fd(),
                unix.as_fd(),
                near.as_fd(),
                far.as_fd(),
                a.as_fd(),
                b.as_fd(),
                c.as_fd(),
                d.as_fd(),
                e.as_fd(),
                reactor.as_fd(),
            ];
            for fd in all {
                assert!(
                    fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC),
                    "{fd:?}"
                );
            }
            let ours = count("/proc/self/fd");
            assert!(ours > before + all.len(), "the reactor has more");
            assert_eq!(list(), inherited);
        });
        fs::remove_file(path).unwrap();
    });
}

#[test]
fn no_descriptor_leaks() {
    in_child("no_descriptor_leaks", || {
        run(async {
            drop(lookup_host("127.0.0.1:1").await);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let before = descriptors();
            for i in 0..1000 {
                let (client, server) = join!(TcpStream::connect(addr), listener.accept());
                let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
                match i % 4 {
                    0 => {} // never registered
                    1 => assert!(
                        timeout(Duration::ZERO, client.read(&mut [0]))
                            .await
                            .is_err()
                    ),
                    2 => {
                        client.write_all(b"x").await.unwrap();
                        server.read_exact(&mut [0]).await.unwrap();
                    }
                    _ => drop(server.into_std().unwrap()),
                }
            }
            assert_eq!(descriptors(), before);
            for _ in 0..1000 {
                // The attempt stays in progress, because it is polled only once.
                let connect = Box::pin(TcpStream::connect(addr));
                if let Ok(stream) = timeout(Duration::ZERO, connect).await {
                    stream.unwrap();
                }
                while let Ok(Ok(_)) = timeout(Duration::ZERO, listener.accept()).await {}
            }
            let closed = TcpListener::bind("127.0.0.1:0")
                .await
                .unwrap()
                .local_addr()
                .unwrap();
            for _ in 0..100 {
                assert!(TcpStream::connect(closed).await.is_err());
                let (a, _b) = UnixStream::pair().unwrap();
                drop(Async::new(a).unwrap().into_inner().unwrap());
                assert!(Async::new(fs::File::open("/proc/self/exe").unwrap()).is_err());
            }
            while let Ok(Ok(_)) = timeout(MS, listener.accept()).await {}
            assert_eq!(descriptors(), before);
        });
    });
}

#[test]
fn a_thread_drops_its_reactor_when_it_ends() {
    in_child("a_thread_drops_its_reactor_when_it_ends", || {
        run(sleep(MS));
        let before = descriptors();
        for _ in 0..50 {
            thread::spawn(|| run(sleep(Duration::ZERO))).join().unwrap();
        }
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn the_reactor_has_as_many_descriptors_as_documented() {
    if cfg!(not(target_os = "linux")) || cfg!(windlass_portable) {
        return;
    }
    in_child("the_reactor_has_as_many_descriptors_as_documented", || {
        let before = descriptors();
        let reactor = Reactor::current().unwrap();
        assert!(reactor.as_raw_fd() > 2);
        assert_eq!(descriptors(), before + 3);
    });
}

#[test]
fn an_idle_reactor_uses_no_cpu_time() {
    in_child("an_idle_reactor_uses_no_cpu_time", || {
        let cpu = || {
            let times = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            Duration::new(times.tv_sec as u64, times.tv_nsec as u32)
        };
        run(async {
            let sockets: Vec<_> = (0..100).map(|_| UnixStream::pair().unwrap()).collect();
            let (here, _there): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
            let here: Vec<_> = here.into_iter().map(|it| Async::new(it).unwrap()).collect();
            let waits = futures::future::select_all(here.iter().map(|it| it.readable()));
            let mut waits = Box::pin(waits);
            assert!(timeout(MS, &mut waits).await.is_err());
            let before = cpu();
            assert!(timeout(500 * MS, &mut waits).await.is_err());
            assert!(cpu() - before < 5 * MS, "{:?}", cpu() - before);
        });
    });
}
