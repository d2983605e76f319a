//! Transcripts in the text, with a command, its output, and the bounds of its figures.
//!
//! In a fence `console`, a line `$ command` begins a transcript. The lines after it are the output.
//! `...` stands for any number of lines. A line that begins with `~ ` is hidden in the book. It has
//! the bounds of the numbers in the line above, one per number. A bound is `2..30`, `>=3`, `<=1`,
//! or `*` for any number. Numbers without a bound may have any value. Other lines are exact, up to
//! their spaces.

use std::{
    env, io,
    path::Path,
    process::{Command, Stdio},
};

use crate::{book, pages::Fence};

/// A line of the expected output.
#[derive(Debug, PartialEq)]
enum Expected {
    /// The text, and the bounds of its numbers. Without bounds the line is exact.
    Line(String, Option<Vec<String>>),
    /// Any number of lines.
    Any,
}

/// Runs the commands of a fence, and compares their output. Returns the number of commands.
///
/// # Errors
///
/// Returns an error if a command cannot be started, or with the first line that differs.
pub fn check(fence: &Fence, program: &Path) -> io::Result<usize> {
    let mut commands: Vec<(&str, Vec<Expected>)> = Vec::new();
    for line in &fence.lines {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command, Vec::new()));
            continue;
        }
        let missing = || io::Error::other(format!("no command before: {line}"));
        let expected = &mut commands.last_mut().ok_or_else(missing)?.1;
        if line == "..." {
            expected.push(Expected::Any);
        } else if let Some(given) = line.strip_prefix('~') {
            let Some(Expected::Line(_, bounds)) = expected.last_mut() else {
                return Err(io::Error::other(format!("no line before: {line}")));
            };
            *bounds = Some(given.split_whitespace().map(str::to_owned).collect());
        } else {
            expected.push(Expected::Line(line.clone(), None));
        }
    }
    for (command, expected) in &commands {
        let output = run(command, program)?;
        let lines: Vec<_> = output.lines().map(str::trim_end).collect();
        compare(&lines, expected)
            .map_err(|problem| io::Error::other(format!("$ {command}\n{output}\n{problem}")))?;
    }
    Ok(commands.len())
}

/// Replaces the lines with bounds in the fences of a page by lines of new output with equal words.
pub fn refresh(page: &str, output: &str) -> String {
    let mut lines: Vec<&str> = page.lines().collect();
    for i in 1..lines.len() {
        // The head of a table has the width of its lines.
        if lines[i].starts_with("      ") {
            let is_it = |line: &&str| has_the_words(line, lines[i], false);
            lines[i] = output.lines().find(is_it).unwrap_or(lines[i]);
        } else if lines[i].starts_with("~ ") {
            let is_it = |line: &&str| has_the_words(line, lines[i - 1], true);
            if let Some(new) = output.lines().find(is_it) {
                lines[i - 1] = new;
            }
        }
    }
    lines.join("\n") + "\n"
}

/// Runs a command in the root of the repository. The measurements are short.
fn run(command: &str, program: &Path) -> io::Result<String> {
    let words: Vec<_> = command.split_whitespace().collect();
    let mut command = match words[..] {
        ["cargo", "run", "--release", "-p", "windlass-book", "--", ..] => {
            let mut command = Command::new(program);
            command.args(&words[6..]);
            command
        }
        ["cargo", "run", "-p", "windlass-book", "--", ..] => {
            let mut command = Command::new(program);
            command.args(&words[5..]);
            command
        }
        ["cargo", ..] => {
            let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
            command.args(&words[1..]);
            command
        }
        _ => return Err(io::Error::other(format!("an unknown command: {command}"))),
    };
    let output = command
        .current_dir(book().join("../.."))
        .env("WINDLASS_BOOK_QUICK", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Compares the output with the expected lines. `Any` takes as few lines as possible.
fn compare(mut output: &[&str], expected: &[Expected]) -> Result<(), String> {
    let mut is_free = false;
    for expected in expected {
        let Expected::Line(text, bounds) = expected else {
            is_free = true;
            continue;
        };
        let at = if is_free {
            let is_it = |line: &&str| has_the_words(line, text, bounds.is_some());
            output
                .iter()
                .position(is_it)
                .ok_or_else(|| format!("no line: {text}"))?
        } else {
            0
        };
        let line = output
            .get(at)
            .ok_or_else(|| format!("the output ends before: {text}"))?;
        if !has_the_words(line, text, bounds.is_some()) {
            return Err(format!("expected: {text}\nprinted:  {line}"));
        }
        for (i, bound) in bounds.iter().flatten().enumerate() {
            let number = numbers(line).get(i).copied();
            if !number.is_some_and(|number| is_within(number, bound)) {
                return Err(format!("number {} is not {bound}: {line}", i + 1));
            }
        }
        output = &output[at + 1..];
        is_free = false;
    }
    match output.first() {
        Some(line) if !is_free => Err(format!("more output than expected: {line}")),
        _ => Ok(()),
    }
}

/// Whether a line is the expected one. Spaces may differ, and with bounds also numbers and units.
fn has_the_words(line: &str, text: &str, has_bounds: bool) -> bool {
    let all = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    if has_bounds {
        words(line) == words(text)
    } else {
        all(line) == all(text)
    }
}

const UNITS: [&str; 9] = ["-", "ns", "µs", "ms", "s", "B", "KiB", "MiB", "%"];

fn words(line: &str) -> Vec<&str> {
    let is_word = |word: &&str| number(word).is_none() && !UNITS.contains(word);
    line.split_whitespace().filter(is_word).collect()
}

/// The numbers of a line. Times are in nanoseconds and sizes in bytes.
fn numbers(line: &str) -> Vec<f64> {
    let words: Vec<_> = line.split_whitespace().collect();
    let mut numbers = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let factor = match words.get(i + 1).copied() {
            Some("µs") => 1e3,
            Some("ms") => 1e6,
            Some("s") => 1e9,
            Some("KiB") => 1024.0,
            Some("MiB") => 1_048_576.0,
            _ => 1.0,
        };
        numbers.extend(number(word).map(|number| number * factor));
    }
    numbers
}

fn number(word: &str) -> Option<f64> {
    let digits = word.trim_end_matches([',', '.']).replace(',', "");
    digits.parse().ok().filter(|_| {
        word.starts_with(|c: char| c.is_ascii_digit()) || word.starts_with('-') && word.len() > 1
    })
}

fn is_within(number: f64, bound: &str) -> bool {
    let parse = |text: &str| text.parse::<f64>().ok();
    if bound == "*" {
        true
    } else if let Some(least) = bound.strip_prefix(">=").and_then(parse) {
        number >= least
    } else if let Some(most) = bound.strip_prefix("<=").and_then(parse) {
        number <= most
    } else if let Some((least, most)) = bound.split_once("..") {
        parse(least).is_some_and(|least| number >= least)
            && parse(most).is_some_and(|most| number <= most)
    } else {
        false
    }
}

#[test]
fn bounds_and_free_lines_are_compared() {
    let line = |text: &str, bounds: &[&str]| {
        let bounds = bounds.iter().map(|bound| bound.to_string()).collect();
        Expected::Line(text.into(), Some(bounds))
    };
    let output = ["system call  105 ns  ± 2 %", "other", "end"];
    let same = [
        line("system call 99 ns ± 1 %", &["20..2000"]),
        Expected::Any,
        line("end", &[]),
    ];
    assert_eq!(compare(&output, &same), Ok(()));
    for wrong in [
        vec![line("system call 99 ns ± 1 %", &[">=106"]), Expected::Any],
        vec![line("system calls 99 ns ± 1 %", &["*"]), Expected::Any],
        vec![
            Expected::Line("system call  99 ns  ± 2 %".into(), None),
            Expected::Any,
        ],
        vec![line("system call 99 ns ± 1 %", &["*"])],
        vec![Expected::Any, line("begin", &[])],
    ] {
        assert!(compare(&output, &wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(
        numbers("1.5 µs and 2 KiB of 10,000"),
        [1500.0, 2048.0, 10_000.0]
    );
}
