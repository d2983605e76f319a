//! A core file, which is an ELF file with the memory of a process.
//!
//! The kernel leaves out memory that is a copy of a file, such as the constants of the program. The
//! core file names these files, and their contents are read from there.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use super::memory::Memory;
use super::runtime::Surroundings;

pub(super) struct CoreFile {
    /// The memory in the core file, sorted by address.
    segments: Vec<Segment>,
    /// Memory that was mapped from other files, sorted by address.
    mapped: Vec<Segment>,
    /// The ranges of addresses that were mapped from files.
    mapped_ranges: Vec<Range<u64>>,
    /// The files that are missing, or have changed since.
    pub(super) missing_files: Vec<String>,
}

/// Bytes of a file at addresses of the process.
struct Segment {
    addresses: Range<u64>,
    file: Rc<File>,
    offset: u64,
    is_writable: bool,
}

/// A range of the address space that was mapped from a file.
struct Mapping {
    addresses: Range<u64>,
    offset: u64,
    path: String,
}

// The names are those of elf(5), without their prefixes.
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_W: u32 = 2;
const PN_XNUM: u16 = 0xffff;
const NT_FILE: u32 = 0x4649_4c45;

const ELF_HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;

/// More than any core file has.
const MOST_HEADERS: usize = 1 << 22;
const MOST_NOTES: u64 = 1 << 28;

/// The head of a file by which it is recognized. It has the build ID, usually.
const HEAD: usize = 4096;

impl CoreFile {
    /// Opens a core file. The program's file is the one that the core file names, or `program`.
    pub(super) fn open(path: &Path, program: Option<&Path>) -> io::Result<CoreFile> {
        let file = Rc::new(File::open(path)?);
        let mut core = CoreFile {
            segments: Vec::new(),
            mapped: Vec::new(),
            mapped_ranges: Vec::new(),
            missing_files: Vec::new(),
        };
        let mut mappings = Vec::new();
        for header in read_headers(&file)? {
            let (kind, offset) = (half(&header, 0), word(&header, 8));
            let (address, size) = (word(&header, 16), word(&header, 32));
            match kind {
                PT_LOAD => core.segments.push(Segment {
                    addresses: address..address.saturating_add(size),
                    file: file.clone(),
                    offset,
                    is_writable: half(&header, 4) & PF_W != 0,
                }),
                PT_NOTE => mappings.extend(read_mappings(&file, offset, size)),
                _ => {}
            }
        }
        core.segments.sort_by_key(|segment| segment.addresses.start);
        core.map_files(mappings, program);
        Ok(core)
    }

    /// The ranges of addresses at which the writable data of program files was mapped. If they are
    /// unknown, all writable memory.
    pub(super) fn writable_data(&self) -> Vec<Range<u64>> {
        let writable = self.segments.iter().filter(|segment| segment.is_writable);
        let is_mapped = |range: &Range<u64>| {
            let mut mapped = self.mapped_ranges.iter();
            self.mapped_ranges.is_empty()
                || mapped.any(|it| it.start < range.end && range.start < it.end)
        };
        let ranges = writable.map(|segment| segment.addresses.clone());
        ranges.filter(is_mapped).collect()
    }

    /// Opens the files of the mappings.
    fn map_files(&mut self, mappings: Vec<Mapping>, program: Option<&Path>) {
        let mut files = HashMap::new();
        for mapping in &mappings {
            if mapping.offset == 0 && !files.contains_key(&mapping.path) {
                let file = self.find_file(mapping, program);
                if file.is_none() {
                    self.missing_files.push(mapping.path.clone());
                }
                files.insert(mapping.path.clone(), file);
            }
        }
        for mapping in mappings {
            self.mapped_ranges.push(mapping.addresses.clone());
            if let Some(Some(file)) = files.get(&mapping.path) {
                self.mapped.push(Segment {
                    addresses: mapping.addresses,
                    file: file.clone(),
                    offset: mapping.offset,
                    is_writable: false,
                });
            }
        }
        self.mapped.sort_by_key(|segment| segment.addresses.start);
    }

    /// Returns the file of a mapping of the file's start, if the file is still the same.
    fn find_file(&self, mapping: &Mapping, program: Option<&Path>) -> Option<Rc<File>> {
        let mut head = [0; HEAD];
        let len = self.read(mapping.addresses.start, &mut head);
        let path = Path::new(&mapping.path);
        let is_named_alike = |it: &&Path| len > 0 || it.file_name() == path.file_name();
        let paths = program.filter(is_named_alike).into_iter().chain([path]);
        let mut files = paths.filter_map(|path| File::open(path).ok());
        let file = files.find(|file| {
            let mut found = [0; HEAD];
            read_at(file, &mut found[..len], 0) == len && found[..len] == head[..len]
        });
        file.map(Rc::new)
    }
}

impl Surroundings for CoreFile {
    /// A core file has the numbers of the threads in one namespace or another.
    fn thread(&self, tid: i32) -> Option<i32> {
        Some(tid)
    }

    fn activity(&self, _thread: i32) -> String {
        String::new()
    }

    fn fd_target(&self, _fd: i32) -> Option<String> {
        None
    }

    fn now(&self) -> Option<u64> {
        None
    }
}

impl Memory for CoreFile {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            let Some(address) = address.checked_add(filled as u64) else {
                break;
            };
            match read_segment(&self.segments, address, rest) {
                0 => match read_segment(&self.mapped, address, rest) {
                    0 => break,
                    read => filled += read,
                },
                read => filled += read,
            }
        }
        filled
    }
}

/// Reads from the segment with this address, at most to the end of the segment.
fn read_segment(segments: &[Segment], address: u64, buffer: &mut [u8]) -> usize {
    let after = segments.partition_point(|segment| segment.addresses.start <= address);
    let Some(segment) = after.checked_sub(1).map(|last| &segments[last]) else {
        return 0;
    };
    let Some(left) = segment.addresses.end.checked_sub(address) else {
        return 0;
    };
    let len = left.min(buffer.len() as u64) as usize;
    let skipped = address - segment.addresses.start;
    read_at(
        &segment.file,
        &mut buffer[..len],
        segment.offset.saturating_add(skipped),
    )
}

/// Fills the buffer from its start as far as the file has bytes.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    filled
}

/// Reads the program headers of a core file.
fn read_headers(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut header = [0; ELF_HEADER_SIZE];
    let is_complete = read_at(file, &mut header, 0) == header.len();
    // 64 bits, and the byte order of this machine.
    let byte_order = if cfg!(target_endian = "little") { 1 } else { 2 };
    let is_elf = is_complete && header.starts_with(b"\x7fELF\x02") && header[5] == byte_order;
    let size = usize::from(quarter(&header, 54));
    if !is_elf || quarter(&header, 16) != ET_CORE || size != PROGRAM_HEADER_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a core file of a 64-bit program with this machine's byte order",
        ));
    }
    let count = match quarter(&header, 56) {
        PN_XNUM => {
            // The first section header has the number.
            let mut section = [0; 64];
            read_at(file, &mut section, word(&header, 40));
            half(&section, 44) as usize
        }
        count => count.into(),
    };
    let mut headers = vec![0; count.min(MOST_HEADERS) * PROGRAM_HEADER_SIZE];
    let read = read_at(file, &mut headers, word(&header, 32));
    let headers = headers[..read].chunks_exact(PROGRAM_HEADER_SIZE);
    Ok(headers.map(<[u8]>::to_vec).collect())
}

/// Reads the list of mapped files in a segment of notes.
fn read_mappings(file: &File, offset: u64, size: u64) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    let mut notes = vec![0; size.min(MOST_NOTES) as usize];
    let read = read_at(file, &mut notes, offset);
    let mut rest = &notes[..read];
    while rest.len() >= 12 {
        let (name_size, size) = (half(rest, 0) as usize, half(rest, 4) as usize);
        let start = 12 + name_size.next_multiple_of(4);
        let Some(data) = rest.get(start..start + size) else {
            break;
        };
        if half(rest, 8) == NT_FILE {
            mappings.extend(parse_mappings(data));
        }
        rest = rest
            .get(start + size.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    mappings
}

/// Parses the list of files that were mapped: their number and the unit of offsets, the range and
/// the offset of each, and then their names.
fn parse_mappings(data: &[u8]) -> Vec<Mapping> {
    let Some((head, rest)) = data.split_at_checked(16) else {
        return Vec::new();
    };
    let (count, unit) = (word(head, 0), word(head, 8));
    let entries = (count as usize).saturating_mul(24).min(rest.len());
    let (entries, names) = rest.split_at(entries);
    let names = names.split(|&byte| byte == 0);
    let mappings = entries
        .chunks_exact(24)
        .zip(names)
        .map(|(entry, name)| Mapping {
            addresses: word(entry, 0)..word(entry, 8),
            offset: word(entry, 16).saturating_mul(unit),
            path: String::from_utf8_lossy(name).into_owned(),
        });
    mappings.collect()
}

fn quarter(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().expect("a slice of two bytes"))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(
        bytes[at..at + 8]
            .try_into()
            .expect("a slice of eight bytes"),
    )
}
