//! The contenders.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// The cost of the work itself, without futures.
    Floor,
    Windlass,
    WindlassPrecise,
    Tokio,
    Smol,
    MonoioUring,
    MonoioEpoll,
    Glommio,
    Compio,
    Threads,
}

use Contender::*;

/// In the order of the tables' columns.
pub(crate) const ALL: [Contender; 10] = [
    Floor,
    Windlass,
    WindlassPrecise,
    Tokio,
    Smol,
    MonoioUring,
    MonoioEpoll,
    Glommio,
    Compio,
    Threads,
];

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Floor => "floor",
            Windlass => "windlass",
            WindlassPrecise => "windlass-precise",
            Tokio => "tokio",
            Smol => "smol",
            MonoioUring => "monoio-uring",
            MonoioEpoll => "monoio-epoll",
            Glommio => "glommio",
            Compio => "compio",
            Threads => "threads",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Contender> {
        ALL.into_iter().find(|contender| contender.name() == name)
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Windlass | WindlassPrecise)
    }

    /// Another async runtime, the base of the ratios. Neither threads nor the floor.
    pub(crate) fn is_peer(self) -> bool {
        !self.is_ours() && !matches!(self, Floor | Threads)
    }

    /// These make system calls that valgrind doesn't support.
    pub(crate) fn needs_io_uring(self) -> bool {
        matches!(self, MonoioUring | Glommio | Compio)
    }

    /// The names in Cargo.lock, whose versions the report lists.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            Windlass => &["windlass"],
            Tokio => &["tokio"],
            Smol => &["async-executor", "async-io"],
            MonoioUring => &["monoio"],
            Glommio => &["glommio"],
            Compio => &["compio"],
            WindlassPrecise | MonoioEpoll | Threads | Floor => &[],
        }
    }

    /// The same in all charts, and distinguishable for the colour-blind (Okabe and Ito's palette).
    pub(crate) fn colour(self) -> (u8, u8, u8) {
        match self {
            Windlass => (0, 114, 178),
            WindlassPrecise => (86, 180, 233),
            Threads => (213, 94, 0),
            Tokio => (0, 158, 115),
            Smol => (204, 121, 167),
            MonoioUring => (230, 159, 0),
            MonoioEpoll => (178, 132, 20),
            Glommio => (128, 82, 44),
            Compio => (110, 84, 160),
            Floor => (120, 120, 120),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
