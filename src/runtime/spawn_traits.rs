//! The traits of `futures::task` for spawning.

use futures_task::{FutureObj, LocalFutureObj, LocalSpawn, Spawn, SpawnError};

use super::Runtime;
use super::handle::Handle;
use super::remote::Remote;

/// Spawns detached tasks. Fails once the runtime is dropped.
///
/// ```
/// use futures::task::LocalSpawnExt;
/// use std::rc::Rc;
///
/// let runtime = windlass::Runtime::new()?;
/// let stays_here = Rc::new(7);
/// let output = runtime.handle().spawn_local_with_handle(async move { *stays_here }).unwrap();
/// assert_eq!(runtime.block_on(output), 7);
/// # Ok::<(), std::io::Error>(())
/// ```
impl LocalSpawn for Handle {
    #[track_caller]
    fn spawn_local_obj(&self, future: LocalFutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status_local()?;
        Handle::spawn(self, future).detach();
        Ok(())
    }

    fn status_local(&self) -> Result<(), SpawnError> {
        match self.is_closed() {
            true => Err(SpawnError::shutdown()),
            false => Ok(()),
        }
    }
}

/// Spawns detached tasks. Fails once the runtime is dropped.
impl Spawn for Handle {
    #[track_caller]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.spawn_local_obj(future.into())
    }

    fn status(&self) -> Result<(), SpawnError> {
        self.status_local()
    }
}

/// Spawns detached tasks.
impl LocalSpawn for Runtime {
    #[track_caller]
    fn spawn_local_obj(&self, future: LocalFutureObj<'static, ()>) -> Result<(), SpawnError> {
        Runtime::spawn(self, future).detach();
        Ok(())
    }
}

/// Spawns detached tasks.
impl Spawn for Runtime {
    #[track_caller]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.spawn_local_obj(future.into())
    }
}

/// Spawns detached tasks from any thread. Fails once the runtime is dropped.
///
/// ```
/// use futures::task::SpawnExt;
///
/// let runtime = windlass::Runtime::new()?;
/// let remote = runtime.remote();
/// let output = remote.spawn_with_handle(async { 7 }).unwrap(); // on any thread
/// assert_eq!(runtime.block_on(output), 7);
/// # Ok::<(), std::io::Error>(())
/// ```
impl Spawn for Remote {
    #[track_caller]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        drop(Remote::spawn(self, || future)); // detached
        Ok(())
    }

    fn status(&self) -> Result<(), SpawnError> {
        match self.is_closed() {
            true => Err(SpawnError::shutdown()),
            false => Ok(()),
        }
    }
}
