//! What pages print of the code: loops, the steps of the tour, names of files, links.

use super::{files, read, sources};
use std::path::Path;

const PAGES: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];
const CRATE_DOCS: &[&str] = &["src/lib.rs", "executor/src/lib.rs", "reactor/src/lib.rs"];

/// The fenced blocks of a page or of a crate's docs: the word of the fence, and the lines.
fn blocks(path: &str) -> Vec<(String, Vec<String>)> {
    let text = read(path);
    let docs = text
        .lines()
        .filter(|line| path.ends_with(".md") || line.starts_with("//!"));
    let docs = docs.map(|line| line.strip_prefix("//!").unwrap_or(line));
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    let mut is_open = false;
    for line in docs {
        if let Some(word) = line.trim().strip_prefix("```") {
            is_open = !is_open;
            if is_open {
                blocks.push((word.to_owned(), Vec::new()));
            }
        } else if is_open {
            blocks.last_mut().unwrap().1.push(line.trim().to_owned());
        }
    }
    blocks
}

/// Code without comments and spaces.
fn bare<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let code = lines.map(|line| line.find("//").map_or(line, |comment| &line[..comment]));
    code.flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect()
}

/// Outputs in the pages name calls and awaits of the examples, as `examples/file.rs:line:column`.
#[test]
fn printed_places_are_calls() {
    let mut places = 0;
    for (path, text) in files(&["docs"], &["md"]) {
        for place in text.split("examples/").skip(1) {
            let end = place.find(|c: char| !c.is_alphanumeric() && !"_.:".contains(c));
            let place = place[..end.unwrap_or(place.len())].trim_end_matches(':');
            let parts: Vec<_> = place.split(':').collect();
            let [file, line, column] = parts[..] else {
                continue;
            };
            let [line, column] = [line, column].map(|number| number.parse::<usize>().unwrap());
            let source = read(&format!("examples/{file}"));
            let call = source
                .lines()
                .nth(line - 1)
                .and_then(|code| code.get(column - 1..));
            let callee = call.and_then(|call| call.split(['(', ' ', '.']).next());
            let is_call = callee.is_some_and(|callee| {
                !callee.is_empty() && call.is_some_and(|call| call[callee.len()..].starts_with('('))
            });
            let is_await = call.is_some_and(|call| call.starts_with("await"));
            assert!(is_call || is_await, "{path}: no call at examples/{place}");
            places += 1;
        }
    }
    assert!(places > 0);
}

/// A block whose first line is `// path.rs` has the code of that file. `…` leaves out what follows
/// up to the next printed code.
#[test]
fn printed_loops_are_the_code() {
    let mut unnamed = Vec::new();
    for path in PAGES.iter().chain(CRATE_DOCS) {
        for (word, lines) in blocks(path) {
            let first = lines
                .first()
                .map_or("", |line| line.trim_start_matches("// "));
            let source = first
                .split([',', ' '])
                .next()
                .filter(|source| source.ends_with(".rs"));
            if let Some(source) = source {
                let code = bare(read(source).lines());
                let mut rest = code.as_str();
                for part in bare(lines[1..].iter().map(String::as_str)).split('…') {
                    let found = rest.split_once(part);
                    assert!(
                        found.is_some(),
                        "{path}: {source} doesn't have `{part}` here"
                    );
                    rest = found.unwrap().1;
                }
            } else if word == "text" && lines.iter().any(|line| line.contains(';')) {
                unnamed.push(format!("{path}: {first}"));
            }
        }
    }
    assert!(unnamed.is_empty(), "loops without a source: {unnamed:#?}");
}

/// `grep -rnE '①|②|③|④|⑤|⑥' executor/src reactor/src` is the tour.
#[test]
fn the_tour_is_six_lines_in_the_order_of_the_table() {
    let architecture = read("ARCHITECTURE.md");
    for step in "①②③④⑤⑥".chars() {
        let mut places = Vec::new();
        for (path, text) in files(&["executor/src", "reactor/src"], &["rs"]) {
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let marked = lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.contains(step));
            places.extend(marked.map(|(i, _)| (path.clone(), i, lines.clone())));
        }
        let [(path, number, lines)] = &places[..] else {
            panic!("{step} is at {} places", places.len());
        };
        let row = architecture
            .lines()
            .find(|line| line.starts_with(&format!("| {step}")));
        let row = row.unwrap_or_else(|| panic!("the table has no {step}"));
        let name = row.split('`').nth(1).unwrap_or_default();
        let name = name.rsplit("::").next().unwrap_or_default();
        let follows = lines[*number..]
            .iter()
            .take(20)
            .find(|line| line.contains("fn "));
        let is_function = follows.is_some_and(|line| {
            let (_, after) = line.split_once("fn ").unwrap();
            after
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                == Some(name)
        });
        let is_inside = || {
            let before = lines[..*number]
                .iter()
                .rev()
                .find(|line| line.contains("fn "));
            before.is_some_and(|line| line.contains(&format!("fn {name}")))
        };
        assert!(
            row.contains(path) && (is_function || is_inside()),
            "{step}: {path}, {name}"
        );
    }
}

#[test]
fn the_code_map_has_each_file() {
    let architecture = read("ARCHITECTURE.md");
    let spans: Vec<_> = architecture.split('`').skip(1).step_by(2).collect();
    let mut problems = Vec::new();
    let sources = sources();
    for (path, _) in &sources {
        let (folder, name) = path.split_once("src/").unwrap();
        let parts: Vec<_> = name.split('/').collect();
        let is_test = name.ends_with("tests.rs") || name.ends_with("models.rs");
        // Of the facade, a folder is one room.
        let wanted = match &parts[..] {
            [room, _, ..] if folder.is_empty() => format!("{room}/"),
            [.., room, "mod.rs"] => format!("{room}/"),
            [.., file] => (*file).to_owned(),
            [] => continue,
        };
        let is_named = |span: &&str| *span == wanted || span.ends_with(&format!("/{wanted}"));
        if !is_test && wanted != "lib.rs" && !spans.iter().any(is_named) {
            problems.push(format!("{path} isn't in the code map"));
        }
    }
    let all = files(
        &["src", "executor", "reactor", "tests", "examples", "benches"],
        &["rs"],
    );
    for span in spans
        .iter()
        .filter(|span| span.ends_with(".rs") && !span.contains(' '))
    {
        let is_file = |path: &str| path == *span || path.ends_with(&format!("/{span}"));
        if !all.iter().any(|(path, _)| is_file(path)) {
            problems.push(format!("{span} doesn't exist"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut dead = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in files(&["."], &["md"]) {
        for (_, after) in text
            .match_indices("](")
            .map(|(at, _)| text.split_at(at + 2))
        {
            let target = after.split([')', '#', ' ']).next().unwrap_or_default();
            let is_outside = target.contains("://") || target.is_empty() || target.contains("::");
            let folder = root.join(&path);
            if !is_outside && !folder.parent().unwrap().join(target).exists() {
                dead.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}
