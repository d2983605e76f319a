//! Operations on names, which block. A simulated disk performs them inside of a simulated host.

use std::fs::Permissions;
use std::io;
use std::path::{Path, PathBuf};

use super::metadata::Metadata;
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
use super::metadata::bits_of;
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
use crate::sim::current::current_disk;

/// Defines an operation with the same name and arguments in std and on a simulated disk.
macro_rules! operation {
    (
        $name:ident($($argument:ident),*) -> $output:ty,
        $system:path,
        $disk:ident => $simulated:expr
    ) => {
        pub(super) fn $name($($argument: &Path),*) -> io::Result<$output> {
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            if let Some($disk) = current_disk() {
                return $simulated;
            }
            $system($($argument),*)
        }
    };
}

operation!(create_dir(path) -> (), std::fs::create_dir, disk => disk.create_dir(path));
operation!(create_dir_all(path) -> (), std::fs::create_dir_all, disk => disk.create_dir_all(path));
operation!(remove_file(path) -> (), std::fs::remove_file, disk => disk.remove_file(path));
operation!(remove_dir(path) -> (), std::fs::remove_dir, disk => disk.remove_dir(path));
operation!(remove_dir_all(path) -> (), std::fs::remove_dir_all, disk => disk.remove_dir_all(path));
operation!(canonicalize(path) -> PathBuf, std::fs::canonicalize, disk => disk.canonicalize(path));
operation!(read_link(path) -> PathBuf, std::fs::read_link, disk => disk.read_link(path));
operation!(rename(from, to) -> (), std::fs::rename, disk => disk.rename(from, to));
operation!(hard_link(from, to) -> (), std::fs::hard_link, disk => disk.hard_link(from, to));
#[cfg(unix)]
operation!(symlink(target, at) -> (), std::os::unix::fs::symlink, disk => disk.symlink(target, at));
operation!(metadata(path) -> Metadata, system_metadata, disk => {
    disk.stat(path, true).map(Metadata::from)
});
operation!(symlink_metadata(path) -> Metadata, system_symlink_metadata, disk => {
    disk.stat(path, false).map(Metadata::from)
});
operation!(copy(from, to) -> u64, std::fs::copy, disk => disk.copy(from, to));

fn system_metadata(path: &Path) -> io::Result<Metadata> {
    std::fs::metadata(path).map(Metadata::from)
}

fn system_symlink_metadata(path: &Path) -> io::Result<Metadata> {
    std::fs::symlink_metadata(path).map(Metadata::from)
}

pub(super) fn try_exists(path: &Path) -> io::Result<bool> {
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    if let Some(disk) = current_disk() {
        return match disk.stat(path, true) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            found => Ok(found.is_ok()),
        };
    }
    std::fs::exists(path)
}

pub(super) fn set_permissions(path: &Path, permissions: Permissions) -> io::Result<()> {
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    if let Some(disk) = current_disk() {
        return disk.set_permissions(path, bits_of(&permissions));
    }
    std::fs::set_permissions(path, permissions)
}

pub(super) fn build_dir(path: &Path, is_recursive: bool, mode: u32) -> io::Result<()> {
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    if let Some(disk) = current_disk() {
        return build_simulated_dir(&disk, path, is_recursive, mode);
    }
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    #[cfg(not(unix))]
    let _ = mode;
    builder.recursive(is_recursive).create(path)
}

/// Creates a directory in the steps of std.
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
fn build_simulated_dir(
    disk: &crate::sim::disk::Disk,
    path: &Path,
    is_recursive: bool,
    mode: u32,
) -> io::Result<()> {
    let create = || {
        disk.create_dir(path)?;
        disk.set_permissions(path, mode)
    };
    if !is_recursive {
        return create();
    }
    let created = match (create(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            build_simulated_dir(disk, parent, is_recursive, mode)?;
            create()
        }
        (created, _) => created,
    };
    let exists = || disk.stat(path, true).map(Metadata::from);
    match created {
        Err(_) if exists().is_ok_and(|found| found.is_dir()) => Ok(()),
        created => created,
    }
}

#[cfg(unix)]
pub(super) fn chown(
    path: &Path,
    uid: Option<u32>,
    gid: Option<u32>,
    follows: bool,
) -> io::Result<()> {
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    if current_disk().is_some() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    match follows {
        true => std::os::unix::fs::chown(path, uid, gid),
        false => std::os::unix::fs::lchown(path, uid, gid),
    }
}
