//! Operations on files have the same results on a real and on a simulated disk.

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]

#[path = "sim_files/scripts.rs"]
mod scripts;

use scripts::SCRIPTS;
use windlass::{fs, sim};

#[test]
fn scripts_have_the_same_results_on_both_disks() {
    let base = std::env::temp_dir().join(format!("windlass-sim-{}", std::process::id()));
    assert!(SCRIPTS.len() >= 25);
    let mut differences = Vec::new();
    for (number, (name, script)) in SCRIPTS.iter().enumerate() {
        let at = base.join(number.to_string());
        std::fs::create_dir_all(&at).unwrap();
        let real = windlass::block_on(script(&at));
        let simulated = sim::block_on(async {
            fs::create_dir_all(&at).await.unwrap();
            script(&at).await
        });
        assert!(!real.is_empty());
        assert_eq!(real.len(), simulated.len(), "{name}");
        for (real, simulated) in real.iter().zip(&simulated) {
            if real != simulated {
                differences.push(format!("{name}: real {real}, simulated {simulated}"));
            }
        }
    }
    std::fs::remove_dir_all(base).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn each_disk_of_a_simulation_begins_empty() {
    for _ in 0..2 {
        sim::block_on(async {
            let mut entries = fs::read_dir("/").await.unwrap();
            let tmp = entries.next_entry().await.unwrap().unwrap();
            assert_eq!(tmp.file_name(), "tmp");
            assert!(entries.next_entry().await.unwrap().is_none());
            fs::write("left over", "text").await.unwrap();
        });
    }
}
