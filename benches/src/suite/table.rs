//! The tables of results, in Markdown.

use super::{
    contender::{ALL, Contender},
    plan::{Figure, Unit, Work},
    results::{Outcome, Results, Summary},
};

/// Values this close to the best are marked as best too, because the next run may swap them.
const SAME: f64 = 1.01;

/// The works of a part, one row per value, one column per contender with any values.
pub(crate) fn part(works: &[&Work], results: &Results) -> String {
    let has_any = |who: &Contender| {
        works
            .iter()
            .any(|work| results.of(&work.id, *who).next().is_some())
    };
    let columns: Vec<_> = ALL.into_iter().filter(has_any).collect();
    if columns.is_empty() {
        return String::new();
    }
    let names: String = columns.iter().map(|who| format!(" {who} |")).collect();
    let mut text = format!("| | |{names} ÷ best peer | ÷ floor |\n");
    text += &format!("|---|---|{}---:|---:|\n", "---:|".repeat(columns.len()));
    for work in works {
        let mut title = work.title.as_str();
        for figure in work.figures {
            if let Some(row) = row(work, figure, &columns, results) {
                text += &format!("| {title} | {row}\n");
                title = "";
            }
        }
        let is_measured = columns
            .iter()
            .any(|&who| results.of(&work.id, who).next().is_some());
        if is_measured && !title.is_empty() {
            let cells = columns
                .iter()
                .map(|&who| format!(" {} |", blank(work, who, results)));
            text += &format!("| {title} | |{} | |\n", cells.collect::<String>());
        }
    }
    text + &footnotes(works, &columns, results)
}

/// `None` if no contender has this value.
fn row(work: &Work, figure: &Figure, columns: &[Contender], results: &Results) -> Option<String> {
    let summaries: Vec<_> = columns
        .iter()
        .map(|&who| (who, results.summary(work, who, figure.name)))
        .collect();
    let rivals = summaries.iter().filter(|(who, _)| *who != Contender::Floor);
    let best = rivals.filter_map(|(_, summary)| Some(summary.as_ref()?.median));
    let best = best.min_by(f64::total_cmp);
    let least = summaries
        .iter()
        .filter_map(|(_, summary)| Some(summary.as_ref()?.median));
    let scale = Scale::of(figure.unit, least.min_by(f64::total_cmp)?);
    let mut text = format!("{} |", label(figure, &scale));
    for (who, summary) in &summaries {
        let cell = match summary {
            Some(summary) => cell(summary, &scale, *who != Contender::Floor, best),
            None => blank(work, *who, results).to_owned(),
        };
        text += &format!(" {cell} |");
    }
    let own = results
        .summary(work, Contender::Windlass, figure.name)
        .map(|own| own.median);
    let floor = results
        .summary(work, Contender::Floor, figure.name)
        .map(|floor| floor.median);
    let peer = results.best_peer(work, figure.name).map(|(_, peer)| peer);
    Some(text + &format!(" {} | {} |", ratio(own, peer), ratio(own, floor)))
}

fn label(figure: &Figure, scale: &Scale) -> String {
    match scale.unit {
        "" => figure.label.to_owned(),
        unit => format!("{}, {unit}", figure.label),
    }
}

fn cell(summary: &Summary, scale: &Scale, may_be_best: bool, best: Option<f64>) -> String {
    let median = significant(summary.median / scale.one, 3);
    let is_best =
        may_be_best && best.is_some_and(|best| best > 0.0 && summary.median <= best * SAME);
    let median = if is_best {
        format!("**{median}**")
    } else {
        median
    };
    let percent = 100.0 * summary.deviation / summary.median;
    let spread = if percent >= 0.5 {
        format!(" ±{percent:.0} %")
    } else {
        String::new()
    };
    let doubt = if summary.doubtful { "~" } else { "" };
    format!("{doubt}{median}{spread}")
}

fn blank(work: &Work, who: Contender, results: &Results) -> &'static str {
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    if results
        .of(&work.id, who)
        .any(|sample| failed(&sample.outcome))
    {
        "fails"
    } else {
        "–"
    }
}

fn ratio(own: Option<f64>, other: Option<f64>) -> String {
    match (own, other) {
        (Some(own), Some(other)) if other > 0.0 => times(own / other),
        _ => String::new(),
    }
}

/// A ratio.
pub(crate) fn times(ratio: f64) -> String {
    if ratio < 10.0 {
        format!("{ratio:.2}")
    } else {
        significant(ratio, 3)
    }
}

/// Failed and unsupported contenders with the reasons, each reason once.
fn footnotes(works: &[&Work], columns: &[Contender], results: &Results) -> String {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    for work in works {
        for &who in columns {
            for sample in results.of(&work.id, who) {
                let note = match &sample.outcome {
                    Outcome::Figures(_) => continue,
                    Outcome::Unsupported(why) => format!("{who} –: {}", plain(why)),
                    Outcome::Failed(why) => format!("{who} fails: {}", plain(why)),
                };
                match notes.iter_mut().find(|(other, _)| *other == note) {
                    Some((_, titles)) if titles.last() == Some(&work.title.as_str()) => {}
                    Some((_, titles)) => titles.push(&work.title),
                    None => notes.push((note, vec![&work.title])),
                }
            }
        }
    }
    let lines = notes
        .iter()
        .map(|(note, titles)| format!("- {note} ({})\n", titles.join("; ")));
    let lines: String = lines.collect();
    if lines.is_empty() {
        lines
    } else {
        format!("\n{lines}")
    }
}

/// Escapes Markdown.
fn plain(words: &str) -> String {
    words.replace(['|', '<', '>', '*', '`'], " ")
}

/// The unit of a row.
pub(crate) struct Scale {
    pub(crate) unit: &'static str,
    pub(crate) one: f64,
}

impl Scale {
    /// The largest unit in which the smallest value is at least one.
    pub(crate) fn of(unit: Unit, least: f64) -> Scale {
        let scales: &[(&str, f64)] = match unit {
            Unit::Time => &[("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)],
            Unit::Bytes => &[("MiB", 1_048_576.0), ("KiB", 1_024.0), ("B", 1.0)],
            Unit::Count => &[("", 1.0)],
        };
        let fitting = scales.iter().find(|(_, one)| least >= *one);
        let &(unit, one) = fitting.unwrap_or(&scales[scales.len() - 1]);
        Scale { unit, one }
    }
}

/// A value with its unit.
pub(crate) fn with_unit(value: f64, unit: Unit) -> String {
    let scale = Scale::of(unit, value);
    format!("{} {}", significant(value / scale.one, 3), scale.unit)
        .trim_end()
        .to_owned()
}

/// With that many digits, at most that many decimals, and commas as thousands separators.
pub(crate) fn significant(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let whole_digits = (number.abs().log10().floor() + 1.0).max(0.0) as usize;
    match digits.saturating_sub(whole_digits) {
        0 if number > 0.0 => indicatif::HumanCount(number.round() as u64).to_string(),
        decimals => format!("{number:.decimals$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{contender::Contender::*, plan::plan, results::tests::results};
    use super::*;

    fn table(id: &str, results: &Results) -> String {
        let works = plan();
        part(&[works.iter().find(|work| work.id == id).unwrap()], results)
    }

    #[test]
    fn the_best_is_bold_and_ratios_are_to_the_best_peer_and_the_floor() {
        let taken = [(Floor, 9.0), (Windlass, 20.0), (Tokio, 60.0), (Smol, 50.0)];
        let results = results(
            "select",
            "cpu_ns",
            &taken.map(|(who, value)| (who, value, false, 70.0)),
        );
        assert_eq!(
            table("select", &results),
            "| | | floor | windlass | tokio | smol | ÷ best peer | ÷ floor |\n\
             |---|---|---:|---:|---:|---:|---:|---:|\n\
             | select of a channel and a far sleep | CPU, ns | 9.00 | **20.0** | 60.0 | 50.0 \
             | 0.40 | 2.22 |\n"
        );
    }

    #[test]
    fn failures_stand_in_the_table_with_their_reason() {
        let taken = [(Windlass, 2e6, false, 70.0), (Tokio, 3e6, false, 70.0)];
        let mut results = results("select", "cpu_ns", &taken);
        results.samples[1].outcome = Outcome::Failed("it *panics*".to_owned());
        let table = table("select", &results);
        assert!(
            table.contains("| CPU, ms | **2.00** | fails |  |  |\n"),
            "{table}"
        );
        assert!(
            table.ends_with(
                "\n\n- tokio fails: it  panics  (select of a channel and a far sleep)\n"
            )
        );
    }

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.1234, "0.123"),
            (9.876, "9.88"),
            (98.76, "98.8"),
        ];
        for (number, text) in cases
            .into_iter()
            .chain([(987.6, "988"), (98_765.4, "98,765")])
        {
            assert_eq!(significant(number, 3), text);
        }
        assert_eq!(with_unit(1_536.0, Unit::Bytes), "1.50 KiB");
        assert_eq!(with_unit(0.5, Unit::Time), "0.500 ns");
    }
}
