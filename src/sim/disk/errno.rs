//! The errors of the simulated disk, with the codes of the system.

use std::io;

/// Defines the errors.
macro_rules! errors {
    ($($name:ident = $code:ident;)*) => {
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
                    $(Errno::$name => io::Error::from_raw_os_error(libc::$code),)*
                }
            }
        }
    };
}

errors! {
    NotFound = ENOENT;
    Exists = EEXIST;
    NotDirectory = ENOTDIR;
    IsDirectory = EISDIR;
    NotEmpty = ENOTEMPTY;
    Denied = EACCES;
    NotPermitted = EPERM;
    Loop = ELOOP;
    NameTooLong = ENAMETOOLONG;
    Invalid = EINVAL;
    BadDescriptor = EBADF;
    TooBig = EFBIG;
    Busy = EBUSY;
    Full = ENOSPC;
    Io = EIO;
}
