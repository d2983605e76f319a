//! Reads and writes of whole ranges of a file.

use std::io;

use super::File;

impl File {
    /// Fills the buffer from an offset, without moving the position. It reads pieces of up to 256
    /// KiB.
    ///
    /// # Errors
    ///
    /// Returns `UnexpectedEof` if the file ends before, and the errors of
    /// [`read_at`](File::read_at). The first part of the buffer may have changed then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the first part of the buffer may have changed.
    pub async fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }

    /// Writes the whole buffer at an offset, without moving the position. It writes pieces of up to
    /// 256 KiB.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`write_at`](File::write_at). A first part of the buffer may be
    /// written then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all of the write may happen, a first part, or none of it.
    ///
    /// # Examples
    ///
    /// ```
    /// use windlass::{block_on, fs::File};
    ///
    /// # let path = std::env::temp_dir().join(format!("windlass-exact-{}", std::process::id()));
    /// block_on(async {
    ///     let file = File::create_new(&path).await?;
    ///     file.write_all_at(b"ahoy", 2).await?;
    ///     let mut bytes = [1; 4];
    ///     file.read_exact_at(&mut bytes, 0).await?;
    ///     assert_eq!(&bytes, b"\0\0ah");
    ///     let beyond = file.read_exact_at(&mut bytes, 4).await.unwrap_err();
    ///     assert_eq!(beyond.kind(), std::io::ErrorKind::UnexpectedEof);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => {
                    buf = &buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}
