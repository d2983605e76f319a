//! The modules of each crate: how they depend on each other, and how much code they have.

use super::files;
use std::collections::{BTreeMap, BTreeSet};

/// The crates, and how many of their modules are in a circle.
const CIRCLES: &[(&str, usize)] = &[("executor/src", 0), ("reactor/src", 0), ("src", 33)];

/// The crates that stay minimal, and the lines of code that they may have, without tests.
///
/// The reactor has 920 lines for sources that travel between threads (decision 0101): references to
/// entries, messages between reactors, removal of descriptors on other threads, and their imports.
/// The executor has 60 lines for tasks that spawn others (decision 0117).
const CODE_LINES: &[(&str, usize)] = &[("executor/src", 3041), ("reactor/src", 7917)];

/// What a module uses: by its name, the other modules of its folder.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The lines of code of a source, without comments and without the tests in it.
fn code_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut all = text.lines();
    while let Some(line) = all.next() {
        let trimmed = line.trim();
        if trimmed.starts_with("#[cfg(test)]") || trimmed.starts_with("#[cfg(all(test") {
            let item = all
                .by_ref()
                .find(|line| !line.trim().starts_with("#["))
                .unwrap_or_default();
            let indent = &item[..item.len() - item.trim_start().len()];
            if !item.ends_with(';') && !item.ends_with('}') {
                all.by_ref()
                    .find(|line| line.strip_prefix(indent) == Some("}"));
            }
        } else if !trimmed.is_empty() && !trimmed.starts_with("//") {
            lines.push(trimmed.split(" // ").next().unwrap_or_default());
        }
    }
    lines
}

/// The sources of a crate without its tests, by the path of their module: `["net", "tcp"]`.
fn modules(folder: &str) -> BTreeMap<Vec<String>, String> {
    let mut modules = BTreeMap::new();
    for (path, text) in files(&[folder], &["rs"]) {
        let name = path[folder.len() + 1..].trim_end_matches(".rs");
        if !name.ends_with("tests") && !name.ends_with("models") {
            let name = name.trim_end_matches("/mod");
            modules.insert(
                name.split('/').map(str::to_owned).collect(),
                code_lines(&text).join("\n"),
            );
        }
    }
    modules
}

/// The paths that follow `prefix` in a text, as far as two names: `crate::{a::B, c}` has two.
fn paths(text: &str, prefix: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let is_longer = text[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        if !is_longer {
            branches(&text[at + prefix.len()..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path or group of paths, and returns what follows.
fn branches<'a>(text: &'a str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    let Some(mut group) = text.strip_prefix('{') else {
        let end = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        path.push(text[..end].to_owned());
        let rest = match text[end..].strip_prefix("::") {
            Some(rest) if !rest.starts_with('<') => branches(rest, path, found),
            _ => {
                found.push(path.clone());
                &text[end..]
            }
        };
        path.pop();
        return rest;
    };
    loop {
        group = group.trim_start();
        if let Some(rest) = group.strip_prefix('}') {
            return rest;
        }
        group = match group.strip_prefix(',') {
            Some(rest) => rest,
            // `as name` of a renamed one is passed over.
            None if group.starts_with("as ") => group.trim_start_matches(|c| c != ',' && c != '}'),
            None if group.is_empty() => return group,
            None => branches(group, path, found),
        };
    }
}

/// The names that the page of a crate or folder re-exports, and the module each is from.
fn exports(text: &str, names: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for prefix in ["pub use ", "pub(crate) use ", "pub(super) use ", "use "] {
        for path in paths(text, prefix) {
            let path: Vec<_> = path
                .into_iter()
                .filter(|name| name != "self" && name != "crate")
                .collect();
            if let [module, .., name] = &path[..] {
                if names.contains(module) {
                    exports.insert(name.clone(), module.clone());
                }
            }
        }
    }
    exports
}

/// The graphs of a crate: of its modules, and of those within each folder.
fn graphs(folder: &str) -> BTreeMap<String, Graph> {
    let modules = modules(folder);
    let mut graphs: BTreeMap<String, Graph> = BTreeMap::new();
    let folders: BTreeSet<_> = modules
        .keys()
        .map(|path| path[..path.len() - 1].to_vec())
        .collect();
    for parent in folders {
        let below = |path: &&Vec<String>| path.starts_with(&parent) && path.len() > parent.len();
        let names: BTreeSet<_> = modules
            .keys()
            .filter(below)
            .map(|path| path[parent.len()].clone())
            .collect();
        let page = if parent.is_empty() {
            vec!["lib".to_owned()]
        } else {
            parent.clone()
        };
        let page = modules.get(&page).map_or("", String::as_str);
        let exports = exports(page, &names);
        let graph = graphs.entry(parent.join("::")).or_default();
        for (path, text) in modules.iter().filter(|(path, _)| below(path)) {
            let name = &path[parent.len()];
            // From a file of the folder, and from files of folders in it.
            let up = "super::".repeat(path.len() - parent.len());
            let from_root = ["crate".to_owned()]
                .iter()
                .chain(&parent)
                .fold(String::new(), |path, name| path + name + "::");
            let mut used: Vec<_> = paths(text, &from_root);
            used.extend(paths(text, &up));
            let used = used.iter().filter_map(|path| {
                let first = &path[0];
                names.get(first).or_else(|| exports.get(first))
            });
            let used = used.filter(|used| *used != name).cloned();
            graph
                .entry(name.clone())
                .or_default()
                .extend(used.collect::<Vec<_>>());
        }
    }
    graphs
        .values_mut()
        .for_each(|graph| drop(graph.remove("lib")));
    graphs
}

/// The modules that are in a circle with another one.
fn circles(graph: &Graph) -> Vec<&str> {
    let reaches = |from: &str, to: &str| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(name) = left.pop() {
            for used in graph.get(name).into_iter().flatten() {
                if used == to {
                    return true;
                }
                if seen.insert(used) {
                    left.push(used);
                }
            }
        }
        false
    };
    graph
        .keys()
        .map(String::as_str)
        .filter(|name| reaches(name, name))
        .collect()
}

#[test]
fn modules_have_no_circle() {
    for (folder, most) in CIRCLES {
        let mut circle = Vec::new();
        for (parent, graph) in graphs(folder) {
            for (name, used) in &graph {
                let used: Vec<_> = used.iter().map(String::as_str).collect();
                println!("{folder} {parent}: {name} -> {}", used.join(" "));
            }
            circle.extend(
                circles(&graph)
                    .iter()
                    .map(|name| format!("{parent}::{name}")),
            );
        }
        println!("{folder}: in a circle: {circle:?}");
        assert!(circle.len() <= *most, "{folder}: in a circle: {circle:?}");
    }
}

#[test]
fn the_two_crates_stay_minimal() {
    for (folder, most) in CODE_LINES {
        let lines: usize = modules(folder)
            .values()
            .map(|text| text.lines().count())
            .sum();
        println!("{folder}: {lines} lines of code");
        assert!(lines <= *most, "{folder}: {lines} lines of code");
    }
}

#[test]
fn paths_and_groups_are_read() {
    let text = "use crate::{a::{B, c}, d as e, self}; crate::f::G::new(); mycrate::h()";
    let found: Vec<_> = paths(text, "crate::")
        .iter()
        .map(|path| path.join("::"))
        .collect();
    assert_eq!(found, ["a::B", "a::c", "d", "self", "f::G::new"]);
}
