//! Programs in many worlds, and bugs that these find.

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]

mod programs;

use programs::*;
use windlass::sim::{World, check};

type Program = fn(&World);
type Variants = fn(&World, bool);

/// Programs that depend on windlass alone.
const PROGRAMS: &[(&str, Program)] = &[
    ("echoes", echoes),
    ("bulk", bulk),
    ("requests", requests),
    ("cancellations", cancellations),
    ("shutdown", shutdown),
    ("proxy", proxy),
    ("shortage", shortage),
    ("connections_end", connections_end),
    ("idle_sessions", idle_sessions),
    ("permits", permits),
    ("notifications", notifications),
    ("producers", producers),
];

/// Programs with a bug that can be planted.
const WITH_BUGS: &[(&str, Variants)] = &[
    ("durable_log", durable_log),
    ("counted_once", counted_once),
    ("timeouts_of_answers", timeouts_of_answers),
    ("locks", locks),
    ("flags", flags),
    ("messages", messages),
    ("stock", stock),
    ("readable_streams", readable_streams),
];

fn fails(seed: u64, program: impl FnOnce(&World)) -> bool {
    let world = World::new(seed);
    program(&world);
    world.run().is_err()
}

#[test]
fn programs_hold_in_all_worlds() {
    for (_, program) in PROGRAMS {
        check(0..100, program);
    }
    for (_, program) in WITH_BUGS {
        check(0..100, |world| program(world, false));
    }
}

#[test]
fn planted_bugs_are_found() {
    for (name, program) in WITH_BUGS {
        let found = (0..10_000).find(|seed| fails(*seed, |world| program(world, true)));
        let found = found.unwrap_or_else(|| panic!("no world finds the bug of {name}"));
        assert!(!fails(found, |world| program(world, false)), "{name}");
        println!("{name}: seed {found}");
    }
}
