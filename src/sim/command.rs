//! The command that replays a failure.

use std::path::Path;

/// A command line without its selection of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Command {
    /// The name of the test or program.
    name: String,
    /// What follows the variable.
    program: String,
    /// The decisions come from bytes, and no seed stands for them.
    has_bytes: bool,
}

const VARIABLE: &str = "WINDLASS_SIM=";

/// How to replay a run whose decisions come from bytes.
const WITH_BYTES: &str = "call `check_bytes` with the same bytes";

impl Command {
    /// Returns the command that runs the current test. libtest gives the test's name to its thread.
    /// On a single thread it does not. The command is that of the process then.
    pub(super) fn current(type_name: &str) -> Command {
        let thread = std::thread::current();
        let has_bytes = false;
        if let Some(name) = thread.name().filter(|name| *name != "main") {
            return Command {
                program: format!("cargo test {name} -- --exact"),
                name: name.to_owned(),
                has_bytes,
            };
        }
        let words: Vec<String> = std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let stem = || {
            let program = words.first().map_or("", String::as_str);
            let stem = Path::new(program).file_stem().unwrap_or_default();
            stem.to_string_lossy().into_owned()
        };
        let name = function_name(type_name);
        let is_function = !name.is_empty() && name != "main";
        Command {
            name: if is_function { name } else { stem() },
            program: words
                .iter()
                .map(|word| quoted(word))
                .collect::<Vec<_>>()
                .join(" "),
            has_bytes,
        }
    }

    /// Returns the command of a test that passes its decisions as bytes.
    pub(super) fn with_bytes(self) -> Command {
        Command {
            has_bytes: true,
            ..self
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what a seed is put between. Without a second part, the first one is the whole
    /// command.
    pub(super) fn parts(&self) -> (&'static str, Option<String>) {
        match self.has_bytes {
            true => (WITH_BYTES, None),
            false => (VARIABLE, Some(format!(" {}", self.program))),
        }
    }

    /// Returns the command that replays a file.
    pub(super) fn replay(&self, file: &str) -> String {
        format!("{VARIABLE}{} {}", quoted(file), self.program)
    }

    /// Returns the command that replays a seed.
    pub(super) fn replay_seed(&self, seed: u64) -> String {
        match self.parts() {
            (before, Some(after)) => format!("{before}{seed}{after}"),
            (command, None) => command.to_owned(),
        }
    }
}

/// Returns the path of a function within its crate, from the type of a closure in it.
fn function_name(type_name: &str) -> String {
    let path = type_name.split('<').next().unwrap_or_default();
    let names = path.split("::").skip(1);
    names
        .take_while(|name| *name != "{{closure}}")
        .collect::<Vec<_>>()
        .join("::")
}

/// Quotes a word for a shell, if it has to be.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:@+,\\".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, function_name, quoted};

    #[test]
    fn the_thread_of_a_test_has_its_name() {
        let command = Command::current("windlass::sim::other::{{closure}}");
        let name = "sim::command::tests::the_thread_of_a_test_has_its_name";
        assert_eq!(command.name(), name);
        let expected = format!("WINDLASS_SIM=17 cargo test {name} -- --exact");
        assert_eq!(command.replay_seed(17), expected);
        let bytes = command.with_bytes();
        assert_eq!(
            bytes.replay_seed(0),
            "call `check_bytes` with the same bytes"
        );
        let expected = format!("WINDLASS_SIM=a.txt cargo test {name} -- --exact");
        assert_eq!(bytes.replay("a.txt"), expected);
    }

    #[test]
    fn a_thread_without_a_name_has_the_command_of_its_process() {
        let current = || Command::current("windlass::tests::helper::{{closure}}");
        let command = std::thread::spawn(current).join().unwrap();
        assert_eq!(command.name(), "tests::helper");
        let words: Vec<_> = std::env::args().map(|word| quoted(&word)).collect();
        let expected = format!("WINDLASS_SIM=17 {}", words.join(" "));
        assert_eq!(command.replay_seed(17), expected);
    }

    #[test]
    fn a_closure_has_the_name_of_its_function() {
        fn name<F: Fn()>(_: F) -> String {
            function_name(std::any::type_name::<F>())
        }
        let expected = "sim::command::tests::a_closure_has_the_name_of_its_function";
        assert_eq!(name(|| ()), expected);
    }

    #[test]
    fn words_for_a_shell_are_quoted() {
        assert_eq!(quoted("target/sim/a::b-17.txt"), "target/sim/a::b-17.txt");
        assert_eq!(quoted("my files/it's"), r"'my files/it'\''s'");
    }
}
