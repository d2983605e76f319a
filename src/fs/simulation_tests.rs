//! Operations of a simulated host.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures::AsyncWriteExt;

use crate::block_on;
use crate::fs::{self, File};
use crate::sim::current::enter;
use crate::sim::disk::{Disk, Faults, Latency, disk_for_tests};

fn faults(latency: Latency) -> Faults {
    Faults {
        is_superuser: rustix::process::geteuid().is_root(),
        latency,
        ..Faults::default()
    }
}

/// Returns a disk without faults, and the hand of its clock (ns).
fn disk(latency: Latency) -> (Rc<Disk>, Rc<Cell<u64>>) {
    disk_for_tests(faults(latency))
}

#[test]
fn a_simulated_file_is_usable_in_its_host_alone() {
    let (one, other) = (disk(Latency::NONE).0, disk(Latency::NONE).0);
    let _entered = enter(one);
    let real = std::fs::File::open("Cargo.toml").unwrap();
    block_on(async {
        let file = File::create("/file").await.unwrap();
        file.write_at(b"text", 0).await.unwrap();
        let foreign = File::from(real);
        assert!(foreign.read_at(&mut [0; 4], 0).await.is_err());
        assert!(foreign.metadata().await.is_err());
        {
            let _entered = enter(other);
            assert!(file.read_at(&mut [0; 4], 0).await.is_err());
            assert!(!fs::try_exists("/file").await.unwrap());
        }
        assert_eq!(fs::read("file").await.unwrap(), b"text");
        assert!(file.into_std().await.is_err());
        assert!(fs::use_io_uring(false).unwrap());
    });
    assert!(block_on(fs::read("Cargo.toml")).is_err());
}

#[test]
fn operations_take_the_latency_of_the_disk() {
    let disk = disk(Latency {
        sync: 20_000_000,
        ..Latency::NONE
    });
    let _entered = enter(disk.0);
    block_on(async {
        let file = File::create("/file").await.unwrap();
        let start = crate::time::now();
        file.sync_all().await.unwrap();
        assert!(crate::time::now() - start >= Duration::from_millis(20));
    });
}

#[test]
fn a_write_in_the_background_happens_at_the_end_of_the_loop() {
    let disk = disk(Latency {
        write: 3_600_000_000_000,
        ..Latency::NONE
    });
    let _entered = enter(disk.0);
    block_on(async {
        let mut file = File::create("/file").await.unwrap();
        file.write_all(b"text").await.unwrap();
        assert_eq!(fs::read("/file").await.unwrap(), b"");
    });
    assert_eq!(block_on(fs::read("/file")).unwrap(), b"text");
}

#[test]
fn a_crash_discards_operations_in_flight_and_open_files() {
    let disk = disk(Latency {
        write: 3_600_000_000_000,
        ..Latency::NONE
    });
    let _entered = enter(disk.0.clone());
    block_on(async {
        let open = File::create("/open").await.unwrap();
        let mut file = File::create("/file").await.unwrap();
        file.write_all(b"text").await.unwrap();
        disk.0.crash();
        assert!(open.sync_all().await.is_err());
        assert!(fs::try_exists(Path::new("/file")).await.unwrap());
    });
    assert_eq!(block_on(fs::read("/file")).unwrap(), b"");
}

#[test]
fn files_work_without_a_reactor() {
    let _entered = enter(disk(Latency::NONE).0);
    futures::executor::block_on(async {
        fs::write("/file", "text").await.unwrap();
        assert_eq!(fs::read("/file").await.unwrap(), b"text");
    });
}
