//! The exchange of requests and replies with one client, in steps that do not wait.

use std::io::{self, ErrorKind};
use std::mem;
use std::rc::Rc;

use super::clients::{Client, Socket};
use super::commands::{self, Session};
use super::reply::Reply;
use super::request::Parser;
use super::state::State;

/// Size of a batch of replies from which on the next requests wait until it is sent.
const BATCH_BYTES: usize = 64 * 1024;

/// The replies that a step has left.
pub(crate) struct Unsent {
    pub(crate) replies: Vec<u8>,
    /// They may leave when the log has reached this position.
    pub(crate) position: u64,
}

/// The result of a step.
pub(crate) enum Step {
    /// There is no input.
    Blocked,
    /// All replies were sent.
    Sent,
    Unsent(Unsent),
}

pub(crate) struct Exchange {
    client: Rc<Client>,
    pub(crate) session: Session,
    /// The start of an incomplete request, or the backlog. It has memory only while it has bytes.
    unread: Vec<u8>,
    /// Complete requests wait in `unread`, because the batch of replies was full.
    pub(crate) has_backlog: bool,
    /// The client has quit, or has closed the connection, so this was the last step.
    pub(crate) is_over: bool,
}

impl Exchange {
    pub(crate) fn new(client: Rc<Client>) -> Exchange {
        Exchange {
            session: Session::new(client.clone()),
            client,
            unread: Vec::new(),
            has_backlog: false,
            is_over: false,
        }
    }

    /// Reads, executes the complete requests, and sends the replies.
    ///
    /// # Errors
    ///
    /// Fails if the connection fails, or if the buffers of all clients exceed their limit.
    pub(crate) fn step(&mut self, state: &State, socket: &impl Socket) -> io::Result<Step> {
        let scratch = &mut *state.scratch.borrow_mut();
        let mut input = &[][..];
        if !self.has_backlog {
            match socket.try_read(&mut scratch.input) {
                Ok(read) => input = &scratch.input[..read],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Blocked),
                Err(error) => return Err(error),
            }
            self.is_over = input.is_empty();
        }
        state.clients.saw(&self.client);
        let (parser, output) = (&mut scratch.parser, &mut scratch.output);
        if self.unread.is_empty() {
            let done = self.execute(state, parser, input, output);
            self.keep(&input[done..])?;
        } else {
            self.keep(input)?;
            let unread = mem::take(&mut self.unread);
            let done = self.execute(state, parser, &unread, output);
            self.client.queued.release(done);
            self.unread = unread;
            self.unread.drain(..done);
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
        }
        self.send(state, socket, output)
    }

    /// Executes the requests of the input. Returns the number of bytes that are done.
    fn execute(
        &mut self,
        state: &State,
        parser: &mut Parser,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> usize {
        let mut done = 0;
        self.has_backlog = false;
        loop {
            if self.session.has_quit {
                self.is_over = true;
                return input.len();
            }
            if output.len() >= BATCH_BYTES {
                self.has_backlog = done < input.len();
                return done;
            }
            match parser.parse(&input[done..]) {
                Ok(None) => return done,
                Ok(Some((request, size))) => {
                    commands::execute(state, &mut self.session, request, output);
                    done += size;
                }
                Err(text) => {
                    output.error(&format!("ERR Protocol error: {text}"));
                    self.session.has_quit = true;
                }
            }
        }
    }

    /// Keeps input for the next step.
    fn keep(&mut self, input: &[u8]) -> io::Result<()> {
        if !input.is_empty() {
            self.client.hold(input.len())?;
            self.unread.extend_from_slice(input);
        }
        Ok(())
    }

    /// Sends the output, unless it depends on writes that the log lacks.
    fn send(
        &mut self,
        state: &State,
        socket: &impl Socket,
        output: &mut Vec<u8>,
    ) -> io::Result<Step> {
        // Also a reply that has read the write of another client depends on the log.
        let position = state.journal.as_ref().map_or(0, |journal| journal.end());
        let can_leave = state
            .journal
            .as_ref()
            .is_none_or(|it| it.has_reached(position));
        let sent = match can_leave && !output.is_empty() {
            true => socket.try_write(output),
            false => Ok(0),
        };
        let sent = match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        if sent == output.len() {
            output.clear();
            output.shrink_to(2 * BATCH_BYTES);
            return Ok(Step::Sent);
        }
        output.drain(..sent);
        let replies = mem::take(output);
        self.client.hold(replies.len())?;
        Ok(Step::Unsent(Unsent { replies, position }))
    }

    /// Returns the memory of replies that are sent now.
    pub(crate) fn reuse(&self, state: &State, sent: Unsent) {
        self.client.queued.release(sent.replies.len());
        let output = &mut state.scratch.borrow_mut().output;
        if output.capacity() == 0 && sent.replies.capacity() <= 2 * BATCH_BYTES {
            *output = sent.replies;
            output.clear();
        }
    }
}
