//! The metadata of files.

use std::fmt;
use std::fs::Permissions;
use std::io;
#[cfg(unix)]
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
use std::time::Duration;
use std::time::SystemTime;

#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
use crate::sim::disk::{Kind, Stat};

/// The metadata of a file, a directory or a symbolic link.
///
/// It has the methods of [`std::fs::Metadata`], on Unix with its extension trait. It is a type of its
/// own because the files of a simulation have metadata, too, which std can't create.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs};
///
/// let metadata = block_on(fs::metadata("Cargo.toml"))?;
/// assert!(metadata.is_file() && metadata.len() > 0);
/// assert!(metadata.modified()? <= std::time::SystemTime::now());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Metadata(Inner);

#[derive(Clone)]
enum Inner {
    System(std::fs::Metadata),
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    Simulated(Box<Stat>),
}

/// Defines a method of std's metadata.
macro_rules! method {
    ($(#[$attribute:meta])* $name:ident -> $output:ty, $stat:ident => $simulated:expr) => {
        $(#[$attribute])*
        pub fn $name(&self) -> $output {
            match &self.0 {
                Inner::System(metadata) => metadata.$name().into_output(),
                #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
                Inner::Simulated($stat) => $simulated,
            }
        }
    };
}

/// Converts std's types. The others stay as they are.
trait IntoOutput<T> {
    fn into_output(self) -> T;
}

impl<T> IntoOutput<T> for T {
    fn into_output(self) -> T {
        self
    }
}

impl IntoOutput<FileType> for std::fs::FileType {
    fn into_output(self) -> FileType {
        self.into()
    }
}

#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
const NANOS: u64 = 1_000_000_000;

/// The size of the blocks that [`Metadata::blocks`] counts (bytes).
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
const BLOCK: u64 = 512;

impl Metadata {
    method! {
        /// Returns whether it is a file, a directory, a symbolic link or something else.
        file_type -> FileType, stat => stat.kind.into()
    }
    method! {
        /// Returns whether it is a directory.
        is_dir -> bool, stat => stat.kind == Kind::Directory
    }
    method! {
        /// Returns whether it is a regular file.
        is_file -> bool, stat => stat.kind == Kind::File
    }
    method! {
        /// Returns whether it is a symbolic link. Only
        /// [`symlink_metadata`](crate::fs::symlink_metadata) and
        /// [`DirEntry::metadata`](crate::fs::DirEntry::metadata) return such metadata.
        is_symlink -> bool, stat => stat.kind == Kind::Link
    }
    method! {
        /// Returns the size of a file (bytes).
        #[expect(clippy::len_without_is_empty, reason = "as std")]
        len -> u64, stat => stat.len
    }
    method! {
        /// Returns the permissions.
        permissions -> Permissions, stat => permissions_of(stat)
    }
    method! {
        /// Returns the time of the last change of the contents.
        ///
        /// # Errors
        ///
        /// Returns an error if the system does not record this time.
        modified -> io::Result<SystemTime>, stat => Ok(time(stat.modified))
    }
    method! {
        /// Returns the time of the last access.
        ///
        /// # Errors
        ///
        /// Returns an error if the system does not record this time.
        accessed -> io::Result<SystemTime>, stat => Ok(time(stat.accessed))
    }
    method! {
        /// Returns the time of the creation.
        ///
        /// # Errors
        ///
        /// Returns an error if the system does not record this time.
        created -> io::Result<SystemTime>, stat => Ok(time(stat.created))
    }
}

/// The fields of Unix, as in `std::os::unix::fs::MetadataExt`.
#[cfg(unix)]
impl Metadata {
    method! {
        /// Returns the number of the device that has the file.
        dev -> u64, _stat => 1
    }
    method! {
        /// Returns the number of the inode.
        ino -> u64, stat => stat.ino
    }
    method! {
        /// Returns the type and the permissions as bits.
        mode -> u32, stat => stat.permissions | type_bits(stat.kind)
    }
    method! {
        /// Returns the number of hard links.
        nlink -> u64, stat => stat.names
    }
    method! {
        /// Returns the ID of the owner.
        uid -> u32, stat => owner(stat)
    }
    method! {
        /// Returns the ID of the owner's group.
        gid -> u32, stat => owner(stat)
    }
    method! {
        /// Returns the number of the device that the file represents.
        rdev -> u64, _stat => 0
    }
    method! {
        /// Returns the size of a file (bytes), as [`len`](Metadata::len).
        size -> u64, stat => stat.len
    }
    method! {
        /// Returns the time of the last access (seconds since the Unix epoch).
        atime -> i64, stat => (stat.accessed / NANOS) as i64
    }
    method! {
        /// Returns the fraction of the time of the last access (ns).
        atime_nsec -> i64, stat => (stat.accessed % NANOS) as i64
    }
    method! {
        /// Returns the time of the last change of the contents (seconds since the Unix epoch).
        mtime -> i64, stat => (stat.modified / NANOS) as i64
    }
    method! {
        /// Returns the fraction of the time of the last change of the contents (ns).
        mtime_nsec -> i64, stat => (stat.modified % NANOS) as i64
    }
    method! {
        /// Returns the time of the last change of the inode (seconds since the Unix epoch).
        ctime -> i64, stat => (stat.changed / NANOS) as i64
    }
    method! {
        /// Returns the fraction of the time of the last change of the inode (ns).
        ctime_nsec -> i64, stat => (stat.changed % NANOS) as i64
    }
    method! {
        /// Returns the block size for efficient input and output (bytes).
        blksize -> u64, _stat => 4096
    }
    method! {
        /// Returns the number of allocated blocks of 512 bytes.
        blocks -> u64, stat => stat.allocated / BLOCK
    }
}

#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
fn time(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
fn permissions_of(stat: &Stat) -> Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(stat.permissions | type_bits(stat.kind))
}

/// Returns the permissions as bits.
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
pub(super) fn bits_of(permissions: &Permissions) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(permissions)
}

/// The bits of a mode that are the type of the file.
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
fn type_bits(kind: Kind) -> u32 {
    match kind {
        Kind::File => 0o100_000,
        Kind::Directory => 0o040_000,
        Kind::Link => 0o120_000,
    }
}

/// The first ordinary user of most systems, or the superuser.
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
fn owner(stat: &Stat) -> u32 {
    match stat.is_superuser {
        true => 0,
        false => 1000,
    }
}

impl From<std::fs::Metadata> for Metadata {
    fn from(metadata: std::fs::Metadata) -> Metadata {
        Metadata(Inner::System(metadata))
    }
}

#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
impl From<Stat> for Metadata {
    fn from(stat: Stat) -> Metadata {
        Metadata(Inner::Simulated(Box::new(stat)))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::System(metadata) => metadata.fmt(f),
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Inner::Simulated(stat) => stat.fmt(f),
        }
    }
}

/// The type of a file, with the methods of [`std::fs::FileType`], on Unix with its extension trait.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs};
///
/// let file_type = block_on(fs::symlink_metadata("src"))?.file_type();
/// assert!(file_type.is_dir() && !file_type.is_file() && !file_type.is_symlink());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileType(InnerType);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum InnerType {
    System(std::fs::FileType),
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    Simulated(Kind),
}

/// Defines a method of std's file type. Simulated disks have files, directories and links.
macro_rules! is {
    ($(#[$doc:meta])* $name:ident $(, $kind:ident)?) => {
        $(#[$doc])*
        pub fn $name(&self) -> bool {
            match self.0 {
                InnerType::System(file_type) => file_type.$name(),
                #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
                InnerType::Simulated(_kind) => false $(|| _kind == Kind::$kind)?,
            }
        }
    };
}

impl FileType {
    is! {
        /// Returns whether it is a directory.
        is_dir, Directory
    }
    is! {
        /// Returns whether it is a regular file.
        is_file, File
    }
    is! {
        /// Returns whether it is a symbolic link.
        is_symlink, Link
    }
}

/// The types of Unix, as in `std::os::unix::fs::FileTypeExt`.
#[cfg(unix)]
impl FileType {
    is! {
        /// Returns whether it is a block device.
        is_block_device
    }
    is! {
        /// Returns whether it is a character device.
        is_char_device
    }
    is! {
        /// Returns whether it is a named pipe.
        is_fifo
    }
    is! {
        /// Returns whether it is a socket.
        is_socket
    }
}

impl From<std::fs::FileType> for FileType {
    fn from(file_type: std::fs::FileType) -> FileType {
        FileType(InnerType::System(file_type))
    }
}

#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
impl From<Kind> for FileType {
    fn from(kind: Kind) -> FileType {
        FileType(InnerType::Simulated(kind))
    }
}

impl fmt::Debug for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileType")
            .field("is_file", &self.is_file())
            .field("is_dir", &self.is_dir())
            .field("is_symlink", &self.is_symlink())
            .finish_non_exhaustive()
    }
}
