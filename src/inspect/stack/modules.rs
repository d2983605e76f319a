//! The program and the libraries that are loaded.

use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;
use std::path::Path;
use std::slice;

/// The program, or a library that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// Empty for the program itself.
    name: String,
    /// The difference between addresses in memory and in the file.
    pub(super) base: usize,
    pub(super) range: Range<usize>,
    /// The segment with the unwind information, up to the end of memory that is mapped with it.
    pub(super) eh_frame_hdr: Range<usize>,
}

impl Module {
    /// Finds the module that has code at an address. Takes the loader's lock, and allocates only
    /// after it has released the lock, because an allocator may hold a lock of its own while it
    /// waits for the loader's.
    pub(super) fn of_address(address: usize) -> Option<Module> {
        let mut search = Search {
            address,
            base: 0,
            range: 0..0,
            eh_frame_hdr: 0..0,
            name: [0; 4096],
        };
        let data: *mut Search = &mut search;
        // SAFETY: the callback gets this pointer, and nothing else uses it meanwhile.
        let found = unsafe { libc::dl_iterate_phdr(Some(visit), data.cast()) };
        let name = CStr::from_bytes_until_nul(&search.name).ok()?;
        (found != 0).then(|| Module {
            name: name.to_string_lossy().into_owned(),
            base: search.base,
            range: search.range,
            eh_frame_hdr: search.eh_frame_hdr,
        })
    }

    /// The path of the file, as far as the loader knows it.
    #[cfg(feature = "stacks")]
    pub(super) fn path(&self) -> std::path::PathBuf {
        match self.name.as_str() {
            "" => "/proc/self/exe".into(),
            name => name.into(),
        }
    }

    /// The last part of the path.
    pub(super) fn file_name(&self) -> String {
        let path = match self.name.as_str() {
            "" => std::env::current_exe().unwrap_or_default(),
            name => Path::new(name).into(),
        };
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

struct Search {
    address: usize,
    base: usize,
    range: Range<usize>,
    eh_frame_hdr: Range<usize>,
    name: [u8; 4096],
}

/// Stops at the module that has the address. Neither allocates nor panics.
///
/// # Safety
///
/// `dl_iterate_phdr` is the caller, and `data` points to a `Search`.
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise. The loader keeps the module, its program headers and its name
    // during this call.
    let (info, search, headers, name) = unsafe {
        let info = &*info;
        if info.dlpi_phdr.is_null() || info.dlpi_name.is_null() {
            return 0;
        }
        (
            info,
            &mut *data.cast::<Search>(),
            slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()),
            CStr::from_ptr(info.dlpi_name).to_bytes(),
        )
    };
    search.check(info.dlpi_addr as usize, headers, name).into()
}

impl Search {
    /// Returns whether the module has the address, and then describes it.
    fn check(&mut self, base: usize, headers: &[libc::Elf64_Phdr], name: &[u8]) -> bool {
        let bounds = |header: &libc::Elf64_Phdr| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            start..start.wrapping_add(header.p_memsz as usize)
        };
        let of_type = |wanted| {
            headers
                .iter()
                .filter(move |it| it.p_type == wanted)
                .map(bounds)
        };
        let segments = || of_type(libc::PT_LOAD);
        if !segments().any(|segment| segment.contains(&self.address)) {
            return false;
        }
        self.base = base;
        let start = segments().map(|segment| segment.start).min();
        let end = segments().map(|segment| segment.end).max();
        self.range = start.unwrap_or(0)..end.unwrap_or(0);
        if let Some(hdr) = of_type(libc::PT_GNU_EH_FRAME).next() {
            let around = segments().find(|segment| segment.contains(&hdr.start));
            self.eh_frame_hdr = hdr.start..around.map_or(hdr.end, |segment| segment.end);
        }
        let len = name.len().min(self.name.len() - 1);
        self.name[..len].copy_from_slice(&name[..len]);
        true
    }
}
