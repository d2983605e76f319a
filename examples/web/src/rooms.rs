//! The rooms of a chat, with their members and latest lines.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::SystemTime;

use async_tungstenite::tungstenite::Utf8Bytes;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use windlass::sync;

use crate::frame_stream::{FrameStream, Sent};
use crate::websocket::text_frame;

/// The maximum number of rooms, members per room, remembered lines per room, and queued lines per
/// member.
const ROOMS: usize = 100;
const MEMBERS: usize = 200;
const HISTORY: usize = 50;
const QUEUE: usize = 64;

/// Maximum length of a name and of a line, in characters.
const NAME: usize = 32;
const LINE: usize = 1_000;

/// A request to join. The page generates the key, which identifies a member that reconnects.
/// `after` is the last line that the page has received.
#[derive(Debug, Deserialize)]
pub struct Join {
    pub room: String,
    pub name: String,
    pub key: String,
    #[serde(default)]
    pub after: u64,
}

/// Messages to the members of a room.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Event<'a> {
    Welcome {
        names: Vec<&'a str>,
        lines: Vec<&'a Line>,
    },
    Line(&'a Line),
    Joined {
        name: &'a str,
    },
    Left {
        name: &'a str,
    },
}

impl Event<'_> {
    fn encode(&self) -> Encoded {
        let text = serde_json::to_string(self).expect("it has only strings and numbers");
        Encoded {
            frame: text_frame(&text),
            text: text.into(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Line {
    number: u64,
    name: String,
    text: String,
    /// Milliseconds since 1970.
    at: u64,
}

/// All rooms, by name.
#[derive(Debug)]
pub struct Rooms {
    rooms: RefCell<BTreeMap<String, Room>>,
    /// Number of the next line or membership. It starts at the current time in microseconds, so
    /// numbers keep growing when the server restarts, and pages from before know which lines are
    /// new.
    next_number: Cell<u64>,
}

#[derive(Debug, Default)]
struct Room {
    members: Vec<Member>,
    history: VecDeque<Line>,
}

#[derive(Debug)]
struct Member {
    id: u64,
    name: String,
    key: String,
    inbox: Rc<Inbox>,
}

/// The queued messages of a member.
#[derive(Debug, Default)]
struct Inbox {
    lines: RefCell<VecDeque<Utf8Bytes>>,
    /// Sends at once while the queue is empty.
    stream: OnceCell<FrameStream>,
    /// Nothing more is added, because the queue was full or its member has a newer membership.
    closed: Cell<bool>,
    changed: sync::Event,
}

impl Inbox {
    /// Sends a message at once, or queues it without a wake, so that all members have it before any
    /// of them is woken. Returns whether the member must be woken.
    fn push(&self, message: &Encoded) -> bool {
        let mut lines = self.lines.borrow_mut();
        if lines.is_empty() && !self.closed.get() {
            let stream = self.stream.get();
            match stream.map_or(Sent::Nothing, |stream| stream.try_send(&message.frame)) {
                Sent::All => return false,
                Sent::Part => return true,
                Sent::Nothing => {}
            }
        }
        self.closed.set(self.closed.get() || lines.len() == QUEUE);
        if !self.closed.get() {
            lines.push_back(message.text.clone());
        }
        true
    }
}

/// A message that is encoded once for all members.
struct Encoded {
    text: Utf8Bytes,
    /// The text as a frame of a WebSocket.
    frame: Bytes,
}

/// Members whose tasks have messages to send. They are woken when the rooms are no longer borrowed,
/// because a waker may run any code.
#[must_use = "somebody waits for it"]
struct Updated(Vec<Rc<Inbox>>);

impl Updated {
    fn wake(self) {
        for inbox in self.0 {
            inbox.changed.notify_one();
        }
    }
}

impl Rooms {
    #[expect(
        clippy::new_without_default,
        reason = "there's one, and it begins at the time"
    )]
    pub fn new() -> Rooms {
        Rooms {
            rooms: RefCell::default(),
            next_number: Cell::new(now() * 1_000),
        }
    }

    /// Joins a room, or returns the reason for the failure.
    pub fn join(self: &Rc<Self>, join: Join) -> Result<Membership, &'static str> {
        let name = plain(&join.name, NAME).ok_or("that name won't do")?;
        let room_name = plain(&join.room, NAME).ok_or("that room won't do")?;
        if join.key.len() > 64 {
            return Err("that key won't do");
        }
        let mut rooms = self.rooms.borrow_mut();
        if !rooms.contains_key(&room_name) && rooms.len() >= ROOMS {
            rooms.retain(|_, room| !room.members.is_empty());
        }
        if !rooms.contains_key(&room_name) && rooms.len() >= ROOMS {
            return Err("there are too many rooms");
        }
        let room = rooms.entry(room_name.clone()).or_default();
        let id = self.number();
        let inbox = Rc::<Inbox>::default();
        let member = Member {
            id,
            name: name.clone(),
            key: join.key,
            inbox: inbox.clone(),
        };
        let updated = room.admit(member, join.after)?;
        drop(rooms);
        updated.wake();
        Ok(Membership {
            rooms: self.clone(),
            room: room_name,
            name,
            number: id,
            inbox,
        })
    }

    fn number(&self) -> u64 {
        self.next_number.replace(self.next_number.get() + 1)
    }
}

impl Room {
    fn admit(&mut self, member: Member, after: u64) -> Result<Updated, &'static str> {
        let known = self
            .members
            .iter()
            .position(|known| known.name == member.name);
        let updated = match known {
            Some(place) if self.members[place].key != member.key => {
                return Err("that name is taken");
            }
            Some(place) => {
                // The member reconnects, which ends its old membership.
                let old = self.members.swap_remove(place).inbox;
                old.closed.set(true);
                Updated(vec![old])
            }
            None if self.members.len() >= MEMBERS => return Err("the room is full"),
            None => self.send_to_all(&Event::Joined { name: &member.name }),
        };
        self.members.push(member);
        self.welcome(after);
        Ok(updated)
    }

    /// Sends a message to all members. Removes members with a full queue.
    fn send_to_all(&self, event: &Event<'_>) -> Updated {
        let message = event.encode();
        let inboxes = self.members.iter().map(|member| &member.inbox);
        Updated(inboxes.filter(|it| it.push(&message)).cloned().collect())
    }

    /// Queues the list of members and the latest lines for the newest member.
    fn welcome(&self, after: u64) {
        let names = self.members.iter().map(|member| &*member.name).collect();
        let lines = self
            .history
            .iter()
            .filter(|line| line.number > after)
            .collect();
        if let Some(member) = self.members.last() {
            // It is not connected yet, so this queues.
            member.inbox.push(&Event::Welcome { names, lines }.encode());
        }
    }
}

/// A membership of a room. Dropping it leaves the room.
#[derive(Debug)]
pub struct Membership {
    rooms: Rc<Rooms>,
    room: String,
    name: String,
    number: u64,
    inbox: Rc<Inbox>,
}

impl Membership {
    /// Lets other members send to this stream directly, without a wake of this member's task.
    /// Messages that the stream does not take at once are still returned by
    /// [`next_event`](Membership::next_event), in their order. The task must keep reading the
    /// stream, because a read writes the rest of a message.
    pub fn connect(&self, stream: FrameStream) {
        let _ = self.inbox.stream.set(stream); // the first one stays
    }

    /// Returns the next message for the member, or `None` if it was removed. Cancel-safe.
    pub async fn next_event(&self) -> Option<Utf8Bytes> {
        loop {
            let line = self.inbox.lines.borrow_mut().pop_front();
            if line.is_some() || self.inbox.closed.get() {
                return line;
            }
            self.inbox.changed.listen().await;
        }
    }

    /// Sends a line to all in the room, including its author.
    pub fn say(&self, text: &str) {
        let Some(text) = plain(text, LINE) else {
            return;
        };
        let line = Line {
            number: self.rooms.number(),
            name: self.name.clone(),
            text,
            at: now(),
        };
        let mut rooms = self.rooms.rooms.borrow_mut();
        let Some(room) = rooms.get_mut(&self.room) else {
            return;
        };
        let updated = room.send_to_all(&Event::Line(&line));
        if room.history.len() == HISTORY {
            room.history.pop_front();
        }
        room.history.push_back(line);
        drop(rooms);
        updated.wake();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut rooms = self.rooms.rooms.borrow_mut();
        let Some(room) = rooms.get_mut(&self.room) else {
            return;
        };
        // Absent if the member has reconnected and has a newer membership.
        let place = room
            .members
            .iter()
            .position(|member| member.id == self.number);
        let Some(place) = place else {
            return;
        };
        room.members.swap_remove(place);
        let updated = room.send_to_all(&Event::Left { name: &self.name });
        drop(rooms);
        updated.wake();
    }
}

/// Removes control characters and surrounding whitespace, and truncates the text. Returns `None` if
/// nothing is left.
fn plain(text: &str, longest: usize) -> Option<String> {
    let text: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(longest)
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
