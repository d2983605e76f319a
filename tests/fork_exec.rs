//! Programs started by a runtime inherit none of its descriptors.
#![cfg(target_os = "linux")]
// Reads descriptors from `/proc`.
#![cfg(unix)]

mod common;

use std::collections::BTreeSet;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{name_of, pair, run};
use windlass::net::TcpListener;
use windlass::time::sleep;

/// Returns the descriptors that a child has open, without its standard streams and the directory
/// that it lists.
fn inherited() -> io::Result<BTreeSet<String>> {
    let listed = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.contains("0 -> /dev/null"),
        "nothing was listed: {listed}"
    );
    let links = listed.lines().filter_map(|line| line.split_once(" -> "));
    Ok(links
        .filter(|(entry, _)| {
            !["0", "1", "2"]
                .iter()
                .any(|std| entry.ends_with(&format!(" {std}")))
        })
        .map(|(_, name)| name.to_owned())
        .filter(|name| !name.starts_with("/proc/"))
        .collect())
}

#[test]
fn a_child_inherits_no_descriptor() -> io::Result<()> {
    // Descriptors that the test itself has inherited, for example from cargo, are inherited by its
    // children too.
    let before = inherited()?;
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (near, far) = pair().await?;
        sleep(Duration::ZERO).await; // the epoll, timer and event descriptors are in use
        let during = inherited()?;
        assert_eq!(during, before);
        for name in [name_of(&listener), name_of(&near), name_of(&far)] {
            assert!(!during.contains(&name));
        }
        Ok(())
    })
}
