//! Symbols of code addresses, and the part of a stack that is worth a report.

use std::collections::HashMap;
use std::path::PathBuf;

use addr2line::Loader;

use super::unwind::Address;
use super::{Frame, Stack};

/// The functions that call the code of a task, of the main future, or the `main` function of a
/// program or thread. A stack ends before them.
///
/// Each has its path, and its name and file for a function that is inlined. `line-tables-only`
/// debug information has no paths. The compiler writes the path of a method in one of two ways.
const CALLERS: [(&str, &str, &str); 8] = [
    ("windlass_executor::cell::poll", "poll", "src/cell.rs"),
    (
        "windlass_executor::cell::poll",
        "{closure#0}",
        "src/cell.rs",
    ),
    (
        "windlass_executor::cell::drop_stage",
        "drop_stage",
        "src/cell.rs",
    ),
    (
        "windlass_executor::cell::drop_finished",
        "drop_finished",
        "src/cell.rs",
    ),
    (
        "windlass_executor::executor::Run<",
        "poll",
        "src/executor.rs",
    ),
    (
        "windlass_executor::executor::<impl windlass_executor::inner::ExecutorInner>::turn",
        "turn",
        "src/executor.rs",
    ),
    (
        "windlass_executor::inner::ExecutorInner>::turn",
        "turn",
        "src/executor.rs",
    ),
    (
        "std::sys::backtrace::__rust_begin_short_backtrace",
        "__rust_begin_short_backtrace",
        "src/sys/backtrace.rs",
    ),
];

/// Functions of std between the caller of a task and the task.
const NOISE: [&str; 5] = [
    "__rust_try",
    "core::ops::function::",
    "core::panic::unwind_safe::AssertUnwindSafe<",
    "std::panic::",
    "std::panicking::",
];

/// The symbols of modules that were needed so far.
#[derive(Default)]
pub(super) struct Symbols {
    loaders: HashMap<PathBuf, Option<Loader>>,
}

impl Symbols {
    /// Finds the symbols of a stack, up to the caller of the task.
    pub(super) fn stack(&mut self, addresses: &[Address], is_complete: bool) -> Stack {
        let mut frames = Vec::new();
        for address in addresses {
            for frame in self.frames(address) {
                if is_caller(&frame) {
                    remove_noise(&mut frames);
                    return Stack {
                        frames,
                        truncated: false,
                    };
                }
                frames.push(frame);
            }
        }
        Stack {
            frames,
            truncated: !is_complete,
        }
    }

    /// Returns the function that has an address, after the functions that are inlined there.
    fn frames(&mut self, address: &Address) -> Vec<Frame> {
        let mut frame = Frame {
            address: address.address,
            symbol: None,
            file_line: None,
            module: None,
        };
        let Some(module) = &address.module else {
            return vec![frame];
        };
        let offset = address.address.wrapping_sub(module.base);
        frame.module = Some((module.file_name(), offset));
        let path = module.path();
        let loader = self
            .loaders
            .entry(path)
            .or_insert_with_key(|path| Loader::new(path).ok());
        let Some(loader) = loader else {
            return vec![frame];
        };
        let mut frames = debug_frames(loader, offset as u64, &frame);
        if frames.is_empty() {
            frames.push(frame);
        }
        if let Some(outermost) = frames.last_mut() {
            // It has the path, which debug information may lack.
            let symbol = symbol(loader, address, offset, module.base);
            outermost.symbol = symbol.or(outermost.symbol.take());
        }
        frames
    }
}

/// Finds an address in the symbol table. A library without its local symbols has only the symbol of
/// an earlier function there, which is of no use.
fn symbol(loader: &Loader, address: &Address, offset: usize, base: usize) -> Option<String> {
    let symbol = loader.find_symbol_info(offset as u64)?;
    let start = address
        .function
        .map_or(0, |start| start.wrapping_sub(base) as u64);
    let name = || addr2line::demangle_auto(symbol.name().into(), None).into_owned();
    (symbol.address() >= start).then(name)
}

/// Returns the frames of an address according to the debug information.
fn debug_frames(loader: &Loader, offset: u64, template: &Frame) -> Vec<Frame> {
    let mut frames = Vec::new();
    let Ok(mut found) = loader.find_frames(offset) else {
        return frames;
    };
    while let Ok(Some(found)) = found.next() {
        let mut frame = template.clone();
        let function = found.function.as_ref();
        frame.symbol = function.and_then(|name| Some(name.demangle().ok()?.into_owned()));
        frame.file_line = found.location.and_then(|location| {
            let file = location.file?.to_owned();
            Some((file, location.line.unwrap_or(0)))
        });
        frames.push(frame);
    }
    frames
}

fn is_caller(frame: &Frame) -> bool {
    let symbol = frame.symbol.as_deref().unwrap_or_default();
    let file = frame.file_line.as_ref().map_or("", |(file, _)| file);
    let (name, _) = symbol.split_once('<').unwrap_or((symbol, ""));
    let is_in = |end: &str| {
        let folder = file.strip_suffix(end).and_then(|it| it.strip_suffix('/'));
        let folder = folder.and_then(|folder| folder.rsplit('/').next());
        folder.is_some_and(|it| {
            it == "std" || it == "executor" || it.starts_with("windlass-executor")
        })
    };
    CALLERS
        .iter()
        .any(|&(path, short, end)| begins_with(frame, path) || name == short && is_in(end))
}

fn begins_with(frame: &Frame, path: &str) -> bool {
    let symbol = frame.symbol.as_deref().unwrap_or_default();
    symbol.trim_start_matches('<').starts_with(path)
}

/// Removes the outermost frames that are std's.
fn remove_noise(frames: &mut Vec<Frame>) {
    let is_noise = |frame: &Frame| NOISE.iter().any(|path| begins_with(frame, path));
    while frames.last().is_some_and(is_noise) {
        frames.pop();
    }
}
