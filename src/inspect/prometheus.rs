//! Metrics in Prometheus' text format.

use std::fmt::Write;

use super::metrics::{FIELDS, Kind, Metrics};

impl Metrics {
    /// Formats the metrics in [Prometheus' text
    /// format](https://prometheus.io/docs/instrumenting/exposition_formats/), version 0.0.4.
    ///
    /// The names and their meaning are stable. The content type is `text/plain; version=0.0.4`.
    ///
    /// ```
    /// let text = windlass::inspect::metrics().to_prometheus();
    /// assert!(text.contains("# TYPE windlass_polls_total counter\nwindlass_polls_total "));
    /// ```
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        write_all(&mut text, &[(String::new(), self)]);
        text
    }
}

/// Writes several sets of metrics, each with its labels, for example `worker="0"`.
pub(crate) fn write_all(text: &mut String, sets: &[(String, &Metrics)]) {
    let mut family = "";
    for field in FIELDS {
        if field.name != family {
            let kind = match field.kind {
                Kind::Total => "counter",
                Kind::Gauge => "gauge",
            };
            write_head(text, field.name, field.help, kind);
            family = field.name;
        }
        let own = field.label.map(|purpose| format!("purpose=\"{purpose}\""));
        for (labels, metrics) in sets {
            let labels = join(labels, own.as_deref());
            write_sample(text, field.name, &labels, field.value(metrics));
        }
    }
    write_head(text, POLL_TIMES, "Durations of sampled polls.", "histogram");
    for (labels, metrics) in sets {
        write_histogram(text, labels, metrics);
    }
}

const POLL_TIMES: &str = "poll_seconds";

fn write_histogram(text: &mut String, labels: &str, metrics: &Metrics) {
    let times = &metrics.poll_times;
    let mut polls = 0;
    for (end, count) in times.buckets() {
        polls += count;
        let end = end.map_or("+Inf".into(), |end| end.as_secs_f64().to_string());
        let labels = join(labels, Some(&format!("le=\"{end}\"")));
        write_sample(text, "poll_seconds_bucket", &labels, polls as f64);
    }
    let labels = join(labels, None);
    let sum = times.total().as_secs_f64();
    write_sample(text, "poll_seconds_sum", &labels, sum);
    write_sample(text, "poll_seconds_count", &labels, polls as f64);
}

fn write_head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string is infallible.
    let _ = writeln!(
        text,
        "# HELP windlass_{name} {help}\n# TYPE windlass_{name} {kind}"
    );
}

fn write_sample(text: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(text, "windlass_{name}{labels} {value}");
}

/// Returns the labels in braces.
fn join(labels: &str, own: Option<&str>) -> String {
    match (labels, own) {
        ("", None) => String::new(),
        ("", Some(own)) => format!("{{{own}}}"),
        (labels, None) => format!("{{{labels}}}"),
        (labels, Some(own)) => format!("{{{labels},{own}}}"),
    }
}
