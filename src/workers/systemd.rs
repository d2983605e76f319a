//! Socket activation and notifications of systemd. See sd_listen_fds(3) and sd_notify(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::log::Log;
use super::supervisor::{Notification, Notify};

/// Variables that are meant for this process and not for its children.
pub(super) const VARIABLES: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// The first file descriptor that systemd passes.
const FIRST_DESCRIPTOR: i32 = 3;

/// Returns the TCP sockets that systemd passes to this process, in the order of the unit. They can
/// be taken once, so the second call returns none. Sockets of other types stay open for the
/// program.
pub(super) fn sockets() -> io::Result<Vec<TcpListener>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name| env::var(name).ok();
    let [count, pid, names] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"].map(variable);
    let count = count_of(count.as_deref(), pid.as_deref(), names.as_deref())?;
    if TAKEN.swap(true, Relaxed) {
        return Ok(Vec::new());
    }
    let sockets = (FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + count).map(socket);
    sockets.filter_map(io::Result::transpose).collect()
}

fn count_of(count: Option<&str>, pid: Option<&str>, names: Option<&str>) -> io::Result<i32> {
    let (Some(count), Some(pid)) = (count, pid) else {
        return Ok(0);
    };
    let pid: u32 = number("LISTEN_PID", pid)?;
    if pid != std::process::id() {
        return Ok(0); // meant for an ancestor of this process
    }
    let sockets: i32 = number("LISTEN_FDS", count)?;
    if !(0..=1024).contains(&sockets) {
        return Err(malformed(format!(
            "LISTEN_FDS={count}: not a number of sockets"
        )));
    }
    let named = match names {
        Some("") | None => sockets, // `split` would yield one name for an empty list
        Some(names) => names.split(':').count() as i32,
    };
    if named != sockets {
        return Err(malformed(format!(
            "LISTEN_FDNAMES has {named} names, LISTEN_FDS={count}"
        )));
    }
    Ok(sockets)
}

/// Returns `None` and leaves the descriptor open if it isn't a listening TCP socket.
fn socket(number: i32) -> io::Result<Option<TcpListener>> {
    // A descriptor that is not open must not become an `OwnedFd`.
    if std::fs::symlink_metadata(format!("/dev/fd/{number}")).is_err() {
        return Err(malformed(format!(
            "LISTEN_FDS names descriptor {number}, which is not open"
        )));
    }
    // SAFETY: the descriptor is open, and this process owns it: LISTEN_PID and LISTEN_FDS pass it
    // to this process, and `sockets` takes it only once.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // As in sd_listen_fds(3), so that children don't inherit the sockets.
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    if !is_tcp_listener(socket.as_fd()) {
        let _left_open = socket.into_raw_fd();
        return Ok(None);
    }
    Ok(Some(socket.into()))
}

fn is_tcp_listener(socket: BorrowedFd<'_>) -> bool {
    use rustix::net::{SocketAddrAny, SocketType, getsockname, sockopt};
    let is_internet = |addr: SocketAddrAny| std::net::SocketAddr::try_from(addr).is_ok();
    #[cfg(not(target_vendor = "apple"))] // Apple's systems have no such option
    let listens = sockopt::socket_acceptconn(socket).unwrap_or(false);
    #[cfg(target_vendor = "apple")]
    let listens = true;
    listens
        && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && getsockname(socket).is_ok_and(is_internet)
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> io::Result<T> {
    text.parse()
        .map_err(|_| malformed(format!("{name}={text}: not a number")))
}

fn malformed(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Returns the function that notifies systemd, and the interval of the watchdog. Notifications are
/// best effort, so errors are logged, and the service runs without them.
pub(super) fn notifier(log: &Log) -> (Notify, Option<Duration>) {
    let log = |error: io::Error| log.write(format!("can't notify systemd: {error}"));
    let notify = connect().unwrap_or_else(|error| {
        log(error);
        None
    });
    let period = watchdog().unwrap_or_else(|error| {
        log(error);
        None
    });
    (notify.unwrap_or_else(|| Box::new(|_| ())), period)
}

/// Returns `None` if `NOTIFY_SOCKET` is unset or empty.
fn connect() -> io::Result<Option<Notify>> {
    let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let addr = address(&path).map_err(|error| {
        let text = format!("NOTIFY_SOCKET={}: {error}", path.to_string_lossy());
        io::Error::new(error.kind(), text)
    })?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(Some(Box::new(move |notice| {
        // Best effort, because the program does not depend on it.
        let _ = socket.send_to_addr(text_of(notice).as_bytes(), &addr);
    })))
}

fn text_of(notice: Notification) -> String {
    match notice {
        Notification::Ready(workers) => format!("READY=1\nSTATUS={workers} workers"),
        Notification::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
            format!("RELOADING=1\nMONOTONIC_USEC={micros}")
        }
        Notification::Stopping => "STOPPING=1".into(),
        Notification::Alive => "WATCHDOG=1".into(),
    }
}

/// Parses the name of a Unix socket, a path or an abstract name. systemd also defines `vsock:`, for
/// virtual machines, which is unsupported.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        [b'/', ..] => SocketAddr::from_pathname(path),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "only Unix sockets are supported",
        )),
    }
}

/// Minimum interval of the watchdog, so that notifications leave time for other work.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// Returns half of the watchdog's timeout, if the watchdog is enabled.
fn watchdog() -> io::Result<Option<Duration>> {
    let Ok(micros) = env::var("WATCHDOG_USEC") else {
        return Ok(None);
    };
    let pid = env::var("WATCHDOG_PID").ok();
    let is_ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    if !is_ours {
        return Ok(None);
    }
    let micros: u64 = number("WATCHDOG_USEC", &micros)?;
    let period = Duration::from_micros(micros / 2).max(MIN_INTERVAL);
    Ok((micros > 0).then_some(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_named_by_listen_pid_takes_sockets() {
        let own = std::process::id().to_string();
        assert_eq!(count_of(Some("2"), Some(&own), Some("a:b")).unwrap(), 2);
        assert_eq!(count_of(Some("2"), Some("1"), None).unwrap(), 0);
        assert_eq!(count_of(None, None, None).unwrap(), 0);
        assert_eq!(count_of(Some("0"), Some(&own), Some("")).unwrap(), 0);
        assert_eq!(count_of(Some("1"), Some(&own), Some("")).unwrap(), 1);
    }

    #[test]
    fn malformed_variables_are_named_in_the_error() {
        let own = std::process::id().to_string();
        for (count, names, text) in [
            ("two", None, "LISTEN_FDS=two: not a number"),
            ("-1", None, "LISTEN_FDS=-1: not a number of sockets"),
            (
                "2",
                Some("http"),
                "LISTEN_FDNAMES has 1 names, LISTEN_FDS=2",
            ),
        ] {
            let error = count_of(Some(count), Some(&own), names).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        let error = socket(1_000_000).unwrap_err();
        assert!(error.to_string().contains("is not open"), "{error}");
    }

    #[test]
    fn notify_sockets_of_other_kinds_are_unsupported() {
        assert!(address("/run/notify".as_ref()).is_ok());
        for other in ["vsock:2:1234", "notify", ""] {
            let error = address(other.as_ref()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{other}");
        }
    }
}
