//! Functions for JavaScript that use the recipes.

use std::cell::RefCell;
use std::future::pending as never;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, select};
use windlass::net::TcpStream;
use windlass::{time, yield_now};

use crate::js::{Body, Env, Error, Held, Local};
use crate::{EventLoop, from_js, to_js};

/// The functions by their names.
pub(crate) const FUNCTIONS: &[(&std::ffi::CStr, Body)] = &[
    (c"ready", ready),
    (c"sleep", sleep),
    (c"delayed", delayed),
    (c"busy", busy),
    (c"fail", fail),
    (c"panic", panic),
    (c"pending", pending),
    (c"detachPending", detach_pending),
    (c"call", call),
    (c"callWithin", call_within),
    (c"connect", connect),
    (c"echo", echo),
];

/// `ready(value)` returns the value at the first poll.
fn ready(env: Env, args: &[Local]) -> Result<Local, Error> {
    let value = env.hold(args[0])?;
    to_js(env, async move { Ok(value) })
}

fn millis(env: Env, value: Local) -> Result<Duration, Error> {
    let seconds = env.to_number(value)? / 1e3;
    Duration::try_from_secs_f64(seconds).map_err(|error| Error::new(error.to_string()))
}

/// `sleep(ms)` sleeps on a timer of windlass.
fn sleep(env: Env, args: &[Local]) -> Result<Local, Error> {
    let duration = millis(env, args[0])?;
    to_js(env, async move {
        time::sleep(duration).await;
        Ok(())
    })
}

/// `delayed(ms, value)` returns the value after a sleep.
fn delayed(env: Env, args: &[Local]) -> Result<Local, Error> {
    let (duration, value) = (millis(env, args[0])?, env.hold(args[1])?);
    to_js(env, async move {
        time::sleep(duration).await;
        Ok(value)
    })
}

/// `busy(n)` yields n times.
fn busy(env: Env, args: &[Local]) -> Result<Local, Error> {
    let times = env.to_number(args[0])?;
    to_js(env, async move {
        for _ in 0..times as usize {
            yield_now().await;
        }
        Ok(times)
    })
}

/// `fail(message)` is an error of Rust.
fn fail(env: Env, args: &[Local]) -> Result<Local, Error> {
    let message = env.to_string(args[0])?;
    to_js(env, async move {
        yield_now().await;
        Err::<(), _>(Error::new(message))
    })
}

/// `panic(message)` panics at the second poll.
fn panic(env: Env, args: &[Local]) -> Result<Local, Error> {
    let message = env.to_string(args[0])?;
    to_js::<_, ()>(env, async move {
        yield_now().await;
        panic!("{message}")
    })
}

/// `pending()` never completes.
fn pending(env: Env, _args: &[Local]) -> Result<Local, Error> {
    to_js(env, never::<Result<(), Error>>())
}

/// `detachPending(path)` never completes, and no promise waits for it. It removes the file when it
/// is dropped, since no JavaScript runs at the end of an environment.
fn detach_pending(env: Env, args: &[Local]) -> Result<Local, Error> {
    struct Remove(String);
    impl Drop for Remove {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0); // the test sees it
        }
    }
    let remove = Remove(env.to_string(args[0])?);
    let event_loop = EventLoop::of(env)?;
    let task = event_loop.guest().runtime().spawn(async move {
        let _remove = remove;
        never::<()>().await
    });
    task.detach();
    env.undefined()
}

/// Calls the function in a task, and awaits its promise.
async fn call_and_await(env: Env, function: Held) -> Result<Held, Error> {
    let promise = env.call(env.undefined()?, function.get()?, &[])?;
    from_js(env, promise)?.await
}

/// `call(function)` awaits the promise that the function returns.
fn call(env: Env, args: &[Local]) -> Result<Local, Error> {
    let function = env.hold(args[0])?;
    to_js(env, async move {
        yield_now().await;
        call_and_await(env, function).await
    })
}

/// `callWithin(ms, function)` does it with a time limit.
fn call_within(env: Env, args: &[Local]) -> Result<Local, Error> {
    let (limit, function) = (millis(env, args[0])?, env.hold(args[1])?);
    to_js(env, async move {
        select! {
            result = call_and_await(env, function).fuse() => result,
            () = time::sleep(limit).fuse() => {
                Err(Error::with_code("TIMEOUT", "the time limit has passed"))
            }
        }
    })
}

/// A TCP connection. It is `None` during a request.
type Connection = Rc<RefCell<Option<TcpStream>>>;

/// A value of JavaScript that owns a connection.
struct NewConnection(TcpStream);

impl crate::IntoJs for NewConnection {
    fn into_js(self, env: Env) -> Result<Local, Error> {
        let connection: Connection = Rc::new(RefCell::new(Some(self.0)));
        env.external(connection)
    }
}

/// `connect(host, port)` connects to a TCP server.
fn connect(env: Env, args: &[Local]) -> Result<Local, Error> {
    let (host, port) = (env.to_string(args[0])?, env.to_number(args[1])? as u16);
    to_js(env, async move {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        Ok(NewConnection(stream))
    })
}

/// `echo(connection, buffer)` sends the bytes, and returns as many from the peer.
fn echo(env: Env, args: &[Local]) -> Result<Local, Error> {
    let slot = env.with_external(args[0], Connection::clone)?;
    let mut bytes = env.to_bytes(args[1])?;
    let Some(mut stream) = slot.take() else {
        return Err(Error::new("a request is in progress"));
    };
    to_js(env, async move {
        stream.write_all(&bytes).await?;
        stream.read_exact(&mut bytes).await?;
        slot.replace(Some(stream));
        Ok(bytes)
    })
}
