//! The two servers side by side. They differ in the type that runs a connection, and in `.await`.
//!
//! A request has `size` bytes. Its reply is the same bytes in upper case.
//!
//! The server and the process that started it exchange lines:
//!
//! | line | meaning |
//! |---|---|
//! | ← `listening 127.0.0.1:4711` | the server accepts connections |
//! | → `usage` | requests the resources used so far |
//! | ← `usage 1234000 56 7890 7890` | the reply, a [`Usage`] |
//! | ← `refused threads after 1234 connections: ..` | the OS refuses more of them |
//! | ← `failed ..` | an error that ends the trial |

use std::{
    fmt,
    io::{self, Read, Write},
    process::{self, ExitCode},
    sync::Arc,
    thread,
};

use futures::{AsyncReadExt, AsyncWriteExt};

use crate::{options::Side, usage::Usage};

pub(crate) fn run(side: Side, size: usize) -> ExitCode {
    let served = thread::Builder::new()
        .spawn(obey_parent)
        .and_then(|_| match side {
            Side::Threads => serve_with_threads(size),
            Side::Tasks => windlass::block_on(serve_with_tasks(size)),
        });
    if let Err(error) = served {
        tell_parent(format_args!("failed {error}"));
    }
    ExitCode::FAILURE
}

// One thread per connection.

fn serve_with_threads(size: usize) -> io::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    tell_parent(format_args!("listening {}", listener.local_addr()?));
    for served in 0.. {
        let (stream, _) = listener.accept()?;
        // Shared, so that a refused thread doesn't close the connection before the reason was sent.
        let stream = Arc::new(stream);
        let shared = Arc::clone(&stream);
        if let Err(error) = thread::Builder::new().spawn(move || converse_in_thread(&shared, size))
        {
            tell_parent(format_args!(
                "refused threads after {served} connections: {error}"
            ));
        }
    }
    Ok(())
}

/// Ends with the error that reports the client's disconnect.
fn converse_in_thread(mut stream: &std::net::TcpStream, size: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = vec![0; size];
    loop {
        stream.read_exact(&mut message)?;
        message.make_ascii_uppercase();
        stream.write_all(&message)?;
    }
}

// One task per connection, all on one thread.

async fn serve_with_tasks(size: usize) -> io::Result<()> {
    let listener = windlass::net::TcpListener::bind("127.0.0.1:0").await?;
    tell_parent(format_args!("listening {}", listener.local_addr()?));
    loop {
        let (stream, _) = listener.accept().await?;
        windlass::spawn(converse_in_task(stream, size)).detach();
    }
}

/// Ends with the error that reports the client's disconnect.
async fn converse_in_task(mut stream: windlass::net::TcpStream, size: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = vec![0; size];
    loop {
        stream.read_exact(&mut message).await?;
        message.make_ascii_uppercase();
        stream.write_all(&message).await?;
    }
}

/// Answers the parent, and exits when the parent is gone.
fn obey_parent() {
    for order in io::stdin().lines().map_while(Result::ok) {
        match (order.as_str(), Usage::of_this_process()) {
            ("usage", Ok(usage)) => tell_parent(format_args!("usage {usage}")),
            ("usage", Err(error)) => tell_parent(format_args!("failed to read usage: {error}")),
            (order, _) => tell_parent(format_args!("failed to understand `{order}`")),
        }
    }
    process::exit(0);
}

fn tell_parent(line: fmt::Arguments<'_>) {
    if writeln!(io::stdout(), "{line}").is_err() {
        process::exit(0);
    }
}
