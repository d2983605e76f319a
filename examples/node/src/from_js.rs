//! A promise of JavaScript that Rust awaits.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use crate::js::{Env, Error, Held, Local};

/// Awaits a promise, or another value, as `await` does in JavaScript.
///
/// The reason of a rejection is the error. JavaScript has no way to cancel a promise, so a drop of
/// the future only discards the result.
pub fn from_js(env: Env, value: Local) -> Result<FromJs, Error> {
    let class = env.global(c"Promise")?;
    let promise = env.call(class, env.property(class, c"resolve")?, &[value])?;
    let state = Rc::new(RefCell::new(State::default()));
    let then = env.property(promise, c"then")?;
    let (fulfilled, rejected) = (Rc::downgrade(&state), Rc::downgrade(&state));
    let fulfilled = env.function_once(move |env, value| {
        settle(&fulfilled, Ok(env.hold(value)?));
        Ok(())
    })?;
    let rejected = env.function_once(move |env, reason| {
        settle(&rejected, Err(Error::Thrown(env.hold(reason)?)));
        Ok(())
    })?;
    env.call(promise, then, &[fulfilled, rejected])?;
    Ok(FromJs { state })
}

/// The future of [`from_js`].
#[derive(Debug)]
pub struct FromJs {
    state: Rc<RefCell<State>>,
}

#[derive(Debug, Default)]
struct State {
    result: Option<Result<Held, Error>>,
    waker: Option<Waker>,
}

fn settle(state: &Weak<RefCell<State>>, result: Result<Held, Error>) {
    let Some(state) = state.upgrade() else {
        return; // the future was dropped
    };
    state.borrow_mut().result = Some(result);
    let waker = state.borrow_mut().waker.take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Future for FromJs {
    type Output = Result<Held, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.state.borrow_mut().result.take() {
            return Poll::Ready(result);
        }
        let old = self.state.borrow_mut().waker.replace(cx.waker().clone());
        drop(old);
        Poll::Pending
    }
}
