//! The layout of charts, with two logarithmic axes and a label at the end of each line.

use std::{ops::Range, path::Path};

use anyhow::Result;
use plotters::{
    chart::ChartContext,
    coord::{
        Shift,
        combinators::{BindKeyPoints, IntoLogRange, LogCoord, WithKeyPoints},
    },
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    contender::Contender,
    plan::Unit,
    table::{Scale, significant},
};

/// Lines of several contenders.
pub(crate) struct Lines {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) across: &'static str,
    pub(crate) up: &'static str,
    pub(crate) series: Vec<(Contender, Vec<(f64, f64)>)>,
    pub(crate) unit: Unit,
    pub(crate) footer: String,
}

/// One dot per contender.
pub(crate) struct Scatter {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) across: &'static str,
    pub(crate) up: &'static str,
    pub(crate) spots: Vec<Spot>,
    /// Of both axes.
    pub(crate) unit: Unit,
    pub(crate) footer: String,
}

pub(crate) struct Spot {
    pub(crate) who: Contender,
    pub(crate) name: String,
    pub(crate) across: f64,
    pub(crate) up: f64,
    pub(crate) down_to: f64,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axis = WithKeyPoints<LogCoord<f64>>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

const SIZE: (u32, u32) = (1200, 720);
const LEFT: i32 = 30;
const HEADER: u32 = 104;
const FOOTER: u32 = 44;
/// Space for the labels at the ends of the lines.
const NAMES: u32 = 240;
const LINE_HEIGHT: i32 = 23;
/// Half the size of a scatter's dots.
const DOT: i32 = 8;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(228, 228, 228);

impl Lines {
    pub(crate) fn draw(&self, file: &Path) -> Result<()> {
        let root = SVGBackend::new(file, SIZE).into_drawing_area();
        let body = frame(&root, &self.title, &self.subtitle, &self.footer)?;
        let all = || self.series.iter().flat_map(|(_, points)| points);
        let scale = scale_of(self.unit, all().map(|at| at.1));
        let mut xs: Vec<f64> = all().map(|at| at.0).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let (first, last) = (xs[0], xs[xs.len() - 1]);
        let across = (first / 1.15..last * 1.02).log_scale().with_key_points(xs);
        let up = axis(all().map(|at| at.1 / scale.one));
        let up_name = format!("{}, {}", self.up, scale.unit);
        let mut chart = coordinates(&body, across, up, (self.across, &up_name), NAMES)?;
        for (who, points) in self.in_drawing_order() {
            let points: Vec<_> = points.iter().map(|&(x, y)| (x, y / scale.one)).collect();
            draw_line(&mut chart, *who, &points)?;
        }
        self.name_lines(&root, &chart, &scale)?;
        root.present()?;
        Ok(())
    }

    /// windlass is drawn last, on top of the others.
    fn in_drawing_order(&self) -> impl Iterator<Item = &(Contender, Vec<(f64, f64)>)> {
        let (ours, others): (Vec<_>, Vec<_>) =
            self.series.iter().partition(|(who, _)| who.is_ours());
        others.into_iter().chain(ours)
    }

    fn name_lines(&self, root: &Canvas<'_>, chart: &Chart<'_, '_>, scale: &Scale) -> Result<()> {
        let mut names: Vec<_> = self
            .series
            .iter()
            .map(|(who, points)| {
                let (x, y) = points[points.len() - 1];
                let name = format!("{who}  {}", significant(y / scale.one, 3));
                (chart.backend_coord(&(x, y / scale.one)), *who, name)
            })
            .collect();
        names.sort_by_key(|((_, y), ..)| *y);
        let wanted: Vec<i32> = names.iter().map(|((_, y), ..)| *y).collect();
        let room = HEADER as i32 + 10..SIZE.1 as i32 - FOOTER as i32 - 60;
        let column = SIZE.0 as i32 - NAMES as i32 + 30;
        for (y, (end, who, name)) in spread(&wanted, room).into_iter().zip(names) {
            let leader = [(end.0 + 8, end.1), (column - 5, y)];
            root.draw(&PathElement::new(
                leader,
                colour(who).mix(0.45).stroke_width(1),
            ))?;
            root.draw(&Text::new(name, (column, y), label(who)))?;
        }
        Ok(())
    }
}

fn draw_line(chart: &mut Chart<'_, '_>, who: Contender, points: &[(f64, f64)]) -> Result<()> {
    let colour = colour(who);
    let points = points.iter().copied();
    if who == Contender::Floor {
        let style = colour.stroke_width(2);
        chart.draw_series(DashedLineSeries::new(points, 7, 5, style))?;
        return Ok(());
    }
    let (width, dot) = if who.is_ours() { (4, 6) } else { (2, 4) };
    chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(width)))?;
    chart.draw_series(points.map(|at| Circle::new(at, dot, colour.filled())))?;
    Ok(())
}

impl Scatter {
    pub(crate) fn draw(&self, file: &Path) -> Result<()> {
        let root = SVGBackend::new(file, SIZE).into_drawing_area();
        let body = frame(&root, &self.title, &self.subtitle, &self.footer)?;
        let wide = scale_of(self.unit, self.spots.iter().map(|spot| spot.across));
        let high = Scale {
            unit: "µs",
            one: 1e3,
        };
        let across = axis(self.spots.iter().map(|spot| spot.across / wide.one));
        let both = self.spots.iter().flat_map(|spot| [spot.up, spot.down_to]);
        let up = axis(both.map(|y| y / high.one));
        let names = [
            format!("{}, {}", self.across, wide.unit),
            format!("{}, {}", self.up, high.unit),
        ];
        let mut chart = coordinates(&body, across, up, (&names[0], &names[1]), 120)?;
        let own = self.spots.iter().filter(|spot| spot.who.is_ours());
        let mut line: Vec<_> = own
            .map(|spot| (spot.across / wide.one, spot.up / high.one))
            .collect();
        line.sort_by(|one, other| one.0.total_cmp(&other.0));
        let style = colour(Contender::Windlass).mix(0.5).stroke_width(2);
        chart.draw_series(LineSeries::new(line, style))?;
        let mut bars = Vec::new();
        for spot in &self.spots {
            let at = |y: f64| (spot.across / wide.one, y / high.one);
            let (top, bottom) = (at(spot.up), at(spot.down_to));
            let colour = colour(spot.who);
            chart.draw_series(LineSeries::new([top, bottom], colour.stroke_width(2)))?;
            let dot = if spot.who.is_ours() { 9 } else { 6 };
            chart.draw_series([Circle::new(top, dot, colour.filled())])?;
            let (top, bottom) = (chart.backend_coord(&top), chart.backend_coord(&bottom));
            let height = bottom.1 - top.1 + 2 * DOT;
            bars.push(Area::new(top.0 - DOT, top.1 - DOT, 2 * DOT, height));
        }
        self.name_spots(&root, &bars)?;
        root.present()?;
        Ok(())
    }

    /// Places each label beside its dot, where it overlaps the least. `bars`: from the dots down to
    /// the medians.
    fn name_spots(&self, root: &Canvas<'_>, bars: &[Area]) -> Result<()> {
        let mut taken = bars.to_vec();
        for (spot, bar) in self.spots.iter().zip(bars) {
            let name = spot.name.as_str();
            let (x, y) = (bar.left + bar.width / 2, bar.top + DOT);
            let width = 10 * name.chars().count() as i32;
            let sides = [14, -14 - width, -width / 2];
            let places = [0, -22, 22, -44]
                .into_iter()
                .flat_map(|dy| sides.map(|dx| (dx, dy)));
            let areas = places.map(|(dx, dy)| Area::new(x + dx, y + dy - 11, width, 22));
            let covered = |area: &Area| taken.iter().map(|other| area.shared(other)).sum::<i32>();
            let Some(area) = areas.min_by_key(covered) else {
                continue;
            };
            root.draw(&Text::new(
                name,
                (area.left, area.top + 11),
                label(spot.who),
            ))?;
            taken.push(area);
        }
        Ok(())
    }
}

/// A rectangle with text.
#[derive(Clone, Copy)]
struct Area {
    left: i32,
    top: i32,
    width: i32,
    height: i32,
}

impl Area {
    fn new(left: i32, top: i32, width: i32, height: i32) -> Area {
        Area {
            left,
            top,
            width,
            height,
        }
    }

    /// The area of the overlap of both.
    fn shared(&self, other: &Area) -> i32 {
        let common = |one: i32, length: i32, other: i32, other_length: i32| {
            ((one + length).min(other + other_length) - one.max(other)).max(0)
        };
        common(self.left, self.width, other.left, other.width)
            * common(self.top, self.height, other.top, other.height)
    }
}

/// Draws title, subtitle and footer. Returns the space between them.
fn frame<'a>(root: &Canvas<'a>, title: &str, subtitle: &str, footer: &str) -> Result<Canvas<'a>> {
    root.fill(&WHITE)?;
    let left = |size, colour| text(size, colour, HPos::Left, VPos::Top);
    root.draw(&Text::new(title.to_owned(), (LEFT, 22), left(29, INK)))?;
    root.draw(&Text::new(subtitle.to_owned(), (LEFT, 64), left(19, GREY)))?;
    let bottom = SIZE.1 as i32 - 28;
    root.draw(&Text::new(
        footer.to_owned(),
        (LEFT, bottom),
        left(14, GREY),
    ))?;
    let (_, rest) = root.split_vertically(HEADER);
    Ok(rest.split_vertically(SIZE.1 - HEADER - FOOTER).0)
}

fn coordinates<'a, 'b>(
    body: &'a Canvas<'b>,
    across: Axis,
    up: Axis,
    names: (&str, &str),
    right: u32,
) -> Result<Chart<'a, 'b>> {
    let mut chart = ChartBuilder::on(body)
        .margin_left(14)
        .margin_right(right)
        .margin_top(8)
        .x_label_area_size(54)
        .y_label_area_size(78)
        .build_cartesian_2d(across, up)?;
    let middle = text(18, GREY, HPos::Left, VPos::Top);
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .label_style(middle.clone())
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|y| number(*y))
        .x_desc(names.0)
        .y_desc(names.1)
        .axis_desc_style(middle)
        .draw()?;
    Ok(chart)
}

/// A little longer than the range of the values, with as many ticks as fit.
fn axis(values: impl Iterator<Item = f64>) -> Axis {
    let Range { start, end } = range(values);
    let span = end / start;
    // Over many powers of ten, labels of adjacent ticks would overlap.
    let steps: &[f64] = match () {
        () if span < 15.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        () if span < 5e3 => &[1.0, 2.0, 5.0],
        () => &[1.0],
    };
    let marks = (-6..=12).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    let marks: Vec<_> = marks.filter(|mark| (start..=end).contains(mark)).collect();
    (start..end).log_scale().with_key_points(marks)
}

fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let ends = values
        .filter(|value| *value > 0.0)
        .fold((f64::MAX, f64::MIN), |(least, most), value| {
            (value.min(least), value.max(most))
        });
    let room = (ends.1 / ends.0).powf(0.06).max(1.15);
    ends.0 / room..ends.1 * room
}

fn scale_of(unit: Unit, values: impl Iterator<Item = f64>) -> Scale {
    Scale::of(unit, values.fold(f64::MAX, f64::min))
}

fn number(value: f64) -> String {
    if value >= 1.0 {
        indicatif::HumanCount(value.round() as u64).to_string()
    } else {
        format!("{}", (value * 1e6).round() / 1e6)
    }
}

/// Moves positions apart until each has the height of a line. Positions that would overlap form a
/// block around the middle of their targets. Input and output are in rising order.
fn spread(wanted: &[i32], room: Range<i32>) -> Vec<i32> {
    let mut blocks: Vec<Vec<i32>> = Vec::new();
    let top = |block: &[i32]| {
        let height = (block.len() as i32 - 1) * LINE_HEIGHT;
        let middle = block.iter().sum::<i32>() / block.len() as i32;
        (middle - height / 2).clamp(room.start, (room.end - height).max(room.start))
    };
    for &y in wanted {
        let mut block = vec![y];
        while let Some(above) = blocks.pop() {
            if top(&above) + above.len() as i32 * LINE_HEIGHT <= top(&block) {
                blocks.push(above);
                break;
            }
            block = [above, block].concat();
        }
        blocks.push(block);
    }
    let lines = |block: &Vec<i32>| {
        let (first, count) = (top(block), block.len() as i32);
        (0..count).map(move |line| first + line * LINE_HEIGHT)
    };
    blocks.iter().flat_map(lines).collect()
}

fn label(who: Contender) -> TextStyle<'static> {
    text(
        if who.is_ours() { 21 } else { 18 },
        colour(who),
        HPos::Left,
        VPos::Center,
    )
}

fn colour(who: Contender) -> RGBColor {
    let (red, green, blue) = who.colour();
    RGBColor(red, green, blue)
}

fn text(size: u32, colour: RGBColor, across: HPos, down: VPos) -> TextStyle<'static> {
    (FONT, size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(across, down))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_touch_and_stay_in_their_room() {
        let places = spread(&[100, 101, 102, 300, 598, 599], 0..600);
        assert!(
            places
                .windows(2)
                .all(|pair| pair[1] - pair[0] >= LINE_HEIGHT),
            "{places:?}"
        );
        assert_eq!(places, [78, 101, 124, 300, 577, 600]);
    }
}
