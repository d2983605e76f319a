//! The key-value store of the examples in a simulated world.

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]

#[path = "../examples/kv/backup.rs"]
mod backup;
#[path = "../examples/kv/client.rs"]
mod client;
#[path = "../examples/kv/connection.rs"]
mod connection;
#[path = "../examples/kv/log.rs"]
mod log;
#[path = "../examples/kv/primary.rs"]
mod primary;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use client::Client;
use primary::Bug;
use windlass::fs;
use windlass::sim::{self, Host, World};
use windlass::time::sleep;

/// The knowledge of the clients about a key. One client counts its values up.
#[derive(Default)]
struct Key {
    started: Cell<u64>,
    acknowledged: Cell<u64>,
    /// The greatest value that a read has returned.
    read: Cell<u64>,
}

impl Key {
    async fn write(&self, client: &mut Client, name: &str) {
        let value = self.started.get() + 1;
        self.started.set(value);
        client.put(name, &value.to_string()).await;
        self.acknowledged.set(value);
    }

    /// Reads the key, and checks that reads and writes are linearizable. With one writer that waits
    /// for each write, these bounds are all that it takes.
    async fn read(&self, client: &mut Client, name: &str) {
        let least = self.acknowledged.get().max(self.read.get());
        let value = client.get(name).await;
        let value = value.map_or(0, |value| value.parse().unwrap());
        let most = self.started.get();
        assert!(
            (least..=most).contains(&value),
            "{name} is {value}, and should be {least} to {most}"
        );
        self.read.set(self.read.get().max(value));
    }
}

const WRITES: u64 = 40;

/// Adds the nodes and two clients to a world. Returns the hosts of the nodes, the primary first.
/// The primary may have a new disk at its first restart.
fn add_store(world: &World, bug: Option<Bug>, replaces_disk: bool) -> [Host; 3] {
    let dir = Path::new("/");
    let backups = ["backup-1", "backup-2"]
        .map(|name| world.host(name, move || backup::run("0.0.0.0:7000", dir, bug)));
    let starts = Cell::new(0);
    let primary = world.host("primary", move || {
        let has_new_disk = starts.replace(starts.get() + 1) == 1 && replaces_disk;
        async move {
            if has_new_disk {
                fs::remove_file(dir.join("log")).await?;
            }
            let backups = ["backup-1:7000", "backup-2:7000"].map(str::to_owned);
            primary::run("0.0.0.0:7000", dir, &backups, bug).await
        }
    });
    let keys: Rc<[Key; 2]> = Rc::default();
    for (own, other) in [(0, 1), (1, 0)] {
        let keys = keys.clone();
        let name = ["red", "blue"];
        world.host(name[own], move || {
            let keys = keys.clone();
            async move {
                let mut client = Client::new("primary:7000", name[own]);
                for _ in 0..WRITES {
                    keys[own].write(&mut client, name[own]).await;
                    keys[other].read(&mut client, name[other]).await;
                    sleep(Duration::from_millis(100)).await;
                }
                keys[own].read(&mut client, name[own]).await;
            }
        });
    }
    let [first, second] = backups;
    [primary, first, second]
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_store_works_without_faults() {
    sim::check(0..1, |world| {
        add_store(world, None, false);
    });
}

/// Each link fails for a time, and each node crashes, in the end two of them at once.
fn add_faults(world: &World, [primary, first, second]: [Host; 3]) {
    world.partition("primary", "backup-1", ms(200)..ms(1_000));
    world.partition("primary", "red", ms(600)..ms(2_200));
    world.partition("primary", "backup-2", ms(900)..ms(2_000));
    for (host, crash) in [
        (&first, 3_000),
        (&second, 3_400),
        (&primary, 4_000),
        (&second, 5_500),
        (&primary, 5_550),
    ] {
        host.crash_at(ms(crash));
        host.restart_at(ms(crash + 250));
    }
}

#[test]
fn acknowledged_writes_survive_crashes_and_partitions() {
    sim::check(0..100, |world| {
        let nodes = add_store(world, None, false);
        add_faults(world, nodes);
    });
}

#[test]
fn a_primary_with_a_new_disk_has_all_writes() {
    sim::check(0..30, |world| {
        let [primary, second, _] = add_store(world, None, true);
        // One of the backups lacks some writes.
        second.crash_at(ms(1_000));
        primary.crash_at(ms(1_500));
        primary.restart_at(ms(2_000));
        second.restart_at(ms(2_500));
    });
}

/// Checks the store with a planted bug, and returns the text of the failure.
fn failure_of(bug: Bug) -> String {
    let check = || {
        sim::check(0..100, |world| {
            let nodes = add_store(world, Some(bug), false);
            add_faults(world, nodes);
        });
    };
    let failed = catch_unwind(AssertUnwindSafe(check)).expect_err("the bug has to be found");
    *failed.downcast().expect("the payload is the text")
}

/// Returns how many choices are left: "seed 7 fails, and 2 of its 900 choices are left".
fn choices_left(text: &str) -> usize {
    let (_, after) = text.split_once(" fails, and ").expect(text);
    let (number, _) = after.split_once(" of its ").expect(text);
    number.parse().expect(text)
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    let text = failure_of(Bug::AckBeforeSync);
    assert!(text.contains("and should be"), "{text}");
    assert!(choices_left(&text) <= 3, "{text}");
}

#[test]
fn a_write_that_happens_twice_is_found() {
    let text = failure_of(Bug::RetryTwice);
    assert!(text.contains("and should be"), "{text}");
    assert!(choices_left(&text) <= 3, "{text}");
}
