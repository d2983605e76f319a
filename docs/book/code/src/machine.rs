//! The machine that figures were measured on.

use std::{fs, thread, time::SystemTime};

/// Describes this machine and the date in one line.
pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let kernel: Vec<_> = release.split(['-', '+']).take(1).collect();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |name| {
            name.trim_start_matches(['\t', ' ', ':'])
        });
    let kernel = kernel.join("");
    format!("{cores} cores, {processor}, Linux {kernel}, {}", today())
}

/// The date in UTC, as `2026-11-29`.
fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let days = since.map_or(0, |since| since.as_secs() / 86_400);
    // Counts in years that begin in March, so that a leap day is the last day of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let day = day - (153 * march + 2) / 5 + 1;
    let (month, next) = if march < 10 {
        (march + 3, 0)
    } else {
        (march - 9, 1)
    };
    format!("{}-{month:02}-{day:02}", year + era * 400 + next)
}
