//! windlass as a guest of Node's event loop, on its thread.
//!
//! JavaScript awaits Rust futures as promises, and Rust tasks await promises. Tasks may hold values
//! of JavaScript over an `.await`, because they never leave the thread.
//!
//! | file | what to copy it for |
//! |---|---|
//! | `event_loop.rs` | a runtime per environment, through `uv_poll` |
//! | `uv.rs` | the handle of libuv |
//! | `to_js.rs` | a Rust future as a promise |
//! | `from_js.rs` | a promise that Rust awaits |
//! | `js.rs` | values over the C functions of Node-API, which napi-rs and neon have, too |
//!
//! `demo.rs` is a module that uses all of them. The tests run it.

mod uv;
mod js;
mod event_loop;
mod to_js;
mod from_js;
mod demo;
mod host;

use napi_sys as sys;

pub use event_loop::{EventLoop, KeepAlive};
pub use from_js::{FromJs, from_js};
pub use js::{Env, Error, Held, Local};
pub use to_js::{IntoJs, to_js};

/// Node calls this in each thread that loads the module.
///
/// # Safety
///
/// Only Node may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn napi_register_module_v1(env: sys::napi_env, exports: Local) -> Local {
    // SAFETY: Node calls it with the environment of this thread.
    let env = unsafe { Env::new(env) };
    env.or_throw(register(env, exports))
}

fn register(env: Env, exports: Local) -> Result<Local, Error> {
    EventLoop::attach(env)?;
    for (name, body) in demo::FUNCTIONS {
        env.set_property(exports, name, env.function(*body)?)?;
    }
    env.set_property(exports, c"check", env.function(host::check)?)?;
    Ok(exports)
}
