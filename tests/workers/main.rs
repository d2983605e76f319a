//! Workers: supervision, hand-over, reload, drain. This program is its own subject: with the
//! argument `--program` it is what the tests run.
#![cfg(unix)]

mod program;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--program") {
        if let Err(error) = program::main(&args[1..]) {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
    }
}
