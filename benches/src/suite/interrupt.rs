//! Ctrl-C: the suite stops, ends its children, and reports the results so far.

use std::sync::{Arc, OnceLock, atomic::AtomicBool, atomic::Ordering::Relaxed};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};

static HAPPENED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

pub(crate) fn listen() -> Result<()> {
    let flag = HAPPENED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // A second one exits at once. The children see the end of their standard input.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

pub(crate) fn happened() -> bool {
    HAPPENED.get().is_some_and(|flag| flag.load(Relaxed))
}
