//! The charts, as SVG: their contents and titles.

use std::path::Path;

use anyhow::Result;
use indicatif::HumanCount;

use super::{
    canvas::{Lines, Scatter, Spot},
    contender::{ALL, Contender},
    front::{self, Point},
    plan::{ECHO_CONNECTIONS, IDLE_CONNECTIONS, Unit, Work, YIELDING_TASKS},
    results::Results,
    table::{Scale, significant, with_unit},
};

/// The values of a contender along an axis.
type Series = Vec<(Contender, Vec<(f64, f64)>)>;

struct Source<'a> {
    works: &'a [Work],
    results: &'a Results,
}

/// Returns each chart's file and the part that it belongs to.
pub(crate) fn draw(
    folder: &Path,
    works: &[Work],
    results: &Results,
) -> Result<Vec<(&'static str, &'static str)>> {
    let source = Source { works, results };
    let mut drawn = Vec::new();
    let lines = [
        ("echo.svg", "echo", source.echo()),
        ("tasks.svg", "yield", source.tasks()),
        ("memory.svg", "memory", source.memory()),
    ];
    for (file, part, lines) in lines {
        if let Some(lines) = lines {
            lines.draw(&folder.join(file))?;
            drawn.push((file, part));
        }
    }
    if let Some(scatter) = source.timers() {
        scatter.draw(&folder.join("timers.svg"))?;
        drawn.push(("timers.svg", "timers"));
    }
    Ok(drawn)
}

impl Source<'_> {
    fn echo(&self) -> Option<Lines> {
        let id = |c| format!("echo c={c} depth=1 size=64");
        let series = self.series(&ECHO_CONNECTIONS, id, "cpu_ns", &ALL)?;
        Some(Lines {
            title: compare("A request", &series),
            subtitle: "Server CPU for an echo of 64 B over loopback TCP, one request in flight on \
                       each connection"
                .to_owned(),
            across: "connections",
            up: "CPU per request",
            series,
            unit: Unit::Time,
            footer: self.footer(),
        })
    }

    fn tasks(&self) -> Option<Lines> {
        let id = |tasks| format!("yield tasks={tasks}");
        let series = self.series(&YIELDING_TASKS, id, "cpu_ns", &ALL)?;
        Some(Lines {
            title: compare("A yield", &series),
            subtitle: "CPU for a task to wake itself, let all others run, and be polled again"
                .to_owned(),
            across: "tasks that yield in turn",
            up: "CPU per yield",
            series,
            unit: Unit::Time,
            footer: self.footer(),
        })
    }

    fn memory(&self) -> Option<Lines> {
        let id = |c| format!("idle c={c}");
        let who = [Contender::Windlass, Contender::Threads];
        let series = self.series(&IDLE_CONNECTIONS, id, "rss_total_bytes", &who)?;
        let last = |points: &[(f64, f64)]| points[points.len() - 1].0;
        let most = series
            .iter()
            .map(|(_, points)| last(points))
            .min_by(f64::total_cmp)?;
        let there = series.iter().filter_map(|(who, points)| {
            let at = points.iter().find(|at| at.0 == most)?;
            Some(format!("{who} {}", with_unit(at.1, Unit::Bytes)))
        });
        let there: Vec<_> = there.collect();
        Some(Lines {
            title: format!(
                "{} idle connections: {}",
                HumanCount(most as u64),
                there.join(", ")
            ),
            subtitle: "Resident memory of the server, each connection with a buffer of 2 KiB, \
                       without what the kernel keeps"
                .to_owned(),
            across: "connections",
            up: "resident",
            series,
            unit: Unit::Bytes,
            footer: self.footer(),
        })
    }

    fn timers(&self) -> Option<Scatter> {
        let points = front::points(self.works, self.results);
        let (own, peers): (Vec<_>, Vec<_>) = points.iter().partition(|point| point.who.is_ours());
        let best = |of: &[&Point], value: fn(&Point) -> f64| {
            let least = of.iter().map(|point| value(point)).min_by(f64::total_cmp)?;
            Some(with_unit(least, Unit::Time))
        };
        let [cpu, late]: [fn(&Point) -> f64; 2] = [|point| point.cpu, |point| point.late_p99];
        Some(Scatter {
            title: format!(
                "A timer costs windlass {} of CPU, or is late by {}; the best peers {} and {}",
                best(&own, cpu)?,
                best(&own, late)?,
                best(&peers, cpu)?,
                best(&peers, late)?,
            ),
            subtitle: "100,000 sleeps that end at random moments within a second. Dot: the 99th \
                       percentile, bar: down to the median. Line: windlass by slack"
                .to_owned(),
            across: "CPU a timer",
            up: "late by",
            unit: Unit::Time,
            footer: self.footer(),
            spots: points.into_iter().map(Spot::from).collect(),
        })
    }

    /// Returns `None` if there are too few points for a line.
    fn series(
        &self,
        xs: &[u32],
        id: impl Fn(u32) -> String,
        figure: &str,
        who: &[Contender],
    ) -> Option<Series> {
        let along = |who: Contender| {
            let points = xs.iter().filter_map(|&x| {
                let summary = self.results.summary(self.work(&id(x))?, who, figure)?;
                Some((f64::from(x), summary.median))
            });
            points.filter(|(_, y)| *y > 0.0).collect::<Vec<_>>()
        };
        let series = who.iter().map(|&who| (who, along(who)));
        let series: Vec<_> = series.filter(|(_, points)| points.len() > 1).collect();
        (!series.is_empty()).then_some(series)
    }

    fn work(&self, id: &str) -> Option<&Work> {
        self.works.iter().find(|work| work.id == id)
    }

    fn footer(&self) -> String {
        let machine = &self.results.machine;
        let (rounds, cores) = (self.results.rounds, machine.cores);
        let virt = if machine.is_virtual { ", virtual" } else { "" };
        format!(
            "Medians of {rounds} rounds. {}{virt}, {cores} cores, {}. {}. Both axes logarithmic.",
            machine.cpu, machine.kernel, machine.date
        )
    }
}

impl From<Point> for Spot {
    fn from(point: Point) -> Spot {
        Spot {
            who: point.who,
            name: point.name,
            across: point.cpu,
            up: point.late_p99,
            down_to: point.late_p50,
        }
    }
}

/// The values of windlass along the axis, and the best peer's at each point.
fn compare(what: &str, series: &Series) -> String {
    let peers = || {
        series
            .iter()
            .filter(|(who, _)| who.is_peer())
            .flat_map(|(_, points)| points)
    };
    let best = |x: f64| {
        peers()
            .filter(|at| at.0 == x)
            .map(|at| at.1)
            .min_by(f64::total_cmp)
    };
    let own = series.iter().find(|(who, _)| *who == Contender::Windlass);
    let own = own.map_or(&[][..], |(_, points)| points);
    let range = |values: &[f64]| {
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        let most = values.iter().copied().max_by(f64::total_cmp)?;
        let Scale { unit, one } = Scale::of(Unit::Time, least);
        let [least, most] = [least, most].map(|value| significant(value / one, 3));
        Some(format!("{least} to {most} {unit}"))
    };
    let xs = own.iter().map(|at| at.0);
    let costs = [
        (
            "windlass",
            range(&own.iter().map(|at| at.1).collect::<Vec<_>>()),
        ),
        (
            "the best peer",
            range(&xs.filter_map(best).collect::<Vec<_>>()),
        ),
    ];
    let costs = costs
        .into_iter()
        .filter_map(|(who, range)| Some(format!("{who} {}", range?)));
    let costs: Vec<_> = costs.collect();
    format!("{what} costs {}", costs.join(", "))
}
