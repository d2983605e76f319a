//! One host in virtual time.

use std::future::Future;
use std::pin::pin;

use super::context::Context;
use super::explore::Explorer;
use super::host::{Life, tasks_waiting};
use super::run::{Plan, Run};
use super::trace::Watch;
use super::world::WorldState;
use crate::runtime::BlockOn;

/// Runs a future to completion in virtual time, for tests of code with timeouts.
///
/// When nothing is ready, the time moves to the next timer. So a test that sleeps for an hour takes
/// microseconds, and it reads exactly the time that it has slept. There is one host with the name
/// `localhost`, whose network and disk are without faults.
///
/// # Panics
///
/// Panics if the future waits for an event that can't come, with a list of what the tasks wait for.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use std::time::Duration;
/// use windlass::time::{now, timeout};
///
/// windlass::sim::block_on(async {
///     let start = now();
///     let hour = Duration::from_secs(3600);
///     assert!(timeout(hour, pending::<()>()).await.is_err());
///     assert_eq!(now() - start, hour);
/// });
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let plan = Plan::Explore {
        seed: 0,
        explorer: Explorer::Fifo,
    };
    let world = WorldState::new(Run::prepare(&plan, Watch::NOTHING, Context::new()));
    let (id, _) = world.network().add_host("localhost");
    let life = Life::start(&world, id, 0, world.disk(id));
    life.inside(|runtime| {
        let block_on = BlockOn::new(runtime);
        let future = pin!(future);
        block_on.run_by(future, |is_idle| {
            if !is_idle {
                world.count_step();
                return world.deliver();
            }
            let next = [life.deadline(runtime), world.next_time()];
            let Some(next) = next.into_iter().flatten().min() else {
                let waits = tasks_waiting(runtime).join("\n    ");
                panic!("the future waits for an event that can't come:\n    {waits}");
            };
            world.advance_to(next);
            world.deliver();
        })
    })
}
