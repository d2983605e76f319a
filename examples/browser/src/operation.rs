//! A callback of the browser as a future.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::browser;

thread_local! {
    static OPERATIONS: RefCell<Operations> = RefCell::default();
}

#[derive(Default)]
struct Operations {
    next: u32,
    pending: HashMap<u32, State>,
}

#[derive(Default)]
struct State {
    result: Option<Result<Vec<u8>, Vec<u8>>>,
    waker: Option<Waker>,
}

/// Waits on a timer of the browser.
pub async fn sleep(duration: Duration) {
    let _ = Operation::start(|id| browser::start_timer(id, duration)).await; // has no result
}

/// Waits for the next event of this name on the document, for example `click`.
pub async fn next_event(name: &str) {
    let _ = Operation::start(|id| browser::start_listener(id, name)).await; // has no result
}

/// Awaits the promise of a `fetch`.
///
/// # Errors
///
/// Fails with the text of the exception.
pub async fn fetch(address: &str) -> Result<String, String> {
    let result = Operation::start(|id| browser::start_fetch(id, address)).await;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    result.map(text).map_err(text)
}

/// What the page was asked for. A drop cancels it.
struct Operation {
    id: u32,
}

impl Operation {
    fn start(start: impl FnOnce(u32)) -> Operation {
        let id = OPERATIONS.with_borrow_mut(|all| {
            let id = all.next;
            all.next = id.wrapping_add(1);
            all.pending.insert(id, State::default());
            id
        });
        start(id);
        Operation { id }
    }
}

impl Future for Operation {
    type Output = Result<Vec<u8>, Vec<u8>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        OPERATIONS.with_borrow_mut(|all| {
            let state = all
                .pending
                .get_mut(&self.id)
                .expect("it is removed at the drop");
            match state.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        OPERATIONS.with_borrow_mut(|all| all.pending.remove(&self.id));
        browser::cancel(self.id);
    }
}

/// Returns memory for the bytes of a result, which the page passes to [`complete`].
#[unsafe(no_mangle)]
pub extern "C" fn room(length: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; length].into_boxed_slice()).cast()
}

/// The page calls this at the end of an operation.
///
/// # Safety
///
/// The bytes are a [`room`] of this length, and are passed once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn complete(id: u32, is_ok: bool, bytes: *mut u8, length: usize) {
    let slice = std::ptr::slice_from_raw_parts_mut(bytes, length);
    // SAFETY: the caller passes the pointer and the length of a box.
    let bytes = unsafe { Box::from_raw(slice) }.into_vec();
    let result = if is_ok { Ok(bytes) } else { Err(bytes) };
    let waker = OPERATIONS.with_borrow_mut(|all| {
        let state = all.pending.get_mut(&id)?; // `None` if it was dropped
        state.result = Some(result);
        state.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}
