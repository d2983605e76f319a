//! The kinds of decisions, and the families of faults that they belong to.

/// Defines the kinds of decisions. Each has its family, and a text for stories in which `{value}`
/// is the decision.
macro_rules! sites {
    ($($(#[doc = $doc:literal])+ $site:ident => $family:ident, $text:literal;)+) => {
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

            fn text(self) -> &'static str {
                match self {
                    $(Site::$site => $text,)+
                }
            }
        }
    };
}

// A new kind goes to the end. The position is an input of each decision, so a kind that is inserted
// before others changes what their seeds mean.
sites! {
    /// The task that is polled next.
    Task => Order, "the task at position {value} of the run queue runs first";
    /// The order of events of one wait.
    Event => Order, "an event is delivered before {value} others";
    /// The host that runs next.
    Host => Order, "the host at position {value} runs first";
    /// The delay of a segment.
    Latency => Delay, "a packet takes longer (level {value})";
    /// Whether a datagram is lost.
    Loss => Loss, "a packet is lost";
    /// How many bytes a read or write transfers.
    Transfer => Transfer, "a read or write transfers less (level {value})";
    /// Whether a packet arrives twice.
    Duplicate => Loss, "a packet arrives twice";
    /// Whether a packet arrives after later ones.
    Reorder => Loss, "later packets overtake a packet";
    /// Whether an event reports a socket ready that is not.
    Spurious => Transfer, "a socket is reported ready and is not";
    /// Whether a system call is interrupted.
    Interrupt => Transfer, "a system call is interrupted";
    /// Whether a socket has small buffers.
    Buffer => Shortage, "a socket has small buffers (level {value})";
    /// How much longer than its least duration an operation on a file takes.
    DiskLatency => Delay, "a file operation takes longer (level {value})";
    /// How long an operation on a file stalls.
    DiskStall => Delay, "a file operation stalls (level {value})";
    /// Whether a read of a file fails.
    DiskRead => Disk, "a read of a file fails";
    /// Whether a sync of a file fails.
    DiskSync => Disk, "a sync of a file fails";
    /// Whether a cancelled operation on a file happens nonetheless.
    DiskCancel => Order, "a cancelled file operation does not happen";
    /// Whether a crash keeps all changes that were not synced, none, or some.
    DiskCrash => Crash, "the disk loses changes in the crash (kind {value})";
    /// How much of one change is lost.
    DiskLoss => Crash, "the disk loses part of a change ({value})";
    /// The sectors of a page that a torn write leaves as they were.
    DiskTear => Crash, "the disk tears a page (sectors {value})";
    /// A decision of the test, by [`World::choose`](super::World::choose).
    Plan => Plan, "the test chooses {value}";
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
    /// The test decides.
    Plan,
}

impl Site {
    /// Returns the kind with this name.
    pub(super) fn from_name(name: &str) -> Option<Site> {
        Site::ALL.iter().copied().find(|site| site.name() == name)
    }

    /// Returns what a decision means, for a story.
    pub(super) fn meaning(self, value: u32) -> String {
        self.text().replace("{value}", &value.to_string())
    }
}
