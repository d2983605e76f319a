//! The table, and the summary in words.

use std::fmt;

use comfy_table::{Cell, CellAlignment, Table, TableComponent, presets};
use indicatif::HumanCount;

use crate::{
    options::{Options, Side},
    trial::{Figures, Outcome, Trial},
};

/// With fewer requests than this, the 99.9th percentile is not meaningful.
const FEW_REQUESTS: u64 = 1000;

/// Above this share of the clients' core, the results may be limited by the clients.
const BUSY_CLIENTS: f64 = 0.9;

/// Server and clients need one core each. A higher load average means that other programs were
/// running, and then latencies and context switches vary by whole factors from run to run.
const BUSY_MACHINE: f64 = 1.0;

/// Results with a ratio below this are reported as equal. In nine runs on two cores, eight of them
/// disturbed by other programs, the CPU times of both servers at 10 connections had ratios between
/// 1.04 and 1.38.
const SAME: f64 = 1.25;

pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) outcomes: &'a [(Trial, Outcome)],
    /// The machine's load average before the first step, caused by other programs.
    pub(crate) load_before: Option<f64>,
}

/// A measured value by which the servers are compared.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) of: fn(&Figures) -> f64,
}

pub(crate) const METRICS: [Metric; 4] = [
    Metric {
        name: "CPU time per request",
        unit: "µs",
        of: |f| f.cpu_us_per_request,
    },
    Metric {
        name: "context switches per request",
        unit: "",
        of: |f| f.switches_per_request,
    },
    Metric {
        name: "memory per connection",
        unit: "KiB",
        of: |f| f.memory_kib_per_connection,
    },
    Metric {
        name: "p99 latency",
        unit: "ms",
        of: |f| f.p99_ms,
    },
];

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", self.table())?;
        writeln!(
            f,
            "CPU time, context switches and memory are the server's alone. Memory is its peak \
             less what it\ntook when idle; the kernel's share (socket buffers, a thread's kernel \
             stack) is not in it.",
        )?;
        self.write_troubles(f)?;
        self.write_verdict(f)
    }
}

impl Report<'_> {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_style(TableComponent::HeaderLines, '─');
        table.set_style(TableComponent::MiddleHeaderIntersections, '─');
        table.set_header(
            [
                "connections",
                "server",
                "requests\nper s",
                "p50\nms",
                "p99\nms",
                "p99.9\nms",
                "CPU per\nrequest µs",
                "switches\nper request",
                "memory per\nconnection KiB",
            ]
            .map(right),
        );
        for (trial, outcome) in self.outcomes {
            table.add_row(row(trial, outcome).map(right));
        }
        table
    }

    fn write_troubles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(load) = self.load_before.filter(|&load| load > BUSY_MACHINE) {
            writeln!(
                f,
                "This machine was busy before we began (load average {load}): don't trust these \
                 figures,\nlatency least of all, before a quiet run has confirmed them.",
            )?;
        }
        for (trial, outcome) in self.outcomes {
            match outcome {
                Outcome::Measured(figures) => write_doubts(f, trial, figures)?,
                Outcome::Refused(why) => writeln!(f, "{trial}: {why}")?,
                Outcome::Failed(error) => writeln!(f, "{trial}: failed: {error:#}")?,
            }
        }
        Ok(())
    }

    /// Compares both ends of the range. Tasks should win at one end, and may lose at the other.
    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rungs = self.options.connections.iter();
        let common: Vec<_> = rungs.filter_map(|&n| Some((n, self.pair(n)?))).collect();
        let ends = match common.as_slice() {
            [] => return Ok(()),
            [only] => vec![only],
            [first, .., last] => vec![first, last],
        };
        for (connections, (threads, tasks)) in ends {
            let connections = HumanCount(*connections as u64);
            write!(
                f,
                "\nAt {connections} connections tasks, compared with threads, have"
            )?;
            for (separator, metric) in [" ", ",\n  ", ",\n  ", ",\n  and "].iter().zip(&METRICS) {
                write!(f, "{separator}{}", metric.compare(threads, tasks))?;
            }
            writeln!(f, ".")?;
        }
        Ok(())
    }

    fn pair(&self, connections: usize) -> Option<(&Figures, &Figures)> {
        let figures = |side| {
            self.outcomes
                .iter()
                .find_map(|(trial, outcome)| match outcome {
                    Outcome::Measured(figures)
                        if trial.side == side && trial.connections == connections =>
                    {
                        Some(figures)
                    }
                    _ => None,
                })
        };
        Some((figures(Side::Threads)?, figures(Side::Tasks)?))
    }
}

impl Metric {
    /// The tasks' share of this value, in words.
    fn compare(&self, threads: &Figures, tasks: &Figures) -> String {
        let name = self.name;
        let (threads, tasks) = ((self.of)(threads), (self.of)(tasks));
        let times = |ratio: f64| significant(ratio, 2);
        match threads / tasks {
            // Zero on one side, or on both.
            ratio if !ratio.is_normal() => format!("{name} too small to compare"),
            ratio if ratio > SAME => format!("{} times lower {name}", times(ratio)),
            ratio if ratio.recip() > SAME => {
                format!("{} times higher {name}", times(ratio.recip()))
            }
            _ => format!("about the same {name}"),
        }
    }
}

fn write_doubts(f: &mut fmt::Formatter<'_>, trial: &Trial, figures: &Figures) -> fmt::Result {
    let Figures {
        requests,
        clients_load,
        ..
    } = figures;
    if *clients_load > BUSY_CLIENTS {
        let percent = clients_load * 100.0;
        writeln!(
            f,
            "{trial}: the clients took {percent:.0} % of a core, and were the limit"
        )?;
    }
    if *requests < FEW_REQUESTS {
        writeln!(
            f,
            "{trial}: only {requests} requests: the percentiles say little"
        )?;
    }
    Ok(())
}

fn row(trial: &Trial, outcome: &Outcome) -> [String; 9] {
    let connections = HumanCount(trial.connections as u64).to_string();
    let side = trial.side.to_string();
    let Outcome::Measured(figures) = outcome else {
        let none = || "–".to_owned();
        return [
            connections,
            side,
            none(),
            none(),
            none(),
            none(),
            none(),
            none(),
            none(),
        ];
    };
    [
        connections,
        side,
        HumanCount(figures.requests_per_second as u64).to_string(),
        significant(figures.p50_ms, 3),
        significant(figures.p99_ms, 3),
        significant(figures.p999_ms, 3),
        significant(figures.cpu_us_per_request, 3),
        significant(figures.switches_per_request, 3),
        significant(figures.memory_kib_per_connection, 3),
    ]
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Formats a number with `digits` significant digits, or with `digits` decimals if it is below one.
pub(crate) fn significant(number: f64, digits: usize) -> String {
    let whole_digits = (number.abs().log10().floor() + 1.0).max(0.0) as usize;
    format!("{number:.*}", digits.saturating_sub(whole_digits))
}
