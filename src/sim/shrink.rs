//! Makes the list of a failing run shorter and its values smaller.
//!
//! Each list is a valid run, so this needs no knowledge of the program. A shorter list is accepted
//! if its run fails in the same way.

use std::collections::BTreeSet;

use super::choices::Choice;

/// The longest list of which each pair is tried. That takes 190 runs.
const MOST_IN_PAIRS: usize = 20;

/// The result of a search.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shrunk {
    pub(super) list: Vec<Choice>,
    /// The number of runs.
    pub(super) runs: u64,
}

/// Shrinks the list of a failing run. `fails` runs a list, at most `most_runs` times, and not after
/// `is_over` has returned true.
pub(super) fn shrink(
    list: Vec<Choice>,
    most_runs: u64,
    is_over: &mut dyn FnMut() -> bool,
    fails: &mut dyn FnMut(&[Choice]) -> bool,
) -> Shrunk {
    let mut search = Search {
        list,
        runs: 0,
        most_runs,
        is_over,
        fails,
    };
    // A step returns `None` at the end of the budget.
    let _ = search.run();
    Shrunk {
        list: search.list,
        runs: search.runs,
    }
}

struct Search<'a> {
    /// The best list so far.
    list: Vec<Choice>,
    runs: u64,
    most_runs: u64,
    is_over: &'a mut dyn FnMut() -> bool,
    fails: &'a mut dyn FnMut(&[Choice]) -> bool,
}

impl Search<'_> {
    fn run(&mut self) -> Option<()> {
        if self.list.is_empty() || self.accepts(Vec::new())? {
            return Some(());
        }
        self.remove_groups(|choice| u32::from(choice.site as u8))?;
        self.remove_groups(|choice| u32::from(choice.host))?;
        self.remove(self.list.len() / 2)?;
        // A removal or a lower value can make other decisions superfluous.
        while self.lower()? || self.remove_pairs()? {
            self.remove(1)?;
        }
        Some(())
    }

    /// Replaces the list by another one if that fails, too.
    fn accepts(&mut self, list: Vec<Choice>) -> Option<bool> {
        if self.runs >= self.most_runs || (self.is_over)() {
            return None;
        }
        self.runs += 1;
        let fails = (self.fails)(&list);
        if fails {
            self.list = list;
        }
        Some(fails)
    }

    /// Removes all decisions of one group after the other, for example a host.
    fn remove_groups(&mut self, group_of: impl Fn(&Choice) -> u32) -> Option<()> {
        let groups: BTreeSet<_> = self.list.iter().map(&group_of).collect();
        for group in groups {
            let rest = self.list.iter().filter(|choice| group_of(choice) != group);
            self.accepts(rest.copied().collect())?;
        }
        Some(())
    }

    /// Removes parts of the list, from this length down to single decisions. Returns whether the
    /// list has become shorter.
    fn remove(&mut self, length: usize) -> Option<bool> {
        let before = self.list.len();
        let mut length = length.max(1);
        loop {
            let at_start = self.list.len();
            // The end of a list is less probably a cause than its start, and a removal there leaves
            // what happens before it alone.
            let mut end = self.list.len();
            while end > 0 {
                let start = end.saturating_sub(length);
                let rest = [&self.list[..start], &self.list[end..]].concat();
                self.accepts(rest)?;
                end = start;
            }
            // A removal changes what the other decisions mean, so single ones get more rounds.
            if length > 1 {
                length /= 2;
            } else if self.list.len() == at_start {
                return Some(self.list.len() < before);
            }
        }
    }

    /// Removes two decisions of a short list. One of them may have compensated the other. Returns
    /// whether the list has become shorter.
    fn remove_pairs(&mut self) -> Option<bool> {
        if self.list.len() > MOST_IN_PAIRS {
            return Some(false);
        }
        for second in (1..self.list.len()).rev() {
            for first in (0..second).rev() {
                let mut rest = self.list.clone();
                rest.remove(second);
                rest.remove(first);
                if self.accepts(rest)? {
                    return Some(true);
                }
            }
        }
        Some(false)
    }

    /// Lowers each value to the least one that fails. Returns whether a value has changed.
    fn lower(&mut self) -> Option<bool> {
        let mut has_changed = false;
        for i in 0..self.list.len() {
            // The run fails with `high`, and does not fail with values below `low`.
            let (mut low, mut high) = (1, self.list[i].value);
            let mut tried = low;
            while low < high {
                let mut list = self.list.clone();
                list[i].value = tried;
                if self.accepts(list)? {
                    high = tried;
                    has_changed = true;
                } else {
                    low = tried + 1;
                }
                tried = low + (high - low) / 2;
            }
        }
        Some(has_changed)
    }
}
