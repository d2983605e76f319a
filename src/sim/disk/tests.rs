//! What the disk keeps, loses and refuses.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{ErrorKind, SeekFrom};

use super::*;

const PAGE: usize = 4096;

const READ: How = How {
    read: true,
    write: false,
    append: false,
    truncate: false,
    create: false,
    create_new: false,
    mode: 0o666,
    directory: false,
    no_follow: false,
    sync: false,
};

const WRITE: How = How {
    read: true,
    write: true,
    create: true,
    ..READ
};

fn path(path: &str) -> &Path {
    Path::new(path)
}

/// Returns a disk whose choices depend on a seed, with their rarity.
fn seeded(seed: u64, faults: Faults) -> Rc<Disk> {
    let state = Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let random = move || {
        let mut z = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(z);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let choose = move |_, rarity: u32, limit: u32| {
        let (random, limit) = (random(), u64::from(limit));
        match u64::from(rarity) {
            1 => (random % limit) as u32,
            rarity if random % rarity == 0 => 1 + (random / rarity % (limit - 1)) as u32,
            _ => 0,
        }
    };
    Disk::new(choose, || 1_000, |_, _| {}, faults)
}

/// Returns a disk whose choices are all zero, except at one site.
fn chosen(site: Site, choice: u32, faults: Faults) -> Rc<Disk> {
    let choose = move |at, _, limit| if at == site { choice.min(limit - 1) } else { 0 };
    Disk::new(choose, || 1_000, |_, _| {}, faults)
}

fn benign(faults: Faults) -> Rc<Disk> {
    chosen(Site::DiskCrash, 0, faults)
}

/// Opens and writes a file.
fn write(disk: &Disk, at: &str, data: &[u8], offset: u64) -> u64 {
    let file = disk.open(path(at), WRITE).unwrap();
    assert_eq!(
        disk.write(file, data, At::Offset(offset)).unwrap(),
        data.len()
    );
    file
}

fn contents(disk: &Disk, at: &str) -> Option<Vec<u8>> {
    let file = disk.open(path(at), READ).ok()?;
    let mut bytes = vec![0; disk.stat_open(file).unwrap().len as usize];
    assert_eq!(
        disk.read(file, &mut bytes, At::Offset(0)).unwrap(),
        bytes.len()
    );
    disk.close(file);
    Some(bytes)
}

fn sync_directory(disk: &Disk, at: &str) {
    let directory = disk.open(path(at), READ).unwrap();
    disk.sync(directory, false).unwrap();
    disk.close(directory);
}

/// A file with durable contents in the root.
fn durable(disk: &Disk, at: &str, data: &[u8]) -> u64 {
    let file = write(disk, at, data, 0);
    disk.sync(file, false).unwrap();
    sync_directory(disk, "/");
    file
}

fn names(disk: &Disk) -> Vec<String> {
    let entries = disk.read_dir(path("/")).unwrap().into_iter();
    let names = entries.map(|it| it.0.into_string().unwrap());
    names.filter(|it| it != "tmp").collect()
}

#[test]
fn a_crash_leaves_each_subset_of_the_pages_written() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..2_000 {
        let disk = seeded(seed, Faults::default());
        let file = durable(&disk, "/a", &[b'0'; 3 * PAGE]);
        for page in 0..3 {
            disk.write(file, &[b'1'; PAGE], At::Offset(page * PAGE as u64))
                .unwrap();
        }
        disk.crash();
        let after = contents(&disk, "/a").unwrap();
        assert_eq!(after.len(), 3 * PAGE);
        let pages = after.chunks(PAGE);
        let whole = pages.map(|page| match page.iter().all(|byte| *byte == page[0]) {
            true => char::from(page[0]),
            false => 't',
        });
        outcomes.insert(whole.collect::<String>());
    }
    let all = (0..27).map(|n| [n / 9, n / 3 % 3, n % 3].map(|it| ['0', '1', 't'][it]));
    let all: BTreeSet<String> = all.map(|it| it.iter().collect()).collect();
    assert_eq!(outcomes, all);
}

#[test]
fn a_torn_page_mixes_whole_sectors() {
    let mut torn = BTreeSet::new();
    for seed in 0..2_000 {
        let disk = seeded(seed, Faults::default());
        let file = durable(&disk, "/a", &[b'0'; PAGE]);
        disk.write(file, &[b'1'; PAGE], At::Offset(0)).unwrap();
        disk.crash();
        let after = contents(&disk, "/a").unwrap();
        let sectors = after.chunks(512).map(|sector| {
            assert!(
                sector.iter().all(|byte| *byte == sector[0]),
                "torn within a sector"
            );
            char::from(sector[0])
        });
        torn.insert(sectors.collect::<String>());
    }
    assert!(torn.len() > 50, "{torn:?}");
}

#[test]
fn an_append_survives_as_a_prefix_within_a_page() {
    let mut lengths = BTreeSet::new();
    for seed in 0..500 {
        let disk = seeded(seed, Faults::default());
        let file = durable(&disk, "/log", b"");
        for n in 0..4 {
            disk.write(file, &[b'a' + n; 10], At::Position).unwrap();
        }
        disk.crash();
        let after = contents(&disk, "/log").unwrap();
        assert_eq!(after.len() % 10, 0);
        for (n, record) in (b'a'..).zip(after.chunks(10)) {
            assert_eq!(record, [n; 10]);
        }
        lengths.insert(after.len());
    }
    assert_eq!(lengths, BTreeSet::from([0, 10, 20, 30, 40]));
}

#[test]
fn synced_data_survives_every_crash() {
    for seed in 0..1_000 {
        let disk = seeded(seed, Faults::default());
        let file = durable(&disk, "/a", &[b'0'; 2 * PAGE]);
        disk.write(file, &[b'1'; 100], At::Offset(PAGE as u64 - 50))
            .unwrap();
        disk.set_len(file, PAGE as u64 + 20).unwrap();
        disk.sync(file, true).unwrap();
        disk.crash();
        disk.crash();
        let after = contents(&disk, "/a").unwrap();
        assert_eq!(after.len(), PAGE + 20);
        assert!(after[..PAGE - 50].iter().all(|byte| *byte == b'0'));
        assert!(after[PAGE - 50..].iter().all(|byte| *byte == b'1'));
        assert_eq!(names(&disk), ["a"]);
    }
}

#[test]
fn a_lost_truncation_takes_the_later_writes_with_it() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..500 {
        let disk = seeded(seed, Faults::default());
        let file = durable(&disk, "/a", b"a longer text");
        disk.set_len(file, 0).unwrap();
        disk.write(file, b"short", At::Offset(0)).unwrap();
        disk.crash();
        outcomes.insert(contents(&disk, "/a").unwrap());
    }
    let all = [&b""[..], b"a longer text", b"short"];
    assert_eq!(outcomes, all.into_iter().map(<[u8]>::to_vec).collect());
}

#[test]
fn a_rename_is_atomic_and_may_be_undone_until_a_directory_sync() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        for is_synced in [false, true] {
            let disk = seeded(seed, Faults::default());
            durable(&disk, "/old", b"old");
            durable(&disk, "/new", b"new");
            disk.rename(path("/new"), path("/old")).unwrap();
            assert_eq!(contents(&disk, "/old").unwrap(), b"new");
            if is_synced {
                sync_directory(&disk, "/");
            }
            disk.crash();
            let after = (contents(&disk, "/old").unwrap(), names(&disk).len());
            outcomes.insert((is_synced, String::from_utf8(after.0).unwrap(), after.1));
        }
    }
    let all = [(false, "new", 1), (false, "old", 2), (true, "new", 1)];
    assert_eq!(
        outcomes,
        all.map(|(is_synced, text, n)| (is_synced, text.to_owned(), n))
            .into()
    );
}

#[test]
fn a_created_and_a_removed_name_may_be_undone() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let disk = seeded(seed, Faults::default());
        durable(&disk, "/a", b"kept");
        disk.remove_file(path("/a")).unwrap();
        let file = write(&disk, "/b", b"data", 0);
        disk.sync(file, false).unwrap();
        disk.crash();
        if let Some(a) = contents(&disk, "/a") {
            assert_eq!(a, b"kept");
        }
        if let Some(b) = contents(&disk, "/b") {
            assert_eq!(b, b"data");
        }
        outcomes.insert(names(&disk).concat());
    }
    assert_eq!(outcomes, ["", "a", "ab", "b"].map(str::to_owned).into());
}

#[test]
fn the_first_choice_of_a_crash_keeps_all_or_loses_all() {
    for (choice, is_kept) in [(0, true), (1, false)] {
        let disk = chosen(Site::DiskCrash, choice, Faults::default());
        let file = durable(&disk, "/a", b"old");
        disk.write(file, b"new", At::Offset(0)).unwrap();
        disk.create_dir(path("/folder")).unwrap();
        disk.set_permissions(path("/a"), 0o600).unwrap();
        disk.crash();
        assert_eq!(contents(&disk, "/a").unwrap() == b"new", is_kept);
        assert_eq!(names(&disk).contains(&"folder".to_owned()), is_kept);
        assert_eq!(
            disk.stat(path("/a"), true).unwrap().permissions == 0o600,
            is_kept
        );
        let stale = disk.write(file, b"late", At::Offset(0)).unwrap_err();
        assert_eq!(
            stale.to_string(),
            io::Error::from(Errno::BadDescriptor).to_string()
        );
    }
}

#[test]
fn a_failed_sync_is_reported_once_and_its_pages_are_lost() {
    let faults = Faults {
        sync_errors: 1,
        ..Faults::default()
    };
    for drops_memory in [0, 1] {
        // The choices of a page and of the memory are at one site, so count them.
        let (decisions, fails) = (Cell::new(0), Cell::new(true));
        let choose = move |site, _, _| match site {
            Site::DiskSync => u32::from(fails.replace(false)),
            Site::DiskLoss => match decisions.replace(decisions.get() + 1) {
                0 => 0,
                _ => drops_memory,
            },
            _ => 0,
        };
        let disk = Disk::new(choose, || 0, |_, _| {}, Faults::default());
        let file = durable(&disk, "/a", b"old");
        let other = disk.open(path("/a"), READ).unwrap();
        disk.write(file, b"new", At::Offset(0)).unwrap();
        disk.change_faults(|it| *it = faults.clone());
        let error = disk.sync(file, false).unwrap_err();
        assert_eq!(error.to_string(), io::Error::from(Errno::Io).to_string());
        disk.sync(file, false).unwrap();
        disk.sync(other, false).unwrap_err();
        disk.sync(other, false).unwrap();
        let in_memory = contents(&disk, "/a").unwrap();
        assert_eq!(in_memory, if drops_memory == 0 { b"new" } else { b"old" });
        disk.crash();
        assert_eq!(contents(&disk, "/a").unwrap(), b"old");
    }
}

#[test]
fn a_full_disk_takes_a_first_part_and_removal_makes_room() {
    let disk = benign(Faults {
        capacity: Some(3 * PAGE as u64),
        ..Faults::default()
    });
    let file = disk.open(path("/a"), WRITE).unwrap();
    assert_eq!(
        disk.write(file, &[1; 2 * PAGE], At::Position).unwrap(),
        2 * PAGE
    );
    assert_eq!(
        disk.write(file, &[1; 2 * PAGE], At::Position).unwrap(),
        PAGE
    );
    let full = disk.write(file, &[1; 10], At::Position).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.write(file, &[2; 10], At::Offset(0)).unwrap(), 10);
    disk.remove_file(path("/a")).unwrap();
    let other = disk.open(path("/b"), WRITE).unwrap();
    assert!(disk.write(other, &[1], At::Position).is_err());
    disk.close(file);
    assert_eq!(disk.write(other, &[1], At::Position).unwrap(), 1);
    disk.crash();
    assert_eq!(disk.state.borrow().tree.used, PAGE as u64);
}

#[test]
fn faults_happen_at_their_rate_and_never_without_one() {
    let count = |faults: Faults| {
        let disk = seeded(7, Faults::default());
        let file = durable(&disk, "/a", &[0; 100]);
        disk.change_faults(|it| *it = faults);
        let read = || disk.read(file, &mut [0; 100], At::Offset(0));
        (0..1_000).filter(|_| read().is_err()).count()
    };
    assert_eq!(count(Faults::default()), 0);
    let errors = count(Faults {
        read_errors: 10,
        ..Faults::default()
    });
    assert!((20..200).contains(&errors), "{errors}");
}

#[test]
fn operations_take_their_latency_and_sometimes_a_stall() {
    let faults = Faults::default();
    assert_eq!(
        benign(faults.clone()).latency(Work::Sync),
        faults.latency.sync
    );
    let none = Faults {
        latency: Latency::NONE,
        ..Faults::default()
    };
    let disk = seeded(1, none);
    assert!((0..100).all(|_| disk.latency(Work::Read) == 0));
    let disk = seeded(
        1,
        Faults {
            slow_operations: 10,
            ..faults
        },
    );
    let all: Vec<_> = (0..1_000).map(|_| disk.latency(Work::Read)).collect();
    assert!(all.iter().all(|it| (50_000..1_000_100_000).contains(it)));
    assert!(all.iter().any(|it| *it > 900_000_000) && all.iter().any(|it| *it < 60_000));
}

#[test]
fn a_removed_file_stays_readable_while_it_is_open() {
    let disk = benign(Faults::default());
    let file = durable(&disk, "/a", b"still here");
    disk.remove_file(path("/a")).unwrap();
    sync_directory(&disk, "/");
    let mut bytes = [0; 10];
    assert_eq!(disk.read(file, &mut bytes, At::Offset(0)).unwrap(), 10);
    assert_eq!(&bytes, b"still here");
    disk.close(file);
    assert_eq!(disk.state.borrow().tree.used, 0);
}

#[test]
fn permissions_of_the_owner_are_checked() {
    let disk = benign(Faults::default());
    durable(&disk, "/a", b"secret");
    disk.set_permissions(path("/a"), 0o200).unwrap();
    let denied =
        |result: io::Result<u64>| result.unwrap_err().kind() == ErrorKind::PermissionDenied;
    assert!(denied(disk.open(path("/a"), READ)));
    disk.create_dir(path("/folder")).unwrap();
    disk.set_permissions(path("/folder"), 0o500).unwrap();
    assert!(denied(disk.open(path("/folder/new"), WRITE)));
    disk.set_permissions(path("/folder"), 0o600).unwrap();
    assert!(disk.stat(path("/folder/new"), true).is_err());
    disk.change_faults(|it| {
        *it = Faults {
            is_superuser: true,
            ..Faults::default()
        }
    });
    disk.open(path("/a"), READ).unwrap();
    disk.open(path("/folder/new"), WRITE).unwrap();
}

#[test]
fn a_directory_without_write_permission_keeps_its_parent() {
    let disk = benign(Faults::default());
    for name in ["/fixed", "/other", "/other/full", "/other/full/below"] {
        disk.create_dir(path(name)).unwrap();
    }
    disk.set_permissions(path("/fixed"), 0o500).unwrap();
    let rename = |to| disk.rename(path("/fixed"), path(to));
    for to in ["/other/fixed", "/other/full"] {
        assert_eq!(rename(to).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    disk.set_permissions(path("/fixed"), 0o700).unwrap();
    let full = rename("/other/full").unwrap_err();
    assert_eq!(full.kind(), ErrorKind::DirectoryNotEmpty);
    disk.set_permissions(path("/fixed"), 0o500).unwrap();
    disk.rename(path("/fixed"), path("/renamed")).unwrap();
}

#[test]
fn random_changes_and_crashes_keep_the_tree_whole() {
    for seed in 0..300 {
        let disk = seeded(seed, Faults::default());
        let random = seeded(!seed, Faults::default());
        let any = |limit| (random.choose)(Site::Task, 1, limit);
        let at =
            |n: u32| PathBuf::from(["/a", "/b", "/a/c", "/b/c", "/a/c/d", "/b/c/d"][n as usize]);
        for _ in 0..150 {
            let (one, other) = (at(any(6)), at(any(6)));
            let _ = match any(12) {
                0 | 1 => disk.create_dir(&one),
                2 => disk.remove_dir(&one),
                3 => disk.remove_file(&one),
                4..=6 => disk.rename(&one, &other),
                7 => disk.hard_link(&one, &other),
                8 | 9 => disk.open(&one, WRITE).map(|file| {
                    let _ = disk.write(file, b"text", At::Offset(u64::from(any(9_000))));
                    disk.close(file);
                }),
                10 => disk
                    .open(&one, READ)
                    .and_then(|it| disk.sync(it, any(2) == 0)),
                _ if any(4) == 0 => {
                    disk.crash();
                    Ok(())
                }
                _ => Ok(()),
            };
            check(&disk);
        }
    }
}

/// Compares the counts of the tree with its names.
fn check(disk: &Disk) {
    let state = disk.state.borrow();
    let (mut left, mut seen, mut used) = (vec![tree::ROOT], BTreeSet::new(), 0);
    while let Some(ino) = left.pop() {
        if !seen.insert(ino) {
            assert!(
                !state.tree.get(ino).is_directory(),
                "a directory has two names"
            );
            continue;
        }
        used += state.tree.get(ino).allocated();
        if let Some(directory) = state.tree.get(ino).directory() {
            for below in directory.entries.values() {
                if let Some(child) = state.tree.get(*below).directory() {
                    assert_eq!(child.parent, ino);
                }
                left.push(*below);
            }
        }
    }
    assert!(
        state.tree.used >= used,
        "{} is less than {used}",
        state.tree.used
    );
}

#[test]
fn a_position_moves_with_reads_writes_and_seeks() {
    let disk = benign(Faults::default());
    let file = write(&disk, "/a", b"0123456789", 0);
    assert_eq!(disk.seek(file, SeekFrom::End(-4)).unwrap(), 6);
    let mut two = [0; 2];
    assert_eq!(disk.read(file, &mut two, At::Position).unwrap(), 2);
    assert_eq!(&two, b"67");
    assert_eq!(disk.write(file, b"X", At::Position).unwrap(), 1);
    assert_eq!(disk.seek(file, SeekFrom::Current(0)).unwrap(), 9);
    assert!(disk.seek(file, SeekFrom::Current(-10)).is_err());
    assert_eq!(contents(&disk, "/a").unwrap(), b"01234567X9");
}
