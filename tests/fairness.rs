//! Tasks that are always ready must not starve other tasks.
//!
//! Nothing here measures time. A timer of zero is due in the next turn of the reactor, so the tests
//! count polls of the busy tasks until that turn.

mod common;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use common::{Count, pair, run};
use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::sleep;
use windlass::{spawn, yield_now};

/// Maximum number of polls between two turns of the reactor.
const POLLS: usize = 256;
/// Operations that one poll may complete.
const OPERATIONS: usize = 96;

/// A task that is always ready.
fn spin() -> (windlass::Task<()>, Count) {
    let count = Count::default();
    let counting = count.clone();
    let task = spawn(async move {
        loop {
            counting.add();
            yield_now().await;
        }
    });
    (task, count)
}

#[test]
fn a_self_waking_task_delays_no_timer() {
    run(async {
        let (_spinner, spins) = spin();
        for _ in 0..100 {
            let before = spins.get();
            sleep(Duration::ZERO).await;
            let between = spins.get() - before;
            assert!(between <= 2 * POLLS, "{between} polls before the timer");
        }
    });
}

#[test]
fn a_self_waking_task_delays_no_socket() -> io::Result<()> {
    run(async {
        let (mut near, mut far) = pair().await?;
        let (_spinner, spins) = spin();
        let counted = spins.clone();
        let reader = spawn(async move {
            let mut waits = Vec::new();
            let mut start = [0; size_of::<usize>()];
            for _ in 0..100 {
                far.read_exact(&mut start).await?; // waits, because the data is written later
                waits.push(counted.get() - usize::from_ne_bytes(start));
                far.write_all(b"!").await?;
            }
            io::Result::Ok(waits)
        });
        for _ in 0..100 {
            sleep(Duration::ZERO).await; // the reader is waiting now
            near.write_all(&spins.get().to_ne_bytes()).await?;
            near.read_exact(&mut [0]).await?;
        }
        let longest = reader.await?.into_iter().max();
        assert!(
            longest <= Some(2 * POLLS),
            "{longest:?} polls before the read"
        );
        Ok(())
    })
}

#[test]
fn a_self_waking_task_delays_no_accept() -> io::Result<()> {
    run(async {
        let (_spinner, spins) = spin();
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").await?);
        let addr = listener.local_addr()?;
        let accepting = spawn(async move { listener.accept().await.map(drop) });
        sleep(Duration::ZERO).await;
        let before = spins.get();
        TcpStream::connect(addr).await?;
        accepting.await?;
        let between = spins.get() - before;
        assert!(between <= 4 * POLLS, "{between} polls for one connection");
        Ok(())
    })
}

#[test]
fn a_socket_that_is_always_ready_delays_no_timer() -> io::Result<()> {
    run(async {
        let (mut near, mut far) = pair().await?;
        near.write_all(&[7; 20_000]).await?; // fits into the socket's buffer
        let reads = Count::default();
        let count = reads.clone();
        let _greedy = spawn(async move {
            loop {
                far.read_exact(&mut [0]).await?;
                count.add();
                if count.get() == 20_000 {
                    return io::Result::Ok(());
                }
            }
        });
        let mut rounds = 0;
        while reads.get() < 20_000 {
            let before = reads.get();
            sleep(Duration::ZERO).await;
            let between = reads.get() - before;
            assert!(
                between <= 2 * OPERATIONS,
                "{between} reads before the timer"
            );
            rounds += 1;
        }
        assert!(rounds >= 20_000 / (2 * OPERATIONS));
        Ok(())
    })
}

#[test]
fn a_socket_that_is_always_ready_delays_no_other_socket() -> io::Result<()> {
    run(async {
        let (mut near, mut far) = pair().await?;
        near.write_all(&[7; 20_000]).await?;
        let reads = Count::default();
        let count = reads.clone();
        let _greedy = spawn(async move {
            for _ in 0..20_000 {
                far.read_exact(&mut [0]).await?;
                count.add();
            }
            io::Result::Ok(())
        });
        let (mut modest, mut other) = pair().await?;
        let echo = spawn(async move {
            let mut byte = [0];
            while other.read(&mut byte).await? > 0 {
                other.write_all(&byte).await?;
            }
            io::Result::Ok(())
        });
        let before = reads.get();
        for _ in 0..10 {
            modest.write_all(b"?").await?;
            modest.read_exact(&mut [0]).await?;
        }
        let between = reads.get() - before;
        assert!(
            between <= 10 * 3 * OPERATIONS,
            "{between} reads beside ten round trips"
        );
        modest.close().await?;
        echo.await
    })
}

#[test]
fn ten_thousand_ready_tasks_take_turns_and_delay_no_timer() {
    const TASKS: usize = 10_000;
    const ROUNDS: usize = 5;
    run(async {
        let total = Count::default();
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let total = total.clone();
                spawn(async move {
                    for round in 0..ROUNDS {
                        // Every task completes this round before any task starts the next.
                        assert!((TASKS * round..TASKS * (round + 1)).contains(&total.get()));
                        total.add();
                        yield_now().await;
                    }
                })
            })
            .collect();
        while total.get() < TASKS * ROUNDS {
            let before = total.get();
            sleep(Duration::ZERO).await;
            let between = total.get() - before;
            assert!(
                between <= TASKS + 2 * POLLS,
                "{between} polls before the timer's task"
            );
        }
        futures::future::join_all(tasks).await;
    });
}
