//! The bytes of a file in memory and on the disk, and what a crash leaves of them.
//!
//! The page cache writes pages to the disk in any order, each with all writes that it has seen by
//! then. So a crash leaves each page in one of its states since the last sync, independently of
//! other pages. Within a page, single sectors may be older. A truncation is
//! ordered: if a crash undoes it, it undoes all later changes of the file.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Choose;
use super::contents::{Contents, PAGE, Page, SECTOR, page_of, start_of};
use crate::sim::site::Site;

/// How many states of a page may survive a crash. Older ones than these are forgotten.
const MAX_STATES: usize = 8;

/// After this many truncations, all changes are written to the disk, as by a system that writes
/// back old pages.
const MAX_CUTS: usize = 64;

/// What a crash leaves of the changes that were not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// All of them have reached the disk.
    Nothing,
    /// None has reached the disk.
    Everything,
    /// A choice for each.
    Some,
}

/// A file in memory and on the disk.
#[derive(Default, Debug)]
pub(super) struct FileData {
    /// What programs read.
    live: Contents,
    /// What the disk has.
    durable: Contents,
    /// The states of the pages that were written since the last sync.
    dirty: BTreeMap<u64, Vec<State>>,
    /// The lengths that were set since the last sync.
    cuts: Vec<u64>,
}

/// A page after a write.
#[derive(Debug)]
struct State {
    page: Rc<Page>,
    /// The length of the file.
    len: u64,
    /// The number of lengths that were set before.
    cuts: usize,
}

impl FileData {
    pub(super) fn live(&self) -> &Contents {
        &self.live
    }

    /// Writes as many bytes as fit into `room`, the free bytes of the disk. Returns their number.
    pub(super) fn write(&mut self, data: &[u8], offset: u64, room: &mut u64) -> usize {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let page = page_of(at);
            if !self.live.has_page(page) {
                match room.checked_sub(PAGE as u64) {
                    Some(left) => *room = left,
                    None => break,
                }
            }
            let part = (start_of(page + 1) - at).min((data.len() - done) as u64) as usize;
            self.live.write_in_page(&data[done..done + part], at);
            self.add_state(page);
            done += part;
        }
        done
    }

    fn add_state(&mut self, page: u64) {
        let Some(data) = self.live.page(page) else {
            return;
        };
        let states = self.dirty.entry(page).or_default();
        if states.len() == MAX_STATES {
            states.remove(0);
        }
        states.push(State {
            page: data.clone(),
            len: self.live.len(),
            cuts: self.cuts.len(),
        });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len == self.live.len() {
            return;
        }
        if self.cuts.len() == MAX_CUTS {
            self.sync();
        }
        self.live.set_len(len);
        self.cuts.push(len);
    }

    /// Writes all changes to the disk.
    pub(super) fn sync(&mut self) {
        self.write_back(|_| true);
    }

    /// Writes changes to the disk, of which some pages fail. As in Linux, the failed pages count as
    /// clean afterwards, so no later sync writes them. Returns false if no page was left to write.
    pub(super) fn fail_to_sync(&mut self, choose: Choose<'_>) -> bool {
        if self.dirty.is_empty() {
            return false;
        }
        let pages = self.dirty.keys();
        let failed = pages.filter(|_| choose(Site::DiskLoss, 2, 2) == 0);
        let failed: Vec<u64> = failed.copied().collect();
        self.write_back(|page| !failed.contains(&page));
        // ext4 and XFS keep the data in memory. btrfs drops it, as all do under memory pressure.
        if choose(Site::DiskLoss, 2, 2) != 0 {
            failed
                .iter()
                .for_each(|page| self.live.copy_page(*page, &self.durable));
        }
        true
    }

    fn write_back(&mut self, succeeds: impl Fn(u64) -> bool) {
        for len in self.cuts.drain(..) {
            self.durable.set_len(len);
        }
        for (page, _) in std::mem::take(&mut self.dirty) {
            if succeeds(page) {
                self.durable.copy_page(page, &self.live);
            }
        }
        self.durable.set_len(self.live.len());
    }

    /// Loses the memory. The disk has the synced bytes and a part of the changes since then.
    pub(super) fn crash(&mut self, loss: Loss, choose: Choose<'_>) {
        match loss {
            Loss::Nothing => self.sync(),
            Loss::Everything => {}
            Loss::Some => self.lose_some(choose),
        }
        self.dirty.clear();
        self.cuts.clear();
        self.live = self.durable.clone();
    }

    fn lose_some(&mut self, choose: Choose<'_>) {
        let mut cuts = self.cuts.len();
        if cuts > 0 {
            cuts -= choose(Site::DiskLoss, 1, cuts as u32 + 1) as usize;
        }
        // By the number of truncations before them.
        let mut kept: BTreeMap<usize, Vec<(u64, &State, u32)>> = BTreeMap::new();
        for (page, states) in &self.dirty {
            let states: Vec<&State> = states.iter().filter(|it| it.cuts <= cuts).collect();
            if states.is_empty() {
                continue;
            }
            let lost = choose(Site::DiskLoss, 1, states.len() as u32 + 1) as usize;
            if lost < states.len() {
                let state = states[states.len() - 1 - lost];
                let torn = choose(Site::DiskTear, 2, 1 << (PAGE / SECTOR));
                kept.entry(state.cuts)
                    .or_default()
                    .push((*page, state, torn));
            }
        }
        for cut in 0..=cuts {
            if cut > 0 {
                self.durable.set_len(self.cuts[cut - 1]);
            }
            for (page, state, torn) in kept.get(&cut).into_iter().flatten() {
                tear(&mut self.durable, *page, state, *torn);
            }
        }
    }
}

/// Writes a page of which some sectors stay as they were. The lowest bit is for the first.
fn tear(disk: &mut Contents, page: u64, state: &State, torn: u32) {
    let mut data = *state.page;
    let written = state
        .len
        .saturating_sub(start_of(page))
        .div_ceil(SECTOR as u64);
    let mut end = 0;
    for (sector, new) in data.chunks_mut(SECTOR).enumerate().take(written as usize) {
        if torn & (1 << sector) == 0 {
            end = (sector + 1) * SECTOR;
            continue;
        }
        match disk.page(page) {
            Some(old) => new.copy_from_slice(&old[sector * SECTOR..][..SECTOR]),
            None => new.fill(0),
        }
    }
    let end = start_of(page) + end as u64;
    // Bytes beyond the length read as zeros once the file grows.
    let len = disk.len().max(state.len.min(end));
    let beyond = len.saturating_sub(start_of(page)).min(PAGE as u64) as usize;
    data[beyond..].fill(0);
    disk.put(page, Rc::new(data), state.len.min(end));
}
