//! The suite, with its plan, rounds and report.

mod options;
mod contender;
mod plan;
mod rounds;
mod measure;
mod child;
mod counts;
mod build;
mod machine;
mod noise;
mod front;
mod interrupt;
mod results;
mod report;
mod table;
mod targets;
mod charts;
mod canvas;

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result, ensure};

use contender::ALL;
use options::{Command, HELP, Options};
use plan::{PARTS, Work, plan};
use results::{Outcome, Results};

/// The tables in the README are between these markers.
const README_MARKS: (&str, &str) = ("<!-- results: begin -->\n", "<!-- results: end -->\n");

pub(crate) fn run(args: &[String]) -> Result<()> {
    match options::parse(args)? {
        Command::Help => print(HELP),
        Command::List => print(&list()),
        Command::Run(options) => measure_and_report(&options),
    }
}

fn list() -> String {
    let mut text = String::new();
    let works = plan();
    for (part, about) in PARTS {
        text += &format!("{part:<10} {about}\n");
        let titles = works
            .iter()
            .filter(|work| work.part == part)
            .map(|work| &work.title);
        text.extend(titles.map(|title| format!("           {title}\n")));
    }
    let names = ALL.map(|contender| contender.name());
    text + &format!("\ncontenders: {}\n", names.join(", "))
}

/// A reader that closes the pipe early, as in `| head`, is not an error.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn measure_and_report(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.out)
        .with_context(|| format!("--out: can't make {}", options.out.display()))?;
    let works = options.works();
    let results = match &options.from[..] {
        [] => rounds::run(options, &works)?,
        [first, later @ ..] => {
            let mut results = read(first)?;
            for file in later {
                results.update(read(file)?)?;
            }
            results
        }
    };
    write(options, &works, &results)?;
    if options.is_quick {
        let failures = own_failures(&results);
        ensure!(
            failures.is_empty(),
            "windlass fails:\n{}",
            failures.join("\n")
        );
    }
    Ok(())
}

fn read(file: &Path) -> Result<Results> {
    let name = file.display();
    let text = fs::read(file).with_context(|| format!("--from: can't read {name}"))?;
    serde_json::from_slice(&text).with_context(|| format!("--from: {name} isn't the suite's"))
}

fn write(options: &Options, works: &[Work], results: &Results) -> Result<()> {
    let charts = charts::draw(&options.out, works, results)?;
    let report = report::markdown(works, results, &charts, "");
    fs::write(
        options.out.join("latest.json"),
        serde_json::to_vec_pretty(results)?,
    )?;
    fs::write(options.out.join("latest.md"), &report)?;
    if options.updates_readme {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let readme = fs::read_to_string(&path).context("the README")?;
        let tables = report::markdown(works, results, &charts, "results/");
        fs::write(&path, replace_between(&readme, README_MARKS, &tables)?)?;
    }
    print(&report)?;
    eprintln!(
        "written to {}: latest.md, latest.json, {} charts",
        options.out.display(),
        charts.len()
    );
    Ok(())
}

fn replace_between(text: &str, (begin, end): (&str, &str), new: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(begin)
        .with_context(|| format!("no {begin}"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("no {end}"))?;
    Ok(format!("{before}{begin}{new}{end}{after}"))
}

fn own_failures(results: &Results) -> Vec<String> {
    let own = results
        .samples
        .iter()
        .filter(|sample| sample.contender.is_ours());
    own.filter_map(|sample| match &sample.outcome {
        Outcome::Failed(why) => Some(format!("{}, {}: {why}", sample.work, sample.contender)),
        _ => None,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_replaced_between_the_marks_and_nothing_else_is() {
        let marks = ("<b>\n", "<e>\n");
        let new = replace_between("one\n<b>\nold\n<e>\ntwo\n", marks, "new\n").unwrap();
        assert_eq!(new, "one\n<b>\nnew\n<e>\ntwo\n");
        assert!(replace_between("one\n<b>\n", marks, "new\n").is_err());
    }

    #[test]
    fn the_readme_has_the_marks() {
        let readme = include_str!("../../README.md");
        assert!(replace_between(readme, README_MARKS, "").is_ok());
    }
}
