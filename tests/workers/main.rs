//! Workers: supervision, hand-over, replacement, draining. This program is its own subject: with
//! the argument `--program` it is what the tests start.
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
    heed_signals();
    // As the usual harness does: a word chooses the tests that have it in their names.
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

/// A shell that starts this by `&` has it ignore SIGINT, and what it starts would do so as well.
#[cfg(target_os = "linux")]
fn heed_signals() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for number in [Signal::SIGHUP, Signal::SIGINT] {
        // SAFETY: the default action has no handler that could be unsound.
        unsafe { signal(number, SigHandler::SigDfl) }.expect("the signal has a default action");
    }
}

/// It looks at `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() {}
