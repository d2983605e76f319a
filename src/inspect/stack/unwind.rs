//! Unwinds the copy of a stack.

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind,
    UnwindRegsNative, Unwinder as _, UnwinderNative,
};

use super::capture::Sample;
use super::memory::Memory;
use super::modules::Module;

/// The most frames of a stack.
const MOST_FRAMES: usize = 512;

/// Stands for a frame pointer that is unknown. No stack is there, so rules that use it fail.
const UNKNOWN_FP: u64 = 1;

/// A code address of a frame, and the module that has it.
pub(super) struct Address {
    /// For a frame that has called another one, the address within the call.
    pub(super) address: usize,
    /// The start of the function, according to the unwind information.
    pub(super) function: Option<usize>,
    pub(super) module: Option<Module>,
}

/// The unwind information of modules that were needed so far.
pub(super) struct Unwinder {
    framehop: UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
    modules: Vec<Loaded>,
}

/// A module with a copy of its unwind information.
struct Loaded {
    module: Module,
    eh_frame_hdr: Vec<u8>,
}

impl Unwinder {
    pub(super) fn new() -> Unwinder {
        Unwinder {
            framehop: UnwinderNative::new(),
            cache: CacheNative::new(),
            modules: Vec::new(),
        }
    }

    /// Returns the frames from the innermost one outwards, and whether the outermost one is there.
    pub(super) fn unwind(&mut self, sample: &Sample) -> (Vec<Address>, bool) {
        self.forget_unloaded();
        let memory = Memory::open();
        let mut addresses = Vec::new();
        let mut regs = registers(sample);
        let mut frame = FrameAddress::from_instruction_pointer(sample.pc as u64);
        while addresses.len() < MOST_FRAMES {
            let address = frame.address_for_lookup() as usize;
            let module = self.load(address, memory.as_ref());
            addresses.push(Address {
                address,
                function: self.function_start(address as u64),
                module,
            });
            match self.caller(sample, frame, &mut regs, memory.as_ref()) {
                Ok(Some(caller)) => frame = caller,
                Ok(None) => return (addresses, true),
                Err(Unreadable) => break,
            }
        }
        (addresses, false)
    }

    /// Moves the registers to the caller of a frame.
    fn caller(
        &mut self,
        sample: &Sample,
        frame: FrameAddress,
        regs: &mut UnwindRegsNative,
        memory: Option<&Memory>,
    ) -> Result<Option<FrameAddress>, Unreadable> {
        let before = *regs;
        let mut read = |address| word(sample, address).ok_or(());
        let unwound = self
            .framehop
            .unwind_frame(frame, regs, &mut self.cache, &mut read);
        let caller = match unwound {
            Ok(caller) => caller,
            Err(_) => {
                *regs = before;
                Some(
                    self.caller_by_call(sample, frame, regs, memory)
                        .ok_or(Unreadable)?,
                )
            }
        };
        Ok(caller.and_then(FrameAddress::from_return_address))
    }

    /// Finds the caller of a frame with a frame pointer that is unknown, which happens to a thread
    /// that was blocked. A return address on the stack is the frame's if the call before it calls
    /// the frame's function. Older return addresses, which the stack still has, rarely do.
    #[cfg(target_arch = "x86_64")]
    fn caller_by_call(
        &mut self,
        sample: &Sample,
        frame: FrameAddress,
        regs: &mut UnwindRegsNative,
        memory: Option<&Memory>,
    ) -> Option<u64> {
        /// How far from `sp` the return address may be.
        const MOST_WORDS: u64 = 1024;
        if regs.bp() != UNKNOWN_FP {
            return None;
        }
        let callee = self.function_start(frame.address_for_lookup())?;
        let memory = memory?;
        for slot in (0..MOST_WORDS).map(|index| regs.sp() + 8 * index) {
            let return_address = word(sample, slot + 8)?;
            self.load(return_address as usize, Some(memory));
            let caller = self.function_start(return_address);
            let calls =
                caller.and_then(|caller| calls(memory, callee, caller, return_address as usize));
            if calls == Some(true) {
                *regs = UnwindRegsNative::new(return_address, slot + 16, word(sample, slot)?);
                return Some(return_address);
            }
        }
        None
    }

    #[cfg(target_arch = "aarch64")]
    fn caller_by_call(
        &self,
        _: &Sample,
        _: FrameAddress,
        _: &mut UnwindRegsNative,
        _: Option<&Memory>,
    ) -> Option<u64> {
        None
    }

    /// Returns the start of the function that has an address, if its module was needed so far.
    fn function_start(&self, address: u64) -> Option<usize> {
        self.find(address as usize)?
            .function_start(address as usize)
    }

    fn find(&self, address: usize) -> Option<&Loaded> {
        let mut modules = self.modules.iter();
        modules.find(|loaded| loaded.module.range.contains(&address))
    }

    /// Copies the unwind information of the module that has an address.
    fn load(&mut self, address: usize, memory: Option<&Memory>) -> Option<Module> {
        if let Some(loaded) = self.find(address) {
            return Some(loaded.module.clone());
        }
        let module = Module::of_address(address)?;
        let segment = module.eh_frame_hdr.clone();
        let (hdr, eh_frame) = memory
            .and_then(|memory| split(memory.read(segment.start, segment.len())?))
            .unwrap_or_default();
        let loaded = Loaded {
            module: module.clone(),
            eh_frame_hdr: hdr,
        };
        self.framehop.add_module(loaded.for_framehop(eh_frame));
        self.modules.push(loaded);
        Some(module)
    }

    /// Forgets modules that `dlclose` has unloaded. Another module may be in their place.
    fn forget_unloaded(&mut self) {
        let framehop = &mut self.framehop;
        self.modules.retain(|loaded| {
            let start = loaded.module.range.start;
            let is_loaded = Module::of_address(start).as_ref() == Some(&loaded.module);
            if !is_loaded {
                framehop.remove_module(start as u64);
            }
            is_loaded
        });
    }
}

/// The copy has no such address.
struct Unreadable;

impl Loaded {
    fn for_framehop(&self, eh_frame: Vec<u8>) -> framehop::Module<Vec<u8>> {
        let Module { base, range, .. } = &self.module;
        let start = self.module.eh_frame_hdr.start.wrapping_sub(*base) as u64;
        let middle = start + self.eh_frame_hdr.len() as u64;
        let end = middle + eh_frame.len() as u64;
        let sections = ExplicitModuleSectionInfo {
            eh_frame_hdr_svma: Some(start..middle),
            eh_frame_hdr: Some(self.eh_frame_hdr.clone()),
            eh_frame_svma: Some(middle..end),
            eh_frame: Some(eh_frame),
            ..Default::default()
        };
        let range = range.start as u64..range.end as u64;
        framehop::Module::new(String::new(), range, *base as u64, sections)
    }

    /// Returns the start of the function that has an address. `.eh_frame_hdr` has a sorted table
    /// with pairs of 32-bit offsets, of a function and of its unwind information.
    fn function_start(&self, address: usize) -> Option<usize> {
        const ENCODINGS: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
        let hdr = &self.eh_frame_hdr;
        let start = self.module.eh_frame_hdr.start;
        if hdr.get(..4)? != ENCODINGS {
            return None;
        }
        let count = i32_at(hdr, 8)? as usize;
        let table = hdr.get(12..)?.get(..count.checked_mul(8)?)?;
        let function = |index| {
            let offset = i32_at(table, 8 * index)?;
            Some(start.wrapping_add_signed(offset as isize))
        };
        // The function is the one with the index `low`, or one before `high`.
        let (mut low, mut high) = (0, count);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if function(middle)? <= address {
                low = middle;
            } else {
                high = middle;
            }
        }
        function(low).filter(|&function| function <= address)
    }
}

/// Returns whether the call before a return address calls a function. If it calls through a
/// register, the caller must have loaded the function's address before.
#[cfg(target_arch = "x86_64")]
fn calls(memory: &Memory, callee: usize, caller: usize, return_address: usize) -> Option<bool> {
    /// How much of the caller's code is searched.
    const MOST_BYTES: usize = 1024;
    let len = return_address.checked_sub(caller)?.min(MOST_BYTES);
    let code = memory.read(return_address - len, len)?;
    // The operand of an instruction that ends there, relative to the instruction's end.
    let operand = |end: usize| {
        let offset = i32_at(&code, end.checked_sub(4)?)?;
        Some((return_address - len + end).wrapping_add_signed(offset as isize))
    };
    Some(match *code.last_chunk::<6>()? {
        [0xff, 0x15, ..] => pointer(memory, operand(len)?)? == callee,
        [_, 0xe8, ..] => jump_target(memory, operand(len)?)? == callee,
        [.., 0xff, 0xd0..=0xd7] => code.windows(3).enumerate().any(|(at, instruction)| {
            let operand = || operand(at + 7);
            match *instruction {
                [0x48 | 0x4c, 0x8b, mode] if mode & 0xc7 == 0x05 => {
                    operand().and_then(|operand| pointer(memory, operand)) == Some(callee)
                }
                [0x48 | 0x4c, 0x8d, mode] if mode & 0xc7 == 0x05 => operand() == Some(callee),
                _ => false,
            }
        }),
        _ => false,
    })
}

/// Returns the function at an address, or the one to which an entry of the procedure linkage table
/// jumps.
#[cfg(target_arch = "x86_64")]
fn jump_target(memory: &Memory, address: usize) -> Option<usize> {
    let entry = memory.read(address, 10)?;
    let jump = if entry.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) {
        4
    } else {
        0
    };
    if !entry[jump..].starts_with(&[0xff, 0x25]) {
        return Some(address);
    }
    let offset = i32_at(&entry, jump + 2)?;
    pointer(
        memory,
        (address + jump + 6).wrapping_add_signed(offset as isize),
    )
}

#[cfg(target_arch = "x86_64")]
fn pointer(memory: &Memory, address: usize) -> Option<usize> {
    let bytes = memory.read(address, 8)?;
    Some(usize::from_le_bytes(bytes.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(i32::from_le_bytes(bytes.try_into().ok()?))
}

/// Reads a word of the copy.
fn word(sample: &Sample, address: u64) -> Option<u64> {
    let at = (address as usize).checked_sub(sample.low)?;
    let bytes = sample.bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(target_arch = "x86_64")]
fn registers(sample: &Sample) -> UnwindRegsNative {
    let fp = sample.fp.map_or(UNKNOWN_FP, |fp| fp as u64);
    UnwindRegsNative::new(sample.pc as u64, sample.sp as u64, fp)
}

#[cfg(target_arch = "aarch64")]
fn registers(sample: &Sample) -> UnwindRegsNative {
    let fp = sample.fp.map_or(UNKNOWN_FP, |fp| fp as u64);
    UnwindRegsNative::new(sample.lr.unwrap_or(0) as u64, sample.sp as u64, fp)
}

/// Splits a segment into `.eh_frame_hdr` and `.eh_frame`, if the former has the usual encoding.
fn split(mut segment: Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    let encoding = *segment.get(1)?;
    let offset = usize::try_from(i32_at(&segment, 4)?).ok()?.checked_add(4)?;
    (encoding == 0x1b && offset <= segment.len()).then(|| {
        let eh_frame = segment.split_off(offset);
        (segment, eh_frame)
    })
}
