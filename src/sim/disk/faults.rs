//! What a disk does wrong, how often, and how long its operations take.

/// The faults of a disk.
///
/// A rate is a rarity. Of that many operations, about one has the fault, and zero switches the
/// fault off. By default there are no faults, the capacity is unlimited, and operations take as
/// long as on a fast SSD.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Reads that fail with `EIO`.
    pub(crate) read_errors: u32,
    /// Syncs that fail with `EIO`. The pages that failed never reach the disk.
    pub(crate) sync_errors: u32,
    /// Operations that take up to a second longer.
    pub(crate) slow_operations: u32,
    /// The bytes that fit. Writes beyond fail with `ENOSPC`.
    pub(crate) capacity: Option<u64>,
    /// Whether permissions are ignored, as for a superuser.
    pub(crate) is_superuser: bool,
    /// The least duration of each kind of operation.
    pub(crate) latency: Latency,
}

/// The least durations of operations (ns). A choice makes each up to twice as long.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) sync: u64,
    /// Operations on names and metadata.
    pub(crate) names: u64,
    /// Blocking closures.
    pub(crate) closure: u64,
}

/// A kind of operation, for its duration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Read,
    Write,
    Sync,
    Names,
    Closure,
}

impl Faults {
    /// Ends the faults. The capacity stays.
    pub(in crate::sim) fn heal(&mut self) {
        let limits = (self.capacity, self.is_superuser, self.latency.clone());
        *self = Faults::default();
        (self.capacity, self.is_superuser, self.latency) = limits;
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            read_errors: 0,
            sync_errors: 0,
            slow_operations: 0,
            capacity: None,
            is_superuser: false,
            latency: Latency {
                read: 50_000,
                write: 20_000,
                sync: 1_000_000,
                names: 30_000,
                closure: 50_000,
            },
        }
    }
}

impl Latency {
    /// Operations that take no time.
    #[cfg(test)]
    pub(crate) const NONE: Latency = Latency {
        read: 0,
        write: 0,
        sync: 0,
        names: 0,
        closure: 0,
    };

    pub(super) fn of(&self, work: Work) -> u64 {
        match work {
            Work::Read => self.read,
            Work::Write => self.write,
            Work::Sync => self.sync,
            Work::Names => self.names,
            Work::Closure => self.closure,
        }
    }
}
