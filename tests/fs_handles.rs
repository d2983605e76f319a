//! Open files on io_uring and on threads. Covers the order of operations, the position, the close,
//! and pipes and devices.

#![cfg(unix)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;
#[path = "common/files.rs"]
mod files;

use std::fs as std_fs;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, in_child, poll, run};
use files::{Folder, both_ways, descriptors, folder, until};
use futures::future::{FutureExt, join_all, maybe_done};
use futures::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, join};
use rustix::fs::OFlags;
use windlass::fs::{self, File};
use windlass_reactor::time::timeout;

both_ways! {
    set_len_comes_after_the_write_before_it
    metadata_and_read_at_see_the_write_before_them
    concurrent_operations_take_effect_in_the_order_of_polls
    sync_all_returns_the_error_of_an_earlier_write_once
    close_returns_the_error_of_an_earlier_write_and_closes
    a_dropped_operation_blocks_nothing
    the_position_is_shared_with_duplicates_and_children
    files_of_one_description_overwrite_nothing
    a_dropped_read_leaves_the_position_to_duplicates
    a_closed_file_can_be_executed_at_once
    an_awaited_close_releases_the_descriptor
    operations_after_close_are_errors
    many_drops_in_one_poll_release_their_descriptors
    vectored_operations_use_all_buffers
    an_append_handle_reads_on_after_an_empty_or_failed_write
    a_pipe_opened_by_name_waits_for_its_peer
    waiting_opens_block_no_other_files
    operations_at_offsets_of_a_pipe_fail_and_lose_nothing
    a_nonblocking_pipe_does_not_wait
    cached_data_is_read_and_opened_in_the_first_poll
    cached_reads_wait_for_writes_and_for_the_next_turn
}

async fn read_write(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true);
    options.open(path).await.unwrap()
}

fn once<F: Future>(future: F) -> Option<F::Output> {
    future.now_or_never()
}

fn set_len_comes_after_the_write_before_it() {
    let folders = [folder(), in_memory()];
    for folder in folders {
        let path = folder.path("file");
        for _ in 0..100 {
            run(async {
                let mut file = File::create(&path).await.unwrap();
                file.write_all(&[1; 4096]).await.unwrap();
                file.set_len(0).await.unwrap();
                assert_eq!(std_fs::metadata(&path).unwrap().len(), 0);
                file.flush().await.unwrap();
                assert_eq!(std_fs::metadata(&path).unwrap().len(), 0);
            });
        }
    }
}

/// A folder on a file system where io_uring passes files to kernel threads.
fn in_memory() -> Folder {
    let memory = Path::new("/dev/shm");
    let base = memory.is_dir().then(|| memory.to_owned());
    let folder = folder();
    let name = folder.0.file_name().unwrap().to_owned();
    let path = base
        .unwrap_or_else(std::env::temp_dir)
        .join(name)
        .with_extension("memory");
    std_fs::create_dir(&path).unwrap();
    Folder(path)
}

fn metadata_and_read_at_see_the_write_before_them() {
    let folder = in_memory();
    let path = folder.path("file");
    run(async {
        let mut file = read_write(&path).await;
        for n in 1..100_u8 {
            file.write_all(&[n; 1000]).await.unwrap();
            let end = u64::from(n) * 1000;
            if n % 2 == 0 {
                assert_eq!(file.metadata().await.unwrap().len(), end);
            } else {
                let mut last = [0; 2];
                assert_eq!(file.read_at(&mut last, end - 1).await.unwrap(), 1);
                assert_eq!(last, [n, 0]);
            }
        }
    });
}

fn concurrent_operations_take_effect_in_the_order_of_polls() {
    let folder = folder();
    let path = folder.path("file");
    run(async {
        let file = read_write(&path).await;
        for round in 0..50_u8 {
            let pieces: Vec<_> = (0..20).map(|n| [n + round; 3000]).collect();
            let writes = pieces.iter().map(|piece| file.write_at(piece, 100));
            let mut room = [0; 3000];
            let (written, read, cut, len) = join!(
                join_all(writes),
                file.read_at(&mut room, 100),
                file.set_len(1000),
                file.metadata(),
            );
            assert!(written.into_iter().all(|n| n.unwrap() == 3000));
            assert_eq!(read.unwrap(), 3000);
            assert_eq!(room, [19 + round; 3000]);
            cut.unwrap();
            assert_eq!(len.unwrap().len(), 1000);
        }
    });
}

fn sync_all_returns_the_error_of_an_earlier_write_once() {
    run(async {
        let mut full = File::options().write(true).open("/dev/full").await.unwrap();
        full.write_all(b"rope").await.unwrap();
        let error = full.sync_all().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        full.flush().await.unwrap();
        full.write_all(b"rope").await.unwrap();
        let error = full.sync_data().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        full.close().await.unwrap();
    });
}

fn close_returns_the_error_of_an_earlier_write_and_closes() {
    run(async {
        let mut full = File::options().write(true).open("/dev/full").await.unwrap();
        full.write_all(b"rope").await.unwrap();
        let error = full.close().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        full.close().await.unwrap();
        let error = full.write(b"rope").await.unwrap_err();
        assert_eq!(error.to_string(), "the file is closed");
    });
}

fn a_dropped_operation_blocks_nothing() {
    let folder = folder();
    let path = folder.file([0; 1000]);
    run(async {
        let mut file = read_write(&path).await;
        for _ in 0..50 {
            // The others wait for the first. All are dropped.
            let set = file.set_len(500);
            let cut = file.set_len(10);
            let sync = file.sync_all();
            let mut all = (Box::pin(set), Box::pin(cut), Box::pin(sync));
            let _ = poll(&mut all.0, Waker::noop());
            let _ = poll(&mut all.1, Waker::noop());
            let _ = poll(&mut all.2, Waker::noop());
            let (first, second, third) = all;
            drop(second);
            drop(first);
            drop(third);
            file.set_len(1000).await.unwrap();
            assert_eq!(file.metadata().await.unwrap().len(), 1000);
        }
        file.close().await.unwrap();
        assert_eq!(descriptors(&path), 0);
    });
}

fn the_position_is_shared_with_duplicates_and_children() {
    let folder = folder();
    let path = folder.path("log");
    run(async {
        let mut log = File::create(&path).await.unwrap();
        log.write_all(b"head\n").await.unwrap();
        log.flush().await.unwrap();
        let stdout = log.as_fd().try_clone_to_owned().unwrap();
        let echo = Command::new("echo").arg("child").stdout(stdout).status();
        assert!(echo.unwrap().success());
        log.write_all(b"tail\n").await.unwrap();
        log.flush().await.unwrap();
        assert_eq!(std_fs::read(&path).unwrap(), b"head\nchild\ntail\n");

        let mut reader = File::open(&path).await.unwrap();
        let duplicate = reader.as_fd().try_clone_to_owned().unwrap();
        let mut duplicate = File::from(std_fs::File::from(duplicate));
        let mut five = [0; 5];
        reader.read_exact(&mut five).await.unwrap();
        duplicate.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"child");
        assert_eq!(reader.seek(SeekFrom::Current(0)).await.unwrap(), 10);
        duplicate.seek(SeekFrom::Start(11)).await.unwrap();
        reader.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"tail\n");
    });
}

fn files_of_one_description_overwrite_nothing() {
    let folder = in_memory();
    let path = folder.path("log");
    run(async {
        let one = File::create(&path).await.unwrap();
        let other = std_fs::File::from(one.as_fd().try_clone_to_owned().unwrap());
        let write = async |mut file: File, byte: u8| {
            for _ in 0..200 {
                file.write_all(&[byte; 100]).await.unwrap();
            }
            file.close().await.unwrap();
        };
        join!(write(one, 1), write(other.into(), 2));
    });
    let bytes = std_fs::read(&path).unwrap();
    let count = |byte| bytes.iter().filter(|&&it| it == byte).count();
    assert_eq!((bytes.len(), count(1), count(2)), (40_000, 20_000, 20_000));
}

fn a_dropped_read_leaves_the_position_to_duplicates() {
    for folder in [folder(), in_memory()] {
        let path = folder.file("one two three");
        run(async {
            let mut file = File::open(&path).await.unwrap();
            let mut duplicate = std_fs::File::from(file.as_fd().try_clone_to_owned().unwrap());
            let was = match once(file.read(&mut [0; 4])) {
                Some(read) => read.unwrap() as u64,
                None => 0,
            };
            file.flush().await.unwrap(); // the read completes here
            let now = file.seek(SeekFrom::Current(0)).await.unwrap();
            assert_eq!((now, duplicate.stream_position().unwrap()), (was, was));
        });
    }
}

fn a_closed_file_can_be_executed_at_once() {
    let folder = folder();
    let path = folder.path("script");
    run(async {
        for _ in 0..10 {
            let mut options = File::options();
            options.write(true).create(true).mode(0o755);
            let mut file = options.open(&path).await.unwrap();
            file.write_all(b"#!/bin/sh\n").await.unwrap();
            file.close().await.unwrap();
            execute(&path);
            fs::write(&path, b"#!/bin/sh\n").await.unwrap();
            execute(&path);
            let file = options.open(&path).await.unwrap();
            file.write_at(b"#!/bin/sh\n", 0).await.unwrap();
            drop(file);
            execute(&path);
            let copy = folder.path("copy");
            fs::copy(&path, &copy).await.unwrap();
            execute(&copy);
        }
    });
}

/// Runs the script. A child of another test holds our descriptors from its fork to its exec, so
/// `ETXTBSY` is retried.
fn execute(path: &Path) {
    let mut tries = 0;
    loop {
        match Command::new(path).status() {
            Ok(status) => return assert!(status.success()),
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && tries < 50 => {
                assert_eq!(descriptors(path), 0, "still open here");
                tries += 1;
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn an_awaited_close_releases_the_descriptor() {
    let folder = folder();
    let path = folder.file([1; 100_000]);
    run(async {
        for round in 0..50 {
            let mut file = read_write(&path).await;
            // Dropped operations in flight must release the descriptor too.
            let _ = once(file.read_buf_at(Vec::with_capacity(100_000), 0));
            let _ = once(file.write_at(&[1; 100], 5));
            let _ = once(file.metadata());
            let _ = once(file.read(&mut [0; 1000]));
            let _ = once(file.seek(SeekFrom::End(0)));
            file.write_all(b"rope").await.unwrap();
            match round % 2 {
                0 => file.close().await.unwrap(),
                _ => AsyncWriteExt::close(&mut file).await.unwrap(),
            }
            assert_eq!(descriptors(&path), 0);
            fs::read(&path).await.unwrap();
            assert_eq!(descriptors(&path), 0);
        }
    });
}

fn operations_after_close_are_errors() {
    let folder = folder();
    let path = folder.file("rope");
    run(async {
        let mut file = read_write(&path).await;
        file.close().await.unwrap();
        let errors = [
            file.read(&mut [0; 4]).await.map(drop).unwrap_err(),
            file.write(b"knot").await.map(drop).unwrap_err(),
            file.seek(SeekFrom::Start(0)).await.map(drop).unwrap_err(),
            file.read_at(&mut [0; 4], 0).await.map(drop).unwrap_err(),
            file.write_at(b"knot", 0).await.map(drop).unwrap_err(),
            file.metadata().await.map(drop).unwrap_err(),
            file.set_len(0).await.unwrap_err(),
            file.sync_all().await.unwrap_err(),
            file.into_std().await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.to_string(), "the file is closed");
        }
    });
    assert_eq!(std_fs::read(&path).unwrap(), b"rope");
}

fn many_drops_in_one_poll_release_their_descriptors() {
    let folder = folder();
    let path = folder.file("rope");
    run(async {
        let mut file = read_write(&path).await;
        for _ in 0..2000 {
            let duplicate = file.as_fd().try_clone_to_owned().unwrap();
            drop(File::from(std_fs::File::from(duplicate)));
        }
        assert_eq!(descriptors(&path), 1);
        file.close().await.unwrap();
    });
}

fn vectored_operations_use_all_buffers() {
    let folder = folder();
    let path = folder.path("file");
    run(async {
        let mut file = read_write(&path).await;
        let bufs = [
            IoSlice::new(b"one "),
            IoSlice::new(b""),
            IoSlice::new(b"two"),
        ];
        assert_eq!(file.write_vectored(&bufs).await.unwrap(), 7);
        file.seek(SeekFrom::Start(0)).await.unwrap();
        let (mut one, mut other) = ([0; 2], [0; 9]);
        let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
        assert_eq!(file.read_vectored(bufs).await.unwrap(), 7);
        assert_eq!((&one, &other[..5]), (b"on", &b"e two"[..]));
    });
}

fn an_append_handle_reads_on_after_an_empty_or_failed_write() {
    let folder = folder();
    let path = folder.file("one two");
    run(async {
        let mut options = File::options();
        let mut file = options.read(true).append(true).open(&path).await.unwrap();
        let mut room = [0; 3];
        file.read_exact(&mut room).await.unwrap();
        assert_eq!(file.write(&[]).await.unwrap(), 0);
        assert_eq!(file.read(&mut room).await.unwrap(), 3);
        assert_eq!(&room, b" tw");

        let reads_only = options
            .append(false)
            .custom_flags(OFlags::APPEND.bits() as i32);
        let mut file = reads_only.open(&path).await.unwrap();
        file.read_exact(&mut room).await.unwrap();
        let error = file.write(b"x").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(9), "{error}");
        file.read_exact(&mut room).await.unwrap();
        assert_eq!(&room, b" tw");
    });
}

fn a_pipe_opened_by_name_waits_for_its_peer() {
    let folder = folder();
    let (one, other) = (folder.pipe("one"), folder.pipe("other"));
    run(async {
        let mut options = File::options();
        let mut writer = Box::pin(options.write(true).open(one.clone()));
        let mut reader = Box::pin(File::open(other.clone()));
        let early = timeout(Duration::from_millis(20), &mut writer).await;
        assert!(early.is_err(), "there is no reader: {early:?}");
        let early = timeout(Duration::from_millis(20), &mut reader).await;
        assert!(early.is_err(), "there is no writer: {early:?}");
        let peers = thread::spawn(move || {
            let mut reader = std_fs::File::open(one).unwrap();
            let mut writer = std_fs::File::options().write(true).open(other).unwrap();
            writer.write_all(b"ahoy").unwrap();
            drop(writer);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let mut writer = writer.await.unwrap();
        let mut text = String::new();
        reader
            .await
            .unwrap()
            .read_to_string(&mut text)
            .await
            .unwrap();
        assert_eq!(text, "ahoy");
        writer.write_all(b"there").await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(peers.join().unwrap(), "there");
    });
}

/// Returns the number of threads that wait for peers of pipes. Linux truncates thread names.
fn threads_of_peers() -> usize {
    let tasks = std_fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|it| std_fs::read_to_string(it.ok()?.path().join("comm")).ok());
    names
        .filter(|name| name.starts_with("windlass-peers"))
        .count()
}

fn waiting_opens_block_no_other_files() {
    let folder = folder();
    let path = folder.file("rope");
    let pipes: Vec<_> = (0..100).map(|n| folder.pipe(n)).collect();
    run(async {
        let mut opens: Vec<_> = pipes
            .iter()
            .map(|pipe| Box::pin(File::open(pipe)))
            .collect();
        let mut reads: Vec<_> = pipes.iter().map(|pipe| Box::pin(fs::read(pipe))).collect();
        for (open, read) in opens.iter_mut().zip(&mut reads) {
            assert!(poll(open, Waker::noop()).is_pending());
            assert!(poll(read, Waker::noop()).is_pending());
        }
        until(|| threads_of_peers() >= 2 * pipes.len()).await;
        for (open, read) in opens.iter_mut().zip(&mut reads) {
            assert!(poll(open, Waker::noop()).is_pending());
            assert!(poll(read, Waker::noop()).is_pending());
        }
        assert_eq!(
            timeout(PATIENCE, fs::read(&path)).await.unwrap().unwrap(),
            b"rope"
        );
        timeout(PATIENCE, fs::metadata(&path))
            .await
            .unwrap()
            .unwrap();
        timeout(PATIENCE, fs::write(&path, "knot"))
            .await
            .unwrap()
            .unwrap();
        let writers: Vec<_> = pipes
            .iter()
            .map(|pipe| std_fs::File::options().write(true).open(pipe).unwrap())
            .collect();
        let opened = join_all(opens).await;
        assert!(opened.iter().all(Result::is_ok));
        // Each read has opened its pipe, and reads from it until the writer closes it.
        until(|| descriptors(&folder.0) == 3 * pipes.len()).await;
        drop(writers);
        assert!(
            join_all(reads)
                .await
                .into_iter()
                .all(|read| read.unwrap().is_empty())
        );
    });
}

fn operations_at_offsets_of_a_pipe_fail_and_lose_nothing() {
    let folder = folder();
    let path = folder.pipe("pipe");
    run(async {
        let mut file = read_write(&path).await;
        file.write_all(b"ahoy").await.unwrap();
        file.flush().await.unwrap();
        let errors = [
            file.read_at(&mut [0; 4], 0).await.unwrap_err(),
            file.read_buf_at(Vec::with_capacity(4), 7)
                .await
                .0
                .unwrap_err(),
            file.write_at(b"x", 0).await.unwrap_err(),
            file.seek(SeekFrom::Start(0))
                .await
                .map(drop)
                .map(|()| 0)
                .unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.raw_os_error(), Some(29), "{error}");
        }
        let mut room = [0; 9];
        assert_eq!(file.read(&mut room).await.unwrap(), 4);
        assert_eq!(&room[..4], b"ahoy");
    });
}

fn a_nonblocking_pipe_does_not_wait() {
    let folder = folder();
    let path = folder.pipe("pipe");
    run(async {
        let mut options = File::options();
        options.custom_flags(OFlags::NONBLOCK.bits() as i32);
        let error = options.write(true).open(&path).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap();
        let cause = cause.downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.raw_os_error(), Some(6), "{error}");
        let mut file = options.read(true).open(&path).await.unwrap();
        let error = file.read(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let mut written = 0;
        let error = loop {
            match file.write(&[1; 3000]).await {
                Ok(n) => written += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        file.flush().await.unwrap();
        let mut read = 0;
        while let Ok(n) = file.read(&mut [0; 3000]).await {
            read += n;
        }
        assert_eq!(read, written);
    });
}

#[test]
fn paths_are_resolved_when_an_operation_is_first_polled() {
    in_child(
        "paths_are_resolved_when_an_operation_is_first_polled",
        || {
            for way in [files::by_io_uring as fn(fn()), files::by_threads] {
                let on_thread = thread::spawn(move || way(resolve_paths));
                on_thread.join().unwrap();
            }
        },
    );
}

fn resolve_paths() {
    let (here, there) = (folder(), folder());
    std_fs::write(here.path("a"), "here").unwrap();
    std_fs::write(there.path("a"), "there").unwrap();
    for _ in 0..20 {
        std::env::set_current_dir(&here.0).unwrap();
        run(async {
            let mut open = Box::pin(maybe_done(File::open("a")));
            let mut read = Box::pin(maybe_done(fs::read("a")));
            let mut write = Box::pin(maybe_done(fs::write("b", "new")));
            let mut make = Box::pin(maybe_done(fs::create_dir("folder")));
            let mut list = Box::pin(maybe_done(fs::read_dir(".")));
            let mut copy = Box::pin(maybe_done(fs::copy("a", "c")));
            for first in [
                poll(&mut open, Waker::noop()),
                poll(&mut read, Waker::noop()),
                poll(&mut write, Waker::noop()),
                poll(&mut make, Waker::noop()),
                poll(&mut list, Waker::noop()),
                poll(&mut copy, Waker::noop()),
            ] {
                let _ = first; // a thread may have completed it already
            }
            std::env::set_current_dir(&there.0).unwrap();
            join!(
                &mut open, &mut read, &mut write, &mut make, &mut list, &mut copy
            );
            let mut text = String::new();
            let mut open = open.as_mut().take_output().unwrap().unwrap();
            open.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "here");
            assert_eq!(read.as_mut().take_output().unwrap().unwrap(), b"here");
            write.as_mut().take_output().unwrap().unwrap();
            make.as_mut().take_output().unwrap().unwrap();
            copy.as_mut().take_output().unwrap().unwrap();
            let mut list = list.as_mut().take_output().unwrap().unwrap();
            let entry = list.next_entry().await.unwrap().unwrap();
            assert_eq!(entry.path(), Path::new(".").join(entry.file_name()));
        });
        assert_eq!(std_fs::read_dir(&there.0).unwrap().count(), 1);
        for name in ["b", "c"] {
            std_fs::remove_file(here.path(name)).unwrap();
        }
        std_fs::remove_dir(here.path("folder")).unwrap();
    }
}

/// `O_DIRECT` needs aligned memory. `read_at` provides it for any buffer of the caller.
#[cfg(target_os = "linux")]
#[test]
fn direct_reads_and_writes_take_any_buffer() {
    let folder = folder();
    let path = folder.file([1; 8192]);
    let direct = OFlags::DIRECT.bits() as i32;
    let mut std = std_fs::File::options();
    if std.read(true).custom_flags(direct).open(&path).is_err() {
        return eprintln!("no O_DIRECT here");
    }
    for way in [files::by_io_uring as fn(fn()), files::by_threads] {
        static PATH: std::sync::Mutex<Option<PathBuf>> = std::sync::Mutex::new(None);
        *PATH.lock().unwrap() = Some(path.clone());
        let on_thread = thread::spawn(move || {
            way(|| {
                let path = PATH.lock().unwrap().clone().unwrap();
                run(async {
                    let mut options = File::options();
                    options.read(true).write(true);
                    options.custom_flags(OFlags::DIRECT.bits() as i32);
                    let mut file = options.open(&path).await.unwrap();
                    let mut room = [0; 4097];
                    file.write_at(&[2; 4096], 4096).await.unwrap();
                    let read = file.read_at(&mut room[1..], 4096).await;
                    assert_eq!((read.unwrap(), room[1], room[4096]), (4096, 2, 2));
                    file.write_all(&[3; 4096]).await.unwrap();
                    let mut bytes = vec![0; 8192];
                    let n = file.read(&mut bytes[..4096]).await.unwrap();
                    assert_eq!((n, bytes[0]), (4096, 2));
                    let std = file.into_std().await.unwrap();
                    assert_eq!((&std).stream_position().unwrap(), 8192);
                    let plain = std_fs::File::open(&path).unwrap();
                    plain.read_exact_at(&mut bytes, 0).unwrap();
                    assert_eq!((bytes[4095], bytes[4096]), (3, 2));
                });
            });
        });
        on_thread.join().unwrap();
    }
    assert_eq!(
        std_fs::metadata(&path).unwrap().permissions().mode() & 0o400,
        0o400
    );
}

/// Returns true if the file system of the file reads cached data without waiting.
#[cfg(target_os = "linux")]
fn can_read_cached(path: &Path) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let file = std_fs::File::open(path).unwrap();
    let mut room = [0];
    let bufs = &mut [IoSliceMut::new(&mut room)];
    preadv2(file, bufs, 0, ReadWriteFlags::NOWAIT).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn can_read_cached(_: &Path) -> bool {
    false
}

fn cached_data_is_read_and_opened_in_the_first_poll() {
    let folder = folder();
    let path = folder.file("ahoy");
    if !can_read_cached(&path) {
        return;
    }
    run(async {
        let file = once(File::open(&path)).expect("opened at once").unwrap();
        let flags = rustix::fs::fcntl_getfl(&file).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
        let mut room = [0; 8];
        let read = once(file.read_at(&mut room, 2)).expect("read at once");
        assert_eq!((read.unwrap(), &room[..3]), (2, &b"oy\0"[..]));
        let (read, buf) = once(file.read_buf_at(Vec::with_capacity(9), 0)).expect("read at once");
        assert_eq!((read.unwrap(), &buf[..]), (4, &b"ahoy"[..]));

        let mut options = File::options();
        options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32);
        let file = once(options.open(&path)).expect("opened at once").unwrap();
        let flags = rustix::fs::fcntl_getfl(&file).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK));
        assert_eq!(once(file.read_at(&mut room, 0)).unwrap().unwrap(), 4);
    });
}

fn cached_reads_wait_for_writes_and_for_the_next_turn() {
    const BYTES: usize = 64 * 1024;
    let folder = folder();
    let path = folder.file([b'-'; BYTES]);
    if !can_read_cached(&path) {
        return;
    }
    run(async {
        let file = read_write(&path).await;
        let write = file.write_buf_at(b"ahoy".into(), 0);
        let mut write = maybe_done(Box::pin(write));
        let _ = once(&mut write); // starts it
        let mut room = [0; 8];
        assert_eq!(file.read_at(&mut room, 0).await.unwrap(), 8);
        assert_eq!(&room, b"ahoy----");
        write.await;

        let mut buf = [0; BYTES];
        let reads = std::iter::repeat_with(|| once(file.read_at(&mut buf, 0)).is_some());
        let at_once = reads.take(1000).take_while(|&done| done).count();
        assert!(at_once < 32, "a turn copies {at_once} times 64 KiB");
    });
}
