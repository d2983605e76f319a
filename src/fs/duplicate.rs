//! A second file descriptor of an open file.

use std::future::poll_fn;
use std::io;

use super::File;

impl File {
    /// Duplicates the file descriptor. Both files have one position.
    ///
    /// It waits for background writes, and the position is behind the bytes that the caller has
    /// read or written. The operations of each file take effect in their order, independently of
    /// those of the other.
    ///
    /// # Errors
    ///
    /// Returns the error of an earlier write at the position, or an error of the system. Fails in a
    /// simulation.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    /// use windlass::{block_on, fs::File};
    ///
    /// # let path = std::env::temp_dir().join(format!("windlass-clone-{}", std::process::id()));
    /// block_on(async {
    ///     let mut log = File::create_new(&path).await?;
    ///     log.write_all(b"ahoy, ").await?;
    ///     let mut other = log.try_clone().await?;
    ///     other.write_all(b"ahoy").await?;
    ///     other.flush().await?;
    ///     let mut text = [0; 10];
    ///     log.read_exact_at(&mut text, 0).await?;
    ///     assert_eq!(&text, b"ahoy, ahoy");
    ///     std::io::Result::Ok(())
    /// })?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn try_clone(&mut self) -> io::Result<File> {
        poll_fn(|cx| self.poll_idle(cx)).await?;
        self.seek_back();
        let handle = self.handle()?;
        if handle.is_simulated() {
            let text = "a simulated file can't be duplicated";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Ok(File::from(handle.try_clone()?))
    }
}
