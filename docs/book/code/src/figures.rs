//! Figures of a chapter, in memory, in files and as a table.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{book, chapter::Chapter, machine, measure::Sample};

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// Nanoseconds, printed in a fitting unit.
    Nanoseconds,
    /// Bytes, printed in a fitting unit.
    Bytes,
    /// A share, printed in percent.
    Share,
    /// Any other number.
    Number,
}

/// A value with its name.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name in files, without spaces.
    pub key: String,
    /// The name in the table.
    pub label: String,
    /// The unit of the value.
    pub unit: Unit,
    /// The median and the spread.
    pub sample: Sample,
}

/// The figures of a chapter, and the machine that they were measured on.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The figures, in the order of the table.
    pub list: Vec<Figure>,
    /// The machine and the date. It is empty if there are no figures.
    pub machine: String,
    /// The figures that could not be measured, with the reason.
    pub missing: Vec<String>,
}

impl Figures {
    /// Creates an empty list for this machine.
    pub fn here() -> Figures {
        Figures {
            machine: machine::describe(),
            ..Figures::default()
        }
    }

    /// Adds a figure.
    pub fn add(
        &mut self,
        key: impl Into<String>,
        label: impl Into<String>,
        unit: Unit,
        sample: Sample,
    ) {
        self.list.push(Figure {
            key: key.into(),
            label: label.into(),
            unit,
            sample,
        });
    }

    /// Finds the value of a key.
    pub fn value(&self, key: &str) -> Option<f64> {
        let found = self.list.iter().find(|figure| figure.key == key);
        found.map(|figure| figure.sample.median)
    }

    /// Reads figures that [`Figures::write`] has written.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or has another form.
    pub fn read(path: &Path) -> io::Result<Figures> {
        let text = fs::read_to_string(path)?;
        let mut lines = text.lines();
        let machine = lines.next().unwrap_or_default().to_owned();
        let mut figures = Figures {
            machine,
            ..Figures::default()
        };
        for line in lines {
            let cells: Vec<_> = line.split('\t').collect();
            let figure = match cells[..] {
                [key, label, unit, median, spread] => parse(key, label, unit, median, spread),
                ["missing", why] => {
                    figures.missing.push(why.to_owned());
                    continue;
                }
                _ => None,
            };
            let invalid = || io::Error::other(format!("{}: no figure: {line}", path.display()));
            figures.list.push(figure.ok_or_else(invalid)?);
        }
        Ok(figures)
    }

    /// Writes the figures to a file, with one line per figure.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = format!("{}\n", self.machine);
        for Figure {
            key,
            label,
            unit,
            sample: Sample { median, spread },
        } in &self.list
        {
            let unit = unit.name();
            writeln!(text, "{key}\t{label}\t{unit}\t{median:.5}\t{spread:.3}").unwrap();
        }
        for why in &self.missing {
            writeln!(text, "missing\t{why}").unwrap();
        }
        fs::write(path, text)
    }

    /// Prints the table of these figures beside the figures of the book.
    pub fn table(&self, ours: &Figures) -> String {
        let width = self
            .list
            .iter()
            .map(|figure| figure.label.chars().count())
            .max();
        let width = width.unwrap_or(0).max(20);
        let mut table = format!("{:width$}  {:>10} {:>7}  {:>10}\n", "", "yours", "", "ours");
        for figure in &self.list {
            let yours = figure.unit.format(figure.sample.median);
            let ours = ours
                .value(&figure.key)
                .map(|value| figure.unit.format(value));
            let spread = format!("± {:.0} %", figure.sample.spread * 100.0);
            let (label, ours) = (&figure.label, ours.unwrap_or_else(|| "-".to_owned()));
            writeln!(table, "{label:width$}  {yours:>10} {spread:>7}  {ours:>10}").unwrap();
        }
        for why in &self.missing {
            writeln!(table, "not measured here: {why}").unwrap();
        }
        writeln!(table, "\nyours: {}\nours:  {}", self.machine, ours.machine).unwrap();
        table
    }
}

fn parse(key: &str, label: &str, unit: &str, median: &str, spread: &str) -> Option<Figure> {
    let units = [Unit::Nanoseconds, Unit::Bytes, Unit::Share, Unit::Number];
    Some(Figure {
        key: key.to_owned(),
        label: label.to_owned(),
        unit: units.into_iter().find(|known| known.name() == unit)?,
        sample: Sample {
            median: median.parse().ok()?,
            spread: spread.parse().ok()?,
        },
    })
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::Bytes => "bytes",
            Unit::Share => "share",
            Unit::Number => "number",
        }
    }

    /// Formats a value with three significant digits.
    pub fn format(self, value: f64) -> String {
        let scaled = |steps: &[(f64, &str)]| {
            let fits = |(size, _): &&(f64, &str)| value.abs() >= *size;
            let (size, unit) = steps.iter().find(fits).unwrap_or(&steps[steps.len() - 1]);
            format!("{} {unit}", digits(value / size))
        };
        match self {
            Unit::Nanoseconds => scaled(&[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")]),
            Unit::Bytes => scaled(&[(1048576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")]),
            Unit::Share => format!("{:.2} %", value * 100.0),
            Unit::Number => digits(value),
        }
    }
}

/// Three significant digits, and thousands with commas.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if value.abs() < 1000.0 {
        return text;
    }
    let split = text.len() - 3;
    format!("{},{}", &text[..split], &text[split..])
}

/// Returns the figures of the book for a chapter. They are empty before the first record.
pub fn ours(chapter: &Chapter) -> Figures {
    Figures::read(&ours_path(chapter)).unwrap_or_default()
}

/// Returns the file with the figures of the book.
pub fn ours_path(chapter: &Chapter) -> PathBuf {
    book().join(format!("code/ours/{}.txt", chapter.name()))
}
