//! Tests of workers, including supervision, socket passing, reload and draining. With the argument
//! `--program`, this binary is the program under test.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod subject;
#[cfg(target_os = "linux")]
mod tests;
#[cfg(target_os = "linux")]
mod trouble;

#[cfg(target_os = "linux")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--program") {
        if let Err(error) = program::main(&args[1..]) {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
        return;
    }
    if let [first, process] = &args[..] {
        if first == "--tracer" {
            return trouble::trace(process.parse().expect("a PID"));
        }
    }
    reset_signals();
    // Filter by name, like the default test harness.
    let word = args.iter().find(|arg| !arg.starts_with('-'));
    for (name, test) in tests::ALL.iter().chain(trouble::ALL) {
        if word.is_none_or(|word| name.contains(word.as_str())) {
            let start = std::time::Instant::now();
            println!("test {name} ...");
            test();
            println!("    {:?}", start.elapsed());
        }
    }
    println!("all have passed");
}

/// A shell that starts this with `&` makes it ignore SIGINT, and its children would inherit that.
#[cfg(target_os = "linux")]
fn reset_signals() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for number in [Signal::SIGHUP, Signal::SIGINT] {
        // SAFETY: the default action installs no handler.
        unsafe { signal(number, SigHandler::SigDfl) }.expect("the signal has a default action");
    }
}

/// The tests read `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() {}
