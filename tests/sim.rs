//! Programs in a simulated world.

#![cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::{Duration, Instant};

use windlass::sim::{self, World};
use windlass::time::{interval, now, sleep, timeout};
use windlass::{spawn, yield_now};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_timeout_takes_no_real_time() {
    let real = Instant::now();
    sim::block_on(async {
        let start = now();
        assert!(timeout(HOUR, pending::<()>()).await.is_err());
        assert_eq!(now() - start, HOUR);
        let mut ticks = interval(Duration::from_secs(1));
        for _ in 0..100 {
            ticks.tick().await;
        }
        let sleeper = spawn(async {
            sleep(HOUR).await;
            now()
        });
        assert!(timeout(HOUR / 2, pending::<()>()).await.is_err());
        assert!(!sleeper.is_finished());
        assert!(sleeper.await > start);
    });
    assert!(real.elapsed() < Duration::from_secs(10));
}

#[test]
#[should_panic = "can't come"]
fn a_future_that_nothing_wakes_is_named() {
    sim::block_on(pending::<()>());
}

#[test]
fn a_program_that_polls_the_clock_makes_progress() {
    sim::block_on(async {
        let end = now() + Duration::from_millis(5);
        while now() < end {
            yield_now().await;
        }
    });
}

#[test]
fn hosts_share_the_time() {
    let world = World::new(0);
    let log = Rc::new(RefCell::new(Vec::new()));
    for (name, seconds) in [("a", 3), ("b", 1), ("c", 2)] {
        let log = log.clone();
        world.host(name, move || {
            let log = log.clone();
            async move {
                for _ in 0..3 {
                    sleep(Duration::from_secs(seconds)).await;
                    log.borrow_mut().push(name);
                }
            }
        });
    }
    world.run().unwrap();
    assert_eq!(world.now().as_secs(), 9);
    assert_eq!(log.borrow().len(), 9);
    assert_eq!(log.borrow()[0], "b");
}
