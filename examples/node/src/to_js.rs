//! A Rust future that JavaScript awaits.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::ptr::null_mut;

use futures::FutureExt;

use crate::EventLoop;
use crate::js::{Env, Error, Held, Local, napi};

/// A value that becomes one of JavaScript when the promise is resolved.
pub trait IntoJs {
    /// Creates the value in the current scope.
    fn into_js(self, env: Env) -> Result<Local, Error>;
}

impl IntoJs for () {
    fn into_js(self, env: Env) -> Result<Local, Error> {
        env.undefined()
    }
}

impl IntoJs for f64 {
    fn into_js(self, env: Env) -> Result<Local, Error> {
        env.number(self)
    }
}

impl IntoJs for Vec<u8> {
    fn into_js(self, env: Env) -> Result<Local, Error> {
        env.buffer(&self)
    }
}

impl IntoJs for Held {
    fn into_js(self, _env: Env) -> Result<Local, Error> {
        self.get()
    }
}

/// Spawns the future on the guest, and returns a promise of its result.
///
/// The future may hold values of JavaScript ([`Held`]) over an `.await`. It is first polled in the
/// next iteration of the event loop. It keeps the process alive until it completes. A panic rejects
/// the promise with an error that has the code `PANIC`.
pub fn to_js<F, T>(env: Env, future: F) -> Result<Local, Error>
where
    F: Future<Output = Result<T, Error>> + 'static,
    T: IntoJs + 'static,
{
    let event_loop = EventLoop::of(env)?;
    let (mut deferred, mut promise) = (null_mut(), null_mut());
    napi!(env, napi_create_promise(&mut deferred, &mut promise))?;
    let alive = event_loop.keep_alive();
    let task = event_loop.guest().runtime().spawn(async move {
        let outcome = AssertUnwindSafe(future).catch_unwind().await;
        let result =
            outcome.unwrap_or_else(|payload| Err(Error::with_code("PANIC", message(payload))));
        let settled = match result.and_then(|value| value.into_js(env)) {
            Ok(value) => napi!(env, napi_resolve_deferred(deferred, value)),
            Err(error) => error
                .to_js(env)
                .and_then(|error| napi!(env, napi_reject_deferred(deferred, error))),
        };
        drop((settled, alive)); // it fails only if the environment ends
    });
    task.detach();
    Ok(promise)
}

fn message(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<String>() {
        Ok(text) => return *text,
        Err(other) => other,
    };
    let text = payload.downcast_ref::<&str>();
    text.map_or("a panic without a message", |text| text)
        .to_owned()
}
