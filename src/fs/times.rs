//! The times of a file.

use std::fs::FileTimes;
use std::io;
use std::time::SystemTime;

use super::File;
use super::handle::Handle;
use super::order::Access;

impl File {
    /// Changes the times of the file, after all earlier operations of this `File`.
    ///
    /// # Errors
    ///
    /// Returns the error of the system. Fails in a simulation.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the operation may or may not happen.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use windlass::fs::{File, FileTimes};
    ///
    /// # let path = std::env::temp_dir().join(format!("windlass-times-{}", std::process::id()));
    /// windlass::block_on(async {
    ///     let file = File::create(&path).await?;
    ///     let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    ///     file.set_times(FileTimes::new().set_modified(past)).await?;
    ///     assert_eq!(file.metadata().await?.modified()?, past);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn set_times(&self, times: FileTimes) -> io::Result<()> {
        let set = move |file: &Handle| file.set_times(times);
        self.on_pool(Access::All, set).await
    }

    /// Changes the modification time of the file, as [`set_times`](File::set_times) does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set_times`](File::set_times).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the operation may or may not happen.
    pub async fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time)).await
    }
}
