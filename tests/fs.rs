//! Files on io_uring and on threads. Both pass the same tests.

// `fs_windows.rs` tests Windows.
#![cfg(unix)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;
#[path = "common/files.rs"]
mod files;

use std::cell::Cell;
use std::fs as std_fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::process::Command;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{Counter, PATIENCE, hook, hooked, in_child, poll, run, turn_until, unhook};
use common::{descriptor_is_ready, settle, wait_for_descriptor, wait_until};
use files::{both_ways, descriptors, folder, polled, until};
use futures::future::{join_all, select_all};
use futures::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, FutureExt, StreamExt, join, stream};
use rustix::fs::OFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use windlass::fs::{self, File, OpenOptions, use_io_uring};
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Reactor, block_on};

both_ways! {
    written_data_is_read_back_at_any_offset
    an_offset_beyond_all_files_is_an_error
    the_position_moves_as_with_std
    options_open_or_fail_as_with_std
    errors_name_the_file_and_keep_the_source
    a_full_disk_is_an_error_where_the_write_is_awaited
    a_full_disk_is_an_error_of_the_next_flush
    a_disk_that_fills_up_cuts_a_write_short
    a_broken_device_is_an_error_and_the_next_operation_works
    a_file_truncated_during_a_read_ends_there
    ten_thousand_concurrent_operations_complete
    a_large_file_is_read_and_written_whole
    operations_complete_after_their_file_is_dropped
    operations_can_be_dropped_at_every_await
    a_dropped_open_leaks_no_descriptor
    a_dropped_write_writes_a_first_part_or_nothing
    leaked_futures_do_no_harm
    a_dropped_file_completes_background_writes
    a_dropped_file_writes_all_pieces
    a_dropped_read_loses_nothing
    into_std_keeps_the_position
    a_clone_continues_where_the_file_has_stopped
    a_failed_write_is_returned_by_the_clone_of_its_file
    whole_ranges_are_read_and_written
    times_and_owners_are_changed
    directories_are_built_with_their_parents_and_permissions
    wakers_may_do_anything
    a_nested_runtime_has_files
    timers_go_on_while_files_are_read
    a_thread_ends_with_operations_in_flight
    directories_are_listed_and_a_dropped_next_loses_nothing
    names_are_created_renamed_and_removed
    a_whole_file_is_read_written_and_copied
    the_descriptor_is_readable_when_an_operation_completes
}

/// Returns true if files of this thread use io_uring.
fn is_ring() -> bool {
    let _reactor = Reactor::current().unwrap();
    use_io_uring(true).unwrap()
}

/// Returns that many bytes, in which every part is different.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn written_data_is_read_back_at_any_offset() {
    let folder = folder();
    let path = folder.path("file");
    run(async {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .await?;
        assert_eq!(file.write_at(b"ahoy", 0).await?, 4);
        let (wrote, buffer) = file.write_buf_at(b"there".to_vec(), 5).await;
        assert_eq!((wrote?, &buffer[..]), (5, &b"there"[..]));
        file.sync_data().await?;
        file.sync_all().await?;
        assert_eq!(std_fs::read(&path)?, b"ahoy\0there");
        let mut word = [0; 8];
        assert_eq!(file.read_at(&mut word, 5).await?, 5);
        assert_eq!(&word[..5], b"there");
        assert_eq!(file.read_at(&mut word, 10).await?, 0, "the end");
        assert_eq!(file.read_at(&mut [], 0).await?, 0);
        let mut buffer = Vec::with_capacity(6);
        buffer.extend_from_slice(b"> ");
        let (read, buffer) = file.read_buf_at(buffer, 5).await;
        assert_eq!((read?, &buffer[..]), (4, &b"> ther"[..]));
        file.set_len(2).await?;
        assert_eq!(file.metadata().await?.len(), 2);
        file.set_permissions(std_fs::Permissions::from_mode(0o600))
            .await?;
        assert_eq!(file.metadata().await?.permissions().mode() & 0o777, 0o600);
        io::Result::Ok(())
    })
    .unwrap();
}

fn an_offset_beyond_all_files_is_an_error() {
    let folder = folder();
    let path = folder.file("rope");
    run(async {
        let mut options = File::options();
        let file = options.read(true).write(true).open(&path).await.unwrap();
        for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
            let read = file.read_at(&mut [0; 4], offset).await;
            assert_eq!(read.unwrap_err().kind(), ErrorKind::InvalidInput);
            let written = file.write_at(b"knot", offset).await;
            assert_eq!(written.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    });
    assert_eq!(std_fs::read(&path).unwrap(), b"rope");
}

/// Takes the same random steps with std and compares the results.
fn the_position_moves_as_with_std() {
    let folder = folder();
    let (ours, theirs) = (folder.path("ours"), folder.path("theirs"));
    let appends = OFlags::APPEND.bits() as i32;
    for (append, flags) in [(false, 0), (true, 0), (false, appends)] {
        run(async {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).append(append);
            let mut file = options.custom_flags(flags).open(&ours).await?;
            let mut options = std_fs::OpenOptions::new();
            options.read(true).write(true).create(true).append(append);
            options.custom_flags(flags);
            let mut std_file = options.open(&theirs)?;
            let mut random = 7_u32;
            for step in 0..500 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let n = (random >> 16) as usize % 100;
                match random >> 28 {
                    0..=5 => {
                        let bytes = vec![step as u8; n];
                        file.write_all(&bytes).await?;
                        std_file.write_all(&bytes)?;
                    }
                    6..=9 => {
                        let (mut one, mut other) = (vec![0; n], vec![0; n]);
                        assert_eq!(file.read(&mut one).await?, std_file.read(&mut other)?);
                        assert_eq!(one, other);
                    }
                    10 => {
                        // The read may be complete, so both files then seek to one offset.
                        let mut room = vec![0; n];
                        let _ = polled(1, file.read(&mut room)).await;
                        file.seek(SeekFrom::Start(n as u64)).await?;
                        std_file.seek(SeekFrom::Start(n as u64))?;
                    }
                    kind => {
                        let to = match kind {
                            11 => SeekFrom::Start(n as u64),
                            12..=13 => SeekFrom::Current(n as i64 - 50),
                            _ => SeekFrom::End(n as i64 - 50),
                        };
                        let (one, other) = (file.seek(to).await, std_file.seek(to));
                        assert_eq!(one.ok(), other.ok(), "{to:?}");
                    }
                }
            }
            file.flush().await?;
            assert_eq!(std_fs::read(&ours)?, std_fs::read(&theirs)?);
            io::Result::Ok(())
        })
        .unwrap();
    }
}

fn options_open_or_fail_as_with_std() {
    let folder = folder();
    for set in 0..1 << 6 {
        for exists in [false, true] {
            let path = folder.path("file");
            let prepare = || {
                let _ = std_fs::remove_file(&path);
                if exists {
                    std_fs::write(&path, "rope").unwrap();
                }
            };
            let is = |bit: u32| set & 1 << bit != 0;
            let mut std_options = std_fs::OpenOptions::new();
            std_options.read(is(0)).write(is(1)).append(is(2));
            std_options.truncate(is(3)).create(is(4)).create_new(is(5));
            let mut options = OpenOptions::new();
            options.read(is(0)).write(is(1)).append(is(2));
            options.truncate(is(3)).create(is(4)).create_new(is(5));
            prepare();
            let theirs = std_options
                .open(&path)
                .map(drop)
                .map_err(|error| error.kind());
            let they_left = std_fs::read(&path).ok();
            prepare();
            let ours = run(options.open(&path))
                .map(drop)
                .map_err(|error| error.kind());
            assert_eq!(ours, theirs, "{options:?}");
            assert_eq!(std_fs::read(&path).ok(), they_left, "{options:?}");
        }
    }
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(0o1_000_000); // O_NOATIME on Linux
    let path = folder.path("mine");
    drop(run(options.open(&path)).unwrap());
    assert_eq!(
        std_fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let zero = run(File::open("ro\0pe")).unwrap_err();
    assert_eq!(zero.kind(), ErrorKind::InvalidInput);
}

fn errors_name_the_file_and_keep_the_source() {
    let folder = folder();
    let missing = folder.path("missing");
    let name = missing.to_str().unwrap();
    let errors = run(async {
        [
            File::open(&missing).await.map(drop).unwrap_err(),
            fs::read(&missing).await.map(drop).unwrap_err(),
            fs::read_to_string(&missing).await.map(drop).unwrap_err(),
            fs::copy(&missing, "nowhere").await.map(drop).unwrap_err(),
            fs::metadata(&missing).await.map(drop).unwrap_err(),
            fs::read_dir(&missing).await.map(drop).unwrap_err(),
            fs::rename(&missing, "nowhere").await.unwrap_err(),
            fs::remove_file(&missing).await.unwrap_err(),
            fs::write(missing.join("below"), "").await.unwrap_err(),
        ]
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(name), "{error}");
        let cause = std::error::Error::source(&error).unwrap();
        let cause = cause.downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.raw_os_error(), Some(2));
    }
    let folder_error = run(fs::read(&folder.0)).unwrap_err();
    assert_eq!(folder_error.kind(), ErrorKind::IsADirectory);
    let file = run(File::open(&folder.0)).unwrap();
    let error = run(file.read_at(&mut [0; 8], 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
    let no_text = folder.file(b"\xff");
    let error = run(fs::read_to_string(no_text)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

fn a_full_disk_is_an_error_where_the_write_is_awaited() {
    run(async {
        let full = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .await
            .unwrap();
        let error = full.write_at(b"rope", 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let error = fs::write("/dev/full", "rope").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.to_string().contains("/dev/full"));
    });
}

fn a_full_disk_is_an_error_of_the_next_flush() {
    run(async {
        let mut full = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .await
            .unwrap();
        assert_eq!(full.write(b"rope").await.unwrap(), 4, "accepted");
        let error = full.flush().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        full.flush().await.unwrap(); // the error was reported above
        full.write_all(b"rope").await.unwrap();
        let error = full.into_std().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    });
}

/// Mounts a file system of 64 KiB. Skipped if the process may not mount.
fn a_disk_that_fills_up_cuts_a_write_short() {
    let folder = folder();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "windlass"])
        .arg(&folder.0)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("no right to mount a small disk");
        return;
    }
    let path = folder.path("file");
    let error = run(fs::write(&path, pattern(100_000))).unwrap_err();
    let left = std_fs::read(&path).unwrap();
    let small = run(async {
        fs::remove_file(&path).await?;
        fs::write(&path, "there is room again").await
    });
    let unmounted = Command::new("umount").arg("-l").arg(&folder.0).status();
    assert!(unmounted.unwrap().success());
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(
        !left.is_empty() && left == pattern(100_000)[..left.len()],
        "a prefix is written"
    );
    small.unwrap();
}

/// A read at address zero of `/proc/self/mem` fails with `EIO`.
fn a_broken_device_is_an_error_and_the_next_operation_works() {
    let folder = folder();
    let path = folder.file("rope");
    run(async {
        let memory = File::open("/proc/self/mem").await.unwrap();
        let error = memory.read_at(&mut [0; 8], 0).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
        assert_eq!(fs::read(&path).await.unwrap(), b"rope");
    });
}

fn a_file_truncated_during_a_read_ends_there() {
    let folder = folder();
    let path = folder.file(pattern(100_000));
    run(async {
        let mut file = File::open(&path).await.unwrap();
        let mut part = vec![0; 50_000];
        file.read_exact(&mut part).await.unwrap();
        std_fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(60_000)
            .unwrap();
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).await.unwrap();
        assert_eq!([part, rest].concat(), pattern(100_000)[..60_000]);
        assert_eq!(file.read_at(&mut [0; 8], 70_000).await.unwrap(), 0);
    });
}

fn ten_thousand_concurrent_operations_complete() {
    let folder = folder();
    let contents = pattern(1 << 20);
    let path = folder.file(&contents);
    run(async {
        let file = File::open(&path).await.unwrap();
        let read = async |n: usize| {
            let offset = n * 7919 % (contents.len() - 100);
            let (read, bytes) = file
                .read_buf_at(Vec::with_capacity(100), offset as u64)
                .await;
            assert_eq!(read.unwrap(), 100);
            assert!(
                bytes == contents[offset..][..100],
                "read {n} got the bytes of another"
            );
        };
        let ended = join_all((0..10_000).map(read)).await;
        assert_eq!(ended.len(), 10_000);
    });
}

fn a_large_file_is_read_and_written_whole() {
    let folder = folder();
    let path = folder.path("file");
    run(async {
        fs::write(&path, pattern(3_000_001)).await.unwrap();
        assert!(fs::read(&path).await.unwrap() == pattern(3_000_001));
        let file = File::open(&path).await.unwrap();
        let mut buffer = vec![0; 1 << 20];
        let n = file.read_at(&mut buffer, 0).await.unwrap();
        assert_eq!(n, 256 * 1024, "one read is limited");
    });
}

fn operations_complete_after_their_file_is_dropped() {
    let folder = folder();
    let path = folder.file(pattern(100_000));
    run(async {
        // Each read holds a clone. The original is dropped before the first poll.
        let file = Rc::new(File::open(&path).await.unwrap());
        let read = |n: u64| {
            let file = file.clone();
            async move { file.read_buf_at(Vec::with_capacity(1000), n * 1000).await.1 }
                .boxed_local()
        };
        let reads: Vec<_> = (0..100).map(read).collect();
        drop(file);
        let (first, _, rest) = select_all(reads).await;
        assert_eq!(first.len(), 1000);
        drop(rest); // with reads in flight
        until(|| descriptors(&path) == 0).await;
    });
}

fn operations_can_be_dropped_at_every_await() {
    let folder = folder();
    let path = folder.file(pattern(100_000));
    run(async {
        for times in 0..6 {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).open(&path).await.unwrap();
            let mut room = vec![7; 1000];
            if polled(times, file.read_at(&mut room, 0)).await.is_none() {
                assert!(
                    room.iter().all(|&byte| byte == 7),
                    "the buffer is unchanged"
                );
            }
            let _ = polled(times, file.read_buf_at(room, 0)).await;
            let _ = polled(times, file.sync_all()).await;
            let _ = polled(times, file.metadata()).await;
            let _ = polled(times, file.seek(SeekFrom::End(-1000))).await;
            let _ = polled(times, fs::read(&path)).await;
            let _ = polled(times, fs::metadata(&path)).await;
            let _ = polled(times, fs::copy(&path, folder.path("copy"))).await;
            let _ = polled(times, fs::write(folder.path("other"), "rope")).await;
            let _ = polled(times, file.into_std()).await;
        }
        until(|| descriptors(&path) == 0).await;
        assert!(fs::read(&path).await.unwrap() == pattern(100_000));
    });
}

fn a_dropped_open_leaks_no_descriptor() {
    let folder = folder();
    let path = folder.file("rope");
    run(async {
        for times in 0..3 {
            for _ in 0..100 {
                drop(polled(times, File::open(&path)).await);
            }
            until(|| descriptors(&path) == 0).await;
        }
    });
}

fn a_dropped_write_writes_a_first_part_or_nothing() {
    let folder = folder();
    let (old, new) = (vec![0; 500_000], pattern(500_000));
    for times in 0..6 {
        let path = folder.file(&old);
        run(async {
            let file = OpenOptions::new().write(true).open(&path).await.unwrap();
            let _ = polled(times, async {
                file.write_at(&new[..250_000], 0).await?;
                file.write_at(&new[250_000..], 250_000).await
            })
            .await;
            drop(file);
            until(|| descriptors(&path) == 0).await;
        });
        let now = std_fs::read(&path).unwrap();
        let written = now
            .iter()
            .zip(&new)
            .take_while(|(now, new)| now == new)
            .count();
        assert!(now[written..] == old[written..], "at {times}");
        assert_eq!(now.len(), old.len());
    }
}

fn leaked_futures_do_no_harm() {
    let folder = folder();
    let path = folder.file(pattern(100_000));
    let is_ring = is_ring();
    thread::scope(|scope| {
        let on_thread = scope.spawn(|| {
            if !is_ring {
                assert!(use_io_uring(false).unwrap());
            }
            run(async {
                let file = Rc::new(File::open(&path).await.unwrap());
                let mut reads = Vec::new();
                for n in 0..100 {
                    let file = file.clone();
                    let mut read = Box::pin(async move {
                        let mut room = [0; 1000];
                        file.read_at(&mut room, n * 1000).await.map(|_| room)
                    });
                    let _ = polled(1, &mut read).await;
                    reads.push(read);
                }
                // Leak checkers ignore memory that a static still points to.
                static LEAKED: Mutex<Vec<AtomicPtr<()>>> = Mutex::new(Vec::new());
                let leaked = AtomicPtr::new(Box::into_raw(Box::new(reads)).cast());
                LEAKED.lock().unwrap().push(leaked);
                assert!(fs::read(&path).await.unwrap() == pattern(100_000));
            });
        });
        on_thread.join().unwrap();
    });
}

fn a_dropped_file_completes_background_writes() {
    let folder = folder();
    let path = folder.path("file");
    run(async {
        let mut file = File::create(&path).await.unwrap();
        file.write_all(&pattern(600_000)).await.unwrap();
        drop(file);
        until(|| std_fs::metadata(&path).unwrap().len() == 600_000).await;
    });
    assert!(std_fs::read(&path).unwrap() == pattern(600_000));
}

/// A pipe holds 64 KiB, so the file writes several pieces.
fn a_dropped_file_writes_all_pieces() {
    let (file, reading) = file_with_reader();
    run(async {
        write_and_drop(file).await;
        until(|| reading.is_finished()).await;
    });
    assert!(reading.join().unwrap() == pattern(250_000));
}

async fn write_and_drop(mut file: File) {
    file.write_all(&pattern(250_000)).await.unwrap();
}

/// A file that writes into a pipe, and the thread that reads the pipe to its end.
fn file_with_reader() -> (File, JoinHandle<Vec<u8>>) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        std_fs::File::from(reader).read_to_end(&mut read).unwrap();
        read
    });
    (File::from(std_fs::File::from(writer)), reading)
}

fn a_dropped_read_loses_nothing() {
    let folder = folder();
    let path = folder.file(pattern(10_000));
    run(async {
        let mut file = File::open(&path).await.unwrap();
        let mut read = Vec::new();
        let mut room = [0; 1000];
        for times in [1, 2, 9].into_iter().cycle() {
            match polled(times, file.read(&mut room[..100 * times])).await {
                Some(Ok(0)) => break,
                Some(n) => read.extend_from_slice(&room[..n.unwrap()]),
                None => {}
            }
        }
        assert!(read == pattern(10_000));
    });
}

fn into_std_keeps_the_position() {
    let folder = folder();
    let path = folder.file("one two three");
    let mut file = run(async {
        let mut file = File::from(std_fs::File::open(&path).unwrap());
        file.read_exact(&mut [0; 4]).await.unwrap();
        let mut room = [0; 6];
        let _ = polled(1, file.read(&mut room)).await; // discarded, or completed at once
        file.into_std().await.unwrap()
    });
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert!(["two three", "ree"].contains(&rest.as_str()), "{rest}");
}

fn a_clone_continues_where_the_file_has_stopped() {
    let folder = folder();
    run(async {
        let path = folder.path("rope");
        let mut file = File::create_new(&path).await.unwrap();
        let exists = File::create_new(&path).await.unwrap_err();
        assert_eq!(exists.kind(), ErrorKind::AlreadyExists);
        // The write continues in the background.
        file.write_all(&pattern(300_000)).await.unwrap();
        let mut clone = file.try_clone().await.unwrap();
        clone.write_all(b"tail").await.unwrap();
        clone.close().await.unwrap();
        file.write_all(b"end").await.unwrap();
        file.seek(SeekFrom::Start(300_000)).await.unwrap();
        let mut clone = file.try_clone().await.unwrap();
        let mut text = String::new();
        clone.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "tailend");
        file.close().await.unwrap();
        assert!(file.try_clone().await.is_err());
    });
    assert!(std_fs::read(folder.path("rope")).unwrap()[..300_000] == pattern(300_000));
}

fn a_failed_write_is_returned_by_the_clone_of_its_file() {
    run(async {
        let mut full = File::options().write(true).open("/dev/full").await.unwrap();
        full.write_all(b"ahoy").await.unwrap();
        let error = full.try_clone().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        full.try_clone().await.unwrap();
    });
}

fn whole_ranges_are_read_and_written() {
    let folder = folder();
    run(async {
        let file = File::create_new(folder.path("rope")).await.unwrap();
        let data = pattern(1_000_000);
        file.write_all_at(&data, 5).await.unwrap();
        let mut read = vec![0; data.len()];
        file.read_exact_at(&mut read, 5).await.unwrap();
        assert!(read == data);
        let error = file.read_exact_at(&mut read, 6).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        file.read_exact_at(&mut [], 1 << 40).await.unwrap();
        file.write_all_at(&[], 1 << 40).await.unwrap();
        assert_eq!(file.metadata().await.unwrap().len(), 1_000_005);
    });
}

fn times_and_owners_are_changed() {
    let folder = folder();
    run(async {
        let path = folder.path("rope");
        let file = File::create_new(&path).await.unwrap();
        let past = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.set_modified(past).await.unwrap();
        assert_eq!(file.metadata().await.unwrap().modified().unwrap(), past);
        // The owner stays, so that no privilege is required.
        let uid = rustix::process::getuid().as_raw();
        fs::chown(&path, Some(uid), None).await.unwrap();
        let link = path.with_extension("link");
        fs::symlink("nowhere", &link).await.unwrap();
        fs::lchown(&link, Some(uid), None).await.unwrap();
        let missing = fs::chown(&link, Some(uid), None).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().starts_with("can't change the owner of"));
    });
}

fn directories_are_built_with_their_parents_and_permissions() {
    let folder = folder();
    run(async {
        let deep = folder.path("a/b/c");
        let alone = fs::DirBuilder::new().create(&deep).await.unwrap_err();
        assert_eq!(alone.kind(), ErrorKind::NotFound);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&deep).await.unwrap();
        builder.create(&deep).await.unwrap();
        for created in [&deep, &folder.path("a")] {
            let permissions = fs::metadata(created).await.unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, 0o700);
        }
        let again = fs::DirBuilder::new().create(&deep).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    });
}

fn wakers_may_do_anything() {
    let folder = folder();
    let path = folder.file(pattern(10_000));
    let reactor = Reactor::current().unwrap();
    let options = OpenOptions::new().write(true).clone();
    let file = Rc::new(run(options.open(&path)).unwrap());
    let mut first = Box::pin(file.write_buf_at(pattern(100), 0));
    let early = poll(&mut first, &hooked());
    let (_, other) = Counter::new();
    let (inner, calls) = (file.clone(), Rc::new(AtomicUsize::new(0)));
    let counter = calls.clone();
    let (_, plain) = Counter::new();
    hook(move |_| {
        counter.fetch_add(1, SeqCst);
        // Starts and drops a write, closes a file, and turns the reactor.
        let mut write = Box::pin(inner.write_buf_at(pattern(10), 0));
        let _ = poll(&mut write, &plain);
        drop(write);
        drop(std_fs::File::open("/dev/null").map(File::from));
        Reactor::current()
            .unwrap()
            .turn(Some(Duration::ZERO))
            .unwrap();
    });
    if early.is_pending() {
        let _ = poll(&mut first, &other); // drops the previous waker
    }
    let mut write = Box::pin(file.write_buf_at(pattern(100), 0));
    let waker = hooked();
    let mut result = None;
    turn_until(&reactor, || {
        if let Poll::Ready(ended) = poll(&mut write, &waker) {
            result = Some(ended);
        }
        result.is_some()
    });
    drop(waker);
    unhook();
    let (n, bytes) = result.unwrap();
    assert_eq!((n.unwrap(), &bytes[..]), (100, &pattern(100)[..]));
    assert!(calls.load(SeqCst) > 1);
}

fn a_nested_runtime_has_files() {
    let folder = folder();
    let path = folder.file(pattern(1000));
    run(async {
        let file = File::open(&path).await.unwrap();
        let mut outer = Box::pin(file.read_buf_at(Vec::with_capacity(1000), 0));
        let early = polled(1, &mut outer).await;
        assert!(block_on(fs::read(&path)).unwrap() == pattern(1000));
        let outer = match early {
            Some(ended) => ended,
            None => outer.await, // the inner loop has notified the outer one
        };
        assert!(outer.1 == pattern(1000));
    });
    assert!(
        run(fs::read(&path)).unwrap() == pattern(1000),
        "the next runtime reads files"
    );
}

fn timers_go_on_while_files_are_read() {
    let folder = folder();
    let path = folder.file(pattern(1 << 20));
    run(async {
        let ticks = Cell::new(0);
        let reads = async {
            while ticks.get() < 10 {
                assert_eq!(fs::read(&path).await.unwrap().len(), 1 << 20);
            }
        };
        let timer = async {
            while ticks.get() < 10 {
                sleep(Duration::from_micros(10)).await;
                ticks.set(ticks.get() + 1);
            }
        };
        join!(reads, timer);
    });
}

fn a_thread_ends_with_operations_in_flight() {
    let folder = folder();
    let path = folder.file(pattern(100_000));
    let is_ring = is_ring();
    thread::scope(|scope| {
        let on_thread = scope.spawn(|| {
            if !is_ring {
                assert!(use_io_uring(false).unwrap());
            }
            block_on(async {
                let file = File::open(&path).await.unwrap();
                let (_, waker) = Counter::new();
                for n in 0..300 {
                    let mut read = Box::pin(file.read_buf_at(Vec::with_capacity(1000), n));
                    let _ = poll(&mut read, &waker);
                }
                let mut file = File::create(folder.path("other")).await.unwrap();
                file.write_all(&pattern(600_000)).await.unwrap();
            });
        });
        on_thread.join().unwrap(); // the scope waits only for the closure
    });
    if is_ring {
        // The end of the thread has waited for the write.
        assert!(std_fs::read(folder.path("other")).unwrap() == pattern(600_000));
        assert!(descriptors(&path) == 0);
    }
}

fn directories_are_listed_and_a_dropped_next_loses_nothing() {
    let folder = folder();
    for n in 0..1000 {
        std_fs::write(folder.path(format!("{n:04}")), "").unwrap();
    }
    std_fs::create_dir(folder.path("below")).unwrap();
    run(async {
        let mut entries = fs::read_dir(&folder.0).await.unwrap();
        let mut names = Vec::new();
        let mut times = 0;
        loop {
            times += 1;
            match polled(times % 2 + 1, entries.next()).await {
                Some(Some(entry)) => {
                    let entry = entry.unwrap();
                    let name = entry.file_name().into_string().unwrap();
                    let is_folder = entry.file_type().await.unwrap().is_dir();
                    assert_eq!(is_folder, name == "below");
                    names.push(name);
                }
                Some(None) => break,
                None => {}
            }
        }
        names.sort();
        let expected = (0..1000).map(|n| format!("{n:04}")).chain(["below".into()]);
        assert!(names.into_iter().eq(expected));
        assert!(
            entries.next_entry().await.unwrap().is_none(),
            "the end of the list is final"
        );
        let mut entries = fs::read_dir(folder.path("below")).await.unwrap();
        assert!(entries.next_entry().await.unwrap().is_none());
    });
}

fn names_are_created_renamed_and_removed() {
    let folder = folder();
    let path = |name| folder.path(name);
    run(async {
        fs::create_dir_all(path("a/b/c")).await?;
        fs::create_dir(path("a/d")).await?;
        fs::write(path("a/file"), "rope").await?;
        fs::hard_link(path("a/file"), path("a/hard")).await?;
        fs::symlink(path("a/file"), path("a/soft")).await?;
        assert_eq!(fs::read_link(path("a/soft")).await?, path("a/file"));
        let whole = fs::canonicalize(path("a/b/../soft")).await?;
        assert_eq!(whole, std_fs::canonicalize(path("a/file"))?);
        assert!(fs::symlink_metadata(path("a/soft")).await?.is_symlink());
        assert!(fs::metadata(path("a/soft")).await?.is_file());
        fs::set_permissions(path("a/file"), std_fs::Permissions::from_mode(0o400)).await?;
        assert!(fs::metadata(path("a/hard")).await?.permissions().readonly());
        fs::rename(path("a/hard"), path("a/new")).await?;
        assert!(!fs::try_exists(path("a/hard")).await?);
        assert!(fs::try_exists(path("a/new")).await?);
        fs::remove_file(path("a/new")).await?;
        fs::remove_dir(path("a/d")).await?;
        assert!(fs::remove_dir(path("a")).await.is_err(), "it is not empty");
        fs::remove_dir_all(path("a")).await?;
        assert!(!path("a").exists());
        io::Result::Ok(())
    })
    .unwrap();
}

fn a_whole_file_is_read_written_and_copied() {
    let folder = folder();
    let path = folder.path("file");
    for len in [0, 1, 16_383, 16_384, 16_385, 300_000] {
        run(async {
            fs::write(&path, pattern(len)).await.unwrap();
            let contents = fs::read(&path).await.unwrap();
            assert!(contents == pattern(len));
            assert!(
                contents.capacity() < len + 1024,
                "{len}: {}",
                contents.capacity()
            );
            assert_eq!(
                fs::copy(&path, folder.path("copy")).await.unwrap(),
                len as u64
            );
            assert!(fs::read(folder.path("copy")).await.unwrap() == pattern(len));
        });
    }
    let proc = run(fs::read_to_string("/proc/self/status")).unwrap();
    assert!(proc.contains("Threads:"), "the file reports length 0");
}

fn the_descriptor_is_readable_when_an_operation_completes() {
    let folder = folder();
    let path = folder.file("rope");
    let reactor = Reactor::current().unwrap();
    let file = run(File::open(&path)).unwrap();
    let (_, waker) = Counter::new();
    let is_ring = is_ring();
    for between_turns in [true, false] {
        settle(&reactor);
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(!descriptor_is_ready(&reactor, false));
        let mut read = Box::pin(file.read_buf_at(Vec::with_capacity(9), 0));
        let ended = loop {
            // Polls outside of a loop, or in a loop that is marked as awake.
            let awake = (!between_turns).then(|| reactor.awake());
            let polled = poll(&mut read, &waker);
            drop(awake);
            match polled {
                Poll::Ready(ended) => break ended,
                Poll::Pending if is_ring => wait_for_descriptor(&reactor),
                Poll::Pending => thread::yield_now(), // a pool thread calls only the waker
            }
            reactor.turn(Some(Duration::ZERO)).unwrap();
        };
        assert_eq!(ended.1, b"rope");
    }
}

#[test]
fn without_io_uring_there_are_threads() {
    in_child("without_io_uring_there_are_threads", || {
        let folder = folder();
        let path = folder.file("rope");
        let reactor = Reactor::current().unwrap();
        // The limit allows no further descriptor, so io_uring is unavailable.
        let old = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(0),
            maximum: old.maximum,
        };
        setrlimit(Resource::Nofile, none).unwrap();
        assert!(!use_io_uring(true).unwrap());
        setrlimit(Resource::Nofile, old).unwrap();
        assert_eq!(reactor.block_on(fs::read(&path)).unwrap(), b"rope");
    });
}

#[test]
fn without_a_reactor_threads_serve_any_executor() {
    let folder = folder();
    let path = folder.file("rope");
    futures::executor::block_on(async {
        assert_eq!(fs::read(&path).await.unwrap(), b"rope");
        let file = File::open(&path).await.unwrap();
        assert_eq!(file.read_at(&mut [0; 9], 0).await.unwrap(), 4);
    });
}

#[test]
fn an_operation_fails_once_nothing_turns() {
    if !is_ring() {
        return;
    }
    let folder = folder();
    let path = folder.file("rope");
    let mut options = OpenOptions::new();
    let mut file = run(options.read(true).write(true).open(folder.pipe("pipe"))).unwrap();
    let mut room = [0; 9];
    let mut read = file.read(&mut room);
    run(polled(1, &mut read));
    let (_, waker) = Counter::new();
    match poll(&mut read, &waker) {
        Poll::Ready(Err(error)) => assert!(error.to_string().contains("no reactor turns")),
        other => panic!("{other:?}"),
    }
    assert!(run(fs::read(&path)).unwrap() == b"rope");
}

/// The pipe stays empty, so the read pends forever.
#[test]
fn an_endless_read_on_io_uring_can_be_dropped() {
    if !is_ring() {
        return;
    }
    let folder = folder();
    let path = folder.pipe("pipe");
    run(async {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .await
            .unwrap();
        let read = timeout(
            Duration::from_millis(1),
            file.read_buf_at(Vec::with_capacity(9), 0),
        );
        let read = read.await.map(|(result, _)| result.unwrap_err());
        assert!(
            read.is_err() || read.unwrap().raw_os_error() == Some(29),
            "no offset in a pipe"
        );
        let mut file = file;
        let mut room = [0; 9];
        let read = timeout(Duration::from_millis(1), file.read(&mut room));
        assert!(read.await.is_err(), "the pipe is empty");
        drop(file);
        until(|| descriptors(&path) == 0).await;
    });
}

#[test]
fn child_processes_do_not_inherit_the_ring() {
    if !is_ring() {
        return;
    }
    let listed = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(!listed.contains("io_uring"), "{listed}");
}

#[test]
fn descriptors_of_dropped_files_are_closed_when_the_loop_ends() {
    let folder = folder();
    let path = folder.file("rope");
    let file = run(File::open(&path)).unwrap();
    run(async move { drop(file) });
    let closed = || descriptors(&path) == 0;
    run(until(closed));
    let mut bytes = [0; 4];
    std_fs::File::open(&path)
        .unwrap()
        .read_exact_at(&mut bytes, 0)
        .unwrap();
    assert_eq!(&bytes, b"rope");
}

#[test]
fn a_dropped_file_is_written_before_its_thread_ends() {
    let on_thread = thread::spawn(|| {
        let (file, reading) = file_with_reader();
        run(write_and_drop(file));
        reading
    });
    let reading = on_thread.join().unwrap();
    assert!(reading.join().unwrap() == pattern(250_000));
}

/// Drops more files than one turn hands to the pool. No turn follows.
#[test]
fn many_dropped_files_are_closed_at_the_end_of_the_loop() {
    let folder = folder();
    let path = folder.file("rope");
    let open = || File::open(&path).map(Result::unwrap);
    let files = run(join_all((0..500).map(|_| open())));
    run(async move { drop(files) });
    wait_until(|| descriptors(&path) == 0);
}

/// 64 reads are in flight and some of them are always ready, so their task never waits.
#[test]
fn a_task_with_many_reads_gives_way_to_timers() {
    let folder = folder();
    let path = folder.file(pattern(100_000));
    by_threads_or_io_uring(|| {
        run(async {
            let file = File::open(&path).await.unwrap();
            let done = Cell::new(false);
            let reads = async {
                let read = |n: u64| file.read_buf_at(Vec::with_capacity(1), n % 100_000);
                let mut reads = stream::iter(0..).map(read).buffer_unordered(64);
                while !done.get() {
                    reads.next().await.unwrap().0.unwrap();
                }
            };
            let timer = async {
                for _ in 0..10 {
                    sleep(Duration::from_micros(1)).await;
                }
                done.set(true);
            };
            join!(reads, timer);
        });
    });
}

/// All operations have completed, and each turn hands over only its share of the results.
#[test]
fn a_task_takes_bounded_pool_results_per_turn() {
    const SHARE: usize = 32;
    let folder = folder();
    let reactor = Reactor::current().unwrap();
    let make = |n: usize| Box::pin(fs::create_dir(folder.path(n)));
    // On a busy machine, two shares are taken before the first turn.
    let count = 6 * SHARE;
    let mut made: Vec<_> = (0..count).map(make).collect();
    let mut take = || {
        let before = made.len();
        made.retain_mut(|make| poll(make, Waker::noop()).is_pending());
        before - made.len()
    };
    take(); // starts all
    wait_until(|| std_fs::read_dir(&folder.0).unwrap().count() == count);
    for _ in 0..2 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let mut taken = 0;
        wait_until(|| {
            taken += take();
            taken >= SHARE
        });
        let taken = taken + take();
        assert!((SHARE..=2 * SHARE).contains(&taken), "{taken}");
    }
}

#[test]
fn pending_results_cost_no_budget() {
    let folder = folder();
    let pipe = folder.pipe("pipe");
    let _reactor = Reactor::current().unwrap();
    assert!(use_io_uring(false).unwrap());
    let mut waits = Box::pin(fs::read(&pipe));
    for _ in 0..1000 {
        assert!(poll(&mut waits, Waker::noop()).is_pending());
    }
    let mut metadata = Box::pin(fs::metadata(&pipe));
    wait_until(|| poll(&mut metadata, Waker::noop()).is_ready());
    drop(std_fs::File::options().write(true).open(&pipe)); // releases the thread
}

fn by_threads_or_io_uring(test: impl Fn() + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(use_io_uring(false).unwrap());
            test();
        });
        scope.spawn(&test);
    });
}

/// A filter of system calls makes the kernel report a shortage (`EAGAIN`) for an operation.
#[cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
mod short_of_memory {
    use futures::future::join;
    use rustix::io::Errno;
    use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp};
    use seccompiler::{SeccompCondition, SeccompFilter, SeccompRule};

    use super::common::in_child_with;
    use super::*;

    /// The shortage lasts, so the memory that the kernel may still use leaks with the thread.
    const LEAKS: &[(&str, &str)] = &[("ASAN_OPTIONS", "detect_leaks=0")];

    #[test]
    fn the_loop_blocks_and_retries() {
        in_child_with(
            LEAKS,
            "short_of_memory::the_loop_blocks_and_retries",
            || {
                if !is_ring() {
                    return;
                }
                let folder = folder();
                let path = folder.file("rope");
                let reactor = Reactor::current().unwrap();
                let file = OpenOptions::new().write(true).clone();
                let file = reactor.block_on(file.open(&path)).unwrap();
                refuse_single_operations();
                let write = |offset| Box::pin(file.write_buf_at(b"rope".into(), offset));
                let mut first = write(0);
                let awake = reactor.awake();
                assert!(poll(&mut first, Waker::noop()).is_pending());
                drop(awake);
                assert!(descriptor_is_ready(&reactor, true), "a host is notified");
                let start = Instant::now();
                for _ in 0..20 {
                    reactor.turn(Some(PATIENCE)).unwrap();
                }
                let elapsed = start.elapsed();
                assert!(
                    elapsed >= Duration::from_millis(10),
                    "20 turns take {elapsed:?}"
                );
                assert!(elapsed < PATIENCE, "a retry does not end the turn");
                let both = join(first, write(4));
                assert_eq!(reactor.block_on(both).1.1, b"rope");
            },
        );
    }

    #[test]
    fn a_thread_still_ends() {
        let name = "short_of_memory::a_thread_still_ends";
        in_child_with(LEAKS, name, || {
            let folder = folder();
            let path = folder.file("rope");
            let ends = thread::spawn(move || {
                let file = run(File::open(path)).unwrap();
                refuse_single_operations();
                run(async { drop(file) });
            });
            ends.join().unwrap();
        });
    }

    /// From now on, `io_uring_enter` fails with `EAGAIN` if this thread submits one operation.
    fn refuse_single_operations() {
        const IO_URING_ENTER: i64 = 426;
        let (how_many, length) = (1, SeccompCmpArgLen::Dword);
        let is_alone = SeccompCondition::new(how_many, length, SeccompCmpOp::Eq, 1).unwrap();
        let rule = SeccompRule::new(vec![is_alone]).unwrap();
        let filter = SeccompFilter::new(
            [(IO_URING_ENTER, vec![rule])].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(Errno::AGAIN.raw_os_error() as u32),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
    }
}
