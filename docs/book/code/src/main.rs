//! Runs the measurements of the book *One Thread*.

use std::{env, fs, io, path::PathBuf, process::ExitCode};

use windlass_book::{
    CHAPTERS, ch13, chapter::Chapter, chart, figures, figures::Figures, labels, measure::Progress,
    page, pages, server, transcript, translation,
};

const USAGE: &str = "\
usage: windlass-book COMMAND

  N              measure chapter N and print your figures beside ours
  N broken       run the variant of chapter N with the bug
  N record       measure chapter N, and replace our figures, our picture and the transcripts
  13 workers ADDRESS COUNT
                 serve with the processes of chapter 13, until Ctrl-C
  all            measure all chapters and write one page
  list           list the chapters
  translated N   record that the translation of chapter N is up to date, and copy the code and the
                 chart to it
                 (a name of a page such as README instead of N works, too)";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> io::Result<()> {
    match *arguments {
        ["list"] => {
            for chapter in CHAPTERS {
                println!("{:2}  {}", chapter.number, chapter.title);
            }
            Ok(())
        }
        ["all"] => all(),
        ["translated", page] => translation::record(page),
        [number] => one(find(number)?),
        [number, "broken"] => (find(number)?.broken)(),
        [number, "record"] => record(find(number)?),
        [number, "serve"] => server::child(find(number)?),
        ["13", "workers", address, count] => ch13::run_processes(false, address, count),
        ["13", "broken-workers", address, count] => ch13::run_processes(true, address, count),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn find(number: &str) -> io::Result<&'static Chapter> {
    let found = CHAPTERS
        .iter()
        .find(|chapter| chapter.number.to_string() == number);
    found.ok_or_else(|| io::Error::other(USAGE))
}

/// The folder for the pictures and the page, beside the folder with this program.
fn output() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .expect("a program of cargo is in target/PROFILE");
    let folder = target.join("book");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn measure(chapter: &Chapter) -> io::Result<Figures> {
    (chapter.measure)(&mut Progress::new(&format!("Chapter {}", chapter.number)))
}

fn one(chapter: &Chapter) -> io::Result<()> {
    let (yours, ours) = (measure(chapter)?, figures::ours(chapter));
    println!("Chapter {}: {}\n", chapter.number, chapter.title);
    print!("{}", yours.table(&ours));
    let path = output()?.join(chapter.name() + ".svg");
    fs::write(&path, chart::standalone(&(chapter.picture)(&yours, &ours)))?;
    println!("\npicture: {}", short(&path));
    Ok(())
}

fn record(chapter: &Chapter) -> io::Result<()> {
    let figures = measure(chapter)?;
    figures.write(&figures::ours_path(chapter))?;
    let (book, table) = (windlass_book::book(), figures.table(&figures));
    let picture = (chapter.picture)(&figures, &Figures::default());
    fs::write(
        book.join(format!("en/src/{}-ours.svg", chapter.name())),
        picture,
    )?;
    labels::write_chart(&chapter.name())?;
    for language in pages::LANGUAGES {
        let page = book.join(format!("{language}/src/{}.md", chapter.name()));
        if let Ok(text) = fs::read_to_string(&page) {
            fs::write(page, transcript::refresh(&text, &table))?;
        }
    }
    print!("{table}");
    Ok(())
}

fn all() -> io::Result<()> {
    let mut measured = Vec::new();
    for chapter in CHAPTERS {
        let (yours, ours) = (measure(chapter)?, figures::ours(chapter));
        println!(
            "Chapter {}: {}\n\n{}",
            chapter.number,
            chapter.title,
            yours.table(&ours)
        );
        measured.push((chapter, yours, ours));
    }
    let path = output()?.join("report.html");
    fs::write(&path, page::report(&measured))?;
    println!("report: {}", short(&path));
    Ok(())
}

/// The path as seen from the current folder, if it is below it.
fn short(path: &std::path::Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}
