//! The tests of the exercises of chapter 9.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use windlass::sync::mpsc;
use windlass::{block_on, spawn, yield_now};

use super::{take_seat, tell_all, update};

#[test]
fn exercise_1_the_list_is_free_during_a_send() {
    block_on(async {
        let (sender, mut slow) = mpsc::channel(1);
        sender.send("full".to_owned()).await.unwrap();
        let clients = Rc::new(RefCell::new(vec![sender]));
        let telling = spawn({
            let clients = clients.clone();
            async move { tell_all(&clients, "hello").await }
        });
        yield_now().await;
        assert!(!telling.is_finished(), "it waits for the slow client");
        clients.try_borrow_mut().expect("the list is free").clear();
        assert_eq!(slow.recv().await.unwrap(), "full");
        assert_eq!(slow.recv().await.unwrap(), "hello");
        telling.await;
    });
}

#[test]
fn exercise_2_no_seat_is_taken_twice() {
    block_on(async {
        let free = Rc::new(Cell::new(2));
        let tasks = [true, false, true].map(|is_confirmed| {
            let free = free.clone();
            spawn(async move {
                let confirm = async || {
                    yield_now().await;
                    is_confirmed
                };
                take_seat(&free, confirm).await
            })
        });
        let mut taken = Vec::new();
        for task in tasks {
            taken.push(task.await);
        }
        // The third came while both were reserved.
        assert_eq!(taken, [true, false, false]);
        assert_eq!(free.get(), 1);
        assert!(take_seat(&free, async || true).await);
        assert_eq!(free.get(), 0);
    });
}

#[test]
fn exercise_3_an_update_that_is_overtaken_is_repeated() {
    block_on(async {
        let (total, calls) = (Rc::new(Cell::new(1)), Rc::new(Cell::new(0)));
        let tasks = [10, 100].map(|number| {
            let (total, calls) = (total.clone(), calls.clone());
            spawn(async move {
                let add = async |before: i64| {
                    calls.set(calls.get() + 1);
                    yield_now().await;
                    before + number
                };
                update(&total, add).await;
            })
        });
        for task in tasks {
            task.await;
        }
        assert_eq!(total.get(), 111);
        assert_eq!(calls.get(), 3);
    });
}
