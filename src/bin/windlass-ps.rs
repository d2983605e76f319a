//! Lists the runtimes, tasks and waits of a process that uses windlass, or of a core file.
//!
//! ```text
//! windlass-ps [--tree | --json] PID
//! windlass-ps [--tree | --json] [--program FILE] CORE
//! ```
//!
//! It reads the memory of the process from outside, so it works while the process is stuck in an
//! endless loop, and needs neither symbols nor debug info. The process is not stopped. Linux only.
//!
//! ```text
//! $ windlass-ps 4242
//! runtime 0 on thread 4242 "main": awake, on a CPU, or ready to run
//!   31 polls, 12 turns, 2 timers, 1 source
//!   ID  NAME     STATE    SPAWNED AT         WAITS FOR
//!    0  (main)   waiting  src/main.rs:20:5   task 2
//!    1  hog      running  src/main.rs:11:17
//!    2  printer  waiting  src/main.rs:14:17  timer in 2.5s
//! ```
//!
//! * `--tree` prints the tasks as a tree, with each task below the one that awaits it.
//! * `--json` prints one JSON object.
//! * `--program FILE` is the file of the program that a core file is from. Without it, the path in
//!   the core file counts.
//!
//! Reading another process requires the right to trace it. Without it, the error names the remedy.
//! A process that runs may change while it is read, which the output then reports.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod ps {
    use std::collections::{HashMap, HashSet};
    use std::env;
    use std::ffi::OsString;
    use std::fmt::Write as _;
    use std::io::{self, Write as _};
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;

    use windlass::inspect::outside::{
        LoopState, RuntimeView, Snapshot, StateView, TaskNumber, TaskView,
    };

    const USAGE: &str = "usage: windlass-ps [--tree | --json] [--program FILE] PID|CORE";

    #[derive(Default)]
    struct Options {
        format: Format,
        program: Option<PathBuf>,
        target: OsString,
    }

    #[derive(Default)]
    enum Format {
        #[default]
        Table,
        Tree,
        Json,
    }

    pub(super) fn main() -> ExitCode {
        let Some(options) = parse(env::args_os().skip(1)) else {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        };
        match snapshot(&options) {
            Ok(snapshot) => print(&match options.format {
                Format::Table => text(&snapshot, table),
                Format::Tree => text(&snapshot, tree),
                Format::Json => json(&snapshot),
            }),
            Err(error) => {
                eprintln!("windlass-ps: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Options> {
        let mut options = Options::default();
        let mut targets = Vec::new();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--tree") => options.format = Format::Tree,
                Some("--json") => options.format = Format::Json,
                Some("--program") => options.program = Some(args.next()?.into()),
                Some(option) if option.starts_with('-') => return None,
                _ => targets.push(arg),
            }
        }
        options.target = targets.pop().filter(|_| targets.is_empty())?;
        Some(options)
    }

    fn snapshot(options: &Options) -> io::Result<Snapshot> {
        match options
            .target
            .to_str()
            .and_then(|target| target.parse().ok())
        {
            Some(pid) => Snapshot::of_process(pid),
            None => {
                let path = Path::new(&options.target);
                let snapshot = Snapshot::of_core(path, options.program.as_deref());
                snapshot.map_err(|error| {
                    let message = format!("{}: {error}", path.display());
                    io::Error::new(error.kind(), message)
                })
            }
        }
    }

    fn print(text: &str) -> ExitCode {
        match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        }
    }

    fn text(snapshot: &Snapshot, list: fn(&[TaskView]) -> String) -> String {
        let mut text = String::new();
        for runtime in &snapshot.runtimes {
            text += &heading(runtime);
            text += &list(&runtime.tasks);
            for wait in &runtime.other_waits {
                text += &format!("  a waker that is not a task's waits for {wait}\n");
            }
            text.push('\n');
        }
        if snapshot.runtimes.is_empty() {
            text += "no runtimes at the moment\n";
        }
        if snapshot.is_torn || snapshot.runtimes.iter().any(|it| it.is_incomplete) {
            text += "The process changed while it was read, so the lists may be inconsistent.\n";
        }
        for file in &snapshot.missing_files {
            text += &format!("The file {file} is missing or has changed, so places may be too.\n");
        }
        text
    }

    fn heading(runtime: &RuntimeView) -> String {
        let name = runtime.thread_name.as_deref();
        let name = name.map_or_else(String::new, |name| format!(" {name:?}"));
        let state = state(runtime);
        let activity = match &*runtime.activity {
            "" => "",
            activity => &format!(", {activity}"),
        };
        format!(
            "runtime {} on thread {}{name}: {state}{activity}\n  {}, {}, {}, {}\n",
            runtime.executor,
            runtime.thread,
            count(runtime.polls, "poll"),
            count(runtime.turns, "turn"),
            count(runtime.timers as u64, "timer"),
            count(runtime.sources as u64, "source"),
        )
    }

    fn state(runtime: &RuntimeView) -> &'static str {
        match runtime.loop_state {
            LoopState::Awake if runtime.is_dropping => "dropping a future",
            LoopState::Awake => "awake",
            LoopState::Asleep => "asleep",
            LoopState::Detached => "between turns",
        }
    }

    fn count(number: u64, noun: &str) -> String {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {noun}{plural}")
    }

    fn name(task: &TaskView) -> &str {
        match &task.name {
            Some(name) => name,
            None if task.is_main => "(main)",
            None => "",
        }
    }

    fn waits(task: &TaskView) -> String {
        if task.waits.is_empty() && task.state == StateView::Waiting {
            return "unknown".to_owned();
        }
        let waits: Vec<_> = task.waits.iter().map(ToString::to_string).collect();
        waits.join(", ")
    }

    fn table(tasks: &[TaskView]) -> String {
        let header = ["ID", "NAME", "STATE", "SPAWNED AT", "WAITS FOR"];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(tasks.iter().map(|task| {
            [
                task.id.to_string(),
                name(task).to_owned(),
                task.state.to_string(),
                task.spawned_at.clone(),
                waits(task),
            ]
        }));
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths = [0, 1, 2, 3].map(width);
        let mut text = String::new();
        for [id, name, state, place, waits] in &rows {
            let [a, b, c, d] = widths;
            let line = format!("  {id:>a$}  {name:b$}  {state:c$}  {place:d$}  {waits}");
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// Prints each task below the one that awaits it. A circle of tasks begins at any of them, and
    /// ends where it is reached again.
    fn tree(tasks: &[TaskView]) -> String {
        let mut children: HashMap<TaskNumber, Vec<&TaskView>> = HashMap::new();
        for task in tasks {
            let joiner = task.joiner.into_iter();
            joiner.for_each(|joiner| children.entry(joiner).or_default().push(task));
        }
        let (roots, joined): (Vec<_>, Vec<_>) = tasks.iter().partition(|it| it.joiner.is_none());
        let mut text = String::new();
        let mut printed = HashSet::new();
        for root in roots.into_iter().chain(joined) {
            // A list instead of recursion, since the chain may be long.
            let mut left = vec![(0, root)];
            if printed.contains(&root.id) {
                continue; // below its joiner
            }
            while let Some((depth, task)) = left.pop() {
                text += &branch(depth, task, !printed.insert(task.id));
                let below = children.remove(&task.id).unwrap_or_default();
                let below = below.into_iter().rev();
                left.extend(below.map(|task| (depth + 1, task)));
            }
        }
        text
    }

    fn branch(depth: usize, task: &TaskView, is_printed: bool) -> String {
        let indent = "  ".repeat(depth + 1);
        let name = match name(task) {
            "" => String::new(),
            name => format!(" {name}"),
        };
        let (id, state, place) = (task.id, task.state, &task.spawned_at);
        let waits = match &*waits(task) {
            "" => String::new(),
            waits => format!(", waits for {waits}"),
        };
        match is_printed {
            true => format!("{indent}{id}{name} ({place}): see above\n"),
            false => format!("{indent}{id}{name} ({place}): {state}{waits}\n"),
        }
    }

    fn json(snapshot: &Snapshot) -> String {
        let runtimes = list(&snapshot.runtimes, |runtime| {
            format!(
                "{{\"executor\":{},\"thread\":{},\"thread_name\":{},\"state\":{},\"activity\":{},\
                 \"polls\":{},\"turns\":{},\"timers\":{},\"sources\":{},\"tasks\":{}}}",
                runtime.executor,
                runtime.thread,
                runtime
                    .thread_name
                    .as_deref()
                    .map_or("null".to_owned(), quote),
                quote(state(runtime)),
                quote(&runtime.activity),
                runtime.polls,
                runtime.turns,
                runtime.timers,
                runtime.sources,
                list(&runtime.tasks, json_task),
            )
        });
        let (is_torn, missing) = (snapshot.is_torn, &snapshot.missing_files);
        let missing = list(missing, |file| quote(file));
        format!("{{\"runtimes\":{runtimes},\"is_torn\":{is_torn},\"missing_files\":{missing}}}\n")
    }

    fn json_task(task: &TaskView) -> String {
        format!(
            "{{\"id\":{},\"name\":{},\"is_main\":{},\"state\":{},\"spawned_at\":{},\"waits\":{},\
             \"joiner\":{}}}",
            quote(&task.id.to_string()),
            task.name.as_deref().map_or("null".to_owned(), quote),
            task.is_main,
            quote(&task.state.to_string()),
            quote(&task.spawned_at),
            list(&task.waits, |wait| quote(&wait.to_string())),
            task.joiner
                .map_or("null".to_owned(), |it| quote(&it.to_string())),
        )
    }

    fn list<T>(items: &[T], json: impl Fn(&T) -> String) -> String {
        let items: Vec<_> = items.iter().map(json).collect();
        format!("[{}]", items.join(","))
    }

    fn quote(text: &str) -> String {
        let mut quoted = String::from("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if c.is_control() => {
                    write!(quoted, "\\u{:04x}", c as u32).expect("a String accepts all text");
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        quoted
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn main() -> std::process::ExitCode {
    ps::main()
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn main() -> std::process::ExitCode {
    eprintln!("windlass-ps reads processes of 64-bit Linux only");
    std::process::ExitCode::FAILURE
}
