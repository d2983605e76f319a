//! The roots in a program's memory, and the shapes of the types that they describe.

use std::io;
use std::mem::{offset_of, size_of};
use std::ops::Range;

use windlass_executor::layout as executor;
use windlass_reactor::layout as reactor;

use super::memory::{Block, Memory, Reader};
use crate::inspect::root::{MAGIC, Record, Root, Samples, VERSION};
use crate::waits::{is_await, is_await_outside};

/// A program's memory, with the description of its types.
pub(super) struct Program<'a> {
    pub(super) reader: &'a Reader<'a>,
    root: Block,
    /// The offset of the waiters in a queue.
    pub(super) queue_waiters: u64,
    /// The offset of the waker of a scope's task in the ready queue of the scope.
    pub(super) scope_parent: u64,
    /// The folder of this crate's sources, as the program's locations name it.
    sources: Option<String>,
    shapes: Shapes,
}

/// Where the parts of types of the standard library are.
struct Shapes {
    vec_data: usize,
    vec_len: usize,
    /// From the pointer of an `Rc` to its value.
    rc_value: u64,
    /// From the pointer of an `Arc` or a `Weak` to its value.
    arc_value: u64,
    /// From that pointer to the number of `Arc`s.
    arc_strong: u64,
    location: Option<LocationShape>,
}

struct LocationShape {
    size: usize,
    file: usize,
    file_len: usize,
    /// How much longer the stored length is. The text may end with a zero.
    excess: u64,
    line: usize,
    column: usize,
}

/// The versions of the root, of the executor's tables, and of the reactor's.
const VERSIONS: [usize; 3] = [VERSION, executor::VERSION, reactor::VERSION];

/// The result of a search for roots.
#[derive(Default)]
pub(super) struct Roots {
    /// Their addresses.
    known: Vec<u64>,
    /// The versions of roots that this crate doesn't read.
    other_versions: Vec<[usize; 3]>,
}

impl Roots {
    /// Searches ranges of addresses.
    pub(super) fn find(memory: &dyn Memory, ranges: &[Range<u64>]) -> Roots {
        /// The writable data of a program is smaller.
        const MOST_BYTES: u64 = 1 << 28;
        let mut roots = Roots::default();
        let mut buffer = vec![0; 1 << 16];
        for range in ranges {
            let end = range.end.min(range.start.saturating_add(MOST_BYTES));
            let mut from = range.start;
            while from < end {
                let len = buffer.len().min((end - from) as usize);
                let read = memory.read(from, &mut buffer[..len]);
                let words = buffer[..read].chunks_exact(8);
                for (word, address) in words.zip((from..).step_by(8)) {
                    if word == &MAGIC[..8] {
                        roots.check(memory, address);
                    }
                }
                // A page that is not readable.
                from = from.saturating_add((read as u64).max(4096));
            }
        }
        roots
    }

    /// Returns the roots that this crate reads, or an error if there is none.
    pub(super) fn require(self) -> io::Result<Vec<u64>> {
        if !self.known.is_empty() {
            return Ok(self.known);
        }
        let message = match self.other_versions.first() {
            None => {
                "no windlass runtime found: the program does not use windlass, or a release of \
                     it that can't be inspected"
                    .to_owned()
            }
            Some([a, b, c]) => {
                let [d, e, f] = VERSIONS;
                format!(
                    "the tables of the program have version {a}.{b}.{c}, and windlass-ps reads \
                     {d}.{e}.{f}: use the windlass-ps of the program's release of windlass"
                )
            }
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }

    fn check(&mut self, memory: &dyn Memory, address: u64) {
        let reader = Reader::new(memory);
        let Some(root) = reader.block(address, size_of::<Root>()) else {
            return;
        };
        let is_root = MAGIC
            .chunks_exact(8)
            .zip(root.words())
            .all(|(expected, found)| expected == found.to_ne_bytes());
        if is_root && root.word(offset_of!(Root, this)) == Some(address) {
            let version = |offset| root.word(offset).unwrap_or_default() as usize;
            let of_executor = offset_of!(Root, executor) + offset_of!(executor::Layout, version);
            let of_reactor = offset_of!(Root, reactor) + offset_of!(reactor::Layout, version);
            let versions = [offset_of!(Root, version), of_executor, of_reactor].map(version);
            if versions == VERSIONS {
                self.known.push(address);
            } else {
                self.other_versions.push(versions);
            }
        }
    }
}

impl<'a> Program<'a> {
    /// Reads the description. Returns `None` if the program has created no runtime so far, or if
    /// the description makes no sense.
    pub(super) fn at_root(reader: &'a Reader<'a>, root: u64) -> Option<Program<'a>> {
        let root = reader.block(root, size_of::<Root>())?;
        let samples = root.word(offset_of!(Root, samples))?;
        let samples = reader.block(samples, size_of::<Samples>())?;
        Some(Program {
            shapes: Shapes::new(reader, &samples)?,
            queue_waiters: samples.word(offset_of!(Samples, queue_waiters))?,
            scope_parent: samples.word(offset_of!(Samples, scope_parent))?,
            sources: sources(reader, &samples),
            reader,
            root,
        })
    }

    /// Returns a field of the executor's layout, by its offset there.
    pub(super) fn executor(&self, field: usize) -> Option<usize> {
        let word = self.root.word(offset_of!(Root, executor) + field)?;
        word.try_into().ok()
    }

    /// Returns a field of the reactor's layout, by its offset there.
    pub(super) fn reactor(&self, field: usize) -> Option<usize> {
        let word = self.root.word(offset_of!(Root, reactor) + field)?;
        word.try_into().ok()
    }

    /// Returns an array of fields of the layout of the facade, by its offset there.
    pub(super) fn facade<const N: usize>(&self, field: usize) -> Option<[u64; N]> {
        let mut fields = [0; N];
        for (index, value) in fields.iter_mut().enumerate() {
            *value = self
                .root
                .word(offset_of!(Root, facade) + field + 8 * index)?;
        }
        Some(fields)
    }

    /// Returns the address of a `Vec` that all threads share, by its field in `SharedLists`. `None`
    /// if the list has had no entry so far.
    pub(super) fn shared(&self, field: usize) -> Option<u64> {
        let lists = self.root.word(offset_of!(Root, shared))?;
        let list = self.reader.word(lists.checked_add(field as u64)?)?;
        (list != 0).then_some(list)
    }

    /// Reads the entries of a `Vec`. Returns none if the length or the size is out of bounds.
    pub(super) fn vec(&self, address: u64, entry_size: usize) -> Option<Entries> {
        /// More than a list of windlass can have.
        const MOST_ENTRIES: u64 = 1 << 24;
        const MOST_BYTES: usize = 1 << 12;
        let vec = self
            .reader
            .block(address, self.shapes.vec_data.max(self.shapes.vec_len) + 8)?;
        let len = vec.word(self.shapes.vec_len)?;
        let is_sane = len <= MOST_ENTRIES && (1..=MOST_BYTES).contains(&entry_size);
        is_sane.then_some(Entries {
            next: vec.word(self.shapes.vec_data)?,
            left: len,
            entry_size,
        })
    }

    /// Returns the address of the value in an `Rc` with this pointer.
    pub(super) fn rc_value(&self, pointer: u64) -> u64 {
        pointer.wrapping_add(self.shapes.rc_value)
    }

    /// Returns the address of the value in an `Arc` with this pointer.
    pub(super) fn arc_value(&self, pointer: u64) -> u64 {
        pointer.wrapping_add(self.shapes.arc_value)
    }

    /// Returns the number of `Arc`s of a `Weak` with this pointer, which may point nowhere.
    pub(super) fn strong_count(&self, pointer: u64) -> u64 {
        let count = self
            .reader
            .word(pointer.wrapping_add(self.shapes.arc_strong));
        count.unwrap_or_default()
    }

    /// Returns whether a place may be an `.await` of the program.
    pub(super) fn is_await(&self, place: &str) -> bool {
        match &self.sources {
            Some(sources) => is_await_outside(place, sources),
            None => is_await(place),
        }
    }

    /// Reads a `Location`.
    pub(super) fn location(&self, address: u64) -> Option<String> {
        let shape = self.shapes.location.as_ref()?;
        let location = self.reader.block(address, shape.size)?;
        let len = location.word(shape.file_len)?.checked_sub(shape.excess)?;
        // A core file lacks the text, if the program's file is missing.
        let file = self.reader.text(location.word(shape.file)?, len);
        let file = file.unwrap_or_else(|| "?".to_owned());
        let (line, column) = (location.half(shape.line)?, location.half(shape.column)?);
        // A cell that was freed while it was read leads anywhere.
        let is_plausible = !file.is_empty()
            && (1..=MAX_LINE).contains(&line)
            && (1..=MAX_COLUMN).contains(&column);
        is_plausible.then(|| format!("{file}:{line}:{column}"))
    }
}

/// Returns the folder of this crate's sources. The sample of a location is in `root.rs`. Returns
/// `None` if the text is missing.
fn sources(reader: &Reader<'_>, samples: &Block) -> Option<String> {
    let address = samples.word(offset_of!(Samples, file))?;
    let file = reader.text(address, samples.word(offset_of!(Samples, file_len))?)?;
    let root = ["inspect/root.rs", "inspect\\root.rs"];
    let root = root.iter().find_map(|path| file.strip_suffix(path))?;
    Some(root.to_owned())
}

/// No source has more lines or columns.
const MAX_LINE: u32 = 10_000_000;
const MAX_COLUMN: u32 = 100_000;

/// The addresses of the entries of a `Vec`.
pub(super) struct Entries {
    next: u64,
    left: u64,
    pub(super) entry_size: usize,
}

impl Iterator for Entries {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let entry = self.next;
        self.next = entry.checked_add(self.entry_size as u64)?;
        Some(entry)
    }
}

impl Shapes {
    /// Finds the parts of the samples. A `Vec` has three words.
    fn new(reader: &Reader<'_>, samples: &Block) -> Option<Shapes> {
        let sample = |field| samples.word(field);
        let vec_size = sample(offset_of!(Samples, vec_size))? as usize;
        if vec_size != 3 * size_of::<usize>() {
            return None;
        }
        let vec = reader.block(sample(offset_of!(Samples, vec))?, vec_size)?;
        let position = |value| {
            let mut words = vec.words();
            words.position(|word| word == value).map(|index| 8 * index)
        };
        let rc = reader.word(sample(offset_of!(Samples, rc))?)?;
        let arc = reader.word(sample(offset_of!(Samples, arc))?)?;
        let arc_value = sample(offset_of!(Samples, arc_value))?.checked_sub(arc)?;
        let strong = sample(offset_of!(Samples, arc_strong))?;
        let mut counts = (0..arc_value.min(64)).step_by(8);
        let arc_strong = counts.find(|at| reader.word(arc.wrapping_add(*at)) == Some(strong))?;
        Some(Shapes {
            vec_data: position(sample(offset_of!(Samples, vec_data))?)?,
            vec_len: position(sample(offset_of!(Samples, vec_len))?)?,
            rc_value: sample(offset_of!(Samples, rc_value))?.wrapping_sub(rc),
            arc_value,
            arc_strong,
            location: LocationShape::new(reader, samples),
        })
    }
}

impl LocationShape {
    fn new(reader: &Reader<'_>, samples: &Block) -> Option<LocationShape> {
        const LARGEST: u64 = 256;
        let sample = |field| samples.word(field);
        let size = sample(offset_of!(Samples, location_size))?;
        let size = (size <= LARGEST).then_some(size as usize)?;
        let location = reader.block(sample(offset_of!(Samples, location))?, size)?;
        let word = |value| {
            (0..size)
                .step_by(8)
                .find(|&at| location.word(at) == Some(value))
        };
        let file = word(sample(offset_of!(Samples, file))?)?;
        let len = sample(offset_of!(Samples, file_len))?;
        let (file_len, excess) = match word(len) {
            Some(at) => (at, 0),
            None => (word(len.wrapping_add(1))?, 1),
        };
        let is_free = |at: usize| at & !7 != file && at & !7 != file_len;
        let half = |value: u64| {
            let mut offsets = (0..size).step_by(4).filter(|&at| is_free(at));
            offsets.find(|&at| location.half(at).map(u64::from) == Some(value))
        };
        Some(LocationShape {
            line: half(sample(offset_of!(Samples, line))?)?,
            column: half(sample(offset_of!(Samples, column))?)?,
            size,
            file,
            file_len,
            excess,
        })
    }
}

/// The records of the runtimes of a program, the oldest first.
pub(super) fn records(reader: &Reader<'_>, root: u64) -> Option<Vec<Block>> {
    /// More than one process can have.
    const MOST_RUNTIMES: usize = 16_384;
    let mut records = Vec::new();
    let mut next = reader.word(root.checked_add(offset_of!(Root, first) as u64)?)?;
    while next != 0 && records.len() < MOST_RUNTIMES {
        let record = reader.block(next, size_of::<Record>())?;
        next = record.word(offset_of!(Record, next))?;
        records.push(record);
    }
    records.reverse();
    Some(records)
}
