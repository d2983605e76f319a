//! A browser chat with rooms.
//!
//! ```text
//! cargo run -p windlass-web --bin web_chat     # an address may follow: -- 0.0.0.0:7012
//! ```
//!
//! Then open http://localhost:7012 in two windows. If the server restarts, the pages reconnect.
//! With a certificate and its key it uses https:
//!
//! ```text
//! cargo run -p windlass-web --bin web_chat -- 0.0.0.0:7012 fullchain.pem privkey.pem
//! ```

use std::env;
use std::io;
use std::path::Path;
use std::rc::Rc;

use windlass::net::TcpListener;
use windlass_web::chat;
use windlass_web::rooms::Rooms;
use windlass_web::server::{Limits, serve};
use windlass_web::stop_at_signals;
use windlass_web::tls::{Acceptor, Identity};

fn main() -> io::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let addr = args.first().map_or("127.0.0.1:7012", |addr| addr);
    let tls = match &args[..] {
        [_, chain, key] => {
            let identity = Identity::read(Path::new(chain), Path::new(key))?;
            Some(Rc::new(Acceptor::new(identity, &["http/1.1"])?))
        }
        _ => None,
    };
    windlass::block_on(async {
        let stop = stop_at_signals()?;
        let listener = TcpListener::bind(addr).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        println!("chatting on {scheme}://{}", listener.local_addr()?);
        let rooms = Rc::new(Rooms::new());
        let cut_off = serve(listener, &stop, Limits::default(), |stream| {
            let (tls, rooms, stop) = (tls.clone(), rooms.clone(), stop.clone());
            async move {
                let Some(tls) = tls else {
                    return chat::serve(stream, rooms, stop, chat::limits()).await;
                };
                match tls.accept(stream).await {
                    Ok(stream) => chat::serve_tls(stream, rooms, stop, chat::limits()).await,
                    Err(error) => windlass_web::tls::report(&error),
                }
            }
        })
        .await;
        println!("stopped; connections that were cut off: {cut_off}");
        Ok(())
    })
}
