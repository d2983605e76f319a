//! The command that replays a failure.

use std::path::Path;

/// A command line without its selection of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Command {
    /// The name of the test or program.
    name: String,
    /// What follows the variable.
    program: String,
}

impl Command {
    /// Returns the command that runs the current test. libtest gives the test's name to its thread.
    /// On a single thread it does not, and the type of a closure in the test has the name, too.
    pub(super) fn current(type_name: &str) -> Command {
        let thread = std::thread::current();
        let name = thread.name().filter(|name| *name != "main");
        let name = name.map_or_else(|| function_name(type_name), str::to_owned);
        if name.is_empty() || name == "main" {
            let program = std::env::args().next().unwrap_or_default();
            let stem = Path::new(&program).file_stem().unwrap_or_default();
            return Command {
                name: stem.to_string_lossy().into_owned(),
                program: quoted(&program),
            };
        }
        Command {
            program: format!("cargo test {name} -- --exact"),
            name,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the variable's value is put between.
    pub(super) fn parts(&self) -> (&'static str, String) {
        ("WINDLASS_SIM=", format!(" {}", self.program))
    }

    /// Returns the command that replays a seed or a file.
    pub(super) fn replay(&self, selection: &str) -> String {
        let (before, after) = self.parts();
        format!("{before}{}{after}", quoted(selection))
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
        assert_eq!(command.replay("17"), expected);
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
