//! Scripts of operations on sockets have the same results on the real system and in the world.

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]

#[path = "../common/mod.rs"]
mod common;
mod script;
mod tcp;
mod tcp_ends;
mod udp;
mod unix;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use script::{Place, Results, Scripts};

/// Runs each script in both worlds and compares the results.
fn compare(group: &str, scripts: Scripts) {
    let mut differences = Vec::new();
    for (name, script) in scripts {
        let unique = format!("windlass-{}-{group}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(&unique);
        std::fs::create_dir_all(&directory).unwrap();
        let place = Place::new(directory.clone(), &unique);
        let real = outcome(|| common::run(script(place)));
        std::fs::remove_dir_all(&directory).unwrap();
        let place = Place::new(PathBuf::from("/tmp"), &unique);
        let simulated = outcome(|| windlass::sim::block_on(script(place)));
        let has_results = real.as_ref().is_ok_and(|results| !results.is_empty());
        if real != simulated || !has_results {
            differences.push(format!(
                "{name}\n  system    {real:#?}\n  simulated {simulated:#?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Returns the results of a script, or why it has none.
fn outcome(run: impl FnOnce() -> Results) -> Result<Vec<String>, String> {
    let results = catch_unwind(AssertUnwindSafe(run));
    let results = results.map_err(|payload| common::text(&*payload).to_owned())?;
    results.map_err(|error| format!("{error:?}"))
}

#[test]
fn tcp_connections_agree() {
    compare("tcp", tcp::SCRIPTS);
}

#[test]
fn ends_of_tcp_connections_agree() {
    compare("tcp_ends", tcp_ends::SCRIPTS);
}

#[test]
fn udp_sockets_agree() {
    compare("udp", udp::SCRIPTS);
}

#[test]
fn unix_sockets_agree() {
    compare("unix", unix::SCRIPTS);
}
