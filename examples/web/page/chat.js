"use strict";
// All that comes from others is shown by `textContent`, never as HTML.

const $ = (id) => document.getElementById(id);
const KEPT = 500; // lines on the page
const LONGEST_WAIT = 10_000; // ms between two tries to come back

const names = new Set();
let me = null; // {room, name, key, after}, while we are in a room or want back into it
let socket = null;
let tries = 0;
let comingBack = null; // the timer

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  clearTimeout(comingBack);
  socket?.close();
  const opened = new WebSocket(`${scheme}//${location.host}/socket`);
  socket = opened;
  // One that was left may still speak, or end, when there is another.
  const isOurs = () => me && socket === opened;
  opened.onopen = () => isOurs() && opened.send(JSON.stringify({ kind: "join", ...me }));
  opened.onmessage = (message) => isOurs() && hear(JSON.parse(message.data));
  opened.onclose = (event) => isOurs() && closed(event);
}

function hear(event) {
  switch (event.kind) {
    case "welcome":
      tries = 0;
      enter(event.names);
      event.lines.forEach(show);
      break;
    case "line":
      show(event);
      break;
    case "joined":
      names.add(event.name);
      note(`${event.name} has joined`);
      showNames();
      break;
    case "left":
      names.delete(event.name);
      note(`${event.name} has left`);
      showNames();
      break;
  }
}

// 1008 says that we did something wrong. Anything else passes, so we come back; all pages of a
// server that has stopped do, so not all at the same time.
function closed(event) {
  if (event.code === 1008) return leave(event.reason);
  status("Connection lost, coming back …", true);
  const wait = Math.min(LONGEST_WAIT, 250 * 2 ** tries++);
  comingBack = setTimeout(connect, wait * (0.5 + Math.random() / 2));
}

function enter(present) {
  names.clear();
  present.forEach((name) => names.add(name));
  $("door").hidden = true;
  $("talk").hidden = $("leave").hidden = false;
  $("title").textContent = me.room;
  document.title = `${me.room} – windlass chat`;
  status(`as ${me.name}`, false);
  showNames();
  $("text").focus();
}

function leave(why) {
  me = null;
  clearTimeout(comingBack);
  socket.close();
  names.clear();
  $("lines").replaceChildren();
  $("door").hidden = false;
  $("talk").hidden = $("leave").hidden = true;
  $("title").textContent = "windlass chat";
  $("why").textContent = why;
  status("", false);
}

function show({ number, name, text, at }) {
  if (number <= me.after) return; // known from before
  me.after = number;
  const item = document.createElement("li");
  item.className = name === me.name ? "mine" : "";
  const who = document.createElement("b");
  who.textContent = name;
  const when = document.createElement("time");
  when.textContent = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const what = document.createElement("span");
  what.textContent = text;
  item.append(who, what, when);
  append(item);
}

function note(text) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = text;
  append(item);
}

function append(item) {
  const lines = $("lines");
  const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  lines.append(item);
  while (lines.children.length > KEPT) lines.firstChild.remove();
  if (atEnd) item.scrollIntoView({ block: "end" });
}

function showNames() {
  const items = [...names].sort().map((name) => {
    const item = document.createElement("li");
    item.textContent = name;
    return item;
  });
  $("names").replaceChildren(...items);
}

function status(text, isBad) {
  $("status").textContent = text;
  $("status").className = isBad ? "bad" : "";
  $("say").querySelector("button").disabled = isBad;
}

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const [room, name] = [$("room").value.trim(), $("name").value.trim()];
  if (!room || !name) return;
  me = { room, name, key: randomKey(), after: 0 };
  $("why").textContent = "";
  tries = 0;
  location.hash = encodeURIComponent(room);
  connect();
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ kind: "say", text }));
  $("text").value = "";
});

$("leave").addEventListener("click", () => leave(""));

$("room").value = decodeURIComponent(location.hash.slice(1)) || "harbour";
