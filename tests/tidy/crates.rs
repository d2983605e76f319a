//! The page on crates: its links name tests that exist, and `Cargo.lock` has its versions.

use super::read;

/// The cells of each row that is about a crate.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect());
    let rows = cells.filter(|cells: &Vec<&str>| cells.len() == 5 && cells[0] != "crate");
    rows.collect()
}

/// The label and the path of the last link of a cell.
fn link(cell: &str) -> Option<(&str, &str)> {
    let (label, path) = cell.rsplit_once("](../")?;
    let label = label.rsplit_once('[')?.1;
    Some((label.trim_matches('`'), path.trim_end_matches(')')))
}

fn problem(row: &[&str], lock: &str) -> Option<&'static str> {
    let (name, version, verdict, evidence) = (row[0], row[1], row[2], row[4]);
    if !["as is", "adapter", "tokio", "no"].contains(&verdict) {
        return Some("unknown verdict");
    }
    let Some((label, path)) = link(evidence) else {
        let is_named = evidence == "tried" || evidence.starts_with("read: ");
        return (!is_named).then_some("neither a link nor `tried` nor `read: `");
    };
    let text = read(path);
    let is_there = match evidence.split(' ').next() {
        Some("test") => text.contains(&format!("#[test]\nfn {label}(")),
        Some("example") => path.contains(label),
        _ => false,
    };
    if !is_there {
        return Some("the linked test or example doesn't exist");
    }
    let package = name.split([':', ',']).next().unwrap_or(name);
    let locked = format!("name = \"{package}\"\nversion = \"{version}\"\n");
    (!lock.contains(&locked)).then_some("Cargo.lock has another version")
}

#[test]
fn the_page_on_crates_has_evidence_for_each_row() {
    let (page, lock) = (read("docs/crates.md"), read("Cargo.lock"));
    let rows = rows(&page);
    assert!(rows.len() >= 40, "{} crates", rows.len());
    let problems: Vec<_> = rows
        .iter()
        .filter_map(|row| problem(row, &lock).map(|problem| (row[0], problem)))
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");
}
