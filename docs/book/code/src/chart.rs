//! Charts as SVGs, which follow the theme of the page that they are in.

use std::fmt::Write;

use crate::figures::{Figures, Unit};

/// The style of all pictures. `docs/book/theme/fig.css` is in the book, too.
pub const STYLE: &str = include_str!("../../theme/fig.css");

const WIDTH: f64 = 720.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 640.0;

const LEGEND: &str = "<rect x=\"250\" y=\"38\" width=\"12\" height=\"10\" class=\"a\"/>\
    <text x=\"268\" y=\"48\" class=\"small\">yours</text>\
    <rect x=\"320\" y=\"41\" width=\"12\" height=\"5\" class=\"b\"/>\
    <text x=\"338\" y=\"48\" class=\"small\">ours</text>";

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name beside its last point.
    pub name: String,
    /// The colour, as the class `a`, `b` or `c` of the style sheet.
    pub class: char,
    /// True for the figures of the book.
    pub is_dashed: bool,
    /// The points, with the horizontal value first.
    pub points: Vec<(f64, f64)>,
}

/// Draws all figures with this unit as bars on a logarithmic axis, and the figures of the book
/// as thin bars, if there are any.
pub fn bars(title: &str, yours: &Figures, ours: &Figures, unit: Unit) -> String {
    let shown: Vec<_> = yours
        .list
        .iter()
        .filter(|figure| figure.unit == unit)
        .collect();
    let values = shown.iter().map(|figure| figure.sample.median);
    let values = values.chain(shown.iter().filter_map(|figure| ours.value(&figure.key)));
    let (low, high) = range(unit, values);
    let x = |value: f64| LEFT + (RIGHT - LEFT) * place(value, low, high);
    let height = 84.0 + 38.0 * shown.len() as f64;
    let mut svg = open(title, height);
    if !ours.list.is_empty() {
        svg.push_str(LEGEND);
    }
    let mut tick = low;
    while tick <= high * 1.001 {
        let (at, end) = (x(tick), height - 26.0);
        write!(svg, "<path class=\"grid\" d=\"M{at:.1} 58V{end}\"/>").unwrap();
        let label = tick_label(unit, tick);
        write!(
            svg,
            "<text class=\"small mid\" x=\"{at:.1}\" y=\"{}\">{label}</text>",
            height - 8.0
        )
        .unwrap();
        tick *= step(unit);
    }
    for (i, figure) in shown.iter().enumerate() {
        let top = 64.0 + 38.0 * i as f64;
        let value = figure.sample.median;
        let (label, text) = (&figure.label, unit.format(value));
        let end = x(value);
        write!(
            svg,
            "<text class=\"end\" x=\"{}\" y=\"{}\">{label}</text>",
            LEFT - 10.0,
            top + 16.0
        )
        .unwrap();
        write!(
            svg,
            "<rect class=\"a\" x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"16\"/>",
            end - LEFT
        )
        .unwrap();
        write!(
            svg,
            "<text class=\"small\" x=\"{:.1}\" y=\"{}\">{text}</text>",
            end + 6.0,
            top + 13.0
        )
        .unwrap();
        if let Some(value) = ours.value(&figure.key) {
            let (top, width) = (top + 18.0, x(value) - LEFT);
            write!(
                svg,
                "<rect class=\"b\" x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"5\"/>"
            )
            .unwrap();
        }
    }
    svg + "</svg>\n"
}

/// Draws lines over two logarithmic axes. The horizontal axis has a tick per point.
pub fn lines(title: &str, across: &str, unit: Unit, lines: &[Line]) -> String {
    let has_both = lines.iter().any(|line| line.is_dashed);
    let across = if has_both {
        format!("{across} (dashed: ours)")
    } else {
        across.to_owned()
    };
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (low, high) = range(unit, points().map(|point| point.1));
    let (first, last) = points().fold((f64::MAX, 1.0_f64), |(low, high), (x, _)| {
        (low.min(x), high.max(x))
    });
    let (left, right, top, bottom) = (80.0, 520.0, 40.0, 320.0);
    let x = |value: f64| left + (right - left) * place(value, first, last.max(first * 1.01));
    let y = |value: f64| bottom - (bottom - top) * place(value, low, high);
    let mut svg = open(title, 370.0);
    let mut tick = low;
    while tick <= high * 1.001 {
        let at = y(tick);
        let label = tick_label(unit, tick);
        write!(svg, "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>").unwrap();
        write!(
            svg,
            "<text class=\"small end\" x=\"{}\" y=\"{:.1}\">{label}</text>",
            left - 8.0,
            at + 4.0
        )
        .unwrap();
        tick *= step(unit);
    }
    let mut ticks: Vec<_> = points().map(|point| point.0).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    for tick in ticks {
        let (at, label) = (x(tick), tick_label(Unit::Number, tick));
        write!(
            svg,
            "<text class=\"small mid\" x=\"{at:.1}\" y=\"340\">{label}</text>"
        )
        .unwrap();
    }
    write!(
        svg,
        "<text class=\"small mid\" x=\"300\" y=\"362\">{across}</text>"
    )
    .unwrap();
    let mut free = f64::MIN;
    let mut sorted: Vec<_> = lines
        .iter()
        .filter(|line| !line.points.is_empty())
        .collect();
    let end = |line: &Line| y(line.points[line.points.len() - 1].1);
    sorted.sort_by(|a, b| end(a).total_cmp(&end(b)));
    for line in sorted {
        let Line {
            name,
            class,
            is_dashed,
            points,
        } = line;
        let path: Vec<_> = points
            .iter()
            .map(|p| format!("{:.1} {:.1}", x(p.0), y(p.1)))
            .collect();
        let dash = if *is_dashed { " dash" } else { "" };
        write!(
            svg,
            "<path class=\"l{class}{dash}\" d=\"M{}\"/>",
            path.join("L")
        )
        .unwrap();
        for (at, value) in points.iter().filter(|_| !is_dashed) {
            write!(
                svg,
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
                x(*at),
                y(*value)
            )
            .unwrap();
        }
        // Names keep a distance of a line.
        free = (end(line) + 5.0).max(free + 17.0);
        write!(
            svg,
            "<text class=\"{class}\" x=\"{}\" y=\"{free:.1}\">{name}</text>",
            right + 10.0
        )
        .unwrap();
    }
    svg + "</svg>\n"
}

/// Begins a picture with its title.
fn open(title: &str, height: f64) -> String {
    format!(
        "<svg class=\"fig\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n\
         <text class=\"title\" x=\"12\" y=\"24\">{title}</text>"
    )
}

/// The factor between two ticks of an axis.
fn step(unit: Unit) -> f64 {
    if unit == Unit::Bytes { 16.0 } else { 10.0 }
}

/// The value of a tick, without zeros at the end.
pub fn tick_label(unit: Unit, tick: f64) -> String {
    let text = unit.format(tick);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    };
    format!("{number} {unit}").trim_end().to_owned()
}

/// The ticks around the values.
fn range(unit: Unit, values: impl Iterator<Item = f64>) -> (f64, f64) {
    let positive = values.filter(|value| *value > 0.0);
    let (low, high) = positive.fold((f64::MAX, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let step = step(unit);
    if high == 0.0 {
        return (1.0, step);
    }
    let low = step.powf(low.log(step).floor());
    (low, step.powf(high.log(step).ceil()).max(low * step))
}

/// The place of a value on a logarithmic axis, from 0 to 1.
fn place(value: f64, low: f64, high: f64) -> f64 {
    let share = (value.max(low) / low).ln() / (high / low).ln();
    share.clamp(0.0, 1.0)
}

/// Returns the picture as a file of its own, which any browser shows.
pub fn standalone(svg: &str) -> String {
    let paper = "<rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>";
    svg.replacen('\n', &format!("\n<style>{STYLE}</style>{paper}"), 1)
}
