//! Workers that are processes: the program, run again.
//!
//! A worker's standard input is one end of a Unix socket, by which the parent first hands over the
//! descriptors and then talks to it. So nothing has to be inherited that another child of the
//! program could inherit as well; and when the parent is killed, the worker reads an end.

use std::cell::RefCell;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::pin::pin;
use std::process;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::channel::Link;
use super::signals::stays_ignored;
use super::supervisor::{End, Kind, Sockets, Started};
use super::worker::{Ended, Post, Worker, work};
use super::worker_handle::KILL_LIMIT;
use super::{Builder, program::Program, systemd};
use crate::process::{Child, Command, ExitStatus};
use crate::signal::{Signal, Signals};

/// Says to a program that it's a worker: the number of its standard input's socket, by which
/// children of a worker, that inherit the variable but not the socket, are told apart; its index,
/// how many there are, and the milliseconds between two signs of life.
const VARIABLE: &str = "WINDLASS_WORKER";

/// How many descriptors the system passes with a message: that of the messages, and the listeners.
const DESCRIPTORS: usize = 253;

pub(super) struct Processes {
    program: Program,
    /// While the program is being replaced: the one of the successors.
    next: Option<Program>,
}

impl Processes {
    pub(super) fn new() -> io::Result<Processes> {
        Ok(Processes {
            program: Program::open()?,
            next: None,
        })
    }
}

impl Kind for Processes {
    fn start(&mut self, post: Post, sockets: &Sockets, succeeds: bool) -> io::Result<Started> {
        let next = self.next.as_ref().filter(|_| succeeds);
        let program = next.unwrap_or(&self.program);
        let (control, workers_control) = UnixStream::pair()?;
        let (messages, workers_messages) = UnixStream::pair()?;
        let listeners = sockets.of_worker(post.index).map(AsFd::as_fd);
        let descriptors: Vec<_> = [workers_messages.as_fd()]
            .into_iter()
            .chain(listeners)
            .collect();
        hand_over(&control, &descriptors)?;
        let mut command = command(program, post, workers_control)?;
        let child = Rc::new(RefCell::new(command.spawn()?));
        let (name, killed) = (format!("process {}", child.borrow().id()), child.clone());
        Ok(Started {
            name,
            control: Link::by_socket(control)?,
            messages: Link::by_socket(messages)?,
            kill: Box::new(move || {
                let _ = killed.borrow_mut().kill(); // it's ours, so only its end can prevent that
            }),
            survives: format!(
                "was killed, and hasn't ended within {KILL_LIMIT:?}: it may be traced, or hang in \
                 the kernel"
            ),
            ended: Box::pin(end_of(child)),
        })
    }

    fn renew(&mut self) -> io::Result<()> {
        self.next = Some(self.program.open_again()?);
        Ok(())
    }

    fn settle(&mut self, is_replaced: bool) {
        if let Some(next) = self.next.take().filter(|_| is_replaced) {
            self.program = next;
        }
    }
}

fn command(program: &Program, post: Post, control: UnixStream) -> io::Result<Command> {
    let socket = rustix::fs::fstat(&control)?.st_ino;
    let Post {
        index, count, beat, ..
    } = post;
    let place = format!("{socket}:{index}:{count}:{}", beat.as_millis());
    let mut command = process::Command::new(program.path());
    let mut args = env::args_os();
    command
        .arg0(args.next().unwrap_or_else(|| OsString::from("worker")))
        .args(args);
    command.env(VARIABLE, place).stdin(OwnedFd::from(control));
    for variable in systemd::VARIABLES {
        command.env_remove(variable); // they are the parent's
    }
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    Ok(command)
}

/// `try_wait` in turn with `kill`: the child is borrowed for a poll only.
async fn end_of(child: Rc<RefCell<Child>>) -> End {
    let status = poll_fn(|cx| pin!(child.borrow_mut().wait()).poll(cx)).await;
    match status {
        Ok(status) if status.success() => End::Finished,
        Ok(status) => End::Failed(describe(status)),
        Err(error) => End::Failed(format!("has ended, nobody knows how: {error}")),
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(_) => format!("has ended with {status}"),
        None => format!("was killed by {status}"),
    }
}

fn hand_over(control: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS {
        let text = format!(
            "{} listeners: {} at most",
            descriptors.len() - 1,
            DESCRIPTORS - 1
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(descriptors));
    sendmsg(
        control,
        &[IoSlice::new(&[0])],
        &mut rights,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// What a worker gets from its parent.
pub(super) struct Inheritance {
    post: Post,
    control: UnixStream,
    messages: UnixStream,
    listeners: Vec<TcpListener>,
}

impl Inheritance {
    /// None if this process is no worker.
    pub(super) fn take() -> io::Result<Option<Inheritance>> {
        let Some((socket, post)) = env::var(VARIABLE).ok().and_then(|place| parse(&place)) else {
            return Ok(None);
        };
        let stdin = rustix::stdio::stdin();
        let is_ours = rustix::fs::fstat(stdin).is_ok_and(|stat| {
            stat.st_ino == socket && FileType::from_raw_mode(stat.st_mode).is_socket()
        });
        if !is_ours {
            return Ok(None); // the variable is a worker's above us
        }
        // By another descriptor, that isn't inherited; and nothing is to be read from the old one.
        let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(stdin, 3)?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let mut descriptors = receive(&control)?.into_iter();
        let messages = descriptors.next().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Some(Inheritance {
            post,
            control,
            messages: messages.into(),
            listeners: descriptors.map(TcpListener::from).collect(),
        }))
    }
}

fn parse(place: &str) -> Option<(u64, Post)> {
    let mut numbers = place.split(':').map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let socket = next()?;
    let post = Post {
        index: next()? as usize,
        count: next()? as usize,
        beat: Duration::from_millis(next()?),
        is_pinned: false,
    };
    Some((socket, post))
}

/// The parent has sent them before it started us.
fn receive(control: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let bytes = &mut [IoSliceMut::new(&mut byte)];
    #[cfg(not(target_vendor = "apple"))]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let flags = RecvFlags::empty();
    let received = recvmsg(control, bytes, &mut rights, flags)?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        let text = "not all listeners fit into the worker's table of descriptors: \
                    raise its limit (`ulimit -n`, LimitNOFILE)";
        return Err(io::Error::other(text));
    }
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    #[cfg(target_vendor = "apple")]
    for descriptor in &descriptors {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(descriptors)
}

/// The life of a worker. The process ends with it.
pub(super) fn live<F, Fut>(inheritance: Inheritance, builder: &Builder, run: &F) -> !
where
    F: Fn(Worker) -> Fut,
    Fut: Future<Output = io::Result<()>>,
{
    let Inheritance {
        mut post,
        control,
        messages,
        listeners,
    } = inheritance;
    post.is_pinned = builder.is_pinned;
    name_after_program();
    let wanted = builder.sockets.len();
    let ended = crate::block_on(async {
        let (control, messages) = match (Link::by_socket(control), Link::by_socket(messages)) {
            (Ok(control), Ok(messages)) => (control, messages),
            (Err(error), _) | (_, Err(error)) => return Ended::NotStarted(error),
        };
        let found = listeners.len();
        let run = async |worker| {
            follow_parent()?;
            if found != wanted {
                return Err(io::Error::other(format!(
                    "this program has {wanted} listeners, and the parent, which is as old as its \
                     start, hands over {found}: start it anew"
                )));
            }
            run(worker).await
        };
        work(post, [control, messages], listeners, &run, heed_signals).await
    });
    process::exit(match ended {
        Ended::Finished => 0,
        // The parent has got the error, and reports it.
        Ended::Failed(_) | Ended::NotStarted(_) | Ended::Orphaned => 1,
    })
}

/// The system names a process after the file that it was started by, which was a descriptor's.
fn name_after_program() {
    #[cfg(target_os = "linux")]
    if let Some(program) = env::args_os().next() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::path::Path::new(&program)
            .file_name()
            .unwrap_or_default();
        if let Ok(name) = std::ffi::CString::new(name.as_bytes()) {
            let _ = rustix::thread::set_name(&name); // it only helps those who look
        }
    }
}

/// If the parent is killed, the link ends, and the worker with it; but not one that is stuck.
fn follow_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Ctrl-C is sent to all processes at a terminal: here it's the parent who acts on it. SIGTERM is
/// meant for this worker, or for all.
async fn heed_signals(worker: Worker) {
    let ours = [Signal::INT, Signal::HUP, Signal::USR1, Signal::TERM];
    // A handler would reset an ignored signal to its default in the programs that a worker starts.
    let ours = ours.into_iter().filter(|&it| !stays_ignored(it));
    let Ok(mut signals) = Signals::new(ours) else {
        return;
    };
    while let Ok(signal) = signals.recv().await {
        if signal == Signal::TERM {
            worker.stop_by_others().await;
        }
    }
}
