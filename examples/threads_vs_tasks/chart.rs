//! The chart as an SVG, with four panels that show threads beside tasks.

use std::thread::available_parallelism;

use anyhow::Result;
use indicatif::HumanCount;
use plotters::{
    coord::{
        Shift,
        combinators::{BindKeyPoints, IntoLogRange, LogCoord, WithKeyPoints},
    },
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    options::{Options, Side},
    report::{METRICS, Metric, significant},
    trial::{Outcome, Trial},
};

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (1200, 900);
const HEADER: u32 = 100;
const FOOTER: u32 = 50;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// Distinguishable for colour-blind people, and in grey.
fn colour(side: Side) -> RGBColor {
    match side {
        Side::Threads => RGBColor(213, 94, 0),
        Side::Tasks => RGBColor(0, 114, 178),
    }
}

pub(crate) fn draw(options: &Options, outcomes: &[(Trial, Outcome)]) -> Result<()> {
    let canvas = SVGBackend::new(&options.svg, SIZE).into_drawing_area();
    canvas.fill(&WHITE)?;
    let (header, rest) = canvas.split_vertically(HEADER);
    let (panels, footer) = rest.split_vertically(SIZE.1 - HEADER - FOOTER);
    draw_header(&header, options)?;
    for (panel, metric) in panels.split_evenly((2, 2)).iter().zip(&METRICS) {
        draw_panel(panel, metric, options, outcomes)?;
    }
    draw_footer(&footer, options, outcomes)?;
    canvas.present()?;
    Ok(())
}

fn draw_header(header: &Canvas<'_>, options: &Options) -> Result<()> {
    let middle = SIZE.0 as i32 / 2;
    let title = "A thread a connection, or a task a connection";
    header.draw(&Text::new(
        title,
        (middle, 20),
        text(30, INK, HPos::Center, VPos::Top),
    ))?;
    let sides = options.sides();
    for (column, side) in sides.iter().enumerate() {
        let left = middle - 330 * sides.len() as i32 / 2 + 330 * column as i32 + 40;
        let (line, dot) = ([(left, 78), (left + 36, 78)], (left + 18, 78));
        header.draw(&PathElement::new(line, colour(*side).stroke_width(3)))?;
        header.draw(&Circle::new(dot, 6, colour(*side).filled()))?;
        let words = match side {
            Side::Threads => "threads (std::net)",
            Side::Tasks => "tasks on one thread (windlass)",
        };
        let style = text(18, INK, HPos::Left, VPos::Center);
        header.draw(&Text::new(words, (left + 46, 78), style))?;
    }
    Ok(())
}

fn draw_panel(
    panel: &Canvas<'_>,
    metric: &Metric,
    options: &Options,
    outcomes: &[(Trial, Outcome)],
) -> Result<()> {
    let lines = options
        .sides()
        .into_iter()
        .map(|side| (side, points(side, metric, outcomes)));
    let lines: Vec<_> = lines.collect();
    let values = lines
        .iter()
        .flat_map(|(_, points)| points)
        .map(|&(_, value)| value);
    let top = values.fold(f64::MIN_POSITIVE, f64::max);

    let mut chart = ChartBuilder::on(panel)
        .margin_left(10)
        .margin_right(20)
        .margin_bottom(12)
        .caption(title(metric), text(20, INK, HPos::Left, VPos::Top))
        .x_label_area_size(55)
        .y_label_area_size(60)
        .build_cartesian_2d(rungs(options), -0.12 * top..1.15 * top)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .label_style(text(15, GREY, HPos::Left, VPos::Top))
        .x_label_formatter(&|connections| HumanCount(connections.round() as u64).to_string())
        .y_labels(6)
        .y_label_formatter(&|&value| tick(value))
        .x_desc("connections (log scale)")
        .axis_desc_style(text(15, GREY, HPos::Left, VPos::Top))
        .draw()?;

    for (side, points) in &lines {
        let colour = colour(*side);
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(3)))?;
        chart.draw_series(points.iter().map(|&at| Circle::new(at, 6, colour.filled())))?;
        chart.draw_series(points.iter().map(|&at| {
            let others = lines
                .iter()
                .filter(|(other, _)| other != side)
                .flat_map(|(_, at)| at);
            // The label of the other side needs the space above.
            let above = 0.0..0.25 * top;
            let below = others
                .filter(|other| other.0 == at.0)
                .any(|o| above.contains(&(o.1 - at.1)));
            let (dy, vertical) = if below {
                (10, VPos::Top)
            } else {
                (-10, VPos::Bottom)
            };
            let style = text(15, colour, HPos::Center, vertical);
            EmptyElement::at(at) + Text::new(significant(at.1, 2), (0, dy), style)
        }))?;
    }
    Ok(())
}

fn draw_footer(
    footer: &Canvas<'_>,
    options: &Options,
    outcomes: &[(Trial, Outcome)],
) -> Result<()> {
    let middle = SIZE.0 as i32 / 2;
    let style = text(15, GREY, HPos::Center, VPos::Top);
    let cores = available_parallelism().map_or(0, usize::from);
    let measured = format!(
        "{}-byte requests over loopback TCP, {:?} a point, {cores} cores. CPU time, context \
         switches and memory: the server's, without socket buffers and the like in the kernel.",
        options.size, options.measured,
    );
    footer.draw(&Text::new(measured, (middle, 4), style.clone()))?;
    let missing = outcomes
        .iter()
        .filter(|(_, outcome)| !matches!(outcome, Outcome::Measured(_)));
    let missing: Vec<_> = missing.map(|(trial, _)| trial.to_string()).collect();
    if !missing.is_empty() {
        let missing = format!("Not possible here: {}", missing.join("; "));
        footer.draw(&Text::new(missing, (middle, 26), style))?;
    }
    Ok(())
}

/// The ticks of a logarithmic axis, with space for the labels at both ends.
fn rungs(options: &Options) -> WithKeyPoints<LogCoord<f64>> {
    let rungs: Vec<f64> = options.connections.iter().map(|&n| n as f64).collect();
    let (first, last) = (rungs[0], rungs[rungs.len() - 1]);
    let room = (last / first).powf(0.08).max(1.5);
    (first / room..last * room)
        .log_scale()
        .with_key_points(rungs)
}

fn points(side: Side, metric: &Metric, outcomes: &[(Trial, Outcome)]) -> Vec<(f64, f64)> {
    let own = outcomes.iter().filter(|(trial, _)| trial.side == side);
    own.filter_map(|(trial, outcome)| match outcome {
        Outcome::Measured(figures) => Some((trial.connections as f64, (metric.of)(figures))),
        _ => None,
    })
    .collect()
}

fn title(metric: &Metric) -> String {
    match metric.unit {
        "" => metric.name.to_owned(),
        unit => format!("{} ({unit})", metric.name),
    }
}

/// Values start at zero; the space below is for labels.
fn tick(value: f64) -> String {
    if value < 0.0 {
        String::new()
    } else {
        ((value * 1e3).round() / 1e3).to_string()
    }
}

fn text(size: u32, colour: RGBColor, across: HPos, down: VPos) -> TextStyle<'static> {
    (FONT, size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(across, down))
}
