//! The rooms of a chat: who is in them, and what was said last.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::SystemTime;

use async_tungstenite::tungstenite::Utf8Bytes;
use serde::{Deserialize, Serialize};
use windlass::sync::mpsc::{self, Receiver, Sender};

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
    /// None once it was shown out.
    queue: Option<Sender<Utf8Bytes>>,
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

    /// Takes a seat, and the queue of what is told there. Or says why not.
    pub fn join(self: &Rc<Self>, join: Join) -> Result<(Seat, Receiver<Utf8Bytes>), &'static str> {
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
        let ((queue, told), seat) = (mpsc::channel(QUEUE), self.number());
        let member = Member {
            seat,
            name: name.clone(),
            key: join.key,
            queue: Some(queue),
        };
        room.admit(member)?;
        room.welcome(seat, join.after);
        drop(rooms);
        let seat = Seat {
            rooms: self.clone(),
            room: room_name,
            name,
            number: seat,
        };
        Ok((seat, told))
    }

    fn number(&self) -> u64 {
        self.next_number.replace(self.next_number.get() + 1)
    }
}

impl Room {
    fn admit(&mut self, member: Member) -> Result<(), &'static str> {
        let known = self
            .members
            .iter()
            .position(|known| known.name == member.name);
        match known {
            Some(place) if self.members[place].key != member.key => Err("that name is taken"),
            Some(place) => {
                self.members[place] = member; // it's back, and its old seat counts no more
                Ok(())
            }
            None if self.members.len() >= MEMBERS => Err("the room is full"),
            None => {
                self.tell(&Event::Joined { name: &member.name });
                self.members.push(member);
                Ok(())
            }
        }
    }

    /// Tells all. Who has a full queue is shown out: its queue ends.
    fn tell(&mut self, event: &Event<'_>) {
        let text = event.text();
        for member in &mut self.members {
            let told = member
                .queue
                .as_ref()
                .map(|queue| queue.try_send(text.clone()));
            if matches!(told, Some(Err(_))) {
                member.queue = None;
            }
        }
    }

    fn welcome(&self, seat: u64, after: u64) {
        let names = self.members.iter().map(|member| &*member.name).collect();
        let lines = self
            .history
            .iter()
            .filter(|line| line.number > after)
            .collect();
        let welcome = Event::Welcome { names, lines }.text();
        let member = self.members.iter().find(|member| member.seat == seat);
        if let Some(queue) = member.and_then(|member| member.queue.as_ref()) {
            let _ = queue.try_send(welcome); // it's the first, so there is room
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
}

impl Seat {
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
        room.tell(&Event::Line(&line));
        if room.history.len() == HISTORY {
            room.history.pop_front();
        }
        room.history.push_back(line);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rooms = self.rooms.rooms.borrow_mut();
        let Some(room) = rooms.get_mut(&self.room) else {
            return;
        };
        // Not there if its member has come back, and has another seat.
        if let Some(place) = room
            .members
            .iter()
            .position(|member| member.seat == self.number)
        {
            room.members.swap_remove(place);
            room.tell(&Event::Left { name: &self.name });
        }
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
