//! Checks of the sources and the pages: sizes, `unsafe`, dependencies, language, modules, links.
//!
//! The numbers are ratchets. Lower them freely. Raising one requires a reason.

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/printed.rs"]
mod printed;
#[path = "tidy/prose.rs"]
mod prose;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of the longest file and of the longest function of the crates.
const LONGEST_FILE: usize = 721;
const LONGEST_FN: usize = 40;

/// The files with `unsafe`, and how often it occurs.
const UNSAFE: &[(&str, usize)] = &[
    ("executor/src/cell.rs", 21),
    ("executor/src/executor.rs", 3),
    // Other threads find the values of an executor by pointer, under a lock.
    ("executor/src/pulse.rs", 4),
    ("executor/src/queue.rs", 1),
    ("executor/src/waker.rs", 1),
    ("reactor/src/clock.rs", 1),
    // The reactor of this thread, and entries that several threads refer to.
    ("reactor/src/current.rs", 2),
    ("reactor/src/entry.rs", 14),
    // The system of a simulated host, which its own thread uses.
    ("reactor/src/poller/epoll.rs", 1),
    ("reactor/src/source.rs", 3),
    // A value that only its own thread uses.
    ("src/task/local_value.rs", 6),
    // Reads into spare capacity, and into room that is discarded.
    ("src/fs/cached.rs", 3),
    ("src/fs/platform.rs", 1),
    // Memory that the kernel clears in a forked child, and state that the child replaces.
    ("reactor/src/fork.rs", 5),
    ("src/fs/ring.rs", 3),
    // The credentials of a peer, which may be of another PID namespace.
    ("reactor/src/net/peer_cred.rs", 2),
    ("reactor/src/poller/portable.rs", 3),
    // Descriptors of waits, which their sources own.
    ("src/inspect/descriptor.rs", 1),
    // The descriptor of a reactor with a registered loop.
    ("src/inspect/thread_notifier.rs", 2),
    // The handler that copies a stack, and its exchange with the requesting thread.
    ("src/inspect/stack/capture.rs", 13),
    ("src/inspect/stack/mod.rs", 1),
    // The callback of dl_iterate_phdr(3).
    ("src/inspect/stack/modules.rs", 3),
    ("src/inspect/stack/tests.rs", 2),
    // The CPU clock of another thread.
    ("src/inspect/thread_state.rs", 1),
    ("src/runtime/mod.rs", 1),
    ("src/signal/action.rs", 2),
    // A realtime signal as a type of `rustix`.
    ("src/signal/mod.rs", 1),
    // The handler of signals, and the listeners that it reads at any moment.
    ("src/signal/handler.rs", 9),
    ("src/signal/windows.rs", 1),
    // Handlers of signals and of the exit that write a line, and a test with a fault.
    ("src/sim/check_tests.rs", 1),
    ("src/sim/last_line.rs", 8),
    // The list of a thread's objects, which pinned objects leave when they are dropped.
    ("src/tokio/block_on.rs", 1),
    ("src/waits/listed.rs", 2),
    // The guard that owns its mutex, which cannot hold a borrow of it.
    ("src/sync/mutex.rs", 2),
    // Whether a signal is ignored: sigaction(2) without a new action.
    ("src/workers/signals.rs", 1),
    // Sockets that systemd hands over are numbers in a variable.
    ("src/workers/systemd.rs", 1),
];

/// The sources of the crates, by their path from here.
fn sources() -> Vec<(String, String)> {
    files(&["src", "executor/src", "reactor/src"], &["rs"])
}

fn files(folders: &[&str], suffixes: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_wanted = suffixes
                .iter()
                .any(|suffix| name.ends_with(&format!(".{suffix}")));
            if path.is_dir() && !["target", ".git"].contains(&name) {
                folders.push(path);
            } else if is_wanted {
                let below = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .replace('\\', "/");
                found.push((below, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// Lines that are neither comment nor empty, with their number.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
}

#[test]
fn no_line_is_longer_than_100_columns() {
    for (path, text) in files(
        &["src", "executor", "reactor", "tests", "examples", "docs"],
        &["rs"],
    ) {
        for (i, line) in text.lines().enumerate() {
            assert!(line.chars().count() <= 100, "{path}:{}: too long", i + 1);
        }
    }
}

#[test]
fn files_and_functions_stay_short() {
    for (path, text) in sources() {
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines.len() <= LONGEST_FILE,
            "{path} has {} lines",
            lines.len()
        );
        for (start, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let words: Vec<_> = line.split_whitespace().take(4).collect();
            if !words.contains(&"fn") || words[0].starts_with("//") || line.ends_with(';') {
                continue;
            }
            let is_end = |line: &&str| line.strip_prefix(indent).is_some_and(|end| end == "}");
            let length = lines[start..].iter().position(is_end).unwrap_or(0) + 1;
            assert!(
                length <= LONGEST_FN,
                "{path}:{}: a function of {length} lines",
                start + 1
            );
        }
    }
}

#[test]
fn each_unsafe_is_known_and_has_a_safety_comment() {
    let mut counts = BTreeMap::new();
    for (path, text) in sources() {
        let lines: Vec<_> = text.lines().collect();
        for (number, line) in code(&text) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let is_type = line.contains(": unsafe fn(");
            if words.any(|word| word == "unsafe") && !is_type {
                *counts.entry(path.clone()).or_insert(0) += 1;
                let above = lines[number.saturating_sub(8)..number].join("\n");
                let says_why = above.contains("SAFETY:") || above.contains("# Safety");
                assert!(says_why, "{path}:{number}: no SAFETY comment");
            }
        }
    }
    let known = UNSAFE.iter().map(|&(path, count)| (path.to_owned(), count));
    assert_eq!(counts, known.collect());
}

#[test]
fn test_names_are_short() {
    let mut long = Vec::new();
    for (path, text) in files(&["src", "executor", "reactor", "tests"], &["rs"]) {
        let code: Vec<_> = code(&text).map(|(_, line)| line).collect();
        for pair in code.windows(2).filter(|pair| pair[0] == "#[test]") {
            let name = pair[1].trim_start_matches("fn ").split('(').next();
            long.extend(
                name.filter(|name| name.len() > 60)
                    .map(|name| format!("{path}: {name}")),
            );
        }
    }
    assert!(long.is_empty(), "longer than 60 characters: {long:#?}");
}

#[test]
fn sources_have_no_leftovers() {
    let words = ["TODO", "FIXME", "XXX", "dbg!(", "todo!(", "unimplemented!("];
    for (path, text) in files(
        &["src", "executor", "reactor", "examples", "docs/book"],
        &["rs", "md"],
    ) {
        for word in words {
            assert!(!text.contains(word), "{path}: {word}");
        }
    }
}

#[test]
fn files_name_no_absolute_path_of_a_machine() {
    let places = ["root", "work", "home"].map(|folder| format!("/{folder}/"));
    for (path, text) in files(&["."], &["rs", "md", "toml", "run"]) {
        for place in &places {
            assert!(!text.contains(place), "{path}: {place}");
        }
    }
}

/// The lines of a part of a manifest.
fn section<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let lines = manifest.lines().map(str::trim);
    let part = lines
        .skip_while(|line| *line != format!("[{name}]"))
        .skip(1);
    let part = part.take_while(|line| !line.starts_with('['));
    part.filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn the_executor_depends_on_parking_and_traits_alone() {
    let manifest = read("executor/Cargo.toml");
    assert_eq!(
        section(&manifest, "dependencies"),
        ["futures-core.workspace = true", "parking.workspace = true"]
    );
    let others = manifest
        .lines()
        .filter(|line| line.contains("dependencies"));
    let tables = [
        "[dependencies]",
        "[dev-dependencies]",
        "[target.'cfg(windlass_loom)'.dev-dependencies]",
    ];
    assert!(others.into_iter().all(|table| tables.contains(&table)));
    assert!(!read("reactor/Cargo.toml").contains("windlass-executor"));
}

#[test]
fn all_crates_have_one_version_that_is_in_the_changelog() {
    let root = read("Cargo.toml");
    let workspace = section(&root, "workspace.package");
    let version = workspace
        .iter()
        .find_map(|line| line.strip_prefix("version = "));
    let version = version
        .expect("the workspace has a version")
        .trim_matches('"');
    for manifest in ["Cargo.toml", "executor/Cargo.toml", "reactor/Cargo.toml"] {
        let text = read(manifest);
        let inherits = section(&text, "package").contains(&"version.workspace = true");
        assert!(inherits, "{manifest} has a version of its own");
    }
    for name in ["windlass-executor", "windlass-reactor"] {
        let dependencies = section(&root, "workspace.dependencies");
        let line = dependencies
            .iter()
            .find(|line| line.starts_with(name))
            .expect(name);
        assert!(line.contains(&format!("version = \"{version}\"")), "{line}");
    }
    assert!(
        read("CHANGELOG.md").contains(version),
        "CHANGELOG.md lacks {version}"
    );
}

#[test]
fn every_example_is_in_the_readme() {
    let readme = read("README.md");
    for (path, _) in files(&["examples"], &["rs"]) {
        // An example is a file, or a folder with a `main.rs`.
        let in_folder = path.matches('/').count() > 1;
        let name = path
            .strip_suffix("main.rs")
            .filter(|_| in_folder)
            .unwrap_or(&path);
        if !in_folder || name != path {
            assert!(readme.contains(name), "README.md lacks {name}");
        }
    }
}
