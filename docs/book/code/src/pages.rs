//! The pages of the book as text, with their paragraphs, fences, headings and links.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::book;

/// A language of the book, which is a folder.
pub const LANGUAGES: [&str; 2] = ["en", "zh"];

/// A page of the book.
#[derive(Debug)]
pub struct Page {
    /// Its name without the suffix, such as `ch03`.
    pub name: String,
    /// Its text in Markdown.
    pub text: String,
}

/// A fenced block of a page.
#[derive(Debug, PartialEq)]
pub struct Fence {
    /// The words after the fence, such as `rust`.
    pub info: String,
    /// The lines inside.
    pub lines: Vec<String>,
}

/// Reads the pages of a language, in the order of their names.
///
/// # Errors
///
/// Returns an error if a file cannot be read.
pub fn pages(language: &str) -> io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(book().join(language).join("src"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == "md") {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            pages.push(Page {
                name,
                text: fs::read_to_string(path)?,
            });
        }
    }
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pages)
}

/// Reads a page of a language by its name. `README` is the one of the repository.
///
/// # Errors
///
/// Returns an error if the file cannot be read.
pub fn page(language: &str, name: &str) -> io::Result<Page> {
    Ok(Page {
        name: name.to_owned(),
        text: fs::read_to_string(path(language, name))?,
    })
}

/// Returns the file of a page.
pub fn path(language: &str, name: &str) -> PathBuf {
    match (language, name) {
        ("en", "README") => book().join("../../README.md"),
        (_, "README") => book().join("../../README.zh-CN.md"),
        _ => book().join(format!("{language}/src/{name}.md")),
    }
}

impl Page {
    /// Splits the text at empty lines outside of fences. These are the units of the translation.
    pub fn paragraphs(&self) -> Vec<String> {
        let mut paragraphs = vec![String::new()];
        let mut is_fenced = false;
        for line in self.text.lines() {
            is_fenced ^= line.starts_with("```");
            if line.trim().is_empty() && !is_fenced {
                paragraphs.push(String::new());
            } else if let Some(last) = paragraphs.last_mut() {
                last.push_str(line);
                last.push('\n');
            }
        }
        paragraphs.retain(|paragraph| !paragraph.is_empty());
        paragraphs
    }

    /// Returns the fenced blocks.
    pub fn fences(&self) -> Vec<Fence> {
        let mut fences: Vec<Fence> = Vec::new();
        let mut is_fenced = false;
        for line in self.text.lines() {
            match (line.strip_prefix("```"), is_fenced) {
                (Some(info), false) => {
                    fences.push(Fence {
                        info: info.to_owned(),
                        lines: Vec::new(),
                    });
                    is_fenced = true;
                }
                (Some(_), true) => is_fenced = false,
                (None, true) => fences
                    .last_mut()
                    .expect("it has begun")
                    .lines
                    .push(line.to_owned()),
                (None, false) => {}
            }
        }
        fences
    }

    /// Returns the targets of links and of `{{#include}}`, outside of fences for links.
    pub fn targets(&self) -> Vec<(bool, String)> {
        let mut targets = Vec::new();
        let mut is_fenced = false;
        for line in self.text.lines() {
            is_fenced ^= line.starts_with("```");
            for part in line.split("{{#include ").skip(1) {
                targets.push((true, part.split("}}").next().unwrap_or_default().to_owned()));
            }
            for part in line.split("](").skip(1).filter(|_| !is_fenced) {
                targets.push((
                    false,
                    part.split([')', ' ']).next().unwrap_or_default().to_owned(),
                ));
            }
        }
        targets
    }

    /// Returns the anchors of the headings, as mdBook makes them.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.text.lines().filter_map(|line| line.strip_prefix('#'));
        let anchor = |heading: &str| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }
}

/// Checks an `{{#include file:anchor}}` of a page in the folder. Returns the problem.
pub fn check_include(folder: &Path, target: &str) -> Option<String> {
    let (path, anchor) = target
        .split_once(':')
        .map_or((target, None), |(p, a)| (p, Some(a)));
    let Ok(text) = fs::read_to_string(folder.join(path)) else {
        return Some(format!("{path} does not exist"));
    };
    let begin = format!("ANCHOR: {}\n", anchor?);
    (!text.contains(&begin)).then(|| format!("{path} has no {}", anchor.unwrap_or_default()))
}
