//! Workers that are processes, which run the same program again.
//!
//! The standard input of a worker is one end of a Unix socket. Through it the parent passes the
//! file descriptors, then exchanges control messages. So no descriptor has to be inheritable, and
//! no other child of the program can inherit one. When the parent is killed, the worker reads the
//! end of the stream.

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

use super::channel::Channel;
use super::signals::stays_ignored;
use super::supervisor::{Exit, Launcher, Sockets, Started};
use super::worker::{Assignment, Outcome, Worker, run_worker};
use super::worker_handle::KILL_LIMIT;
use super::{Builder, program::Program, systemd};
use crate::process::{Child, Command, ExitStatus};
use crate::signal::{Signal, Signals};

/// Marks a process as a worker: `inode:index:count:milliseconds`. The inode is that of the socket
/// on standard input. Children of a worker inherit the variable without the socket, so it doesn't
/// match there. The last number is the interval of heartbeats.
const WORKER_VARIABLE: &str = "WINDLASS_WORKER";

/// Maximum number of descriptors in one message (`SCM_MAX_FD`). They are the socket for messages,
/// and the listeners.
const MAX_DESCRIPTORS: usize = 253;

pub(super) struct Processes {
    program: Program,
    /// During a reload, the program of the successors.
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

impl Launcher for Processes {
    fn start(&mut self, to: Assignment, sockets: &Sockets, is_new: bool) -> io::Result<Started> {
        let next = self.next.as_ref().filter(|_| is_new);
        let program = next.unwrap_or(&self.program);
        let (control, workers_control) = UnixStream::pair()?;
        let (messages, workers_messages) = UnixStream::pair()?;
        let listeners = sockets.of_worker(to.index).map(AsFd::as_fd);
        let descriptors = std::iter::once(workers_messages.as_fd()).chain(listeners);
        let descriptors: Vec<_> = descriptors.collect();
        send_descriptors(&control, &descriptors)?;
        let mut command = command(program, to, workers_control)?;
        let child = Rc::new(RefCell::new(command.spawn()?));
        let (name, killed) = (format!("process {}", child.borrow().id()), child.clone());
        Ok(Started {
            name,
            control: Channel::over_socket(control)?,
            messages: Channel::over_socket(messages)?,
            kill: Box::new(move || {
                let _ = killed.borrow_mut().kill(); // fails only if the child has exited
            }),
            survivor_text: format!(
                "was killed and hasn't exited within {KILL_LIMIT:?}: it may be traced, or hang in \
                 the kernel"
            ),
            ended: Box::pin(end_of(child)),
        })
    }

    fn reload(&mut self) -> io::Result<()> {
        self.next = Some(self.program.reopen()?);
        Ok(())
    }

    fn commit_reload(&mut self, is_replaced: bool) {
        if let Some(next) = self.next.take().filter(|_| is_replaced) {
            self.program = next;
        }
    }
}

fn command(program: &Program, assignment: Assignment, control: UnixStream) -> io::Result<Command> {
    let socket = rustix::fs::fstat(&control)?.st_ino;
    let Assignment { index, count, .. } = assignment;
    let spec = format!(
        "{socket}:{index}:{count}:{}",
        assignment.interval.as_millis()
    );
    let mut command = process::Command::new(program.path());
    let mut args = env::args_os();
    command
        .arg0(args.next().unwrap_or_else(|| OsString::from("worker")))
        .args(args);
    command
        .env(WORKER_VARIABLE, spec)
        .stdin(OwnedFd::from(control));
    for variable in systemd::VARIABLES {
        command.env_remove(variable); // they are meant for the parent
    }
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    Ok(command)
}

/// The child is borrowed only during a poll, so that `kill` can borrow it in between.
async fn end_of(child: Rc<RefCell<Child>>) -> Exit {
    let status = poll_fn(|cx| pin!(child.borrow_mut().wait()).poll(cx)).await;
    match status {
        Ok(status) if status.success() => Exit::Finished,
        Ok(status) => Exit::Failed(describe(status)),
        Err(error) => Exit::Failed(format!("exited; status unavailable: {error}")),
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(_) => format!("exited with {status}"),
        None => format!("was killed by {status}"),
    }
}

fn send_descriptors(control: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MAX_DESCRIPTORS {
        let (count, limit) = (descriptors.len() - 1, MAX_DESCRIPTORS - 1);
        let text = format!("{count} listeners exceed the limit of {limit}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(descriptors));
    let byte = IoSlice::new(&[0]);
    sendmsg(control, &[byte], &mut rights, SendFlags::empty())?;
    Ok(())
}

/// The assignment and the file descriptors that a worker receives from its parent.
pub(super) struct Inherited {
    assignment: Assignment,
    control: UnixStream,
    messages: UnixStream,
    listeners: Vec<TcpListener>,
}

impl Inherited {
    /// Returns `None` if this process is not a worker.
    pub(super) fn take() -> io::Result<Option<Inherited>> {
        let Some((socket, assignment)) =
            env::var(WORKER_VARIABLE).ok().and_then(|spec| parse(&spec))
        else {
            return Ok(None);
        };
        let stdin = rustix::stdio::stdin();
        let is_ours = rustix::fs::fstat(stdin).is_ok_and(|stat| {
            stat.st_ino == socket && FileType::from_raw_mode(stat.st_mode).is_socket()
        });
        if !is_ours {
            return Ok(None); // inherited from a worker that is an ancestor of this process
        }
        // Moves the socket to a descriptor that children don't inherit, and makes standard input
        // empty.
        let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(stdin, 3)?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let mut descriptors = receive(&control)?.into_iter();
        let messages = descriptors.next().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Some(Inherited {
            assignment,
            control,
            messages: messages.into(),
            listeners: descriptors.map(TcpListener::from).collect(),
        }))
    }
}

fn parse(spec: &str) -> Option<(u64, Assignment)> {
    let mut numbers = spec.split(':').map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let socket = next()?;
    let assignment = Assignment {
        index: next()? as usize,
        count: next()? as usize,
        interval: Duration::from_millis(next()?),
        is_pinned: false,
        read_runtime: crate::inspect::metrics,
    };
    Some((socket, assignment))
}

/// Receives the descriptors. The parent has sent them before it started this process.
fn receive(control: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let bytes = &mut [IoSliceMut::new(&mut byte)];
    #[cfg(not(target_vendor = "apple"))]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let flags = RecvFlags::empty();
    let received = recvmsg(control, bytes, &mut rights, flags)?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        let text = "the worker has no file descriptors left for its listeners: \
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

/// Runs the worker, then exits the process.
pub(super) fn run_as_worker<F, Fut>(inherited: Inherited, builder: &Builder, run: &F) -> !
where
    F: Fn(Worker) -> Fut,
    Fut: Future<Output = io::Result<()>>,
{
    let mut assignment = inherited.assignment;
    assignment.is_pinned = builder.is_pinned;
    name_after_program();
    let wanted = builder.sockets.len();
    let ended = crate::block_on(async {
        let control = Channel::over_socket(inherited.control);
        let channels = control.and_then(|it| Ok([it, Channel::over_socket(inherited.messages)?]));
        let channels = match channels {
            Ok(channels) => channels,
            Err(error) => return Outcome::NotStarted(error),
        };
        let listeners = inherited.listeners;
        let found = listeners.len();
        let run = async |worker| {
            die_with_parent()?;
            if found != wanted {
                return Err(io::Error::other(format!(
                    "this version of the program has {wanted} listeners, but the running parent \
                     passed {found}: restart the service"
                )));
            }
            run(worker).await
        };
        run_worker(assignment, channels, listeners, &run, handle_signals).await
    });
    process::exit(match ended {
        Outcome::Finished => 0,
        // The parent has received the error, and logs it.
        Outcome::Failed(_) | Outcome::NotStarted(_) | Outcome::Orphaned => 1,
    })
}

/// Sets the name of the process. By default it is the name of the started file, which is a
/// descriptor's number here.
fn name_after_program() {
    #[cfg(target_os = "linux")]
    if let Some(program) = env::args_os().next() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::path::Path::new(&program)
            .file_name()
            .unwrap_or_default();
        if let Ok(name) = std::ffi::CString::new(name.as_bytes()) {
            let _ = rustix::thread::set_name(&name); // cosmetic, so an error is ignored
        }
    }
}

/// Makes the kernel kill this worker when the parent dies. The closed socket ends the worker too,
/// but not if it is stuck.
fn die_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// A terminal sends Ctrl-C to all processes; the parent acts on it, so the workers ignore it.
/// SIGTERM drains this worker.
async fn handle_signals(worker: Worker) {
    let ours = [Signal::INT, Signal::HUP, Signal::USR1, Signal::TERM];
    // An ignored signal stays ignored, because programs started by the worker would get the default
    // action instead of a handler.
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
