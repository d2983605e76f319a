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
use super::explore::{Explorer, deviations, mix};
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

/// When a decision was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct MadeAt {
    /// The virtual time in nanoseconds.
    pub(super) at: u64,
    /// How many decisions were made at this site of this host before, at the same time.
    pub(super) nth: u64,
}

/// A decision other than zero, with the moment at which it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Made {
    pub(super) choice: Choice,
    pub(super) moment: MadeAt,
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
    /// The number of the next decision that deviates.
    next_deviation: u64,
    made: Vec<Made>,
    /// Whether the last decision is the last one of `made`, without an explanation.
    is_last_made: bool,
    /// Explanations, by the index of their decision in `made`.
    explanations: Vec<(usize, String)>,
}

#[derive(Debug)]
enum Mode {
    Random(Explorer),
    Fifo,
    /// The numbers of the decisions that deviate, the next one last.
    Deviations(Vec<u64>),
    Bytes {
        bytes: Rc<[u8]>,
        past: usize,
    },
    /// The list, sorted by host, site and number.
    Replay(Vec<Choice>),
    /// The list, sorted by host, site and moment.
    ReplayTimes(Vec<(Choice, MadeAt)>),
}

/// The state of one site of one host.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The key of the hash.
    key: u64,
    /// How many decisions were made.
    made: u64,
    /// The virtual time of the last decision, and how many were made before that time.
    at: u64,
    made_before: u64,
    rule: Rule,
    /// In a replay, the next decision of the list, by its number and its position.
    next_nth: u64,
    next: usize,
}

impl Slot {
    /// Returns the moment of the last counted decision.
    fn moment(&self) -> MadeAt {
        MadeAt {
            at: self.at,
            nth: self.made - 1 - self.made_before,
        }
    }
}

/// How the decisions of a site are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// No decision was made.
    New,
    Random,
    /// Zero, except in deviations and those decisions that a list has.
    Zero,
    /// By the bytes, or by the moments of a list.
    Rare,
}

/// A slot before its first decision.
const NEW_SLOT: Slot = Slot {
    key: 0,
    made: 0,
    at: u64::MAX,
    made_before: 0,
    rule: Rule::New,
    next_nth: u64::MAX,
    next: 0,
};

impl Choices {
    /// Makes random decisions.
    #[cfg(test)]
    pub(super) fn new(seed: u64) -> Choices {
        Choices::explore(seed, Explorer::Random, Rc::new(Context::new()))
    }

    /// Makes the decisions of a seed in the way of an explorer.
    pub(super) fn explore(seed: u64, explorer: Explorer, context: Rc<Context>) -> Choices {
        let mode = match explorer {
            Explorer::Random | Explorer::Swarm => Mode::Random(explorer),
            Explorer::Fifo => Mode::Fifo,
            Explorer::Deviations { most } => Mode::Deviations(deviations(seed, most)),
            Explorer::Bytes(bytes) => Mode::Bytes { bytes, past: 0 },
        };
        Choices::with_mode(seed, mode, context)
    }

    /// Repeats the decisions of a list. All others are zero.
    pub(super) fn replay(seed: u64, list: &[Choice], context: Rc<Context>) -> Choices {
        let mut list = list.to_vec();
        list.sort_by_key(|choice| (choice.host, choice.site, choice.nth));
        Choices::with_mode(seed, Mode::Replay(list), context)
    }

    /// Repeats the decisions of a list that was made by a slightly different program. A decision is
    /// found by its moment. An additional task changes the moments of decisions less than their
    /// numbers.
    pub(super) fn replay_times(
        seed: u64,
        list: &[(Choice, MadeAt)],
        context: Rc<Context>,
    ) -> Choices {
        let mut list = list.to_vec();
        list.sort_by_key(|(choice, moment)| (choice.host, choice.site, *moment));
        Choices::with_mode(seed, Mode::ReplayTimes(list), context)
    }

    fn with_mode(seed: u64, mode: Mode, context: Rc<Context>) -> Choices {
        let next_deviation = match &mode {
            Mode::Deviations(places) => places.last().copied(),
            _ => None,
        };
        let inner = RefCell::new(Inner {
            mode,
            slots: Vec::new(),
            count: 0,
            next_deviation: next_deviation.unwrap_or(u64::MAX),
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
        if inner
            .slots
            .get(index)
            .is_none_or(|slot| slot.rule == Rule::New)
        {
            inner.start_slot(self.seed, host, site, index);
        }
        let slot = &mut inner.slots[index];
        let nth = slot.made;
        slot.made += 1;
        let now = self.context.now();
        if slot.at != now {
            (slot.at, slot.made_before) = (now, nth);
        }
        let count = inner.count;
        inner.count += 1;
        let value = match slot.rule {
            Rule::Random => random(mix(slot.key, nth), rarity, limit),
            Rule::Zero if nth != slot.next_nth && count != inner.next_deviation => 0,
            _ => inner.choose_rare(host, site, index, limit),
        };
        inner.is_last_made = value != 0;
        if value != 0 {
            let choice = Choice {
                host,
                site,
                nth,
                value,
            };
            self.add(inner, index, choice, limit);
        }
        value
    }

    #[cold]
    #[inline(never)]
    fn add(&self, inner: &mut Inner, index: usize, choice: Choice, limit: u32) {
        inner.made.push(Made {
            choice,
            moment: inner.slots[index].moment(),
            task: self.context.task(),
            limit,
        });
    }

    /// Adds what the last decision means to the story, if that was one of this site, other than
    /// zero, and without an explanation. The function is given the decision, and is called only if
    /// the story is wanted.
    pub(super) fn explain(&self, site: Site, explanation: impl FnOnce(u32) -> String) {
        if !self.context.keeps_names() {
            return;
        }
        let last = match &*self.inner.borrow() {
            inner if inner.is_last_made => inner.made.last().map(|made| made.choice),
            _ => None,
        };
        let Some(last) = last.filter(|last| last.site == site) else {
            return;
        };
        let explanation = explanation(last.value);
        let inner = &mut *self.inner.borrow_mut();
        inner.is_last_made = false;
        inner.explanations.push((inner.made.len() - 1, explanation));
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
    /// Prepares the first decision of a site.
    #[cold]
    fn start_slot(&mut self, seed: u64, host: u16, site: Site, index: usize) {
        if self.slots.len() <= index {
            let hosts = usize::from(host) + 1;
            self.slots.resize(hosts * Site::ALL.len(), NEW_SLOT);
        }
        let slot = &mut self.slots[index];
        slot.key = mix(seed, u64::from(host) << 16 | site as u64);
        slot.rule = match &self.mode {
            Mode::Random(explorer) if explorer.includes(seed, site) => Rule::Random,
            Mode::Bytes { .. } | Mode::ReplayTimes(_) => Rule::Rare,
            _ => Rule::Zero,
        };
        match &self.mode {
            Mode::Replay(list) => {
                let is_before = |it: &Choice| (it.host, it.site) < (host, site);
                slot.next = list.partition_point(is_before);
                slot.set_next(list, host, site);
            }
            Mode::ReplayTimes(list) => {
                let is_before = |(it, _): &(Choice, MadeAt)| (it.host, it.site) < (host, site);
                slot.next = list.partition_point(is_before);
            }
            _ => {}
        }
    }

    /// Makes the last counted decision of a slot by the list, the deviations or the bytes.
    #[cold]
    fn choose_rare(&mut self, host: u16, site: Site, index: usize, limit: u32) -> u32 {
        let slot = &mut self.slots[index];
        let nth = slot.made - 1;
        match &mut self.mode {
            Mode::Random(_) | Mode::Fifo => 0,
            Mode::Deviations(places) => {
                places.pop();
                self.next_deviation = places.last().copied().unwrap_or(u64::MAX);
                1 + scale(mix(slot.key, nth), limit - 1)
            }
            Mode::Bytes { bytes, past } => take(bytes, past, limit),
            Mode::ReplayTimes(list) => slot.replay_time(list, host, site).min(limit - 1),
            Mode::Replay(list) => {
                let value = list[slot.next].value;
                let is_same = |next: &Choice| (next.host, next.site, next.nth) == (host, site, nth);
                while list.get(slot.next).is_some_and(is_same) {
                    slot.next += 1;
                }
                slot.set_next(list, host, site);
                value.min(limit - 1)
            }
        }
    }
}

impl Slot {
    /// Returns the value that the list has for the moment of the last counted decision, or zero.
    fn replay_time(&mut self, list: &[(Choice, MadeAt)], host: u16, site: Site) -> u32 {
        let mut value = 0;
        while let Some((choice, moment)) = list.get(self.next) {
            let is_due = *moment <= self.moment();
            if (choice.host, choice.site) != (host, site) || !is_due {
                break;
            }
            if *moment == self.moment() {
                value = choice.value;
            }
            self.next += 1;
        }
        value
    }

    /// Reads the number of the next decision in the list.
    fn set_next(&mut self, list: &[Choice], host: u16, site: Site) {
        let next = list.get(self.next);
        let next = next.filter(|next| (next.host, next.site) == (host, site));
        self.next_nth = next.map_or(u64::MAX, |next| next.nth);
    }
}

/// Returns a number below `limit`, zero in all but one of `rarity` cases.
fn random(random: u64, rarity: u32, limit: u32) -> u32 {
    if rarity <= 1 {
        return scale(random, limit);
    }
    if ((random >> 32) * u64::from(rarity)) >> 32 != 0 {
        return 0;
    }
    1 + scale(random, limit - 1)
}

/// Maps the lower half of a random number to a number below `limit`.
fn scale(random: u64, limit: u32) -> u32 {
    (((random & 0xffff_ffff) * u64::from(limit)) >> 32) as u32
}

/// Takes a number below `limit` from the bytes. Small limits take one byte.
fn take(bytes: &[u8], past: &mut usize, limit: u32) -> u32 {
    let wanted = match limit {
        ..=0x100 => 1,
        0x101..=0x1_0000 => 2,
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
