//! A timer wheel, as data. It reads no clock.

#![allow(missing_debug_implementations)]

// ANCHOR: imports
use std::collections::HashMap;
use std::mem;
use std::task::Waker;
// ANCHOR_END: imports

// ANCHOR: wheel
/// The tick at which a timer fires, and the number of the timer.
pub type Key = (u64, u64);

/// Timers in 11 rings of 64 slots. A slot of the first ring is one tick wide. A slot of
/// each further ring is as wide as the whole ring before.
pub struct Wheel {
    now: u64,
    timers: u64,
    slots: Vec<HashMap<Key, Waker>>,
}

impl Wheel {
    /// The slot for a tick in the future. The highest digit in which the tick differs from
    /// now, in base 64, gives the ring, and its value gives the slot.
    fn slot(&self, tick: u64) -> usize {
        let ring = (tick ^ self.now).ilog2() / 6;
        (ring * 64) as usize + (tick >> (6 * ring) & 63) as usize
    }

    /// Sets a timer.
    pub fn set(&mut self, tick: u64, waker: Waker) -> Key {
        self.timers += 1;
        let key = (tick.max(self.now + 1), self.timers);
        let slot = self.slot(key.0);
        self.slots[slot].insert(key, waker);
        key
    }

    /// Cancels a timer, if it has not fired.
    pub fn cancel(&mut self, key: Key) {
        if key.0 > self.now {
            let slot = self.slot(key.0);
            self.slots[slot].remove(&key);
        }
    }

    /// The tick at which the next slot opens.
    pub fn next(&self) -> Option<u64> {
        (0..11).find_map(|ring| {
            let slots = &self.slots[ring * 64..][..64];
            let now = self.now >> (6 * ring);
            let mut later = now + 1..=(now | 63);
            let tick = later.find(|tick| !slots[(tick & 63) as usize].is_empty())?;
            Some(tick << (6 * ring))
        })
    }

    /// Advances to a tick. Returns the wakers of the timers that have fired.
    pub fn advance(&mut self, now: u64) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(tick) = self.next().filter(|tick| *tick <= now) {
            let slot = self.slot(tick);
            self.now = tick;
            for (key, waker) in mem::take(&mut self.slots[slot]) {
                if key.0 == tick {
                    due.push(waker);
                } else {
                    // The rest of the slot moves to a finer ring.
                    let slot = self.slot(key.0);
                    self.slots[slot].insert(key, waker);
                }
            }
        }
        self.now = now.max(self.now);
        due
    }
}
// ANCHOR_END: wheel

impl Default for Wheel {
    fn default() -> Wheel {
        let (now, timers) = (0, 0);
        Wheel {
            now,
            timers,
            slots: vec![HashMap::new(); 11 * 64],
        }
    }
}

#[test]
fn timers_fire_at_their_ticks() {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    struct Note(u64, Arc<Mutex<Vec<u64>>>);
    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    let fired = Arc::new(Mutex::new(Vec::new()));
    let mut wheel = Wheel::default();
    // Numbers that look random, up to a million ticks.
    let ticks: Vec<u64> = (1..2_000).map(|i| i * 7_919_101 % 1_000_003).collect();
    let set = |wheel: &mut Wheel, tick| {
        let waker = Waker::from(Arc::new(Note(tick, fired.clone())));
        wheel.set(tick, waker)
    };
    let keys: Vec<_> = ticks.iter().map(|tick| set(&mut wheel, *tick)).collect();
    let mut kept = Vec::new();
    for (i, key) in keys.into_iter().enumerate() {
        if i % 3 == 0 {
            wheel.cancel(key);
        } else {
            kept.push(key.0);
        }
    }
    kept.sort_unstable();
    let mut now = 0;
    while wheel.next().is_some() {
        now += 1 + now % 997;
        wheel.advance(now).into_iter().for_each(Waker::wake);
        let due = kept.iter().take_while(|tick| **tick <= now).count();
        let mut fired = fired.lock().unwrap().clone();
        fired.sort_unstable();
        assert_eq!(fired, kept[..due], "at {now}");
    }
    assert_eq!(fired.lock().unwrap().len(), kept.len());
}
