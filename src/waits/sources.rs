//! The purpose of file descriptors that the reactor watches for this crate.

use std::mem::offset_of;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;

use super::{FacadeSource, ListWaits, Listed, ObjectKind, SourceKind};

/// Labels a file descriptor of this thread until it is dropped.
#[derive(Debug)]
pub(crate) struct SourceLabel {
    _listed: Pin<Box<Listed<Source>>>,
}

// Listing only reads it.
impl UnwindSafe for SourceLabel {}
impl RefUnwindSafe for SourceLabel {}

#[derive(Debug)]
pub(crate) struct Source {
    fd: i32,
    /// Zero if it is for signals.
    pid: u32,
    signals: Vec<i32>,
}

impl SourceLabel {
    pub(crate) fn new(fd: i32, kind: SourceKind) -> SourceLabel {
        let (pid, signals) = match kind {
            SourceKind::Child { pid } => (pid, Vec::new()),
            SourceKind::Signals(signals) => (0, signals),
        };
        let _listed = Box::pin(Listed::new(Source { fd, pid, signals }));
        _listed.as_ref().join();
        SourceLabel { _listed }
    }
}

impl Source {
    pub(crate) const OFFSETS: [usize; 3] = [
        offset_of!(Source, fd),
        offset_of!(Source, pid),
        offset_of!(Source, signals),
    ];
}

impl ListWaits for Source {
    fn kind(&self) -> ObjectKind {
        ObjectKind::Source
    }

    fn list_source(&self, sources: &mut Vec<FacadeSource>) {
        sources.push(FacadeSource {
            fd: self.fd,
            kind: match self.pid {
                0 => SourceKind::Signals(self.signals.clone()),
                pid => SourceKind::Child { pid },
            },
        });
    }
}
