//! Checks of toy programs, and child processes that end in the ways that nothing can catch.

use std::cell::Cell;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command as Process;
use std::rc::Rc;
use std::time::Duration;

use super::check::{Settings, check_program, find_failure};
use super::choices::Site;
use super::command::Command;
use super::explore::Explorer;
use super::panics::catch;
use super::problem::Problem;
use super::replay::{SavedList, Selection};
use super::report::{Failure, FailureKind};
use super::run::{Plan, Run};
use super::trace::EventKind;
use super::world::World;
use crate::time::sleep;
use crate::{spawn, yield_now};

/// Runs 40 rounds of a server, and returns the rounds in which a second task runs first. The
/// latencies of the rounds have no influence.
fn rounds(run: &Run) -> Vec<u64> {
    run.context.name_host(1, || "server".to_owned());
    run.context
        .name_task(1, 2, || "`writer` (src/x.rs:5)".to_owned());
    run.context.set_host(1);
    let mut found = Vec::new();
    let mut now = 0;
    for round in 0..40 {
        let latency = run.choices.choose(1, Site::Latency, 1, 1_000_000);
        now += 1_000_000 + u64::from(latency);
        run.context.set_now(now);
        run.context.set_task(2);
        if run.choices.choose(1, Site::Task, 8, 3) > 0 {
            run.choices.explain(Site::Task, |_| {
                format!("another task runs first in round {round}")
            });
            found.push(round);
        }
        run.trace
            .record(now, 1, EventKind::Poll, round, found.len() as u64);
    }
    found
}

/// Fails if the second task runs first three times.
fn racy(run: &Rc<Run>) -> Result<(), Problem> {
    let found = rounds(run);
    assert!(found.len() < 3, "{} writes are lost", found.len());
    Ok(())
}

fn settings(name: &str) -> Settings {
    let folder = std::env::temp_dir().join(format!("windlass-sim-{}-{name}", std::process::id()));
    Settings {
        selection: None,
        folder,
        limit: Some(Duration::from_secs(60)),
    }
}

fn find(
    settings: &Settings,
    seeds: Range<u64>,
    program: &dyn Fn(&Rc<Run>) -> Result<(), Problem>,
) -> Result<(), Failure> {
    find_failure(
        Command::current(""),
        settings,
        &mut seeds.map(Plan::of_seed),
        program,
    )
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

/// Returns the file or seed that the command of a failure replays.
fn selection(failure: &Failure) -> String {
    let text = failure.to_string();
    let command = last_line(&text).strip_prefix("WINDLASS_SIM=").expect(&text);
    command.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_failure_is_shrunk_explained_and_replayed() {
    let mut settings = settings("story");
    let failure = find(&settings, 1..1_000, &racy).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Panic);
    let text = failure.to_string();
    println!("{text}");
    assert_eq!(failure.story().len(), 3, "{text}");
    for line in failure.story() {
        let is_explained = line.contains(" s server: another task runs first in round ");
        assert!(
            is_explained && line.ends_with(", in task `writer` (src/x.rs:5)"),
            "{text}"
        );
    }
    assert!(text.starts_with("the simulation failed: panic at src/sim/check_tests.rs:"));
    assert!(text.contains(": 3 writes are lost\n"), "{text}");
    let test = "sim::check_tests::a_failure_is_shrunk_explained_and_replayed -- --exact";
    assert!(text.ends_with(&format!(".txt cargo test {test}")), "{text}");

    let file = PathBuf::from(selection(&failure));
    let saved: SavedList = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert_eq!(saved.list.len(), 3);
    settings.selection = Some(Selection::File(file));
    for _ in 0..100 {
        let again = find(&settings, 0..0, &racy).unwrap_err();
        assert_eq!(again.report(), failure.report());
        assert_eq!(again.story(), failure.story());
    }
    std::fs::remove_dir_all(settings.folder).unwrap();
}

#[test]
fn a_program_that_no_longer_fails_passes_its_replay() {
    let mut settings = settings("mended");
    let failure = find(&settings, 1..1_000, &racy).unwrap_err();
    settings.selection = Some(Selection::File(selection(&failure).into()));
    assert!(
        find(&settings, 0..0, &|run| {
            rounds(run);
            Ok(())
        })
        .is_ok()
    );
    std::fs::remove_dir_all(settings.folder).unwrap();
}

#[test]
fn a_selected_seed_runs_alone() {
    let mut settings = settings("seed");
    settings.selection = Some(Selection::Seed(77));
    let count = Cell::new(0);
    let program = |run: &Rc<Run>| {
        count.set(count.get() + 1);
        assert_eq!(run.choices.seed(), 77);
        Ok(())
    };
    assert!(find(&settings, 0..1_000, &program).is_ok());
    assert!((1..10).contains(&count.get()));
}

#[test]
fn a_story_names_the_tasks_of_a_world() {
    let settings = settings("world");
    let setup = |world: &World| {
        world.host("counter", || async {
            let value = Rc::new(Cell::new(0));
            let (written, read) = (value.clone(), value);
            let writer = spawn(async move { written.set(1) }).named("writer");
            let reader = spawn(async move { assert_eq!(read.get(), 1) }).named("reader");
            writer.await;
            reader.await;
        });
    };
    let program = |run: &Rc<Run>| World::with(run.clone()).complete(setup);
    let failure = find(&settings, 0..1_000, &program).unwrap_err();
    let [line] = failure.story() else {
        panic!("{failure}");
    };
    let start = "0.000 s counter: task `reader` (src/sim/check_tests.rs:";
    assert!(
        line.starts_with(start) && line.ends_with(") runs before 1 other"),
        "{failure}"
    );
    std::fs::remove_dir_all(settings.folder).unwrap();
}

#[test]
fn bytes_of_a_fuzzer_find_a_failure() {
    let settings = settings("bytes");
    // A latency takes four bytes and the task one.
    let explorer = Explorer::Bytes([9, 9, 9, 0, 1].repeat(5).into());
    let plan = Plan::Explore { seed: 0, explorer };
    let find = |settings: &Settings| {
        let command = Command::current("").with_bytes();
        let plans = &mut [plan.clone()].into_iter();
        find_failure(command, settings, plans, &racy).unwrap_err()
    };
    let failure = find(&settings);
    assert_eq!(failure.story().len(), 3, "{failure}");
    let file = PathBuf::from(selection(&failure));
    // Below a file, no list can be saved.
    let unsaved = find(&Settings {
        folder: file,
        ..settings.clone()
    });
    let command = "call `check_bytes` with the same bytes";
    assert_eq!(last_line(&unsaved.to_string()), command);
    std::fs::remove_dir_all(settings.folder).unwrap();
}

#[test]
fn a_failure_without_a_choice_has_no_story() {
    let settings = settings("plain");
    let deadlock = |_: &Rc<Run>| {
        let waits = vec!["client: task `reader` waits for `recv` (src/x.rs:7)".to_owned()];
        Err(Problem::Deadlock { waits })
    };
    let failure = find(&settings, 0..10, &deadlock).unwrap_err();
    let text = failure.to_string();
    assert_eq!(failure.kind(), FailureKind::Deadlock);
    assert!(failure.story().is_empty());
    assert!(
        text.contains("\n    client: task `reader` waits for `recv` (src/x.rs:7)\n"),
        "{text}"
    );
    std::fs::remove_dir_all(settings.folder).unwrap();
}

#[test]
fn a_shrunk_list_fails_in_the_same_way() {
    let settings = settings("kinds");
    // A deadlock takes one choice less than the panic.
    let program = |run: &Rc<Run>| match rounds(run).len() {
        2 => Err(Problem::Deadlock { waits: Vec::new() }),
        count => {
            assert!(count < 3, "{count} writes are lost");
            Ok(())
        }
    };
    let panics = |seed: &u64| rounds(&Run::new(*seed)).len() >= 3;
    let seed = (1..1_000).find(panics).unwrap();
    let failure = find(&settings, seed..seed + 1, &program).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert_eq!(failure.story().len(), 3, "{failure}");
    std::fs::remove_dir_all(settings.folder).unwrap();
}

#[test]
fn a_program_that_depends_on_its_process_is_found() {
    let settings = settings("clock");
    let runs = Cell::new(0);
    let program = |run: &Rc<Run>| {
        run.context.name_host(1, || "server".to_owned());
        runs.set(runs.get() + 1);
        rounds(run);
        run.trace
            .record(50_000_000, 1, EventKind::Call, runs.get(), 0);
        Ok(())
    };
    let failure = find(&settings, 5..10, &program).unwrap_err();
    let text = failure.to_string();
    assert_eq!(failure.kind(), FailureKind::Nondeterminism);
    assert!(text.contains("differ at step 40\n"), "{text}");
    assert!(
        text.contains("second: 0.050 s server: system call"),
        "{text}"
    );
    assert_eq!(selection(&failure), "5");
}

#[test]
fn the_first_run_of_a_process_may_differ() {
    let settings = settings("lazy");
    let is_first = Cell::new(true);
    let program = |run: &Rc<Run>| {
        if is_first.replace(false) {
            run.trace.record(0, 0, EventKind::Call, 1, 1);
        }
        rounds(run);
        Ok(())
    };
    assert!(find(&settings, 0..10, &program).is_ok());
}

#[test]
fn a_failure_in_a_first_run_that_differs_is_explained() {
    let settings = settings("lazy-failure");
    let is_first = Cell::new(true);
    let program = |run: &Rc<Run>| {
        if is_first.replace(false) {
            run.trace.record(0, 0, EventKind::Call, 1, 1);
        }
        rounds(run);
        panic!("always");
    };
    let failure = find(&settings, 0..10, &program).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Panic, "{failure}");
    std::fs::remove_dir_all(settings.folder).unwrap();
}

#[test]
fn a_failure_that_its_replay_lacks_is_nondeterminism() {
    let settings = settings("flaky");
    let count = Cell::new(0);
    let program = |run: &Rc<Run>| {
        rounds(run);
        assert_ne!(count.replace(count.get() + 1), 20, "seldom");
        Ok(())
    };
    let failure = find(&settings, 0..1_000, &program).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Nondeterminism);
    assert!(failure.to_string().contains(": seldom\n"), "{failure}");
}

#[test]
#[should_panic = "a check needs at least one seed"]
fn a_check_without_seeds_panics() {
    let _ = find(&settings("none"), 0..0, &racy);
}

/// The variable that selects how a child process ends.
const CHILD: &str = "WINDLASS_SIM_TEST_CHILD";

/// Panics while a panic unwinds.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in a drop");
    }
}

fn overflow(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0;
    }
    let frame = std::hint::black_box([depth; 100]);
    overflow(depth + 1) + frame[7]
}

fn end(run: &Rc<Run>, how: &str) -> Result<(), Problem> {
    if run.choices.seed() == 43 {
        match how {
            "panic" => panic!("on purpose"),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(0),
            "overflow" => drop(overflow(0)),
            "endless" => loop {
                std::hint::spin_loop();
            },
            "double" => {
                let _panics = PanicsInDrop;
                panic!("on purpose");
            }
            // SAFETY: no page is at this address, so the process gets a signal.
            "fault" => drop(unsafe { std::ptr::without_provenance::<u8>(8).read_volatile() }),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn the_command_is_the_last_line_however_a_process_ends() {
    if let Ok(how) = std::env::var(CHILD) {
        return check_program("", 40..50, &|run| end(run, &how));
    }
    let name = "sim::check_tests::the_command_is_the_last_line_however_a_process_ends";
    let folder = settings("ends").folder;
    let ends = [
        "none", "panic", "abort", "exit", "overflow", "endless", "double", "fault",
    ];
    for how in ends {
        let mut child = Process::new(std::env::current_exe().unwrap());
        child.args(["--exact", name, "--nocapture"]);
        child
            .env(CHILD, how)
            .env("WINDLASS_SIM_DIR", &folder)
            .env_remove("WINDLASS_SIM");
        // The limit must not end the other children.
        let limit = if how == "endless" { "1" } else { "300" };
        let output = child.env("WINDLASS_SIM_TIMEOUT", limit).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        println!("{how}: {}\n{text}", output.status);
        assert_eq!(output.status.success(), how == "none");
        let selected = match how {
            "none" => {
                assert!(!text.contains("WINDLASS_SIM="), "{text}");
                continue;
            }
            "panic" => folder.join(format!("{}-43.txt", name.replace("::", "-"))),
            _ => PathBuf::from("43"),
        };
        let command = format!(
            "WINDLASS_SIM={} cargo test {name} -- --exact",
            selected.display()
        );
        assert_eq!(last_line(&text), command, "{how}: {text}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A host in which a reader must not run before its writer twice. An edit of the program adds an
/// unrelated task.
fn edited(run: &Rc<Run>, edit: u32) -> Result<(), Problem> {
    let program = move || async move {
        let other = spawn(async move {
            for _ in 0..50 {
                match edit {
                    0 => return,
                    1 => yield_now().await,
                    2 => sleep(Duration::from_micros(70)).await,
                    _ => sleep(Duration::from_micros(300)).await,
                }
            }
        });
        other.detach();
        let mut early = 0;
        for _ in 0..10 {
            let value = Rc::new(Cell::new(0));
            let (written, read) = (value.clone(), value);
            let writer = spawn(async move { written.set(1) });
            let reader = spawn(async move { read.get() });
            writer.await;
            early += 1 - reader.await;
            sleep(Duration::from_millis(1)).await;
        }
        assert!(early < 2, "{early} early reads");
    };
    World::with(run.clone()).complete(|world| drop(world.host("server", program)))
}

#[test]
fn a_saved_list_survives_an_unrelated_edit() {
    let mut settings = settings("edit");
    let fails =
        |seed: &u64| catch(true, || edited(&Run::new(*seed), 0)).is_ok_and(|it| it.is_err());
    let seeds: Vec<u64> = (1..1_000).filter(fails).take(10).collect();
    let mut failed = [0; 4];
    for seed in seeds {
        settings.selection = None;
        let failure = find(&settings, seed..seed + 1, &|run| edited(run, 0)).unwrap_err();
        settings.selection = Some(Selection::File(selection(&failure).into()));
        for edit in [0, 1, 2, 3] {
            let result = find(&settings, 0..0, &|run| edited(run, edit));
            failed[edit as usize] += u32::from(result.is_err());
        }
    }
    assert!(
        failed[0] == 10 && failed.iter().all(|&failed| failed >= 8),
        "{failed:?}"
    );
    std::fs::remove_dir_all(settings.folder).unwrap();
}
