//! The decisions of a run.
//!
//! Each decision is a number below a limit, and zero is the benign value: the first task, the whole
//! read, no loss. A run is determined by its seed. What a decision yields depends on the seed, its
//! host, its site and how many decisions were made there before. So a change of one decision does
//! not move the others.
//!
//! The decisions other than zero are recorded. The list replays the run, and each shorter list is a
//! valid run, too. A missing decision is zero, and a superfluous one has no effect.

use std::cell::RefCell;
use std::rc::Rc;

use super::context::Context;
use super::explore::{Explorer, mix};
pub(super) use super::site::Site;

/// A decision other than zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Choice {
    pub(super) host: u16,
    pub(super) site: Site,
    /// How many decisions were made at this site of this host before.
    pub(super) nth: u64,
    pub(super) value: u32,
}

/// A decision other than zero, with the moment at which it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Made {
    pub(super) choice: Choice,
    /// The virtual time in nanoseconds.
    pub(super) at: u64,
    /// The task that ran, or `NO_TASK`.
    pub(super) task: u32,
    /// The number of alternatives.
    pub(super) limit: u32,
}

/// The decisions of one run.
#[derive(Debug)]
pub(super) struct Choices {
    seed: u64,
    context: Rc<Context>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    mode: Mode,
    /// By host and site.
    slots: Vec<Slot>,
    /// How many decisions were made.
    count: u64,
    made: Vec<Made>,
    /// Whether the last decision is the last one of `made`.
    is_last_made: bool,
    /// Explanations, by the index of their decision in `made`.
    explanations: Vec<(usize, String)>,
}

#[derive(Debug)]
enum Mode {
    Explore {
        explorer: Explorer,
        /// The numbers of the decisions that deviate. Used by that explorer alone.
        places: Vec<u64>,
        /// How many of the places or bytes are in the past.
        past: usize,
    },
    /// The list, sorted by host, site and number.
    Replay(Vec<Choice>),
}

/// The state of one site of one host.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The key of the hash.
    key: u64,
    /// How many decisions were made.
    made: u64,
    /// In a replay, the position of the next decision in the list, and the end of the site's part.
    next: usize,
    end: usize,
    is_on: bool,
}

impl Choices {
    /// Makes random decisions.
    pub(super) fn new(seed: u64) -> Choices {
        Choices::explore(seed, Explorer::Random, Rc::new(Context::new()))
    }

    /// Makes the decisions of a seed in the way of an explorer.
    pub(super) fn explore(seed: u64, explorer: Explorer, context: Rc<Context>) -> Choices {
        let places = explorer.deviations(seed);
        let mode = Mode::Explore {
            explorer,
            places,
            past: 0,
        };
        Choices::with_mode(seed, mode, context)
    }

    /// Repeats the decisions of a list. All others are zero.
    pub(super) fn replay(seed: u64, list: &[Choice], context: Rc<Context>) -> Choices {
        let mut list = list.to_vec();
        list.sort_by_key(|choice| (choice.host, choice.site, choice.nth));
        Choices::with_mode(seed, Mode::Replay(list), context)
    }

    fn with_mode(seed: u64, mode: Mode, context: Rc<Context>) -> Choices {
        let inner = RefCell::new(Inner {
            mode,
            slots: Vec::new(),
            count: 0,
            made: Vec::new(),
            is_last_made: false,
            explanations: Vec::new(),
        });
        Choices {
            seed,
            context,
            inner,
        }
    }

    /// Returns a number below `limit`. Zero is returned in all but one of `rarity` cases, and the
    /// others are equally probable. A rarity of one makes all numbers equally probable, including
    /// zero.
    ///
    /// A decision without an alternative, with a limit of zero or one, isn't counted. A caller may
    /// skip it.
    ///
    /// The hosts have small numbers. The state is a table by host and site.
    pub(super) fn choose(&self, host: u16, site: Site, rarity: u32, limit: u32) -> u32 {
        if limit <= 1 {
            return 0;
        }
        let inner = &mut *self.inner.borrow_mut();
        let index = usize::from(host) * Site::ALL.len() + site as usize;
        if index >= inner.slots.len() {
            inner.add_slots(self.seed, index);
        }
        let slot = &mut inner.slots[index];
        let nth = slot.made;
        slot.made += 1;
        let count = inner.count;
        inner.count += 1;
        let value = match &mut inner.mode {
            Mode::Explore {
                explorer: Explorer::Random | Explorer::Swarm,
                ..
            } if slot.is_on => random(mix(slot.key, nth), rarity, limit),
            Mode::Explore {
                explorer: Explorer::Deviations { .. },
                places,
                past,
            } if places.get(*past) == Some(&count) => {
                *past += 1;
                1 + scale(mix(slot.key, nth), limit - 1)
            }
            Mode::Explore {
                explorer: Explorer::Bytes(bytes),
                past,
                ..
            } => take(bytes, past, limit),
            Mode::Explore { .. } => 0,
            Mode::Replay(list) => slot.replay(list, nth).min(limit - 1),
        };
        inner.is_last_made = value != 0;
        if value != 0 {
            let choice = Choice {
                host,
                site,
                nth,
                value,
            };
            inner.made.push(Made {
                choice,
                at: self.context.now(),
                task: self.context.task(),
                limit,
            });
        }
        value
    }

    /// Says what the last decision means, for the story: "task `reader` runs before 2 others". The
    /// function is called only if that decision isn't zero and the story is wanted.
    pub(super) fn explain(&self, explanation: impl FnOnce() -> String) {
        if self.context.keeps_names() && self.inner.borrow().is_last_made {
            let explanation = explanation();
            let inner = &mut *self.inner.borrow_mut();
            if let Some(last) = inner.made.len().checked_sub(1) {
                inner.explanations.push((last, explanation));
            }
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the number of decisions.
    pub(super) fn count(&self) -> u64 {
        self.inner.borrow().count
    }

    /// Returns the decisions other than zero, in their order.
    pub(super) fn made(&self) -> Vec<Made> {
        self.inner.borrow().made.clone()
    }

    /// Returns the list that replays this run.
    pub(super) fn list(&self) -> Vec<Choice> {
        let inner = self.inner.borrow();
        inner.made.iter().map(|made| made.choice).collect()
    }

    /// Returns the explanations of decisions, each with the index of its decision.
    pub(super) fn explanations(&self) -> Vec<(usize, String)> {
        self.inner.borrow().explanations.clone()
    }
}

impl Inner {
    /// Extends the table up to this index.
    #[cold]
    fn add_slots(&mut self, seed: u64, index: usize) {
        while self.slots.len() <= index {
            let host = (self.slots.len() / Site::ALL.len()) as u16;
            for &site in Site::ALL {
                let is_of = |choice: &Choice| (choice.host, choice.site).cmp(&(host, site));
                let (is_on, next, end) = match &self.mode {
                    Mode::Explore { explorer, .. } => (explorer.includes(seed, site), 0, 0),
                    Mode::Replay(list) => (
                        true,
                        list.partition_point(|choice| is_of(choice).is_lt()),
                        list.partition_point(|choice| is_of(choice).is_le()),
                    ),
                };
                self.slots.push(Slot {
                    key: mix(seed, u64::from(host) << 16 | site as u64),
                    made: 0,
                    next,
                    end,
                    is_on,
                });
            }
        }
    }
}

impl Slot {
    /// Returns the value that the list has for a decision, or zero.
    fn replay(&mut self, list: &[Choice], nth: u64) -> u32 {
        let mut value = 0;
        while self.next < self.end && list[self.next].nth <= nth {
            if list[self.next].nth == nth {
                value = list[self.next].value;
            }
            self.next += 1;
        }
        value
    }
}

/// Returns a number below `limit`, zero in all but one of `rarity` cases.
fn random(random: u64, rarity: u32, limit: u32) -> u32 {
    if rarity <= 1 {
        return scale(random, limit);
    }
    if (random >> 32) * u64::from(rarity) >> 32 != 0 {
        return 0;
    }
    1 + scale(random, limit - 1)
}

/// Maps the lower half of a random number to a number below `limit`.
fn scale(random: u64, limit: u32) -> u32 {
    ((random & 0xffff_ffff) * u64::from(limit) >> 32) as u32
}

/// Takes a number below `limit` from the bytes. Small limits take one byte.
fn take(bytes: &[u8], past: &mut usize, limit: u32) -> u32 {
    let wanted = match limit {
        ..=0x100 => 1,
        ..=0x1_0000 => 2,
        _ => 4,
    };
    let rest = &bytes[(*past).min(bytes.len())..];
    let taken = &rest[..wanted.min(rest.len())];
    *past += taken.len();
    let number = taken
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | u32::from(byte));
    number % limit
}
