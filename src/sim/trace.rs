//! The hash of everything that happens in a run.
//!
//! A run has more events than memory. It keeps its hash, and on demand the hashes of some of its
//! steps or the events of a few steps.

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::rc::Rc;

use super::context::{Context, Seconds};

/// The most hashes that a run keeps.
const HASHES: usize = 4096;

/// Defines the kinds of events, each with a text about its two numbers.
macro_rules! events {
    ($($kind:ident => $text:literal,)+) => {
        /// A kind of event.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub(in crate::sim) enum EventKind {
            $(#[doc = $text] $kind,)+
        }

        impl EventKind {
            fn text(self) -> &'static str {
                match self {
                    $(EventKind::$kind => $text,)+
                }
            }
        }
    };
}

// A new kind goes to the end. The position is an input of the hash.
events! {
    Poll => "task {a} is polled",
    Call => "system call {a} returns {b}",
    Bytes => "{a} bytes are sent, with hash {b}",
    Disk => "disk operation {a} returns {b}",
    Host => "host changes to state {a}",
    End => "the run ends",
}

/// The record of one run.
#[derive(Debug)]
pub(super) struct Trace {
    context: Rc<Context>,
    hash: Cell<u64>,
    steps: Cell<u64>,
    /// The next step of which more than the hash is kept.
    next_kept: Cell<u64>,
    watch: Watch,
    kept: RefCell<Kept>,
}

/// The part of a run that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Watch {
    /// The first step.
    pub(super) from: u64,
    /// The end, which is excluded.
    pub(super) to: u64,
    /// Whether all events are kept, or only hashes at some distance.
    pub(super) keeps_events: bool,
}

impl Watch {
    /// Keeps nothing.
    pub(super) const NOTHING: Watch = Watch {
        from: u64::MAX,
        to: u64::MAX,
        keeps_events: false,
    };

    /// Keeps hashes of the whole run.
    pub(super) const HASHES: Watch = Watch {
        from: 0,
        to: u64::MAX,
        keeps_events: false,
    };
}

#[derive(Debug)]
struct Kept {
    /// The distance of the hashes. It doubles when there are too many.
    distance: u64,
    hashes: Vec<Checkpoint>,
    events: Vec<Event>,
}

/// The hash before a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Checkpoint {
    pub(super) step: u64,
    pub(super) hash: u64,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub(super) now: u64,
    pub(super) host: u16,
    pub(super) task: u32,
    pub(super) kind: EventKind,
    pub(super) a: u64,
    pub(super) b: u64,
}

impl Trace {
    pub(super) fn new(context: Rc<Context>, watch: Watch) -> Trace {
        let kept = RefCell::new(Kept {
            distance: 1,
            hashes: Vec::new(),
            events: Vec::new(),
        });
        Trace {
            context,
            hash: Cell::new(0x7769_6e64_6c61_7373),
            steps: Cell::new(0),
            next_kept: Cell::new(watch.from),
            watch,
            kept,
        }
    }

    /// Adds an event to the hash. `a` and `b` belong to the kind. They depend on the seed alone.
    #[inline]
    pub(super) fn record(&self, now: u64, host: u16, kind: EventKind, a: u64, b: u64) {
        let step = self.steps.get();
        if step == self.next_kept.get() {
            self.keep(now, host, kind, a, b);
        }
        let place = u64::from(host) << 8 | kind as u64;
        let hash = fold(self.hash.get() ^ now, a ^ 0x9e37_79b9_7f4a_7c15);
        self.hash.set(fold(hash ^ b, place ^ 0xd6e8_feb8_6659_fd93));
        self.steps.set(step + 1);
    }

    /// Keeps what the watch demands of the next step.
    #[cold]
    fn keep(&self, now: u64, host: u16, kind: EventKind, a: u64, b: u64) {
        let kept = &mut *self.kept.borrow_mut();
        let (step, hash) = (self.steps.get(), self.hash.get());
        if !self.watch.keeps_events || kept.hashes.is_empty() {
            kept.hashes.push(Checkpoint { step, hash });
        }
        if self.watch.keeps_events {
            kept.events.push(Event {
                now,
                host,
                task: self.context.task(),
                kind,
                a,
                b,
            });
        } else if kept.hashes.len() == HASHES {
            kept.distance *= 2;
            let (from, distance) = (self.watch.from, kept.distance);
            let is_kept = |kept: &Checkpoint| (kept.step - from) % distance == 0;
            kept.hashes.retain(is_kept);
        }
        let last = kept.hashes.last().map_or(step, |last| last.step);
        let next = match self.watch.keeps_events {
            true => step + 1,
            false => last + kept.distance,
        };
        let is_over = next >= self.watch.to;
        self.next_kept.set(if is_over { u64::MAX } else { next });
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// Returns the number of events.
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Returns the kept hashes, and the one at the end.
    pub(super) fn hashes(&self) -> Vec<Checkpoint> {
        let mut hashes = self.kept.borrow().hashes.clone();
        hashes.push(Checkpoint {
            step: self.steps(),
            hash: self.hash(),
        });
        hashes
    }

    /// Returns the kept events. They start with the watch's first step.
    pub(super) fn events(&self) -> Vec<Event> {
        self.kept.borrow().events.clone()
    }

    /// Returns the text of an event, with the names of the run.
    pub(super) fn text(&self, event: &Event) -> String {
        let text = event.kind.text();
        let text = text.replace("{a}", &event.a.to_string());
        let text = text.replace("{b}", &event.b.to_string());
        let host = self.context.host_name(event.host);
        let task = self.context.task_name(event.host, event.task);
        let task = task.map_or(String::new(), |task| format!(", in task {task}"));
        format!("{} {host}: {text}{task}", Seconds(event.now))
    }
}

/// Returns the hash of the first bytes of some buffers.
pub(super) fn hash_of(bufs: &[IoSlice<'_>], mut len: usize) -> u64 {
    let mut hash = len as u64;
    for buf in bufs {
        let bytes = &buf[..buf.len().min(len)];
        len -= bytes.len();
        for word in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..word.len()].copy_from_slice(word);
            let number = u64::from_le_bytes(number);
            hash = fold(hash ^ number, 0x9e37_79b9_7f4a_7c15);
        }
    }
    hash
}

/// Mixes two numbers: the halves of their product, combined.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
