//! System calls by number, and the system call in which a thread is blocked.

use std::fs;

use super::proc_file::{self, CAPACITY};

/// Where a thread is, according to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// On a CPU, or ready to run. Its registers change.
    Running,
    /// Blocked. Its registers and its stack don't change until it continues.
    Blocked(Blocked),
    /// The kernel or a sandbox refuses to show it, or the thread has exited.
    Unknown,
}

/// A thread that is blocked in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// The number of the system call. A page fault has none.
    pub(crate) number: Option<i64>,
    pub(crate) args: [u64; 6],
    pub(crate) sp: usize,
    pub(crate) pc: usize,
}

impl Position {
    /// Reads the position of a thread of this process. That requires no privilege, because a
    /// thread may trace the other threads of its process.
    pub(crate) fn of_thread(tid: i32) -> Position {
        let buffer = &mut [0; CAPACITY];
        proc_file::read(tid, "syscall", buffer).map_or(Position::Unknown, Position::parse)
    }

    /// Reads the file `syscall` of a thread.
    pub(crate) fn of_file(path: &str) -> Position {
        fs::read_to_string(path).map_or(Position::Unknown, |line| Position::parse(&line))
    }

    /// Parses `running`, or the number, six arguments, `sp` and `pc` of a system call, or `-1`,
    /// `sp` and `pc`.
    fn parse(line: &str) -> Position {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else {
            return Position::Unknown;
        };
        if first == "running" {
            return Position::Running;
        }
        let (mut values, mut len) = ([0; 8], 0);
        for word in words {
            let value = u64::from_str_radix(word.trim_start_matches("0x"), 16);
            let (Ok(value), Some(place)) = (value, values.get_mut(len)) else {
                return Position::Unknown;
            };
            *place = value;
            len += 1;
        }
        match (first.parse(), &values[..len]) {
            (Ok(-1), &[sp, pc]) => Position::Blocked(Blocked {
                number: None,
                args: [0; 6],
                sp: sp as usize,
                pc: pc as usize,
            }),
            (Ok(number), &[a, b, c, d, e, f, sp, pc]) => Position::Blocked(Blocked {
                number: Some(number),
                args: [a, b, c, d, e, f],
                sp: sp as usize,
                pc: pc as usize,
            }),
            _ => Position::Unknown,
        }
    }
}

/// Returns the name of a system call, if it is one of those that commonly block.
pub(crate) fn name(number: i64) -> Option<&'static str> {
    let &(_, constant, _) = find(number)?;
    constant.strip_prefix("SYS_")
}

/// Returns whether the first argument of a system call is a file descriptor.
pub(crate) fn takes_fd(number: i64) -> bool {
    find(number).is_some_and(|&(_, _, takes_fd)| takes_fd)
}

fn find(number: i64) -> Option<&'static (i64, &'static str, bool)> {
    TABLES
        .iter()
        .copied()
        .flatten()
        .find(|entry| entry.0 == number)
}

/// Lists system calls by number and name, and whether the first argument is a file descriptor.
macro_rules! table {
    ($($takes_fd:literal: $($number:ident)*;)*) => {
        &[$($((libc::$number as i64, stringify!($number), $takes_fd),)*)*]
    };
}

type Table = &'static [(i64, &'static str, bool)];

const TABLES: &[Table] = &[COMMON, LEGACY];

/// The system calls of all 64-bit architectures.
#[cfg(target_pointer_width = "64")]
const COMMON: Table = table! {
    true: SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev
        SYS_preadv2 SYS_pwritev2 SYS_fsync SYS_fdatasync SYS_sync_file_range SYS_syncfs
        SYS_ftruncate SYS_fallocate SYS_flock SYS_fcntl SYS_ioctl SYS_close SYS_lseek SYS_fstat
        SYS_getdents64 SYS_fadvise64 SYS_copy_file_range SYS_sendfile SYS_splice SYS_tee
        SYS_vmsplice SYS_connect SYS_accept SYS_accept4 SYS_sendto SYS_recvfrom SYS_sendmsg
        SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_shutdown SYS_epoll_pwait SYS_epoll_pwait2
        SYS_io_uring_enter SYS_pidfd_send_signal;
    false: SYS_openat SYS_openat2 SYS_newfstatat SYS_statx SYS_faccessat SYS_readlinkat
        SYS_mkdirat SYS_unlinkat SYS_linkat SYS_symlinkat SYS_renameat2 SYS_fchmodat SYS_fchownat
        SYS_statfs SYS_truncate SYS_sync SYS_mount SYS_umount2 SYS_futex SYS_futex_waitv
        SYS_nanosleep SYS_clock_nanosleep SYS_ppoll SYS_pselect6 SYS_wait4 SYS_waitid
        SYS_rt_sigtimedwait SYS_rt_sigsuspend SYS_restart_syscall SYS_sched_yield SYS_mmap
        SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_msync SYS_mlock SYS_brk SYS_clone
        SYS_execve SYS_exit SYS_exit_group SYS_getrandom SYS_membarrier SYS_ptrace SYS_semop
        SYS_semtimedop SYS_msgsnd SYS_msgrcv SYS_mq_timedsend SYS_mq_timedreceive
        SYS_io_getevents SYS_userfaultfd SYS_process_vm_readv;
};

/// The system calls that only x86-64 still has.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
const LEGACY: Table = table! {
    true: SYS_epoll_wait;
    false: SYS_poll SYS_select SYS_pause SYS_open SYS_creat SYS_stat SYS_lstat SYS_access
        SYS_rename SYS_unlink SYS_mkdir SYS_rmdir SYS_readlink SYS_fork SYS_vfork;
};

#[cfg(not(target_pointer_width = "64"))]
const COMMON: Table = &[];
#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
const LEGACY: Table = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_parsed() {
        assert_eq!(Position::parse("running\n"), Position::Running);
        assert_eq!(Position::parse(""), Position::Unknown);
        assert_eq!(Position::parse("74 0x3"), Position::Unknown);
        let fault = Position::parse("-1 0x7ffc10 0x55aa\n");
        let expected = Blocked {
            number: None,
            args: [0; 6],
            sp: 0x7ffc10,
            pc: 0x55aa,
        };
        assert_eq!(fault, Position::Blocked(expected));
        let call = Position::parse("74 0x3 0x0 0x0 0x0 0x0 0x9 0x7ffc10 0x55aa\n");
        let expected = Blocked {
            number: Some(74),
            args: [3, 0, 0, 0, 0, 9],
            sp: 0x7ffc10,
            pc: 0x55aa,
        };
        assert_eq!(call, Position::Blocked(expected));
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn system_calls_have_names() {
        assert_eq!(name(libc::SYS_fsync), Some("fsync"));
        assert_eq!(name(libc::SYS_futex), Some("futex"));
        assert_eq!(name(-2), None);
        assert!(takes_fd(libc::SYS_fsync));
        assert!(!takes_fd(libc::SYS_futex));
    }
}
