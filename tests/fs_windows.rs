//! Files on Windows, by threads.

#![cfg(windows)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::env;
use std::fs as std_fs;
use std::io::{ErrorKind, SeekFrom};
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use common::{pattern, run};
use futures::future::join_all;
use futures::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, FutureExt, StreamExt, join};
use windlass::fs::{self, File, OpenOptions, use_io_uring};
use windlass_reactor::time::interval;

/// A folder that belongs to one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = env::temp_dir().join(format!("windlass-{}-{name}", process::id()));
        std_fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std_fs::remove_dir_all(&self.0);
    }
}

#[test]
fn io_uring_is_unavailable() {
    assert!(!use_io_uring(true).unwrap_or(false));
}

#[test]
fn written_data_is_read_back_at_any_offset() {
    let folder = Folder::new("offset");
    run(async {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(folder.path("a")).await.unwrap();
        assert_eq!(file.write_at(b"ahoy there", 0).await.unwrap(), 10);
        assert_eq!(file.write_at(b"AHOY", 5).await.unwrap(), 4);
        let mut buffer = [0; 16];
        assert_eq!(file.read_at(&mut buffer, 5).await.unwrap(), 5);
        assert_eq!(&buffer[..5], b"AHOYe");
        file.sync_all().await.unwrap();
        file.set_len(4).await.unwrap();
        assert_eq!(file.metadata().await.unwrap().len(), 4);
        assert_eq!(std_fs::read(folder.path("a")).unwrap(), b"ahoy");
        let again = options.open(folder.path("a")).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    });
}

#[test]
fn a_file_is_read_and_written_on_from_its_cursor() {
    let folder = Folder::new("cursor");
    run(async {
        let data = pattern(300_000, 1);
        let mut file = File::create(folder.path("a")).await.unwrap();
        file.write_all(&data).await.unwrap();
        file.close().await.unwrap();
        let mut file = File::open(folder.path("a")).await.unwrap();
        let mut read = Vec::new();
        file.seek(SeekFrom::Start(100_000)).await.unwrap();
        file.read_to_end(&mut read).await.unwrap();
        assert!(read == data[100_000..]);
        assert_eq!(file.seek(SeekFrom::End(-1)).await.unwrap(), 299_999);

        let mut file = File::open(folder.path("a")).await.unwrap();
        let mut buffer = [0; 4];
        file.read_at(&mut buffer, 200_000).await.unwrap(); // leaves the cursor alone
        file.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, data[..4]);
    });
}

#[test]
fn a_read_that_is_dropped_loses_nothing() {
    let folder = Folder::new("dropped");
    run(async {
        let data = pattern(100_000, 2);
        fs::write(folder.path("a"), &data).await.unwrap();
        let mut file = File::open(folder.path("a")).await.unwrap();
        let (mut read, mut buffer) = (Vec::new(), [0; 999]);
        loop {
            if let Some(n) = file.read(&mut buffer).now_or_never() {
                read.extend_from_slice(&buffer[..n.unwrap()]);
                continue;
            }
            let n = file.read(&mut buffer).await.unwrap();
            read.extend_from_slice(&buffer[..n]);
            if n == 0 {
                break;
            }
        }
        assert!(read == data);
    });
}

#[test]
fn whole_files_folders_and_names() {
    let folder = Folder::new("names");
    let path = |name: &str| folder.path(name);
    run(async {
        fs::create_dir_all(path("a/b")).await?;
        fs::write(path("a/one"), "rope").await?;
        assert_eq!(fs::read_to_string(path("a/one")).await?, "rope");
        fs::copy(path("a/one"), path("a/two")).await?; // wine 8 returns no length
        assert_eq!(std_fs::read(path("a/two"))?, b"rope");
        fs::rename(path("a/two"), path("a/three")).await?;
        let mut names = Vec::new();
        let mut entries = fs::read_dir(path("a")).await?;
        while let Some(entry) = entries.next().await {
            names.push(entry?.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["b", "one", "three"]);
        fs::remove_file(path("a/one")).await?;
        fs::remove_dir(path("a/b")).await?;
        let missing = fs::read(path("a/one")).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().contains("one"), "{missing}");
        fs::remove_dir_all(path("a")).await
    })
    .unwrap();
}

#[test]
fn many_concurrent_operations_complete_while_the_loop_runs() {
    let folder = Folder::new("many");
    run(async {
        let data = pattern(1 << 20, 3);
        fs::write(folder.path("a"), &data).await.unwrap();
        let file = File::open(folder.path("a")).await.unwrap();
        let (file, data) = (&file, &data);
        let reads = join_all((0..256).map(|i| async move {
            let (offset, mut buffer) = (i * 4096, vec![0; 4096]);
            let n = file.read_at(&mut buffer, offset as u64).await.unwrap();
            assert!(n > 0 && buffer[..n] == data[offset..offset + n]);
        }));
        let mut ticks = interval(Duration::from_millis(1));
        let (_, _) = join!(reads, async {
            for _ in 0..3 {
                ticks.tick().await;
            }
        });
    });
}
