//! The language of comments and pages: words that are banned, and habits that are rationed.
//!
//! A rate is a smoke detector: 0 hits prove nothing, and a rewording that only dodges a pattern
//! helps no reader. `CONTRIBUTING.md` has the rules and the glossary.

use super::{code, files, read};
use std::fmt::Write as _;

/// What is rationed, in hits per 1,000 words of prose, and the goals.
const HABITS: [&str; 6] = [
    "clause as noun",
    "who, whoever",
    "household verbs",
    "archaisms",
    "colon glue",
    "negations",
];

/// The most that each habit may take, in hits per 1,000 words, by folder or page.
///
/// The goals are 0.5, 0.3, 2, 0.3, 2 and 18. Lower the numbers of folders that are above them.
const RATES: &[(&[&str], [f64; 6])] = &[
    (&["executor/src"], [0.5, 0.3, 2.0, 0.3, 2.0, 18.0]),
    (&["reactor/src"], [0.5, 0.3, 2.0, 0.3, 2.0, 18.0]),
    (&["src"], [0.5, 0.35, 2.0, 0.3, 2.0, 18.0]),
    (
        &["tests", "executor/tests", "reactor/tests"],
        [0.5, 0.3, 2.0, 0.3, 2.0, 18.0],
    ),
    (&["examples"], [0.5, 0.4, 2.0, 0.3, 2.0, 18.0]),
    (&["benches"], [1.0, 1.0, 2.0, 0.3, 2.0, 18.0]),
    (&["README.md"], [0.5, 0.3, 2.0, 0.3, 2.0, 18.0]),
    (&["ARCHITECTURE.md"], [0.6, 0.3, 2.0, 0.3, 2.0, 18.0]),
    (&["CONTRIBUTING.md"], [0.5, 0.3, 2.0, 0.3, 2.0, 18.0]),
    (&["CHANGELOG.md"], [0.5, 0.3, 2.0, 0.3, 2.0, 18.0]),
    (&["docs"], [0.5, 0.3, 2.0, 0.4, 2.0, 18.0]),
];

const HOUSEHOLD_VERBS: &str = "tell tells told telling say says said hear hears heard ask asks \
    asked want wants wanted look looks looked looking stand stands";
const NEGATIONS: &str = "not no never nothing nobody none neither nor without";
const AFTER_WHAT: &str =
    "is was are were has have had it they there can could must may wait waits come comes came goes";

/// A word or a punctuation mark of a text, as it is written.
struct Token<'a> {
    text: &'a str,
    line: usize,
    /// No space is before it.
    glued: bool,
}

impl Token<'_> {
    fn is_any_of(&self, words: &str) -> bool {
        words
            .split(' ')
            .any(|word| word.eq_ignore_ascii_case(self.text))
    }

    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_alphabetic())
    }
}

/// The lines of prose of a file, with their numbers: comments of a source, or the text of a page.
/// Code is `x`, and what separates paragraphs is a pilcrow.
fn prose(path: &str, text: &str) -> Vec<(usize, String)> {
    let is_page = path.ends_with(".md");
    let mut is_fenced = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let comment = line.strip_prefix("//");
        let Some(line) = (if is_page { Some(line) } else { comment }) else {
            is_fenced = false;
            lines.push((number, "¶".to_owned()));
            continue;
        };
        let line = line
            .strip_prefix(['/', '!'])
            .filter(|_| !is_page)
            .unwrap_or(line);
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if line.trim().is_empty() {
            lines.push((number, "¶".to_owned()));
        } else if !is_fenced {
            lines.push((number, without_code(line)));
        }
    }
    lines
}

/// The line with spans of code and addresses replaced, and the cells of a table apart.
fn without_code(line: &str) -> String {
    let mut text = String::new();
    for (i, part) in line.split('`').enumerate() {
        text.push_str(if i % 2 == 0 { part } else { " x " });
    }
    while let Some((before, target)) = text.split_once("](") {
        let after = target.split_once(')').map_or("", |(_, after)| after);
        text = format!("{before} x {after}");
    }
    // A cell of a comparison that begins with `no` is a value.
    let is_value = |cell: &str| {
        matches!(
            cell.split([' ', ',']).find(|w| !w.is_empty()),
            Some("no" | "none")
        )
    };
    if text.starts_with('|') {
        text = text
            .split('|')
            .filter(|cell| !is_value(cell))
            .collect::<Vec<_>>()
            .join(" ¶ ");
    }
    text
}

fn tokens(lines: &[(usize, String)]) -> Vec<Token<'_>> {
    let is_part = |c: char| c.is_ascii_alphabetic() || c == '\'' || c == '-';
    let mut tokens = Vec::new();
    for (line, text) in lines {
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let end = match rest.find(|c| !is_part(c)) {
                Some(end) if first.is_ascii_alphabetic() => end,
                None if first.is_ascii_alphabetic() => rest.len(),
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                let before = &text[..text.len() - rest.len()];
                tokens.push(Token {
                    text: &rest[..end],
                    line: *line,
                    glued: !before.is_empty() && !before.ends_with(char::is_whitespace),
                });
            }
            rest = &rest[end..];
        }
    }
    tokens
}

/// Which of the habits begins at the first token. `before` is the one before that.
fn habit(before: Option<&Token<'_>>, tokens: &[Token<'_>]) -> Option<usize> {
    let token = &tokens[0];
    let second = |words: &str| tokens.get(1).is_some_and(|token| token.is_any_of(words));
    let third = |words: &str| tokens.get(2).is_some_and(|token| token.is_any_of(words));
    let is = |words: &str| token.is_any_of(words);
    let is_participle = || {
        tokens
            .get(1)
            .is_some_and(|token| token.text.ends_with("ed"))
    };
    let is_glue = || {
        let ends = |token: &Token<'_>| token.text.ends_with(|c: char| c.is_lowercase() || c == ')');
        let begins = |token: &Token<'_>| {
            !token.glued && token.text.starts_with(|c: char| c.is_ascii_lowercase())
        };
        token.glued && before.is_some_and(ends) && tokens.get(1).is_some_and(begins)
    };
    let habits = [
        is("what") && (second(AFTER_WHAT) || is_participle())
            || is("that those") && second("of")
            || is("of") && second("elsewhere others"),
        is("who whom whoever whose"),
        is(HOUSEHOLD_VERBS)
            || is("let lets") && second("go")
            || is("give gives given") && second("up")
            || is("go goes going") && second("on"),
        is("anew shall one's")
            || is("but") && second("for")
            || is("want be") && second("of had")
            || is("in") && second("good") && third("order")
            || is("is are") && second("to") && third("be")
            || is("as") && second("well") && !third("as")
            || is(",") && second("say") && third(". , ; )"),
        is(":") && is_glue(),
        is(NEGATIONS) || token.text.ends_with("n't"),
    ];
    habits.iter().position(|&found| found)
}

/// The pages and sources that a row of [`RATES`] is about.
fn texts(scope: &[&str]) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for path in scope {
        match *path {
            "CHANGELOG.md" => texts.push((path.to_string(), unreleased())),
            _ if path.ends_with(".md") => texts.push((path.to_string(), read(path))),
            "docs" => texts.extend(files(&[path], &["md"])),
            _ => texts.extend(files(&[path], &["rs"])),
        }
    }
    texts
}

/// The part of the changelog that is still written.
fn unreleased() -> String {
    let changelog = read("CHANGELOG.md");
    let part = changelog
        .split("\n## ")
        .find(|part| part.starts_with("Unreleased"));
    part.unwrap_or_default().to_owned()
}

#[test]
fn habits_of_language_stay_within_their_rates() {
    let mut failed = String::new();
    let mut table = format!("{:41}", "");
    HABITS
        .iter()
        .for_each(|habit| write!(table, "{habit:>16}").unwrap());
    for (scope, most) in RATES {
        let mut words = 0;
        let mut hits = [0; HABITS.len()];
        let mut places = vec![String::new(); HABITS.len()];
        for (path, text) in texts(scope) {
            let lines = prose(&path, &text);
            let tokens = tokens(&lines);
            words += tokens.iter().filter(|token| token.is_word()).count();
            for i in 0..tokens.len() {
                if let Some(habit) = habit(i.checked_sub(1).map(|i| &tokens[i]), &tokens[i..]) {
                    hits[habit] += 1;
                    let end = (i + 3).min(tokens.len());
                    let text: Vec<_> = tokens[i..end].iter().map(|token| token.text).collect();
                    let line = tokens[i].line;
                    writeln!(places[habit], "  {path}:{line}: {}", text.join(" ")).unwrap();
                }
            }
        }
        write!(table, "\n{:34}{words:7}", scope.join(" ")).unwrap();
        for habit in 0..HABITS.len() {
            let rate = f64::from(hits[habit]) * 1000.0 / words.max(1) as f64;
            write!(table, "{rate:16.1}").unwrap();
            if rate > most[habit] {
                let (scope, name, most) = (scope.join(" "), HABITS[habit], most[habit]);
                writeln!(
                    failed,
                    "{scope}: {name}: {rate:.2} of 1,000 words, {most} at most"
                )
                .unwrap();
                failed.push_str(&places[habit]);
            }
        }
    }
    println!("{table}");
    assert!(failed.is_empty(), "\n{failed}");
}

/// Identifiers that the glossary has replaced.
const RETIRED: &str = "Bell Fate Flight Hub LOOK Member Moment NEVER NIL NOBODY NO_ID OTHER_JOINER \
    Parker Post Seat Told Turned UNKNOWN WOKEN alarm armed give_up join_other line_up look mail \
    occupy quietly resting rise rouse tell told under_way vacate";

/// Phrases of the dialect that the field's words have replaced.
const DIALECT: &[&str] = &[
    "anew",
    "but for",
    "can't be had",
    "for want of",
    "in good order",
    "of elsewhere",
    "one's",
    "shall",
    "whoever",
];

/// How many of the identifiers are left: those of rustix's `tell`.
const RETIRED_LEFT: usize = 1;

#[test]
fn retired_identifiers_do_not_come_back() {
    let mut places = Vec::new();
    for (path, text) in super::sources() {
        for (number, line) in code(&text) {
            let line = line.split(" // ").next().unwrap_or_default();
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            for word in words.filter(|word| RETIRED.split_whitespace().any(|old| old == *word)) {
                places.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    let count = places.len();
    assert!(count <= RETIRED_LEFT, "{count}:\n{}", places.join("\n"));
}

#[test]
fn dialect_does_not_come_back() {
    let mut places = Vec::new();
    for (path, text) in RATES.iter().flat_map(|(scope, _)| texts(scope)) {
        let lines = prose(&path, &text);
        let mut flow = String::from(" ");
        let mut starts = Vec::new();
        for token in tokens(&lines) {
            starts.push((flow.len(), token.line));
            flow.push_str(&token.text.to_lowercase());
            flow.push(' ');
        }
        for phrase in DIALECT {
            for (at, _) in flow.match_indices(&format!(" {phrase} ")) {
                let line = starts
                    .iter()
                    .rev()
                    .find(|(start, _)| *start <= at + 1)
                    .map(|start| start.1);
                places.push(format!("{path}:{}: {phrase}", line.unwrap_or_default()));
            }
        }
    }
    assert!(places.is_empty(), "{}", places.join("\n"));
}
