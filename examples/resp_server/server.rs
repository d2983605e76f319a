//! The accept loop, the regular work, and the shutdown.

use std::io;
use std::process;
use std::rc::Rc;
use std::time::Duration;

use windlass::net::{TcpListener, TcpStream};
use windlass::signal::{Signal, Signals};
use windlass::task::{StopSource, StopToken, TaskGroup};
use windlass::time::{MissedTicks, interval, timeout};
use windlass::{Task, spawn};

use super::clients::Client;
use super::connection;
use super::log::{self, Journal};
use super::options::Options;
use super::state::State;
use super::store::Store;

/// Expired keys are removed in steps. A hundred steps visit all keys.
const STEP: Duration = Duration::from_millis(100);
const STEPS_PER_SECOND: u32 = 10;

/// The signal that `kill` sends. Windows only has another key combination.
#[cfg(unix)]
const STOP: Signal = Signal::TERM;
#[cfg(windows)]
const STOP: Signal = Signal::BREAK;

/// Serves until a signal starts the shutdown.
///
/// # Errors
///
/// Fails if the server can't start, or if the log can't be written.
pub(crate) async fn run(options: Options) -> io::Result<()> {
    let stop = StopSource::new();
    let signals = Signals::new([Signal::INT, STOP])?;
    let _signals = spawn(handle_signals(signals, stop.clone()));
    let (state, writer) = open(options, &stop).await?;
    let listener = TcpListener::bind(&*state.options.listen).await?;
    println!("ready on {}", listener.local_addr()?);
    let _upkeep = spawn(keep_up(state.clone()));
    let connections = accept(&listener, &state, &stop.token()).await;
    drop(listener);
    state.clients.end_input();
    // The rest is cancelled.
    let _ = timeout(state.options.grace, connections.close()).await;
    if let (Some(journal), Some(writer)) = (&state.journal, writer) {
        journal.close();
        writer.await?;
    }
    println!("stopped");
    Ok(())
}

/// The first signal starts the shutdown, the second one exits.
async fn handle_signals(mut signals: Signals, stop: StopSource) -> io::Result<()> {
    signals.recv().await?;
    stop.stop();
    let signal = signals.recv().await?;
    process::exit(128 + signal.as_raw()) // the exit status of a killed process
}

type Writer = Task<io::Result<()>>;

/// Loads the log, and starts the task that writes it.
async fn open(options: Options, stop: &StopSource) -> io::Result<(Rc<State>, Option<Writer>)> {
    let Some(path) = options.log.clone() else {
        let store = Store::new(options.memory, options.policy);
        return Ok((Rc::new(State::new(options, store, None)), None));
    };
    let (store, file, size) = log::open(&path, &options).await?;
    let journal = Journal::new(options.sync);
    let state = Rc::new(State::new(options, store, Some(journal)));
    let (writing, stop) = (state.clone(), stop.clone());
    let writer = spawn(async move {
        let journal = writing.journal.as_ref().expect("this state has a journal");
        let written = journal.write_to(&file, size).await;
        stop.stop(); // if it has failed
        written
    });
    Ok((state, Some(writer)))
}

async fn keep_up(state: Rc<State>) {
    let mut steps = interval(STEP).missed_ticks(MissedTicks::Skip);
    for step in (0..STEPS_PER_SECOND).cycle() {
        steps.tick().await;
        state.store.borrow_mut().expire_some();
        if step == 0 {
            let idle_limit = state.options.idle.map(|limit| limit.as_secs());
            state.clients.tick(idle_limit);
        }
    }
}

/// Accepts connections until the token is stopped. Returns the open ones.
async fn accept(listener: &TcpListener, state: &Rc<State>, stop: &StopToken) -> TaskGroup<()> {
    // A panic in one connection must not end the others.
    let connections = TaskGroup::independent();
    while let Some(accepted) = stop.run(listener.accept()).await {
        match accepted {
            Ok((stream, _)) if state.clients.len() == state.options.clients => {
                let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            }
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true); // fails if the connection was reset
                let open = Open::new(state, &stream);
                connections.spawn(async move {
                    // Clients may disconnect at any time.
                    let _ = connection::serve(&open.state, stream, open.client.clone()).await;
                });
            }
            Err(error) => eprintln!("{error}"), // for example, out of file descriptors
        }
    }
    connections
}

/// A client in the list of clients, until it is dropped.
struct Open {
    state: Rc<State>,
    id: u64,
    client: Rc<Client>,
}

impl Open {
    fn new(state: &Rc<State>, stream: &TcpStream) -> Open {
        let (id, client) = state.clients.add(Box::new(stream.clone()));
        let state = state.clone();
        Open { state, id, client }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.clients.remove(self.id);
    }
}
