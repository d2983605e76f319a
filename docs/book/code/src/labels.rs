//! The Chinese charts, which are the English ones with translated labels.
//!
//! `docs/book/zh/labels.txt` has a line per label, with the English text, a tab and the Chinese
//! text.

use std::{collections::BTreeMap, fs, io};

use crate::book;

/// Writes the Chinese chart of a chapter, if its Chinese page includes one.
///
/// # Errors
///
/// Returns an error if a file cannot be read or written, or if a label has no translation.
pub fn write_chart(chapter: &str) -> io::Result<()> {
    let (folder, name) = (book().join("zh/src"), format!("{chapter}-ours.svg"));
    let page = fs::read_to_string(folder.join(format!("{chapter}.md")));
    if !page.is_ok_and(|text| text.contains(&format!("{{{{#include {name}}}}}"))) {
        return Ok(());
    }
    let english = fs::read_to_string(book().join("en/src").join(&name))?;
    let chinese = translate(&english)?;
    fs::write(folder.join(name), chinese)
}

/// Replaces the labels of a chart.
///
/// # Errors
///
/// Returns an error if a label has no translation, or if `labels.txt` cannot be read.
pub fn translate(svg: &str) -> io::Result<String> {
    let text = fs::read_to_string(book().join("zh/labels.txt"))?;
    let labels: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let mut missing = Vec::new();
    let mut chinese = svg.to_owned();
    for english in labels_of(svg) {
        match labels.get(english) {
            Some(label) => {
                for (before, after) in [(">", "</text>"), ("aria-label=\"", "\"")] {
                    let [from, to] = [english, label].map(|text| format!("{before}{text}{after}"));
                    chinese = chinese.replace(&from, &to);
                }
            }
            None => missing.push(english),
        }
    }
    if missing.is_empty() {
        Ok(chinese)
    } else {
        let message = format!("zh/labels.txt lacks {missing:?}");
        Err(io::Error::other(message))
    }
}

/// The texts of a chart, without values such as `10 ns` and `1,000`.
fn labels_of(svg: &str) -> Vec<&str> {
    let texts = svg
        .split("</text>")
        .filter_map(|part| part.rsplit_once('>'));
    let is_value = |text: &str| {
        let starts = text.starts_with(|c: char| c.is_ascii_digit());
        starts && text.split(' ').count() <= 2
    };
    let texts = texts.map(|(_, text)| text);
    texts
        .filter(|text| !text.trim().is_empty() && !is_value(text))
        .collect()
}
