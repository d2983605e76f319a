//! Solutions of chapter 1.

use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use windlass_book::measure::thread_cpu;

fn waiting(work: impl FnOnce()) -> f64 {
    let (start, cpu) = (Instant::now(), thread_cpu());
    work();
    let busy = thread_cpu() - cpu;
    1.0 - busy.as_secs_f64() / start.elapsed().as_secs_f64()
}

fn session(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut sum = 0;
    for line in input.lines() {
        let line = line?;
        if line == "quit" {
            break;
        }
        sum += line.trim().parse::<i64>().unwrap_or(0);
        writeln!(output, "{sum}")?;
    }
    Ok(())
}

fn clients(cpu: Duration, away: Duration) -> u32 {
    ((cpu + away).as_nanos() / cpu.as_nanos()) as u32
}

#[cfg(test)]
#[path = "../checks/ch01.rs"]
mod checks;
