//! One run of a program.

use std::rc::Rc;

use super::choices::{Choice, Choices, MadeAt};
use super::context::Context;
use super::explore::Explorer;
use super::trace::{Trace, Watch};

/// The instruments of one run. The world is made around them.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) context: Rc<Context>,
    pub(super) choices: Rc<Choices>,
    pub(super) trace: Trace,
    explorer: Option<Explorer>,
}

/// What determines the decisions of a run.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Explore {
        seed: u64,
        explorer: Explorer,
    },
    Replay {
        seed: u64,
        list: Rc<[Choice]>,
    },
    /// Replays the list of a slightly different program.
    ReplayTimes {
        seed: u64,
        list: Rc<[(Choice, MadeAt)]>,
    },
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn of_seed(seed: u64) -> Plan {
        let explorer = Explorer::of_seed(seed);
        Plan::Explore { seed, explorer }
    }

    pub(super) fn seed(&self) -> u64 {
        match *self {
            Plan::Explore { seed, .. }
            | Plan::Replay { seed, .. }
            | Plan::ReplayTimes { seed, .. } => seed,
        }
    }
}

impl Run {
    /// Prepares the run of a seed.
    pub(super) fn new(seed: u64) -> Rc<Run> {
        Run::prepare(&Plan::of_seed(seed), Watch::NOTHING, Context::new())
    }

    /// Prepares a run. Names are kept if the context does so.
    pub(super) fn prepare(plan: &Plan, watch: Watch, context: Context) -> Rc<Run> {
        let context = Rc::new(context);
        let trace = Trace::new(context.clone(), watch);
        let (choices, explorer) = match plan {
            Plan::Explore { seed, explorer } => (
                Choices::explore(*seed, explorer.clone(), context.clone()),
                Some(explorer.clone()),
            ),
            Plan::Replay { seed, list } => (Choices::replay(*seed, list, context.clone()), None),
            Plan::ReplayTimes { seed, list } => {
                (Choices::replay_times(*seed, list, context.clone()), None)
            }
        };
        Rc::new(Run {
            context,
            choices: Rc::new(choices),
            trace,
            explorer,
        })
    }

    /// Returns the explorer, or `None` for a replay.
    pub(super) fn explorer(&self) -> Option<&Explorer> {
        self.explorer.as_ref()
    }
}
