//! Measures one sample of each kind of work.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    build,
    child::Child,
    contender::Contender,
    counts,
    machine::Cores,
    plan::{How, Served, Work},
    results::{Outcome, median},
};

pub(crate) struct Bench {
    pub(crate) cores: Cores,
    pub(crate) window: Duration,
    pub(crate) is_quick: bool,
}

/// A start is short, and varies much from one to the next.
const COLD_STARTS: usize = 11;

/// Time in addition to the window, for the warm-up, connecting, and the delays of the slowest
/// contender.
const SLACK: Duration = Duration::from_secs(10);
/// In `--quick` a peer that hangs must not use up the time of all others.
const QUICK_SLACK: Duration = Duration::from_secs(6);

impl Bench {
    /// A failure is a result that the table shows.
    pub(crate) fn sample(&self, work: &Work, who: Contender) -> Outcome {
        let outcome = match &work.how {
            How::Work(args) => self.work(who, args),
            How::Served(served) => self.served(who, served),
            How::Idle { serve, connections } => self.idle(who, serve, *connections),
            How::Cold => self.cold(who),
            How::Instructions { of, ops } => counts::instructions(self, who, of, self.ops(*ops)),
            How::Calls { of, ops, by_name } => {
                counts::calls(self, who, of, self.ops(*ops), *by_name)
            }
            How::Build => build::measure(who),
        };
        match outcome {
            Ok(Outcome::Figures(figures)) => checked(work, figures),
            Ok(other) => other,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }

    fn ops(&self, ops: u32) -> u32 {
        if self.is_quick { ops / 5 } else { ops }
    }

    pub(crate) fn limit(&self) -> Duration {
        let slack = if self.is_quick { QUICK_SLACK } else { SLACK };
        slack + 10 * self.window
    }

    fn work(&self, who: Contender, args: &str) -> Result<Outcome> {
        let args = words(&format!("work {who} {args} ms={}", self.window.as_millis()));
        Child::start(&[], &args, self.cores.for_work(), self.limit())?.finish()
    }

    fn served(&self, who: Contender, served: &Served) -> Result<Outcome> {
        let ms = self.window.as_millis();
        self.exchange(&[], who, served, &format!("ms={ms}"), self.limit())
    }

    /// Runs a server, possibly under a tool, and its load, until both have exited.
    pub(crate) fn exchange(
        &self,
        tool: &[OsString],
        who: Contender,
        served: &Served,
        how_long: &str,
        limit: Duration,
    ) -> Result<Outcome> {
        let Served {
            proto,
            serve,
            load,
            size,
        } = served;
        let mut server = self.server(tool, who, proto, &format!("size={size} {serve}"), limit)?;
        let address = match server.listening()? {
            Ok(address) => address,
            Err(why) => return Ok(Outcome::Unsupported(why)),
        };
        // Under a tool the process is the tool's, and its CPU time is meaningless.
        let pid = if tool.is_empty() {
            format!("pid={}", server.id())
        } else {
            String::new()
        };
        let args = words(&format!(
            "load {proto} addr={address} {load} size={size} {how_long} {pid}"
        ));
        let load = Child::start(&[], &args, self.cores.load, limit)?;
        let outcome = match load.finish() {
            Ok(outcome) => outcome,
            Err(error) => return Err(server.blame(error.context("load"))),
        };
        server.close_input();
        server.finish().context("at its end")?;
        Ok(outcome)
    }

    fn server(
        &self,
        tool: &[OsString],
        who: Contender,
        proto: &str,
        args: &str,
        limit: Duration,
    ) -> Result<Child> {
        let args = words(&format!("serve {who} {proto} {args}"));
        Child::start(tool, &args, self.cores.for_work(), limit)
    }

    /// The server measures its memory when its input ends, while the connections are still open.
    fn idle(&self, who: Contender, serve: &str, connections: u32) -> Result<Outcome> {
        let mut server =
            self.server(&[], who, "echo", &format!("size=64 {serve}"), self.limit())?;
        let address = match server.listening()? {
            Ok(address) => address,
            Err(why) => return Ok(Outcome::Unsupported(why)),
        };
        let args = words(&format!("load idle addr={address} c={connections} size=64"));
        let mut load = Child::start(&[], &args, self.cores.load, self.limit())?;
        let opened = load.line().and_then(|line| {
            let line = line.unwrap_or_default();
            ensure!(
                line == format!("open {connections}"),
                "the load ended: {line}"
            );
            Ok(())
        });
        if let Err(error) = opened {
            return Err(server.blame(load.finish().err().unwrap_or(error)));
        }
        server.close_input();
        let outcome = server.finish()?;
        load.close_input();
        match outcome {
            Outcome::Figures(figures) => memory(&figures, connections.into()),
            other => Ok(other),
        }
    }

    fn cold(&self, who: Contender) -> Result<Outcome> {
        let starts = if self.is_quick { 1 } else { COLD_STARTS };
        let mut times = Vec::new();
        for _ in 0..starts {
            let began = Instant::now();
            let mut server = self.server(&[], who, "echo", "size=64", self.limit())?;
            let address = match server.listening()? {
                Ok(address) => address,
                Err(why) => return Ok(Outcome::Unsupported(why)),
            };
            first_reply(&address)?;
            times.push(began.elapsed().as_nanos() as f64);
            server.close_input();
            server.finish()?;
        }
        let time = median(times).context("no start")?;
        Ok(Outcome::Figures([("wall_ns".to_owned(), time)].into()))
    }
}

/// A child that doesn't print a value has failed.
fn checked(work: &Work, figures: BTreeMap<String, f64>) -> Outcome {
    match work
        .figures
        .iter()
        .find(|figure| !figures.contains_key(figure.name))
    {
        Some(missing) if missing.name == work.figures[0].name => {
            Outcome::Failed(format!("no {} in what it prints", missing.name))
        }
        _ => Outcome::Figures(figures),
    }
}

fn first_reply(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SLACK))?;
    let (request, mut reply) = ([7; 64], [0; 64]);
    stream.write_all(&request)?;
    stream.read_exact(&mut reply)?;
    ensure!(reply == request, "a wrong first reply");
    Ok(())
}

fn memory(figures: &BTreeMap<String, f64>, connections: f64) -> Result<Outcome> {
    let figure = |name: &str| {
        let value = figures.get(name).copied();
        value.with_context(|| format!("no {name} in what the server prints"))
    };
    let grown = |name: &str| {
        Ok::<_, anyhow::Error>(
            figure(&format!("{name}_bytes"))? - figure(&format!("{name}_start_bytes"))?,
        )
    };
    let per_connection = [
        (
            "heap_bytes",
            grown("heap")? / connections - figure("buffer_bytes")?,
        ),
        ("rss_bytes", grown("rss")? / connections),
        ("rss_total_bytes", figure("rss_bytes")?),
    ];
    let named = per_connection.map(|(name, value)| (name.to_owned(), value));
    Ok(Outcome::Figures(named.into()))
}

pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_connections_add_less_their_buffers() {
        let printed = [
            ("heap_start_bytes", 1_000.0),
            ("heap_bytes", 24_480.0),
            ("rss_start_bytes", 4_096.0),
            ("rss_bytes", 44_096.0),
            ("buffer_bytes", 2_048.0),
        ];
        let printed = printed.map(|(name, value)| (name.to_owned(), value)).into();
        let Outcome::Figures(figures) = memory(&printed, 10.0).unwrap() else {
            panic!()
        };
        assert_eq!(figures["heap_bytes"], 300.0);
        assert_eq!(figures["rss_bytes"], 4_000.0);
    }
}
