//! The file behind a descriptor, in a few words.

#[cfg(unix)]
pub(crate) use unix::describe;
#[cfg(windows)]
pub(crate) use windows::describe;

#[cfg(windows)]
mod windows {
    use std::os::windows::io::RawSocket;

    pub(crate) fn describe(_: RawSocket) -> String {
        "socket".into()
    }
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io::{stdin, stdout};
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

    use rustix::fs::{FileType, Stat, fstat};
    use rustix::net::{SocketAddrAny, SocketType, getpeername, getsockname, sockopt};

    /// Describes the file of a descriptor for which a task of this thread waits.
    pub(crate) fn describe(fd: RawFd) -> String {
        // SAFETY: the source or the file that the task waits for owns the descriptor. No user code
        // runs here that could close it. Another thread may drop a source for which only a poll
        // method has waited. Then these calls fail, or read the state of the file that has the
        // number now, and change nothing.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        socket(fd)
            .or_else(|| file(fd))
            .unwrap_or_else(|| "unknown file".into())
    }

    fn socket(fd: BorrowedFd<'_>) -> Option<String> {
        let local = getsockname(fd).ok()?;
        let peer = getpeername(fd).ok().flatten();
        let is_stream = sockopt::socket_type(fd).ok()? == SocketType::STREAM;
        let listens = match peer {
            None => listens(fd),
            Some(_) => Some(false),
        };
        let (Some(local), is_unix) = address(&local) else {
            return Some("socket".into());
        };
        let kind = match (is_unix, is_stream) {
            (false, true) => "TCP",
            (false, false) => "UDP",
            (true, _) => "Unix socket",
        };
        let peer_name = peer.as_ref().and_then(|peer| address(peer).0);
        Some(
            match peer_name {
                _ if listens == Some(true) => format!("{kind} listener {local}"),
                Some(peer) if is_unix => format!("{kind} {local}{peer}"), // one of them has a name
                Some(peer) => format!("{kind} {local} <- {peer}"),
                None if is_stream && !is_unix && listens.is_some() => {
                    format!("{kind} {local}, connecting")
                }
                None => format!("{kind} {local}"),
            }
            .trim_end()
            .into(),
        )
    }

    /// Whether the socket listens, if the system reports it.
    #[cfg(not(target_vendor = "apple"))]
    fn listens(fd: BorrowedFd<'_>) -> Option<bool> {
        sockopt::socket_acceptconn(fd).ok()
    }

    #[cfg(target_vendor = "apple")]
    fn listens(_: BorrowedFd<'_>) -> Option<bool> {
        None
    }

    /// The text of an address, and whether it is one of a Unix socket.
    fn address(address: &SocketAddrAny) -> (Option<String>, bool) {
        if let Ok(address) = std::net::SocketAddr::try_from(address.clone()) {
            return (Some(address.to_string()), false);
        }
        let Ok(unix) = rustix::net::SocketAddrUnix::try_from(address.clone()) else {
            return (None, false);
        };
        let path = unix.path().map(|path| path.to_string_lossy().into_owned());
        (Some(path.unwrap_or_default()), true)
    }

    fn file(fd: BorrowedFd<'_>) -> Option<String> {
        let stat = fstat(fd).ok()?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => "pipe",
            FileType::CharacterDevice => "device",
            FileType::RegularFile => "file",
            _ => "descriptor",
        };
        let text = linked(fd).unwrap_or_else(|| kind.into());
        // `io::stdin` may have opened the file of the stream a second time.
        let (stdin, stdout) = (stdin(), stdout());
        for (stream, name) in [(stdin.as_fd(), "input"), (stdout.as_fd(), "output")] {
            let is_same = |it: Stat| (it.st_dev, it.st_ino) == (stat.st_dev, stat.st_ino);
            if kind != "descriptor" && fstat(stream).is_ok_and(is_same) {
                return Some(text + ", standard " + name);
            }
        }
        Some(text)
    }

    /// What Linux calls the file.
    fn linked(fd: BorrowedFd<'_>) -> Option<String> {
        let number = fd.as_raw_fd();
        let link = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        let link = link.to_string_lossy();
        let kind = link.strip_prefix("anon_inode:").unwrap_or(&link);
        let kind = kind.trim_matches(['[', ']']);
        if kind.starts_with("pidfd") {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
            let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
            return Some(format!("child {} (pidfd)", pid.trim()));
        }
        let is_numbered = |kind: &str| link.starts_with(&format!("{kind}:["));
        Some(if is_numbered("pipe") {
            "pipe".into()
        } else {
            kind.to_owned()
        })
    }
}
