//! The errors of the simulated disk, with the codes of the system.

use std::io;

/// Defines the errors. Systems other than Unix get the kind alone.
macro_rules! errors {
    ($($name:ident = $code:ident, $kind:ident;)*) => {
        /// An error of the simulated disk.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Errno {
            $($name,)*
            /// An argument that std refuses without a system call.
            Argument,
        }

        impl From<Errno> for io::Error {
            fn from(error: Errno) -> io::Error {
                match error {
                    Errno::Argument => io::ErrorKind::InvalidInput.into(),
                    $(
                        #[cfg(unix)]
                        Errno::$name => io::Error::from_raw_os_error(libc::$code),
                        #[cfg(not(unix))]
                        Errno::$name => io::ErrorKind::$kind.into(),
                    )*
                }
            }
        }
    };
}

errors! {
    NotFound = ENOENT, NotFound;
    Exists = EEXIST, AlreadyExists;
    NotDirectory = ENOTDIR, NotADirectory;
    IsDirectory = EISDIR, IsADirectory;
    NotEmpty = ENOTEMPTY, DirectoryNotEmpty;
    Denied = EACCES, PermissionDenied;
    NotPermitted = EPERM, PermissionDenied;
    Loop = ELOOP, InvalidInput;
    NameTooLong = ENAMETOOLONG, InvalidInput;
    Invalid = EINVAL, InvalidInput;
    BadDescriptor = EBADF, InvalidInput;
    TooBig = EFBIG, FileTooLarge;
    Busy = EBUSY, ResourceBusy;
    Full = ENOSPC, StorageFull;
    Io = EIO, Other;
}
