//! Checks the code, transcripts, links, translation and exercises of the book.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use windlass_book::{
    CHAPTERS, book,
    figures::ours,
    labels,
    pages::{LANGUAGES, Page, check_include, page, pages},
    transcript, translation,
};

/// Lines of code of the longest program, without comments and empty lines. It is about a hundred.
const LONGEST_PROGRAM: usize = 110;

/// The headings of each chapter, in this order.
const PARTS: [[&str; 7]; 2] = [
    [
        "The claim",
        "The program",
        "Your figures",
        "Break it",
        "The rule",
        "Exercises",
        "What this does not show",
    ],
    [
        "论点",
        "程序",
        "你的数字",
        "弄坏它",
        "规则",
        "练习",
        "本章没有说明的",
    ],
];

fn source(language: &str) -> PathBuf {
    book().join(language).join("src")
}

fn chapters(language: &str) -> Vec<Page> {
    let mut pages = pages(language).unwrap();
    pages.retain(|page| page.name.starts_with("ch"));
    pages
}

/// Held by tests that measure.
static MEASURING: Mutex<()> = Mutex::new(());

#[test]
fn transcripts_are_the_output_of_their_commands() {
    let _measuring = MEASURING.lock();
    let program = Path::new(env!("CARGO_BIN_EXE_windlass-book"));
    let mut problems = Vec::new();
    for page in pages("en").unwrap() {
        let mut commands = 0;
        for fence in page.fences().iter().filter(|fence| fence.info == "console") {
            match transcript::check(fence, program) {
                Ok(count) => commands += count,
                Err(problem) => problems.push(format!("{}: {problem}", page.name)),
            }
        }
        println!("{}: {commands} commands", page.name);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn the_report_is_one_page_with_all_chapters() {
    let _measuring = MEASURING.lock();
    let output = Command::new(env!("CARGO_BIN_EXE_windlass-book"))
        .arg("all")
        .env("WINDLASS_BOOK_QUICK", "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let path = printed
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("report: "));
    let page = fs::read_to_string(path.unwrap_or_else(|| panic!("{output:?}"))).unwrap();
    for chapter in CHAPTERS {
        let title = format!("<h2>{}. {}</h2>", chapter.number, chapter.title);
        assert!(page.contains(&title), "no {title}");
    }
    assert_eq!(page.matches("<svg").count(), CHAPTERS.len());
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn code_comes_from_files_that_exist() {
    let mut problems = Vec::new();
    for language in LANGUAGES {
        for page in pages(language).unwrap() {
            for fence in page.fences() {
                let is_include = |line: &String| line.starts_with("{{#include ");
                let is_known = match fence.info.as_str() {
                    "console" => true,
                    "rust,ignore" => fence.lines.iter().all(is_include),
                    _ => false,
                };
                if !is_known {
                    problems.push(format!(
                        "{language}/{}: a fence {:?}",
                        page.name, fence.info
                    ));
                }
            }
            for (_, target) in page
                .targets()
                .into_iter()
                .filter(|(is_include, _)| *is_include)
            {
                let problem = check_include(&source(language), &target);
                problems
                    .extend(problem.map(|problem| format!("{language}/{}: {problem}", page.name)));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for language in LANGUAGES {
        let all = pages(language).unwrap();
        for page in &all {
            for (_, target) in page
                .targets()
                .into_iter()
                .filter(|(is_include, _)| !is_include)
            {
                let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
                let linked = match file {
                    "" => Some(page),
                    _ => all.iter().find(|page| format!("{}.md", page.name) == file),
                };
                let is_outside = target.starts_with("https://");
                let is_found = match linked {
                    Some(page) => anchor.is_empty() || page.anchors().iter().any(|a| a == anchor),
                    None => !file.ends_with(".md") && source(language).join(file).exists(),
                };
                if !is_outside && !is_found {
                    dead.push(format!("{language}/{}: {target}", page.name));
                }
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn the_contents_are_the_chapters_that_exist() {
    for (language, parts) in LANGUAGES.iter().zip(PARTS) {
        let contents = fs::read_to_string(source(language).join("SUMMARY.md")).unwrap();
        let chapters = chapters(language);
        let pages = pages(language).unwrap();
        for page in pages.iter().filter(|page| page.name != "SUMMARY") {
            assert!(
                contents.contains(&format!("({}.md)", page.name)),
                "{language}/{}",
                page.name
            );
        }
        let listed = contents.matches(".md)").count();
        assert_eq!(
            listed,
            pages.len() - 1,
            "{language}: SUMMARY.md lists a page that is missing"
        );
        for page in chapters {
            let headings = page
                .text
                .lines()
                .filter_map(|line| line.strip_prefix("## "));
            assert_eq!(
                headings.collect::<Vec<_>>(),
                parts,
                "{language}/{}",
                page.name
            );
        }
    }
}

#[test]
fn each_chapter_has_all_its_parts() {
    let english: Vec<_> = chapters("en")
        .iter()
        .map(|page| page.name.clone())
        .collect();
    let known: Vec<_> = CHAPTERS.iter().map(|chapter| chapter.name()).collect();
    assert_eq!(english, known);
    for chapter in CHAPTERS {
        let (name, code) = (chapter.name(), book().join("code"));
        let text = fs::read_to_string(source("en").join(format!("{name}.md"))).unwrap();
        let title = format!("# {}. {}\n", chapter.number, chapter.title);
        assert!(text.contains(&title), "{name}: the title is not {title}");
        let program = fs::read_to_string(code.join(format!("src/{name}/program.rs"))).unwrap();
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        let lines = program.lines().filter(is_code).count();
        assert!(
            lines <= LONGEST_PROGRAM,
            "{name}: a program of {lines} lines"
        );
        assert!(
            !ours(chapter).list.is_empty(),
            "{name}: run `windlass-book {} record`",
            chapter.number
        );
        for part in ["exercises", "solutions", "checks"] {
            assert!(
                code.join(part).join(format!("{name}.rs")).exists(),
                "{name}: no {part}"
            );
        }
    }
}

#[test]
fn pictures_can_be_inlined() {
    let mut count = 0;
    for language in LANGUAGES {
        for entry in fs::read_dir(source(language)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|suffix| suffix != "svg") {
                continue;
            }
            count += 1;
            let text = fs::read_to_string(&path).unwrap();
            // An empty line ends a block that Markdown copies unchanged.
            let is_whole = text.starts_with("<svg class=\"fig\"") && text.ends_with("</svg>\n");
            let has_gap = text.lines().any(|line| line.trim().is_empty());
            let has_colour = text.contains("fill=\"#") || text.contains("stroke=\"#");
            assert!(is_whole && !has_gap && !has_colour, "{}", path.display());
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let used = pages(language).unwrap();
            assert!(
                used.iter().any(|page| page.text.contains(&name)),
                "{name} is unused"
            );
        }
    }
    assert!(count > 0);
}

/// `windlass-book translated N` writes the chart again.
#[test]
fn chinese_charts_have_translated_labels() {
    let mut count = 0;
    for entry in fs::read_dir(source("zh")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with("-ours.svg") {
            count += 1;
            let english = fs::read_to_string(source("en").join(&name)).unwrap();
            let chinese = labels::translate(&english).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), chinese, "{name}");
        }
    }
    assert!(count > 0);
}

/// The translated pages behind their originals, and the README.
fn translations() -> Vec<(Page, Page)> {
    let mut translated = pages("zh").unwrap();
    translated.retain(|page| page.name != "SUMMARY");
    translated.push(page("zh", "README").unwrap());
    let source = |page_zh: Page| (page("en", &page_zh.name).unwrap(), page_zh);
    translated.into_iter().map(source).collect()
}

#[test]
fn links_of_the_readmes_lead_to_files() {
    for language in LANGUAGES {
        for (_, target) in page(language, "README").unwrap().targets() {
            let is_outside = target.starts_with("https://");
            let exists = book().join("../..").join(&target).exists();
            assert!(is_outside || exists, "{language}: {target}");
        }
    }
}

/// The Chinese pages have the code and transcripts of the English ones.
#[test]
fn the_translation_has_the_same_code() {
    for (source, page) in translations() {
        assert_eq!(page.fences(), source.fences(), "{}", page.name);
    }
}

#[test]
fn the_translation_is_up_to_date() {
    let mut stale = Vec::new();
    for (source, page) in translations() {
        match translation::stale(&source, &page) {
            Ok(found) => stale.extend(found),
            Err(error) => stale.push(format!("{}: {error}", page.name)),
        }
    }
    assert!(stale.is_empty(), "stale paragraphs:\n{}", stale.join("\n"));
}

#[test]
fn each_exercise_fails_until_it_is_solved() {
    let run = |target: &str| {
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let output = Command::new(cargo)
            .args(["test", "-p", "windlass-book", "--test", target])
            .current_dir(book().join("../.."))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let results = |output: &str, result: &str| -> BTreeSet<String> {
        let lines = output
            .lines()
            .filter_map(|line| line.strip_prefix("test ch"));
        lines
            .filter_map(|line| line.strip_suffix(result))
            .map(str::to_owned)
            .collect()
    };
    let exercises = run("exercises");
    let failed = results(&exercises, " ... FAILED");
    assert!(results(&exercises, " ... ok").is_empty(), "{exercises}");
    assert!(exercises.contains("a hole is left"), "{exercises}");
    for chapter in CHAPTERS {
        let name = format!("{:02}::", chapter.number);
        let count = failed.iter().filter(|test| test.starts_with(&name)).count();
        assert_eq!(count, 3, "chapter {}: {exercises}", chapter.number);
    }
    let solutions = run("solutions");
    assert_eq!(results(&solutions, " ... ok"), failed, "{solutions}");
}
