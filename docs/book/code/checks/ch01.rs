//! The tests of the exercises of chapter 1.

use std::thread;
use std::time::Duration;

use windlass_book::measure::thread_cpu;

use super::{clients, session, waiting};

#[test]
fn exercise_1_a_sleep_waits_and_a_loop_works() {
    let asleep = waiting(|| thread::sleep(Duration::from_millis(200)));
    let busy = waiting(|| {
        let start = thread_cpu();
        while thread_cpu() - start < Duration::from_millis(20) {}
    });
    assert!((0.9..=1.0).contains(&asleep), "a sleep: {asleep}");
    assert!((0.0..asleep).contains(&busy), "a loop: {busy}");
}

#[test]
fn exercise_2_quit_ends_the_session() {
    let mut output = Vec::new();
    session(&b"1\n2\nquit\n3\n"[..], &mut output).unwrap();
    assert_eq!(String::from_utf8_lossy(&output), "1\n3\n");
}

#[test]
fn exercise_3_distant_clients_leave_room_for_others() {
    let (cpu, away) = (Duration::from_micros(20), Duration::from_micros(1980));
    assert_eq!(clients(cpu, away), 100);
    assert_eq!(clients(cpu, Duration::ZERO), 1);
}
