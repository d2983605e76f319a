//! The state machine of a protocol, written as a sequential conversation.
//!
//! ```text
//! cargo run --example coroutine_protocol
//! ```
//!
//! A line comes in and a reply goes out, as in the core of a mail server (SMTP, much shortened). As
//! an enum with a `match` it would need one variant per place where it may wait, and the collected
//! data would move from variant to variant. Here the state is the position in the function, and the
//! data are local variables. It does no I/O, so the same code serves a socket and a test.

use windlass::coroutine::State::{Complete, Yielded};
use windlass::coroutine::{Co, Coroutine};

struct Mail {
    from: String,
    to: Vec<String>,
    text: Vec<String>,
}

/// Receives a line, yields a reply.
type Lines<'x> = Co<'x, &'static str, &'static str>;

/// Replies, then receives lines until one starts with the word. Returns the rest of that line.
async fn expect(word: &str, mut reply: &'static str, co: &mut Lines<'_>) -> &'static str {
    loop {
        let line = co.yield_(reply).await;
        match line.strip_prefix(word) {
            Some(rest) => return rest,
            None => reply = "503 not now",
        }
    }
}

async fn session(co: &mut Lines<'_>, greeting: &'static str) -> Mail {
    if !greeting.starts_with("HELO") {
        expect("HELO", "503 say HELO first", co).await;
    }
    let from = expect("MAIL FROM:", "250 pleased to meet you", co).await;
    let mut to = vec![expect("RCPT TO:", "250 ok", co).await.to_owned()];
    let mut line = co.yield_("250 ok").await;
    while line != "DATA" {
        let reply = match line.strip_prefix("RCPT TO:") {
            Some(receiver) => {
                to.push(receiver.to_owned());
                "250 ok"
            }
            None => "503 RCPT TO or DATA",
        };
        line = co.yield_(reply).await;
    }
    let mut text = Vec::new();
    line = co.yield_("354 end with a dot").await;
    while line != "." {
        text.push(line.to_owned());
        line = co.yield_("").await; // the text of the mail gets no replies
    }
    let from = from.to_owned();
    Mail { from, to, text }
}

fn main() {
    let client = [
        "MAIL FROM:<early@example.org>",
        "HELO example.org",
        "MAIL FROM:<ann@example.org>",
        "DATA",
        "RCPT TO:<bob@example.org>",
        "RCPT TO:<eve@example.org>",
        "DATA",
        "The anchor is up.",
        "We sail at noon.",
        ".",
    ];
    let mut server = Coroutine::new(session);
    for line in client {
        println!("client: {line}");
        match server.resume(line) {
            Yielded("") => {}
            Yielded(reply) => println!("server:     {reply}"),
            Complete(Mail { from, to, text }) => {
                println!("server:     250 accepted");
                println!("from {from} to {}:\n{}", to.join(" and "), text.join("\n"));
            }
        }
    }
}
