//! The kinds of decisions, and the families of faults that they belong to.

/// Defines the kinds of decisions, each with its family.
macro_rules! sites {
    ($($(#[doc = $doc:literal])+ $site:ident => $family:ident,)+) => {
        /// A kind of decision.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub(in crate::sim) enum Site {
            $($(#[doc = $doc])+ $site,)+
        }

        impl Site {
            pub(in crate::sim) const ALL: &[Site] = &[$(Site::$site),+];

            pub(in crate::sim) fn family(self) -> Family {
                match self {
                    $(Site::$site => Family::$family,)+
                }
            }

            /// Returns the name in a replay file.
            pub(in crate::sim) fn name(self) -> &'static str {
                match self {
                    $(Site::$site => stringify!($site),)+
                }
            }
        }
    };
}

// A new kind goes to the end. The position is an input of each decision, so a kind that is inserted
// before others changes what their seeds mean.
sites! {
    /// The task that is polled next.
    Task => Order,
    /// The order of events of one wait.
    Event => Order,
    /// The host that runs next.
    Host => Order,
    /// The delay of a segment.
    Latency => Delay,
    /// Whether a datagram is lost.
    Loss => Loss,
    /// How many bytes a read or write transfers.
    Transfer => Transfer,
    /// Whether a packet arrives twice.
    Duplicate => Loss,
    /// Whether a packet arrives after later ones.
    Reorder => Loss,
    /// Whether an event reports a socket ready that is not.
    Spurious => Transfer,
    /// Whether a system call is interrupted.
    Interrupt => Transfer,
    /// Whether the system refuses a descriptor.
    Descriptor => Shortage,
    /// Whether a socket has small buffers.
    Buffer => Shortage,
    /// How much longer than its least duration an operation on a file takes.
    DiskLatency => Delay,
    /// How long an operation on a file stalls.
    DiskStall => Delay,
    /// Whether a read of a file fails.
    DiskRead => Disk,
    /// Whether a sync of a file fails.
    DiskSync => Disk,
    /// By how many bytes a transfer of a file is shorter.
    DiskTransfer => Transfer,
    /// Whether a cancelled operation on a file happens nonetheless.
    DiskCancel => Order,
    /// Whether a crash keeps all changes that were not synced, none, or some.
    DiskCrash => Crash,
    /// How much of one change is lost.
    DiskLoss => Crash,
    /// The sectors of a page that a torn write leaves as they were.
    DiskTear => Crash,
}

/// A family of faults. A run of the swarm explorer has about half of them. As with sites, a new
/// one goes to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Family {
    /// Ready work runs in another order.
    Order,
    /// Something takes longer.
    Delay,
    /// A packet is lost, duplicated or reordered.
    Loss,
    /// A read or write transfers less than possible, or is interrupted.
    Transfer,
    /// A resource is exhausted.
    Shortage,
    /// A disk fails.
    Disk,
    /// A host or connection ends abruptly.
    Crash,
}

impl Site {
    /// Returns the kind with this name.
    pub(super) fn from_name(name: &str) -> Option<Site> {
        Site::ALL.iter().copied().find(|site| site.name() == name)
    }
}
