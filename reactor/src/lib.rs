//! The reactor of windlass.
