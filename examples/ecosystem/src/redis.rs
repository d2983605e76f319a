//! redis-rs on windlass's sockets.
//!
//! `MultiplexedConnection::new` takes any stream with tokio's traits, and returns the driver of the
//! connection as a future, which becomes a task.

use std::net::SocketAddr;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use windlass::net::TcpStream;

/// Connects. Clones of the connection share it, and their commands are pipelined.
///
/// The crate's own time limit of a response requires tokio or smol, so it is switched off.
/// `windlass::time::timeout` limits a command.
pub async fn connect(addr: SocketAddr) -> RedisResult<MultiplexedConnection> {
    let stream = TcpStream::connect(addr).await?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let info = RedisConnectionInfo::default();
    let (connection, driver) =
        MultiplexedConnection::new_with_config(&info, stream.compat(), config).await?;
    windlass::spawn(driver).detach();
    Ok(connection)
}
