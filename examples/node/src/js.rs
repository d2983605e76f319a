//! Values of JavaScript, as far as the recipes need them, over the C functions of Node-API.

use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::io;
use std::mem::transmute;
use std::ptr::{null, null_mut};

use napi_sys as sys;

/// Calls a function of Node-API and makes its status a result.
macro_rules! napi {
    ($env:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: the environment is the one of this thread and alive, see `Env`. Handles are of
        // the current scope. Pointers to results are valid for the call.
        let status = unsafe { ::napi_sys::$function($env.raw(), $($argument),*) };
        $env.check(status, stringify!($function))
    }};
}
pub(crate) use napi;

/// The environment of the module, in one thread of Node.
///
/// Its values aren't `Send`. All of them are dropped in the cleanup hook at the latest.
#[derive(Clone, Copy, Debug)]
pub struct Env(sys::napi_env);

/// A value in the current scope, which is that of the call from JavaScript or of the turn. It must
/// not be held over an `.await`, which the compiler doesn't check here. `Env::hold` is for that.
pub type Local = sys::napi_value;

/// A function for JavaScript.
pub(crate) type Body = fn(Env, &[Local]) -> Result<Local, Error>;

impl Env {
    /// # Safety
    ///
    /// It must be the environment of a call by Node on this thread.
    pub(crate) unsafe fn new(raw: sys::napi_env) -> Env {
        Env(raw)
    }

    pub(crate) fn raw(self) -> sys::napi_env {
        self.0
    }

    /// Makes a status a result. The exception of a function in JavaScript is the error.
    pub(crate) fn check(self, status: sys::napi_status, function: &str) -> Result<(), Error> {
        match status {
            sys::Status::napi_ok => Ok(()),
            sys::Status::napi_pending_exception => {
                let mut exception = null_mut();
                // SAFETY: as in the macro.
                unsafe { sys::napi_get_and_clear_last_exception(self.0, &mut exception) };
                Err(Error::Thrown(self.hold(exception)?))
            }
            _ => Err(Error::new(format!(
                "{function} failed with status {status}"
            ))),
        }
    }

    /// Keeps a value beyond its scope, for example over an `.await`.
    pub(crate) fn hold(self, value: Local) -> Result<Held, Error> {
        let mut kind = 0;
        napi!(self, napi_typeof(value, &mut kind))?;
        let is_primitive = !matches!(
            kind,
            sys::ValueType::napi_object
                | sys::ValueType::napi_function
                | sys::ValueType::napi_external
        );
        // Node-API refers to objects only.
        let object = if is_primitive {
            self.array(value)?
        } else {
            value
        };
        let mut reference = null_mut();
        napi!(self, napi_create_reference(object, 1, &mut reference))?;
        Ok(Held {
            env: self,
            reference,
            is_primitive,
        })
    }

    fn array(self, value: Local) -> Result<Local, Error> {
        let mut array = null_mut();
        napi!(self, napi_create_array(&mut array))?;
        napi!(self, napi_set_element(array, 0, value))?;
        Ok(array)
    }

    /// Returns `undefined`.
    pub fn undefined(self) -> Result<Local, Error> {
        let mut value = null_mut();
        napi!(self, napi_get_undefined(&mut value))?;
        Ok(value)
    }

    pub(crate) fn number(self, number: f64) -> Result<Local, Error> {
        let mut value = null_mut();
        napi!(self, napi_create_double(number, &mut value))?;
        Ok(value)
    }

    pub(crate) fn to_number(self, value: Local) -> Result<f64, Error> {
        let mut number = 0.0;
        napi!(self, napi_get_value_double(value, &mut number))?;
        Ok(number)
    }

    pub(crate) fn string(self, text: &str) -> Result<Local, Error> {
        let (bytes, length) = (text.as_ptr().cast::<c_char>(), text.len());
        let mut value = null_mut();
        napi!(self, napi_create_string_utf8(bytes, length, &mut value))?;
        Ok(value)
    }

    pub(crate) fn to_string(self, value: Local) -> Result<String, Error> {
        let mut length = 0;
        napi!(
            self,
            napi_get_value_string_utf8(value, null_mut(), 0, &mut length)
        )?;
        let mut bytes = vec![0_u8; length + 1]; // with the zero at the end
        let (buffer, size) = (bytes.as_mut_ptr().cast(), bytes.len());
        napi!(
            self,
            napi_get_value_string_utf8(value, buffer, size, &mut length)
        )?;
        bytes.truncate(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn buffer(self, bytes: &[u8]) -> Result<Local, Error> {
        let (data, length) = (bytes.as_ptr().cast::<c_void>(), bytes.len());
        let mut value = null_mut();
        napi!(
            self,
            napi_create_buffer_copy(length, data, null_mut(), &mut value)
        )?;
        Ok(value)
    }

    pub(crate) fn to_bytes(self, buffer: Local) -> Result<Vec<u8>, Error> {
        let (mut data, mut length) = (null_mut(), 0);
        napi!(self, napi_get_buffer_info(buffer, &mut data, &mut length))?;
        if length == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the buffer has this many bytes, and no JavaScript runs meanwhile.
        Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) }.to_vec())
    }

    /// Makes a value of Rust one of JavaScript, whose collector drops it.
    pub(crate) fn external<T: 'static>(self, value: T) -> Result<Local, Error> {
        unsafe extern "C" fn finalize(_: sys::napi_env, data: *mut c_void, _: *mut c_void) {
            // SAFETY: `external` made it of such a box, and the finalizer is called once.
            drop(unsafe { Box::from_raw(data.cast::<Box<dyn Any>>()) });
        }
        let boxed: Box<dyn Any> = Box::new(value);
        let data = Box::into_raw(Box::new(boxed)).cast();
        let mut external = null_mut();
        napi!(
            self,
            napi_create_external(data, Some(finalize), null_mut(), &mut external)
        )?;
        Ok(external)
    }

    /// Calls the closure with the value of Rust.
    pub(crate) fn with_external<T: 'static, R>(
        self,
        value: Local,
        closure: impl FnOnce(&T) -> R,
    ) -> Result<R, Error> {
        let mut data = null_mut();
        napi!(self, napi_get_value_external(value, &mut data))?;
        // SAFETY: all externals of this module are made by `external`, and JavaScript refers to it.
        let value = unsafe { &*data.cast::<Box<dyn Any>>() };
        let value = value
            .downcast_ref()
            .ok_or_else(|| Error::new("a wrong object"))?;
        Ok(closure(value))
    }

    pub(crate) fn property(self, object: Local, name: &CStr) -> Result<Local, Error> {
        let mut value = null_mut();
        napi!(
            self,
            napi_get_named_property(object, name.as_ptr(), &mut value)
        )?;
        Ok(value)
    }

    pub(crate) fn set_property(
        self,
        object: Local,
        name: &CStr,
        value: Local,
    ) -> Result<(), Error> {
        napi!(self, napi_set_named_property(object, name.as_ptr(), value))
    }

    pub(crate) fn global(self, name: &CStr) -> Result<Local, Error> {
        let mut global = null_mut();
        napi!(self, napi_get_global(&mut global))?;
        self.property(global, name)
    }

    /// Calls a function. Its exception is the error.
    pub(crate) fn call(self, this: Local, function: Local, args: &[Local]) -> Result<Local, Error> {
        let (count, first) = (args.len(), args.as_ptr());
        let mut value = null_mut();
        napi!(
            self,
            napi_call_function(this, function, count, first, &mut value)
        )?;
        Ok(value)
    }

    /// Makes a function of one that captures nothing.
    pub(crate) fn function(self, body: Body) -> Result<Local, Error> {
        unsafe extern "C" fn entry(env: sys::napi_env, info: sys::napi_callback_info) -> Local {
            // SAFETY: Node calls this with the environment of this thread.
            let env = unsafe { Env::new(env) };
            let mut arguments = [null_mut(); 4];
            let (mut count, mut data) = (arguments.len(), null_mut());
            let got = napi!(
                env,
                napi_get_cb_info(
                    info,
                    &mut count,
                    arguments.as_mut_ptr(),
                    null_mut(),
                    &mut data
                )
            );
            // SAFETY: `function` passes a `Body` as the data.
            let body = unsafe { transmute::<*mut c_void, Body>(data) };
            // Missing arguments are `undefined`.
            env.or_throw(got.and_then(|()| body(env, &arguments)))
        }
        self.function_of(entry, body as *mut c_void)
    }

    /// Makes a function of a closure that can be called once. It is dropped when the collector
    /// drops the function.
    pub(crate) fn function_once(
        self,
        closure: impl FnOnce(Env, Local) -> Result<(), Error> + 'static,
    ) -> Result<Local, Error> {
        type Once = std::cell::Cell<Option<Box<dyn FnOnce(Env, Local) -> Result<(), Error>>>>;
        unsafe extern "C" fn entry(env: sys::napi_env, info: sys::napi_callback_info) -> Local {
            // SAFETY: Node calls this with the environment of this thread.
            let env = unsafe { Env::new(env) };
            let (mut argument, mut count, mut data) = (null_mut(), 1, null_mut());
            let got = napi!(
                env,
                napi_get_cb_info(info, &mut count, &mut argument, null_mut(), &mut data)
            );
            // SAFETY: `function_once` passes a `Once`, which exists as long as the function.
            let once = unsafe { &*data.cast::<Once>() };
            let called = got.and_then(|()| match once.take() {
                Some(closure) => closure(env, argument),
                None => Ok(()),
            });
            env.or_throw(called.and_then(|()| env.undefined()))
        }
        unsafe extern "C" fn finalize(_: sys::napi_env, data: *mut c_void, _: *mut c_void) {
            // SAFETY: `function_once` made it of such a box, and the finalizer is called once.
            drop(unsafe { Box::from_raw(data.cast::<Once>()) });
        }
        let once: Box<Once> = Box::new(std::cell::Cell::new(Some(Box::new(closure))));
        let data = Box::into_raw(once).cast::<c_void>();
        let function = self.function_of(entry, data)?;
        napi!(
            self,
            napi_add_finalizer(function, data, Some(finalize), null_mut(), null_mut())
        )?;
        Ok(function)
    }

    fn function_of(
        self,
        entry: unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> Local,
        data: *mut c_void,
    ) -> Result<Local, Error> {
        let mut function = null_mut();
        napi!(
            self,
            napi_create_function(null(), 0, Some(entry), data, &mut function)
        )?;
        Ok(function)
    }

    /// Returns the value, or throws the error in JavaScript.
    pub(crate) fn or_throw(self, result: Result<Local, Error>) -> Local {
        let thrown = match result {
            Ok(value) => return value,
            Err(error) => error.to_js(self),
        };
        if let Ok(error) = thrown {
            let _ = napi!(self, napi_throw(error)); // fails while the environment ends
        }
        null_mut()
    }
}

/// A value of JavaScript that outlives its scope.
#[derive(Debug)]
pub struct Held {
    env: Env,
    reference: sys::napi_ref,
    /// It is the element of an array.
    is_primitive: bool,
}

impl Held {
    /// Returns the value in the current scope.
    pub fn get(&self) -> Result<Local, Error> {
        let env = self.env;
        let mut value = null_mut();
        napi!(env, napi_get_reference_value(self.reference, &mut value))?;
        if self.is_primitive {
            let array = value;
            napi!(env, napi_get_element(array, 0, &mut value))?;
        }
        Ok(value)
    }

    /// Returns its environment.
    pub fn env(&self) -> Env {
        self.env
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let env = self.env;
        let _ = napi!(env, napi_delete_reference(self.reference)); // fails for no valid reference
    }
}

/// An error for JavaScript, or of it.
#[derive(Debug)]
pub enum Error {
    /// Becomes an `Error` with this message, and this code if it isn't empty.
    Message {
        /// As Node's own errors have it.
        code: String,
        /// The text.
        message: String,
    },
    /// What JavaScript has thrown.
    Thrown(Held),
}

impl Error {
    /// Creates an error with a message.
    pub fn new(message: impl Into<String>) -> Error {
        Error::with_code("", message)
    }

    /// Creates an error with a code.
    pub fn with_code(code: impl Into<String>, message: impl Into<String>) -> Error {
        let (code, message) = (code.into(), message.into());
        Error::Message { code, message }
    }

    pub(crate) fn to_js(&self, env: Env) -> Result<Local, Error> {
        match self {
            Error::Thrown(value) => value.get(),
            Error::Message { code, message } => {
                let code = match code.as_str() {
                    "" => null_mut(),
                    code => env.string(code)?,
                };
                let (message, mut error) = (env.string(message)?, null_mut());
                napi!(env, napi_create_error(code, message, &mut error))?;
                Ok(error)
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Message { message, .. } => f.write_str(message),
            Error::Thrown(_) => f.write_str("an exception of JavaScript"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::with_code(format!("{:?}", error.kind()), error.to_string())
    }
}
