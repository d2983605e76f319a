//! Which paragraphs of the translation are older than the English text.
//!
//! `docs/book/zh/translated/NAME.txt` has a line per translated English paragraph, with a hash and
//! its first words. The page in `zh` has the same number of paragraphs in the same order.

use std::{fs, io, path::PathBuf};

use crate::{
    book, labels,
    pages::{self, Page},
};

/// Records that the Chinese page is a translation of the English page as it is now, and copies the
/// fences and the chart of the English page to it.
///
/// # Errors
///
/// Returns an error if there is no such page, or if the numbers of paragraphs or fences differ.
pub fn record(page: &str) -> io::Result<()> {
    let name = page
        .parse::<u32>()
        .map_or(page.to_owned(), |number| format!("ch{number:02}"));
    let (english, chinese) = (pages::page("en", &name)?, pages::page("zh", &name)?);
    let (source, translated) = (english.paragraphs(), chinese.paragraphs());
    if source.len() != translated.len() {
        let counts = format!(
            "{} paragraphs in en, {} in zh",
            source.len(),
            translated.len()
        );
        return Err(io::Error::other(counts));
    }
    let text = with_fences(&chinese.text, &english)?;
    fs::write(pages::path("zh", &name), text)?;
    labels::write_chart(&name)?;
    let lines: Vec<_> = source
        .iter()
        .map(|paragraph| line(paragraph) + "\n")
        .collect();
    fs::write(path(&name), lines.concat())
}

/// The text with the contents of its fences replaced by those in the other page.
fn with_fences(text: &str, page: &Page) -> io::Result<String> {
    let mut fences = page.fences().into_iter();
    let (mut copy, mut is_fenced) = (String::new(), false);
    for line in text.lines() {
        if line.starts_with("```") && !is_fenced {
            let missing = || io::Error::other(format!("{} has fewer fences", page.name));
            let fence = fences.next().ok_or_else(missing)?;
            copy += &format!("```{}\n", fence.info);
            fence
                .lines
                .iter()
                .for_each(|line| copy += &format!("{line}\n"));
            is_fenced = true;
        } else if line.starts_with("```") || !is_fenced {
            is_fenced = false;
            copy += &format!("{line}\n");
        }
    }
    match fences.next() {
        None => Ok(copy),
        Some(fence) => Err(io::Error::other(format!(
            "zh lacks a fence: {:?}",
            fence.lines
        ))),
    }
}

/// Lists the paragraphs of a translated page that are stale, missing, or of a removed original.
///
/// # Errors
///
/// Returns an error if a file cannot be read.
pub fn stale(english: &Page, chinese: &Page) -> io::Result<Vec<String>> {
    let recorded = fs::read_to_string(path(&chinese.name))?;
    let recorded: Vec<_> = recorded.lines().map(str::to_owned).collect();
    let now: Vec<_> = english
        .paragraphs()
        .iter()
        .map(|paragraph| line(paragraph))
        .collect();
    let mut stale = Vec::new();
    for (i, line) in now.iter().enumerate() {
        if !recorded.contains(line) {
            stale.push(format!(
                "{}: paragraph {} is new or changed: {line}",
                english.name,
                i + 1
            ));
        }
    }
    for (i, line) in recorded.iter().enumerate() {
        if !now.contains(line) {
            stale.push(format!(
                "{}: paragraph {} of zh is stale: {line}",
                chinese.name,
                i + 1
            ));
        }
    }
    if stale.is_empty() && now != recorded {
        stale.push(format!("{}: paragraphs have another order", english.name));
    }
    let (source, translated) = (english.paragraphs().len(), chinese.paragraphs().len());
    if stale.is_empty() && source != translated {
        stale.push(format!(
            "{}: {translated} paragraphs instead of {source}",
            chinese.name
        ));
    }
    Ok(stale)
}

fn path(name: &str) -> PathBuf {
    book().join("zh/translated").join(format!("{name}.txt"))
}

/// The hash (FNV-1a) of a paragraph and its first words. Line breaks do not matter. A fence counts
/// by its first line, because another test compares the code of both languages.
fn line(paragraph: &str) -> String {
    let is_fence = paragraph.starts_with("```");
    let paragraph = paragraph
        .lines()
        .next()
        .filter(|_| is_fence)
        .unwrap_or(paragraph);
    let words: Vec<_> = paragraph.split_whitespace().collect();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in words.join(" ").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let first = &words[..words.len().min(7)];
    format!("{hash:016x} {}", first.join(" "))
}
