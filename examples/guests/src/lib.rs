//! windlass as a guest in other event loops, and as a host for other libraries.
//!
//! Each file is a recipe of some fifty lines that embeds a [`Runtime`](windlass::Runtime) in one
//! kind of loop. One test suite, `tests/conformance.rs`, checks all of them, and prints the
//! properties of each.
//! [`curl`] is the reverse case, where windlass runs the loop and a C library is the guest.
//!
//! ```sh
//! xvfb-run -a -s '-noreset' cargo test -p windlass-guests
//! ```

// Closures and foreign loops don't implement Debug.
#![allow(missing_debug_implementations)]

pub mod epoll;
pub mod calloop;
pub mod glib;
pub mod winit;
pub mod watcher;
pub mod tokio;
pub mod frames;
pub mod curl;

use std::rc::Rc;

pub use windlass_guest_checks::{Guest, Host};

/// The constructor of a host.
pub type Make = fn() -> anyhow::Result<Rc<dyn Host>>;

/// The hosts by their names.
pub const HOSTS: &[(&str, Make)] = &[
    ("epoll", || Ok(Rc::new(epoll::Epoll::new()?))),
    ("calloop", || Ok(Rc::new(calloop::Calloop::new()?))),
    ("glib", || Ok(Rc::new(glib::Glib::new()?))),
    ("winit, hook", || Ok(Rc::new(winit::Winit::hooked()?))),
    ("winit, watcher", || Ok(Rc::new(winit::Winit::watched()?))),
    ("tokio", || Ok(Rc::new(tokio::Tokio::new()?))),
    ("frames", || Ok(Rc::new(frames::Frames::new()?))),
];
