//! The example `resp_server` on tokio, without persistence. It shares all files that are not
//! asynchronous. `benches/services` starts it.
//!
//! ```text
//! resp_tokio ADDRESS
//! ```

#[path = "../../../examples/resp_server/channels.rs"]
mod channels;
#[path = "../../../examples/resp_server/clients.rs"]
#[allow(dead_code, reason = "there is no shutdown")]
mod clients;
#[path = "../../../examples/resp_server/commands.rs"]
mod commands;
#[path = "../../../examples/resp_server/exchange.rs"]
#[allow(dead_code, reason = "the log is off")]
mod exchange;
#[path = "../../../examples/resp_server/log.rs"]
#[allow(dead_code, reason = "the log is off")]
mod log;
#[path = "../../../examples/resp_server/options.rs"]
#[allow(dead_code, reason = "the options have their defaults")]
mod options;
#[path = "../../../examples/resp_server/reply.rs"]
mod reply;
#[path = "../../../examples/resp_server/request.rs"]
mod request;
#[path = "../../../examples/resp_server/state.rs"]
mod state;
#[path = "../../../examples/resp_server/store.rs"]
mod store;

use std::env;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use clients::Socket;
use exchange::{Exchange, Step};
use options::Options;
use rustix::net::shutdown;
use state::State;
use store::Store;
use tokio::net::{TcpListener, TcpStream};

struct Stream(Rc<TcpStream>);

impl Socket for Stream {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }

    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn shutdown(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        let _ = shutdown(&*self.0, how); // fails if the connection was reset
    }
}

fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:7379".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, serve(addr))?)
}

async fn serve(addr: String) -> io::Result<()> {
    let options = Options::default();
    let store = Store::new(options.memory, options.policy);
    let state = Rc::new(State::new(options, store, None));
    tokio::task::spawn_local(keep_up(state.clone()));
    let listener = TcpListener::bind(addr).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let stream = Stream(Rc::new(stream));
        let (id, client) = state.clients.add(Box::new(Stream(stream.0.clone())));
        let state = state.clone();
        tokio::task::spawn_local(async move {
            let mut exchange = Exchange::new(client.clone());
            let _ = converse(&state, &stream, &mut exchange).await;
            exchange.session.end(&state);
            state.clients.remove(id);
        });
    }
}

async fn keep_up(state: Rc<State>) {
    let mut steps = tokio::time::interval(Duration::from_millis(100));
    for step in (0..10).cycle() {
        steps.tick().await;
        state.store.borrow_mut().expire_some();
        if step == 0 {
            state.clients.tick(None);
        }
    }
}

async fn converse(state: &State, stream: &Stream, exchange: &mut Exchange) -> io::Result<()> {
    while !exchange.is_over {
        if let Some(mailbox) = &exchange.session.mailbox {
            write_all(&stream.0, &mailbox.take()).await?;
        }
        if !exchange.has_backlog {
            let is_readable = match &exchange.session.mailbox {
                None => stream.0.readable().await.map(|()| true)?,
                Some(mailbox) => tokio::select! {
                    readable = stream.0.readable() => readable.map(|()| true)?,
                    () = mailbox.filled() => false,
                },
            };
            if !is_readable {
                continue;
            }
        }
        if let Step::Unsent(unsent) = exchange.step(state, stream)? {
            write_all(&stream.0, &unsent.replies).await?;
            exchange.reuse(state, unsent);
        }
    }
    Ok(())
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
