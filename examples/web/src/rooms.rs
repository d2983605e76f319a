//! The rooms of a chat: who is in them, and what was said last.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::SystemTime;

use async_tungstenite::tungstenite::Utf8Bytes;
use serde::{Deserialize, Serialize};
use windlass::sync;

/// How many rooms there may be, and members in each; and how many lines a room remembers, and may
/// wait for a member who reads slowly.
const ROOMS: usize = 100;
const MEMBERS: usize = 200;
const HISTORY: usize = 50;
const QUEUE: usize = 64;

/// The longest name of a member or room, and the longest line, in characters.
const NAME: usize = 32;
const LINE: usize = 1_000;

/// Who wants in. The key, which the page has made up, shows that it comes back; `after` is the last
/// line that it knows.
#[derive(Debug, Deserialize)]
pub struct Join {
    pub room: String,
    pub name: String,
    pub key: String,
    #[serde(default)]
    pub after: u64,
}

/// What the members of a room are told.
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
    fn text(&self) -> Utf8Bytes {
        serde_json::to_string(self)
            .expect("it has only strings and numbers")
            .into()
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

/// All rooms, by their names.
#[derive(Debug)]
pub struct Rooms {
    rooms: RefCell<BTreeMap<String, Room>>,
    /// Of lines and seats. It begins at the time, in microseconds: so lines go on growing when the
    /// server starts again, and pages that were there before know which ones are new.
    next_number: Cell<u64>,
}

#[derive(Debug, Default)]
struct Room {
    members: Vec<Member>,
    history: VecDeque<Line>,
}

#[derive(Debug)]
struct Member {
    seat: u64,
    name: String,
    key: String,
    inbox: Rc<Inbox>,
}

/// What a member was not told yet.
#[derive(Debug, Default)]
struct Inbox {
    lines: RefCell<VecDeque<Utf8Bytes>>,
    /// Nothing more comes: it was full, or its member has another seat.
    closed: Cell<bool>,
    changed: sync::Event,
}

impl Inbox {
    /// Puts it in without a wake: all in the room have it before anybody is woken.
    fn put(&self, text: &Utf8Bytes) {
        let mut lines = self.lines.borrow_mut();
        self.closed.set(self.closed.get() || lines.len() == QUEUE);
        if !self.closed.get() {
            lines.push_back(text.clone());
        }
    }
}

/// Members who have something to hear. They are woken when the rooms are free again, since a waker
/// may do anything.
#[must_use = "somebody waits for it"]
struct Told(Vec<Rc<Inbox>>);

impl Told {
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

    /// Takes a seat. Or says why not.
    pub fn join(self: &Rc<Self>, join: Join) -> Result<Seat, &'static str> {
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
        let seat = self.number();
        let inbox = Rc::<Inbox>::default();
        let member = Member {
            seat,
            name: name.clone(),
            key: join.key,
            inbox: inbox.clone(),
        };
        let told = room.admit(member, join.after)?;
        drop(rooms);
        told.wake();
        Ok(Seat {
            rooms: self.clone(),
            room: room_name,
            name,
            number: seat,
            inbox,
        })
    }

    fn number(&self) -> u64 {
        self.next_number.replace(self.next_number.get() + 1)
    }
}

impl Room {
    fn admit(&mut self, member: Member, after: u64) -> Result<Told, &'static str> {
        let known = self
            .members
            .iter()
            .position(|known| known.name == member.name);
        let told = match known {
            Some(place) if self.members[place].key != member.key => {
                return Err("that name is taken");
            }
            Some(place) => {
                // It's back, and its old seat counts no more.
                let old = self.members.swap_remove(place).inbox;
                old.closed.set(true);
                Told(vec![old])
            }
            None if self.members.len() >= MEMBERS => return Err("the room is full"),
            None => self.tell(&Event::Joined { name: &member.name }),
        };
        self.members.push(member);
        self.welcome(after);
        Ok(told)
    }

    /// Tells all. Who has a full inbox is shown out.
    fn tell(&self, event: &Event<'_>) -> Told {
        let text = event.text();
        let tell_one = |member: &Member| {
            member.inbox.put(&text);
            member.inbox.clone()
        };
        Told(self.members.iter().map(tell_one).collect())
    }

    /// Tells the newest member who is there, and what was said. It doesn't wait for that yet.
    fn welcome(&self, after: u64) {
        let names = self.members.iter().map(|member| &*member.name).collect();
        let lines = self
            .history
            .iter()
            .filter(|line| line.number > after)
            .collect();
        if let Some(member) = self.members.last() {
            member.inbox.put(&Event::Welcome { names, lines }.text());
        }
    }
}

/// A place in a room, which is left when this is dropped.
#[derive(Debug)]
pub struct Seat {
    rooms: Rc<Rooms>,
    room: String,
    name: String,
    number: u64,
    inbox: Rc<Inbox>,
}

impl Seat {
    /// The next thing to tell the member; `None` if it was shown out. Nothing is lost when the
    /// future is dropped.
    pub async fn hear(&self) -> Option<Utf8Bytes> {
        loop {
            let line = self.inbox.lines.borrow_mut().pop_front();
            if line.is_some() || self.inbox.closed.get() {
                return line;
            }
            self.inbox.changed.listen().await;
        }
    }

    /// Says a line to all in the room, the speaker included.
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
        let told = room.tell(&Event::Line(&line));
        if room.history.len() == HISTORY {
            room.history.pop_front();
        }
        room.history.push_back(line);
        drop(rooms);
        told.wake();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rooms = self.rooms.rooms.borrow_mut();
        let Some(room) = rooms.get_mut(&self.room) else {
            return;
        };
        // Not there if its member has come back, and has another seat.
        let place = room
            .members
            .iter()
            .position(|member| member.seat == self.number);
        let Some(place) = place else {
            return;
        };
        room.members.swap_remove(place);
        let told = room.tell(&Event::Left { name: &self.name });
        drop(rooms);
        told.wake();
    }
}

/// The text without control characters and blanks around it, cut to so many characters; `None` if
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
