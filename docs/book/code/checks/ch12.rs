//! The tests of the exercises of chapter 12.

use std::future::pending;
use std::sync::mpsc;
use std::time::Duration;

use windlass::time::sleep;
use windlass::{Runtime, yield_now};

use super::{Message, is_due, run_host, turns_until};

#[test]
fn exercise_1_a_task_takes_some_turns() {
    let guest = Runtime::new().unwrap();
    let long = guest.spawn(async {
        for _ in 0..1_000 {
            yield_now().await;
        }
    });
    let turns = turns_until(&guest, &long, 100).expect("it ends");
    assert!((1..100).contains(&turns), "{turns} turns");
    assert_eq!(turns_until(&guest, &long, 0), Some(0));
    assert_eq!(turns_until(&guest, &guest.spawn(pending()), 10), None);
}

#[test]
fn exercise_2_the_descriptor_knows() {
    let guest = Runtime::new().unwrap();
    let task = guest.spawn(async { sleep(Duration::from_millis(30)).await });
    assert!(is_due(&guest, Duration::ZERO), "the task was spawned");
    guest.turn(Some(Duration::ZERO)).unwrap();
    assert!(!is_due(&guest, Duration::ZERO), "the task sleeps");
    assert!(is_due(&guest, Duration::from_secs(10)), "its timer is due");
    while !task.is_finished() {
        guest.turn(Some(Duration::from_secs(10))).unwrap();
    }
}

#[test]
fn exercise_3_a_hook_posts_messages() {
    let (post, messages) = mpsc::channel();
    let hook = post.clone();
    let guest = Runtime::builder()
        .on_wake(move || drop(hook.send(Message::Turn)))
        .build()
        .unwrap();
    for key in "win".chars() {
        post.send(Message::Key(key)).unwrap();
    }
    let close = async move {
        // A timer posts nothing.
        sleep(Duration::from_millis(20)).await;
        yield_now().await;
        post.send(Message::Key('d')).unwrap();
        post.send(Message::Close).unwrap();
    };
    guest.spawn(close).detach();
    assert_eq!(run_host(&guest, &messages), "wind");
}
