//! windlass and [tokio](https://docs.rs/tokio) on one thread. It needs the feature `tokio`.
//!
//! Crates that require tokio's runtime, such as reqwest or sqlx, run in tasks of windlass under
//! [`block_on`]. It runs a current-thread runtime of tokio, a [`LocalRuntime`], with windlass's
//! executor as its main future. Both share the thread, which sleeps in one call of tokio's poller.
//!
//! ```toml
//! [dependencies]
//! windlass = { version = "0.1", features = ["tokio"] }
//! tokio = { version = "1.54", features = ["net", "time"] }
//! ```
//!
//! # What works where
//!
//! | in a task of | `windlass::spawn`, sockets, timers, files, children, signals | those of tokio |
//! |---|---|---|
//! | windlass, or in the main future | yes | yes |
//! | tokio | yes | yes |
//!
//! * [`tokio::task::spawn_local`] takes futures that are not `Send`, and needs no `LocalSet`.
//!   [`tokio::spawn`] requires `Send` although the future stays on the thread.
//! * tokio's [cooperative budget](::tokio::task::coop) does not apply to windlass's tasks, because
//!   one budget for all of them would stop most of them. A windlass task that reads from a tokio
//!   socket or channel which is always ready yields by [`yield_now`](crate::yield_now). windlass
//!   yields to tokio after 256 polls of tasks.
//! * Timers of windlass stay precise, and those of tokio have a resolution of one millisecond.
//!   Where windlass has no timer descriptor, which is everywhere but on Linux, its timers have
//!   tokio's resolution, too.
//! * A panic of the main future, or of the loop, propagates from [`block_on`]. A panic of a task
//!   surfaces where the task is awaited, in either runtime.
//! * One thread is one thread. [`block_in_place`] and the blocking client of reqwest panic. Host
//!   names, `tokio::fs` and `spawn_blocking` use threads of tokio's pool.
//!
//! # Cost
//!
//! A request over a tokio socket takes the same system calls as under tokio alone. A request over a
//! windlass socket takes one `epoll_wait` more than under [`windlass::block_on`](crate::block_on).
//! When both are idle, nothing runs.
//!
//! A small request over loopback takes 13.1 µs (p50) with tokio alone. In a windlass task of
//! [`block_on`] it takes 13.2 µs over tokio's sockets, and 13.8 µs over windlass's. Decision 0107
//! in the repository has more figures.
//!
//! # tokio's traits
//!
//! windlass's streams have the traits of futures-io. The feature `compat` of [tokio-util] converts
//! a stream by one method call in either direction:
//!
//! ```
//! # #[cfg(unix)] {
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
//!
//! /// Generic over tokio's traits, as `tokio_postgres::Config::connect_raw` is.
//! async fn multiply<S>(mut stream: S) -> std::io::Result<u8>
//! where
//!     S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
//! {
//!     use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!     stream.write_u8(6).await?;
//!     stream.read_u8().await
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! windlass::tokio::block_on(async {
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//!     let stream = windlass::net::TcpStream::connect(listener.local_addr()?).await?;
//!     let answer = windlass::spawn(multiply(stream.compat())); // tokio's traits
//!
//!     let mut stream = listener.accept().await?.0.compat(); // the traits of futures-io
//!     let mut request = [0];
//!     stream.read_exact(&mut request).await?;
//!     stream.write_all(&[request[0] * 7]).await?;
//!     assert_eq!(answer.await?, 42);
//!     Ok(())
//! })
//! # }
//! # main().unwrap() }
//! ```
//!
//! The conversion of a windlass stream zeroes an uninitialized buffer before each read, which takes
//! 0.2 to 0.4 µs for 8 KiB. It writes the first of several buffers, so a protocol with many small
//! parts wraps the stream in a `tokio::io::BufWriter`. `windlass::hyper::Io` does neither.
//!
//! # A guest in another event loop
//!
//! Where the loop of the thread belongs to GLib, winit or a game, tokio cannot be the host. A
//! runtime of tokio on a helper thread then serves its own sockets and timers. Two lines create it
//! and enter its context. They come before the loop, and its guard exists as long as the loop runs:
//!
//! ```
//! use tokio::time::{Duration, sleep};
//!
//! # fn main() -> std::io::Result<()> {
//! let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
//! let _entered = tokio.enter();
//!
//! let runtime = windlass::Runtime::new()?;
//! let task = runtime.spawn(async {
//!     sleep(Duration::from_millis(1)).await; // the timer of the helper thread
//!     let spawned = tokio::spawn(async { std::thread::current().name().map(str::to_owned) });
//!     spawned.await.unwrap() // what is spawned on tokio runs on the helper thread
//! });
//! while !task.is_finished() {
//!     runtime.turn(None)?; // or the loop of the host
//! }
//! assert_ne!(runtime.block_on(task).as_deref(), std::thread::current().name());
//! # Ok(())
//! # }
//! ```
//!
//! * A future that is polled in a windlass task stays on its thread. What a library spawns on tokio
//!   runs on the helper thread, and windlass's sockets and timers fail there.
//! * Each wake crosses threads.
//! * This works with [`windlass::block_on`](crate::block_on) and on Windows, too.
//!
//! # Platforms
//!
//! [`block_on`] exists on Unix. On Windows a reactor has no descriptor that tokio could watch, so
//! the helper thread remains. `windlass::sim` has no counterpart of tokio's
//! sockets and timers, so [`block_on`] panics in a simulation.
//!
//! [`LocalRuntime`]: ::tokio::runtime::LocalRuntime
//! [`tokio::task::spawn_local`]: ::tokio::task::spawn_local
//! [`tokio::spawn`]: ::tokio::spawn
//! [`block_in_place`]: https://docs.rs/tokio/latest/tokio/task/fn.block_in_place.html
//! [tokio-util]: https://docs.rs/tokio-util/latest/tokio_util/compat/

#[cfg(unix)]
mod block_on;

#[cfg(unix)]
pub use block_on::block_on;
#[cfg(unix)]
pub(crate) use block_on::is_hosted;
