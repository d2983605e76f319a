//! The parts of a chapter that can be run.

use std::{io, net::TcpListener};

use crate::{figures::Figures, measure::Progress};

/// A chapter, as the command line knows it.
#[derive(Debug)]
pub struct Chapter {
    /// Its number, which is also its name on the command line.
    pub number: u32,
    /// Its title, as in the table of contents.
    pub title: &'static str,
    /// Measures in at most about 20 seconds.
    pub measure: fn(&mut Progress) -> io::Result<Figures>,
    /// Draws the measured figures beside the figures of the book, as an SVG.
    pub picture: fn(&Figures, &Figures) -> String,
    /// Runs the variant with the bug, which prints how the bug shows.
    pub broken: fn() -> io::Result<()>,
    /// Serves connections, if the chapter has a server. It runs in a child process.
    pub serve: Option<fn(TcpListener) -> io::Result<()>>,
}

impl Chapter {
    /// Returns its name in the names of files, such as `ch03`.
    pub fn name(&self) -> String {
        format!("ch{:02}", self.number)
    }
}
