//! The first difference of two runs that have the same decisions.

use std::fmt;
use std::rc::Rc;

use super::run::Run;
use super::trace::{Checkpoint, Event, Watch};

/// The most events that a search keeps of each run.
const EVENTS: u64 = 65_536;

/// How many pairs of runs a search makes. A run of 100 million events takes two pairs. The others
/// are for programs that differ seldom, or each time elsewhere.
const PAIRS: u32 = 8;

/// Where two runs with the same decisions differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Difference {
    /// The number of the first step that differs, if a search found it.
    step: Option<u64>,
    /// The event before, which the runs share.
    before: Option<String>,
    /// The events of both runs. `None` if the run has ended.
    events: [Option<String>; 2],
}

impl Difference {
    /// Describes two runs that differ in a way that did not occur again.
    fn unlocated() -> Difference {
        Difference {
            step: None,
            before: None,
            events: [None, None],
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nondeterminism: two runs with the same decisions differ")?;
        let Some(step) = self.step else {
            return f.write_str(", but pairs of runs afterwards did not");
        };
        write!(f, " at step {step}")?;
        if let Some(before) = &self.before {
            write!(f, "\n    both:   {before}")?;
        }
        for (name, event) in ["first:  ", "second: "].iter().zip(&self.events) {
            let event = event.as_deref().unwrap_or("the run has ended");
            write!(f, "\n    {name}{event}")?;
        }
        Ok(())
    }
}

/// Searches for the first difference of two runs that are known to differ. The function makes a run
/// that keeps a part of its events.
pub(super) fn first_difference(run: &mut dyn FnMut(Watch) -> Rc<Run>) -> Difference {
    let mut watch = Watch::HASHES;
    for _ in 0..PAIRS {
        let (first, second) = (run(watch), run(watch));
        if watch.keeps_events {
            if let Some(difference) = compare_events(&first, &second, watch) {
                return difference;
            }
            // These runs differ elsewhere, or are equal.
            watch = Watch::HASHES;
        } else if let Some((from, to)) = compare_hashes(&first, &second) {
            watch = Watch {
                from,
                to,
                keeps_events: false,
            };
            if to - from < EVENTS / 2 {
                // The next runs may differ nearby.
                let from = from.saturating_sub(EVENTS / 2);
                watch = Watch {
                    from,
                    to: from + EVENTS,
                    keeps_events: true,
                };
            }
        } else {
            watch = Watch::HASHES;
        }
    }
    Difference::unlocated()
}

/// Returns the last step before which the runs are known to be equal, and the first one before
/// which they are known to differ.
fn compare_hashes(first: &Run, second: &Run) -> Option<(u64, u64)> {
    let [first, second] = [first, second].map(|run| run.trace.hashes());
    let mut from = 0;
    for Checkpoint { step, hash } in &first {
        let Ok(found) = second.binary_search_by_key(step, |other| other.step) else {
            continue;
        };
        if second[found].hash != *hash {
            return Some((from, *step));
        }
        from = *step;
    }
    // Runs of different lengths differ at the latest where the shorter one ends.
    let end = |hashes: &[Checkpoint]| hashes.last().map_or(0, |last| last.step);
    let ends = [end(&first), end(&second)];
    (ends[0] != ends[1]).then_some((from, ends[0].min(ends[1]) + 1))
}

fn compare_events(first: &Run, second: &Run, watch: Watch) -> Option<Difference> {
    let [a, b] = [first, second].map(|run| run.trace.events());
    let starts = [first, second].map(|run| run.trace.hashes()[0]);
    if starts[0] != starts[1] {
        return None;
    }
    let equal = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    if equal == a.len() && equal == b.len() {
        return None;
    }
    let text = |run: &Run, event: Option<&Event>| event.map(|event| run.trace.text(event));
    Some(Difference {
        step: Some(watch.from + equal as u64),
        before: text(first, equal.checked_sub(1).map(|last| &a[last])),
        events: [text(first, a.get(equal)), text(second, b.get(equal))],
    })
}
