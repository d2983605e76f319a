//! windlass as a guest of nginx's workers.
//!
//! `module/ngx_http_windlass_module.c` is the side of nginx. It watches the descriptor as one more
//! connection, and starts a task per request of a location with the directive `windlass`.

use std::any::Any;
use std::cell::OnceCell;
use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use windlass::net::TcpStream;
use windlass::{Runtime, Task, time};

thread_local! {
    /// The runtime of this worker.
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

unsafe extern "C" {
    /// Sends a response and finalizes the request, which must not be used afterwards.
    fn ngx_http_windlass_respond(
        request: *mut c_void,
        status: usize,
        body: *const u8,
        length: usize,
    );
}

/// A request of nginx, which waits for a response.
#[derive(Debug)]
struct Request(*mut c_void);

impl Request {
    fn respond(self, status: usize, body: &[u8]) {
        // SAFETY: the request exists until this call. If nginx finalizes it before, the task that
        // has this value is cancelled, see `windlass_cancel`.
        unsafe { ngx_http_windlass_respond(self.0, status, body.as_ptr(), body.len()) }
    }
}

/// Creates the runtime of a worker, after the fork. Returns its descriptor, or -1.
#[unsafe(no_mangle)]
pub extern "C" fn windlass_attach() -> c_int {
    match Runtime::new() {
        Ok(runtime) => RUNTIME.with(|slot| slot.get_or_init(|| runtime).as_raw_fd()),
        Err(_) => -1,
    }
}

/// Takes a turn. nginx calls this when the descriptor is readable. Returns -1 if the poller fails.
#[unsafe(no_mangle)]
pub extern "C" fn windlass_turn() -> c_int {
    let turned = RUNTIME.with(|slot| slot.get().map(|runtime| runtime.turn(Some(Duration::ZERO))));
    match turned {
        Some(Err(_)) => -1,
        _ => 0,
    }
}

/// Starts a task for the request. Returns the task, for [`windlass_cancel`].
///
/// # Safety
///
/// The request exists until it is finalized. The arguments are a text of this length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn windlass_start(
    request: *mut c_void,
    args: *const u8,
    length: usize,
) -> *mut c_void {
    let args = match length {
        0 => Vec::new(),
        // SAFETY: the caller guarantees it.
        _ => unsafe { std::slice::from_raw_parts(args, length) }.to_vec(),
    };
    let request = Request(request);
    let task: Task<()> = RUNTIME.with(|slot| {
        let runtime = slot.get().expect("the worker has attached");
        runtime.spawn(async move {
            let handled = AssertUnwindSafe(handle(args)).catch_unwind().await;
            match handled {
                Ok(Ok(body)) => request.respond(200, &body),
                Ok(Err(error)) => request.respond(502, error.to_string().as_bytes()),
                Err(panic) => request.respond(500, message(&*panic).as_bytes()),
            }
        })
    });
    Box::into_raw(Box::new(task)).cast()
}

/// Drops the task of a request that nginx finalizes, also when the client has gone.
///
/// # Safety
///
/// The task is one of [`windlass_start`], and passed once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn windlass_cancel(task: *mut c_void) {
    // SAFETY: `windlass_start` made it of such a box.
    drop(unsafe { Box::from_raw(task.cast::<Task<()>>()) });
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}

/// The program: `ms=N` sleeps, `port=N` asks an echo server, `panic` panics.
async fn handle(args: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let args = String::from_utf8_lossy(&args).into_owned();
    for arg in args.split('&') {
        match arg.split_once('=') {
            Some(("ms", ms)) => time::sleep(Duration::from_millis(number(ms)?)).await,
            Some(("port", port)) => {
                let mut stream = TcpStream::connect(("127.0.0.1", number(port)? as u16)).await?;
                stream.write_all(b"ahoy\n").await?;
                let mut answer = vec![0; 5];
                stream.read_exact(&mut answer).await?;
                return Ok(answer);
            }
            None if arg == "panic" => panic!("a rope broke"),
            _ => {}
        }
    }
    Ok(b"hauled\n".to_vec())
}

fn number(text: &str) -> std::io::Result<u64> {
    text.parse().map_err(std::io::Error::other)
}
