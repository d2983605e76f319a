//! The plan lists all works, in named parts.

use super::contender::{ALL, Contender, Contender::*};

pub(crate) struct Work {
    pub(crate) part: &'static str,
    /// The command for the children; it names the work in the JSON too.
    pub(crate) id: String,
    /// The title in reports.
    pub(crate) title: String,
    pub(crate) how: How,
    pub(crate) who: &'static [Contender],
    /// The first one is the headline.
    pub(crate) figures: &'static [Figure],
    pub(crate) when: When,
}

/// How a work is measured.
pub(crate) enum How {
    /// One child: `work <contender> <args>`.
    Work(String),
    /// A server and its load.
    Served(Served),
    /// A server with idle connections.
    Idle { serve: String, connections: u32 },
    /// A server's start, up to its first reply.
    Cold,
    /// User-space instructions per operation, by callgrind.
    Instructions { of: Counted, ops: u32 },
    /// System calls per operation, by perf.
    Calls {
        of: Counted,
        ops: u32,
        by_name: bool,
    },
    /// A clean release build of the contender's crates, and their number.
    Build,
}

/// The kind of child whose instructions and system calls are counted.
pub(crate) enum Counted {
    Work(String),
    Served(Served),
}

pub(crate) struct Served {
    pub(crate) proto: &'static str,
    /// In addition to `size=`, which both receive.
    pub(crate) serve: &'static str,
    pub(crate) load: String,
    pub(crate) size: u32,
}

/// A value that children print.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) unit: Unit,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    /// In nanoseconds.
    Time,
    Bytes,
    Count,
}

/// The rounds in which a work is measured.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum When {
    /// In every round.
    Always,
    /// In every round; `--quick` measures only windlass.
    Long,
    /// Once, because it repeats exactly; `--quick` measures only windlass.
    Once,
    /// Once, and not in `--quick`.
    OnceAndSlow,
}

pub(crate) const PARTS: [(&str, &str); 14] = [
    ("spawn", "Spawn a task and await it"),
    ("yield", "Yield, with one task or many"),
    ("ping-pong", "Two tasks over a channel"),
    ("wake", "Wake a task from another thread"),
    ("select", "Select over two leaf futures"),
    ("timers", "Timers: cost and lateness"),
    ("echo", "TCP echo: the server's CPU per request"),
    ("churn", "Accept, one request, close"),
    ("udp", "UDP echo"),
    ("unix", "Unix-socket echo"),
    ("memory", "Memory of what is idle"),
    ("million", "A million tasks and timers at once"),
    ("cold", "From nothing: start, and build"),
    (
        "counts",
        "Instructions and system calls: these repeat exactly",
    ),
];

/// The chart of memory has these on its axis, the chart of echo the others.
pub(crate) const IDLE_CONNECTIONS: [u32; 4] = [10, 100, 1_000, 8_000];
const IDLE_TYPICAL: u32 = 1_000;
pub(crate) const ECHO_CONNECTIONS: [u32; 4] = [1, 64, 1_024, 8_192];
pub(crate) const YIELDING_TASKS: [u32; 3] = [1, 1_000, 1_000_000];

/// The slacks (µs) of windlass's timers in the chart of timers, besides the default of 100 µs and
/// the precise mode.
pub(crate) const SLACKS: [u32; 5] = [10, 20, 50, 1_000, 2_000];

/// The id of the timers of all contenders with their default settings.
pub(crate) const SLEEPS_ID: &str = "timers n=100000";

/// Works with more connections or tasks than this are slow.
const MANY: u32 = 2_000;

/// Echo works with more bytes in flight than this are left out.
const MOST_IN_FLIGHT: u64 = 1 << 30;

const EVERYONE: &[Contender] = &[
    Floor,
    Windlass,
    Tokio,
    Smol,
    MonoioUring,
    MonoioEpoll,
    Glommio,
    Compio,
    Threads,
];
const RUNTIMES: &[Contender] = &[
    Windlass,
    Tokio,
    Smol,
    MonoioUring,
    MonoioEpoll,
    Glommio,
    Compio,
];
const BUILT: &[Contender] = &[Windlass, Tokio, Smol];

const fn figure(name: &'static str, label: &'static str, unit: Unit) -> Figure {
    Figure { name, label, unit }
}

const CPU: Figure = figure("cpu_ns", "CPU", Unit::Time);
const P99: Figure = figure("p99_ns", "latency p99", Unit::Time);

const CPU_ALONE: &[Figure] = &[CPU];
const SPAWN: &[Figure] = &[
    CPU,
    figure("allocs", "allocations", Unit::Count),
    figure("alloc_bytes", "allocated", Unit::Bytes),
];
const WAKE: &[Figure] = &[CPU, figure("wall_ns", "round trip", Unit::Time)];
const SLEEPS: &[Figure] = &[
    CPU,
    figure("late_p50_ns", "late, p50", Unit::Time),
    figure("late_p99_ns", "late, p99", Unit::Time),
    figure("late_max_ns", "late, worst", Unit::Time),
    figure("early", "fired early", Unit::Count),
];
const REQUESTS: &[Figure] = &[CPU, P99];
const IDLE_TASK: &[Figure] = &[
    figure("heap_bytes", "heap beyond the future", Unit::Bytes),
    figure("rss_bytes", "resident", Unit::Bytes),
];
const IDLE_CONNECTION: &[Figure] = &[
    figure("heap_bytes", "heap beyond the buffer", Unit::Bytes),
    figure("rss_bytes", "resident", Unit::Bytes),
    RSS_TOTAL,
];
/// With few connections, the memory per connection is lost in the pages of the whole process.
const IDLE_SERVER: &[Figure] = &[RSS_TOTAL];
const RSS_TOTAL: Figure = figure("rss_total_bytes", "resident, all together", Unit::Bytes);
const MILLION: &[Figure] = &[
    figure("spawn_ns", "spawn", Unit::Time),
    figure("spawn_1000_ns", "… at 1,000", Unit::Time),
    figure("wake_ns", "wake and poll", Unit::Time),
    figure("wake_1000_ns", "… at 1,000", Unit::Time),
    figure("drop_ns", "drop", Unit::Time),
    figure("drop_1000_ns", "… at 1,000", Unit::Time),
    figure("timer_start_ns", "start a timer", Unit::Time),
    figure("timer_start_1000_ns", "… at 1,000", Unit::Time),
    figure("timer_drop_ns", "drop a timer", Unit::Time),
    figure("timer_drop_1000_ns", "… at 1,000", Unit::Time),
];
const COLD: &[Figure] = &[figure("wall_ns", "time", Unit::Time)];
const BUILD: &[Figure] = &[
    figure("wall_ns", "time", Unit::Time),
    figure("build_cpu_ns", "CPU", Unit::Time),
    figure("dependencies", "crates of others", Unit::Count),
];
const INSTRUCTIONS: &[Figure] = &[figure("instructions", "instructions", Unit::Count)];
const CALLS: &[Figure] = &[figure("calls", "system calls", Unit::Count)];

pub(crate) fn plan() -> Vec<Work> {
    let mut works = vec![
        alone(
            "spawn",
            "spawn batch=1",
            "spawn + await, one at a time",
            SPAWN,
        ),
        alone(
            "spawn",
            "spawn batch=1000",
            "spawn + await, batches of 1,000",
            SPAWN,
        ),
    ];
    works.extend(YIELDING_TASKS.map(|tasks| {
        let (id, title) = (
            format!("yield tasks={tasks}"),
            format!("yield, {}", many(tasks, "task")),
        );
        alone("yield", &id, &title, CPU_ALONE).long_if(tasks > MANY)
    }));
    works.extend([
        alone("ping-pong", "ping_pong", "ping-pong, round trip", CPU_ALONE),
        alone(
            "wake",
            "wake loop=parked",
            "wake a parked loop, round trip",
            WAKE,
        ),
        alone(
            "wake",
            "wake loop=busy",
            "wake a busy loop, round trip",
            WAKE,
        ),
        alone(
            "select",
            "select",
            "select of a channel and a far sleep",
            CPU_ALONE,
        ),
        alone(
            "timers",
            "timer_drop pending=100000",
            "create + drop, 100,000 pending",
            CPU_ALONE,
        ),
        alone("timers", SLEEPS_ID, "100,000 sleeps over 1 s, each", SLEEPS).who(&ALL),
    ]);
    works.extend(SLACKS.map(|slack| {
        let title = format!("100,000 sleeps over 1 s, slack {}", micros(slack));
        alone("timers", &with_slack(slack), &title, SLEEPS).who(&[Windlass])
    }));
    works.extend([alone(
        "timers",
        "timers n=1000000",
        "1,000,000 sleeps over 1 s, each",
        SLEEPS,
    )
    .who(&ALL)
    .when(When::Long)]);
    works.extend(echo());
    works.extend([
        served("churn", "churn", 16, 1, 64, ""),
        served("udp", "udp", 1, 1, 64, ""),
        served("udp", "udp", 64, 1, 64, ""),
        served("unix", "unix", 1, 1, 64, ""),
        served("unix", "unix", 64, 1, 64, ""),
        alone(
            "memory",
            "idle_task n=100000",
            "an idle task of 100,000",
            IDLE_TASK,
        ),
    ]);
    works.extend(IDLE_CONNECTIONS.map(|connections| idle(connections, "")));
    works.push(idle(IDLE_TYPICAL, "buffer=shared"));
    works.push(
        alone("million", "million", "a million, each", MILLION)
            .who(RUNTIMES)
            .when(When::Long),
    );
    works.push(new("cold", "cold", "start to first reply", How::Cold, COLD));
    works.push(
        new(
            "cold",
            "build server",
            "release build of what a server depends on",
            How::Build,
            BUILD,
        )
        .who(BUILT)
        .when(When::OnceAndSlow),
    );
    works.extend(counts());
    works
}

fn echo() -> Vec<Work> {
    let mut works = Vec::new();
    for (size, depth) in [(64, 1), (64, 16), (16_384, 1), (16_384, 16)] {
        let in_flight = |c: u32| u64::from(c) * u64::from(depth) * u64::from(size);
        let fitting = ECHO_CONNECTIONS
            .into_iter()
            .filter(|&c| in_flight(c) <= MOST_IN_FLIGHT);
        works.extend(fitting.map(|c| served("echo", "echo", c, depth, size, "").long_if(c > MANY)));
    }
    for extra in ["idle_timeout=1", "idle_timers=100000"] {
        works.extend([1, 64].map(|c| served("echo", "echo", c, 1, 64, extra)));
    }
    works
}

fn counts() -> Vec<Work> {
    let mut works: Vec<_> = [
        ("spawn batch=1", "spawn + await", 20_000),
        (
            "spawn batch=1000",
            "spawn + await, batches of 1,000",
            20_000,
        ),
        ("yield tasks=1", "yield, 1 task", 100_000),
        ("yield tasks=1000", "yield, 1,000 tasks", 100_000),
        ("ping_pong", "ping-pong", 20_000),
        ("select", "select", 20_000),
        ("timer_drop pending=100000", "timer create + drop", 20_000),
    ]
    .map(|(work, title, ops)| instructions(Counted::Work(work.to_owned()), title, ops))
    .into();
    for (c, depth, extra, ops) in [
        (1, 1, "", 2_000),
        (64, 1, "", 6_400),
        (64, 16, "", 12_800),
        (1_024, 1, "", 8_192),
        (1, 1, "idle_timeout=1", 2_000),
        (64, 1, "idle_timeout=1", 6_400),
    ] {
        let (of, title) = (
            request("echo", c, depth, 64, extra),
            says("echo", c, depth, 64, extra),
        );
        works.push(instructions(Counted::Served(of), &title, ops));
    }
    for (proto, c, extra, ops) in [
        ("echo", 1, "", 5_000),
        ("echo", 64, "", 32_000),
        ("echo", 1, "idle_timers=100000", 5_000),
        ("churn", 1, "", 1_000),
        ("udp", 1, "", 5_000),
        ("udp", 64, "", 32_000),
        ("unix", 1, "", 5_000),
        ("unix", 64, "", 32_000),
    ] {
        let title = says(proto, c, 1, 64, extra);
        let of = Counted::Served(request(proto, c, 1, 64, extra));
        works.push(calls(of, &title, ops, proto == "churn"));
    }
    for state in ["parked", "busy"] {
        let of = Counted::Work(format!("wake loop={state}"));
        works.push(calls(of, &format!("wake, {state}"), 5_000, false));
    }
    works
}

fn new(part: &'static str, id: &str, title: &str, how: How, figures: &'static [Figure]) -> Work {
    Work {
        part,
        id: id.to_owned(),
        title: title.to_owned(),
        how,
        who: EVERYONE,
        figures,
        when: When::Always,
    }
}

fn alone(part: &'static str, id: &str, title: &str, figures: &'static [Figure]) -> Work {
    new(part, id, title, How::Work(id.to_owned()), figures)
}

fn served(
    part: &'static str,
    proto: &'static str,
    c: u32,
    depth: u32,
    size: u32,
    extra: &'static str,
) -> Work {
    let served = request(proto, c, depth, size, extra);
    let (id, title) = (served.id(), says(proto, c, depth, size, extra));
    new(part, &id, &title, How::Served(served), REQUESTS)
}

fn request(proto: &'static str, c: u32, depth: u32, size: u32, serve: &'static str) -> Served {
    let load = format!("c={c} depth={depth}");
    Served {
        proto,
        serve,
        load,
        size,
    }
}

fn idle(connections: u32, serve: &str) -> Work {
    let id = format!("idle c={connections} {serve}");
    let is_typical = connections == IDLE_TYPICAL;
    let figures = if is_typical {
        IDLE_CONNECTION
    } else {
        IDLE_SERVER
    };
    let each = if is_typical { "each of " } else { "" };
    let title = format!(
        "{each}{} idle{}",
        many(connections, "connection"),
        variant(serve)
    );
    let how = How::Idle {
        serve: serve.to_owned(),
        connections,
    };
    new("memory", id.trim_end(), &title, how, figures).long_if(connections > MANY)
}

fn instructions(of: Counted, title: &str, ops: u32) -> Work {
    let id = format!("instructions {}", of.id());
    new(
        "counts",
        &id,
        title,
        How::Instructions { of, ops },
        INSTRUCTIONS,
    )
    .when(When::Once)
}

fn calls(of: Counted, title: &str, ops: u32, by_name: bool) -> Work {
    let id = format!("calls {}", of.id());
    let how = How::Calls { of, ops, by_name };
    new("counts", &id, title, how, CALLS).when(When::Once)
}

/// Describes a request in words.
fn says(proto: &str, c: u32, depth: u32, size: u32, extra: &str) -> String {
    let size = if size < 1_024 {
        format!("{size} B")
    } else {
        format!("{} KiB", size / 1_024)
    };
    let depth = if depth > 1 {
        format!(", {depth} in flight")
    } else {
        String::new()
    };
    let who = if proto == "udp" {
        "client"
    } else {
        "connection"
    };
    format!("{proto}, {}{depth}, {size}{}", many(c, who), variant(extra))
}

fn variant(extra: &str) -> &'static str {
    match extra {
        "idle_timeout=1" => ", a time-out reset each time",
        "idle_timers=100000" => ", beside 100,000 idle timers",
        "buffer=shared" => ", no buffer while idle",
        _ => "",
    }
}

/// The id of the timers of windlass with this slack (µs).
pub(crate) fn with_slack(micros: u32) -> String {
    format!("{SLEEPS_ID} slack_us={micros}")
}

/// A duration in words.
pub(crate) fn micros(micros: u32) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000.. => format!("{} ms", micros / 1_000),
    }
}

fn many(n: u32, what: &str) -> String {
    let number = indicatif::HumanCount(n.into());
    format!("{number} {what}{}", if n == 1 { "" } else { "s" })
}

impl Work {
    fn who(self, who: &'static [Contender]) -> Work {
        Work { who, ..self }
    }

    fn when(self, when: When) -> Work {
        Work { when, ..self }
    }

    fn long_if(self, is_long: bool) -> Work {
        if is_long { self.when(When::Long) } else { self }
    }

    /// Returns true if two cores communicate in this work, so that their distance matters.
    pub(crate) fn spans_cores(&self) -> bool {
        matches!(self.how, How::Served(_) | How::Cold) || self.part == "wake"
    }
}

impl Served {
    pub(crate) fn id(&self) -> String {
        let Served {
            proto,
            serve,
            load,
            size,
        } = self;
        format!("{proto} {load} size={size} {serve}")
            .trim_end()
            .to_owned()
    }
}

impl Counted {
    fn id(&self) -> String {
        match self {
            Counted::Work(args) => args.clone(),
            Counted::Served(served) => served.id(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_work_has_an_id_of_its_own_and_a_known_part() {
        let works = plan();
        let ids: HashSet<_> = works.iter().map(|work| &work.id).collect();
        assert_eq!(ids.len(), works.len());
        let known = |work: &Work| PARTS.iter().any(|(part, _)| *part == work.part);
        assert!(works.iter().all(known));
        assert!(
            PARTS
                .iter()
                .all(|(part, _)| works.iter().any(|work| work.part == *part))
        );
    }

    #[test]
    fn what_would_not_fit_into_memory_is_left_out() {
        let ids: Vec<_> = plan().into_iter().map(|work| work.id).collect();
        assert!(ids.contains(&"echo c=8192 depth=16 size=64".to_owned()));
        assert!(!ids.contains(&"echo c=8192 depth=16 size=16384".to_owned()));
    }
}
