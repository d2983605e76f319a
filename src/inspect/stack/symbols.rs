//! Symbols of code addresses, and the part of a stack that is worth a report.

use std::collections::HashMap;
use std::path::PathBuf;

use addr2line::Loader;

use super::unwind::Address;
use super::{Frame, Stack};

/// The functions that call the code of a task or of the main future. A stack ends before them.
const CALLERS_OF_TASKS: [&str; 5] = [
    "windlass_executor::cell::poll",
    "windlass_executor::cell::drop_stage",
    "windlass_executor::cell::drop_finished",
    "windlass_executor::executor::Run<",
    "windlass_executor::executor::ExecutorInner>::turn",
];

/// Calls the `main` function of a program or thread.
const CALLER_OF_MAIN: &str = "__rust_begin_short_backtrace";

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
                if is_any_of(&frame, &CALLERS_OF_TASKS) || is_any_of(&frame, &[CALLER_OF_MAIN]) {
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
        if let Some(outermost) = frames.last_mut().filter(|frame| frame.symbol.is_none()) {
            outermost.symbol = symbol(loader, address, offset, module.base);
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

fn is_any_of(frame: &Frame, names: &[&str]) -> bool {
    let symbol = frame.symbol.as_deref().unwrap_or_default();
    names.iter().any(|name| symbol.contains(name))
}

/// Removes the outermost frames that are std's.
fn remove_noise(frames: &mut Vec<Frame>) {
    while frames.last().is_some_and(|frame| is_any_of(frame, &NOISE)) {
        frames.pop();
    }
}
