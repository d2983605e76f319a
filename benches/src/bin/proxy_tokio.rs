//! A TCP proxy on tokio. `benches/services` starts it.
//!
//! ```text
//! proxy_tokio ADDRESS SERVER
//! ```

use std::env;
use std::io;

use anyhow::bail;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().collect();
    let [_, here, there] = &args[..] else {
        bail!("ADDRESS SERVER");
    };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?.block_on(serve(here, there))?)
}

async fn serve(here: &str, there: &str) -> io::Result<()> {
    let listener = TcpListener::bind(here).await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let there = there.to_owned();
        tokio::spawn(async move {
            let mut server = TcpStream::connect(there).await?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
