//! Formats all results as a report in Markdown.

use super::{
    contender::Contender::{Threads, Windlass},
    plan::{PARTS, Work},
    results::{Outcome, Results, median},
    table::{self, with_unit},
    targets,
};

/// `folder`: the directory of the charts, relative to the report.
pub(crate) fn markdown(
    works: &[Work],
    results: &Results,
    charts: &[(&str, &str)],
    folder: &str,
) -> String {
    let mut text = preface(results);
    text += "\n### Targets\n\n";
    text += &targets::table(results);
    text += &losses(works, results);
    for (part, about) in PARTS {
        let own: Vec<_> = works.iter().filter(|work| work.part == part).collect();
        let table = table::part(&own, results);
        if table.is_empty() {
            continue;
        }
        text += &format!("\n### {about} (`{part}`)\n\n{table}");
        text += &calls_by_name(&own, results);
        for (file, _) in charts.iter().filter(|(_, of)| *of == part) {
            text += &format!("\n![{about}]({folder}{file})\n");
        }
    }
    text
}

fn preface(results: &Results) -> String {
    let machine = &results.machine;
    let versions = machine
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"));
    let versions: Vec<_> = versions.collect();
    let pinned = if machine.is_pinned {
        ""
    } else {
        ", not pinned"
    };
    let virt = if machine.is_virtual { " (virtual)" } else { "" };
    let mut text = format!(
        "{}: {}{virt}, {} cores{pinned}, {}, {}, {}.\n{}.\n\n",
        machine.date,
        machine.cpu,
        machine.cores,
        machine.memory,
        machine.kernel,
        machine.rustc,
        versions.join(", "),
    );
    let (rounds, ms) = (results.rounds, results.window_ms);
    let plural = if rounds == 1 { "" } else { "s" };
    text += &format!(
        "Medians of {rounds} round{plural}, {ms} ms a sample; ± is the median deviation from the \
         median. Less is better everywhere. Bold: the best, and what is within 1 % of it. \
         ÷: windlass to the best async peer, and to the floor. ~: taken while others were at work \
         (or at another distance of the cores than the rest of the row). –: not possible.\n\n",
    );
    text += &mood(results);
    for note in &results.notes {
        text += &format!("- {note}\n");
    }
    text
}

/// Differences below this are noise.
const NOISE: f64 = 1.03;

/// Each result in which a peer, or threads, are better than windlass, the largest difference first.
fn losses(works: &[Work], results: &Results) -> String {
    let mut losses = Vec::new();
    for work in works {
        for figure in work.figures {
            let of = |who| Some((who, results.summary(work, who, figure.name)?.median));
            let rivals = work
                .who
                .iter()
                .filter(|who| who.is_peer() || **who == Threads);
            let best = rivals
                .filter_map(|&who| of(who))
                .min_by(|a, b| a.1.total_cmp(&b.1));
            let (Some((_, own)), Some((who, best))) = (of(Windlass), best) else {
                continue;
            };
            let ratio = own / best;
            if ratio.is_finite() && ratio > NOISE {
                let (own, best) = (with_unit(own, figure.unit), with_unit(best, figure.unit));
                let label = figure.label;
                losses.push((
                    ratio,
                    format!("{}, {label} | {own} | {best}, {who}", work.title),
                ));
            }
        }
    }
    losses.sort_by(|one, other| other.0.total_cmp(&one.0));
    let rows = losses
        .iter()
        .map(|(ratio, row)| format!("| {row} | {} |\n", table::times(*ratio)));
    let rows: String = rows.collect();
    let header = "| | windlass | the best | ÷ |\n|---|---:|---:|---:|\n";
    let rows = if rows.is_empty() {
        "Nowhere here.\n".to_owned()
    } else {
        header.to_owned() + &rows
    };
    format!("\n### Where windlass loses\n\n{rows}")
}

/// How quiet the machine was, and the distance of the cores.
fn mood(results: &Results) -> String {
    let samples = &results.samples;
    let measured = samples
        .iter()
        .filter(|sample| matches!(sample.outcome, Outcome::Figures(_)));
    let (all, quiet) = measured.fold((0, 0), |(all, quiet), sample| {
        (all + 1, quiet + usize::from(sample.noise.is_quiet()))
    });
    let mut text = format!("- {quiet} of {all} samples were taken in quiet.\n");
    let mut distances: Vec<_> = samples
        .iter()
        .filter_map(|sample| sample.distance_ns)
        .collect();
    distances.sort_by(f64::total_cmp);
    let at = |part: usize| distances.get((distances.len() - 1) * part / 20).copied();
    if let (Some(middle), Some(least), Some(most)) = (
        median(distances.clone()),
        distances.first().and_then(|_| at(1)),
        distances.first().and_then(|_| at(19)),
    ) {
        text += &format!(
            "- A cache line's round trip between the two cores: {middle:.0} ns, \
             nine tenths of the time from {least:.0} to {most:.0} ns.\n"
        );
    }
    text
}

/// The system calls of the works where each is counted.
fn calls_by_name(works: &[&Work], results: &Results) -> String {
    let mut text = String::new();
    for work in works {
        for &who in work.who {
            for sample in results.of(&work.id, who) {
                let Outcome::Figures(figures) = &sample.outcome else {
                    continue;
                };
                let named = figures.iter().filter_map(|(name, value)| {
                    let call = name.strip_prefix("call ")?;
                    Some(format!("{call} {}", table::significant(*value, 3)))
                });
                let named: Vec<_> = named.collect();
                if !named.is_empty() {
                    text += &format!("- {}, {who}: {}\n", work.title, named.join(", "));
                }
            }
        }
    }
    if text.is_empty() {
        text
    } else {
        format!("\nBy name:\n\n{text}")
    }
}
