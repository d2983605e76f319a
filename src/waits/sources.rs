//! The purpose of file descriptors that the reactor watches for this crate.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{FacadeSource, SourceKind};

thread_local! {
    static SOURCES: RefCell<BTreeMap<i32, SourceKind>> = const { RefCell::new(BTreeMap::new()) };
}

/// Labels a file descriptor of this thread until it is dropped.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct SourceLabel {
    fd: i32,
}

#[cfg(unix)]
impl SourceLabel {
    pub(crate) fn new(fd: i32, kind: SourceKind) -> SourceLabel {
        // At the end of the thread there is no list.
        let _ = SOURCES.try_with(|sources| sources.borrow_mut().insert(fd, kind));
        SourceLabel { fd }
    }
}

#[cfg(unix)]
impl Drop for SourceLabel {
    fn drop(&mut self) {
        let _ = SOURCES.try_with(|sources| sources.borrow_mut().remove(&self.fd));
    }
}

/// Lists the labelled file descriptors of this thread.
pub(crate) fn list_sources() -> Vec<FacadeSource> {
    let list = |sources: &RefCell<BTreeMap<i32, SourceKind>>| {
        let sources = sources.borrow();
        let each = sources.iter().map(|(&fd, kind)| FacadeSource {
            fd,
            kind: kind.clone(),
        });
        each.collect()
    };
    SOURCES.try_with(list).unwrap_or_default()
}
