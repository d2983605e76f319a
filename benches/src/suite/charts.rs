//! The charts, as SVG, for a talk.

use std::path::Path;

use anyhow::Result;

use super::{plan::Work, results::Results};

/// Returns each chart's file and the part that it belongs to.
pub(crate) fn draw(
    _folder: &Path,
    _works: &[Work],
    _results: &Results,
) -> Result<Vec<(&'static str, &'static str)>> {
    Ok(Vec::new())
}
