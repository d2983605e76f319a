//! A runtime as the guest of Node's event loop.

use std::cell::{Cell, OnceCell};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::{Rc, Weak};

use napi_sys as sys;
use windlass::Runtime;
use windlass_guest_checks::Guest;

use crate::js::{Env, Error, Held, napi};
use crate::uv::Poll;

/// Node's event loop in one thread, and its guest.
///
/// libuv watches the guest's descriptor. On Linux it reports wakes, sockets and timers, so the loop
/// needs no timer of its own. The main thread and each worker have their own environment, loop and
/// guest.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    guest: Guest,
    env: Env,
    /// Callbacks to JavaScript belong to this resource.
    resource: Held,
    context: sys::napi_async_context,
    /// The number of [`KeepAlive`]s.
    needed: Cell<usize>,
}

impl EventLoop {
    /// Adds a guest to the event loop of the environment. It is dropped with its tasks when the
    /// environment ends.
    pub fn attach(env: Env) -> Result<(), Error> {
        let guest = Guest::new(Runtime::new()?);
        let mut event_loop = null_mut();
        napi!(env, napi_get_uv_event_loop(&mut event_loop))?;
        let (resource, name) = (env.global(c"Object")?, env.string("windlass")?);
        let mut context = null_mut();
        napi!(env, napi_async_init(resource, name, &mut context))?;
        let resource = env.hold(resource)?;
        // Node waits for the removal of the hook before it closes the loop.
        let hook = Rc::new(Cell::new(null_mut()));
        let closed = hook.clone();
        let slot = Rc::new(OnceCell::<Weak<EventLoop>>::new());
        let turning = slot.clone();
        let readable = move || {
            if let Some(event_loop) = turning.get().and_then(Weak::upgrade) {
                event_loop.turn();
            }
        };
        let closed = move || {
            // SAFETY: the hook was added below, and this is called once.
            unsafe { sys::napi_remove_async_cleanup_hook(closed.get()) };
        };
        // SAFETY: the loop is the one of this thread. Node closes it after the removal of the hook.
        let poll = unsafe { Poll::start(event_loop, &guest, readable, closed)? };
        let this = Rc::new(EventLoop {
            poll,
            guest,
            env,
            resource,
            context,
            needed: Cell::new(0),
        });
        let _ = slot.set(Rc::downgrade(&this)); // it was empty
        let this = Rc::into_raw(this).cast_mut().cast::<c_void>();
        let mut handle = null_mut();
        napi!(
            env,
            napi_add_async_cleanup_hook(Some(detach), this, &mut handle)
        )?;
        hook.set(handle);
        napi!(env, napi_set_instance_data(this, None, null_mut()))
    }

    /// Returns the event loop of the environment.
    pub fn of(env: Env) -> Result<Rc<EventLoop>, Error> {
        let mut data = null_mut();
        napi!(env, napi_get_instance_data(&mut data))?;
        if data.is_null() {
            return Err(Error::new("the environment ends"));
        }
        let this = data.cast::<EventLoop>().cast_const();
        // SAFETY: `attach` leaves one reference in the instance data, until `detach` removes it.
        unsafe {
            Rc::increment_strong_count(this);
            Ok(Rc::from_raw(this))
        }
    }

    /// The guest.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Keeps the process, or the worker, running until the guard is dropped. A guest without one
    /// doesn't.
    pub fn keep_alive(self: &Rc<Self>) -> KeepAlive {
        if self.needed.replace(self.needed.get() + 1) == 0 {
            self.poll.keep_alive(true);
        }
        KeepAlive(Rc::downgrade(self))
    }

    /// Takes a turn in which tasks may call JavaScript. Microtasks and `process.nextTick` run after
    /// it, as after every callback of Node.
    fn turn(&self) {
        if self.guest.runtime().is_running() {
            return;
        }
        let scope = Scope::open(self).expect("the environment is alive");
        self.guest.turn().expect("the poller works");
        drop(scope);
    }
}

/// A scope of handles and one of a callback.
struct Scope {
    env: Env,
    handles: sys::napi_handle_scope,
    callback: sys::napi_callback_scope,
}

impl Scope {
    fn open(event_loop: &EventLoop) -> Result<Scope, Error> {
        let env = event_loop.env;
        let (mut handles, mut callback) = (null_mut(), null_mut());
        napi!(env, napi_open_handle_scope(&mut handles))?;
        let resource = event_loop.resource.get()?;
        napi!(
            env,
            napi_open_callback_scope(resource, event_loop.context, &mut callback)
        )?;
        Ok(Scope {
            env,
            handles,
            callback,
        })
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let env = self.env;
        // They fail only in another order.
        let _ = napi!(env, napi_close_callback_scope(self.callback));
        let _ = napi!(env, napi_close_handle_scope(self.handles));
    }
}

/// The cleanup hook of the environment.
unsafe extern "C" fn detach(_: sys::napi_async_cleanup_hook_handle, data: *mut c_void) {
    // SAFETY: `attach` passed it to the hook, which Node calls once, on the thread of the
    // environment.
    let this = unsafe { Rc::from_raw(data.cast::<EventLoop>().cast_const()) };
    let (env, context) = (this.env, this.context);
    let _ = napi!(env, napi_set_instance_data(null_mut(), None, null_mut()));
    drop(this);
    let _ = napi!(env, napi_async_destroy(context));
}

/// Keeps the event loop running, see [`EventLoop::keep_alive`].
#[derive(Debug)]
pub struct KeepAlive(Weak<EventLoop>);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        let Some(event_loop) = self.0.upgrade() else {
            return; // it ends
        };
        let needed = event_loop.needed.get() - 1;
        event_loop.needed.set(needed);
        if needed == 0 {
            event_loop.poll.keep_alive(false);
        }
    }
}
