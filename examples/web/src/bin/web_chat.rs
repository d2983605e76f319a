//! A chat in the browser, with rooms.
//!
//! ```text
//! cargo run -p windlass-web --bin web_chat     # an address may follow: -- 0.0.0.0:7012
//! ```
//!
//! Then open http://localhost:7012 in two windows. Start the server again meanwhile: the pages come
//! back to it by themselves.

use std::env;
use std::io;
use std::rc::Rc;

use windlass::net::TcpListener;
use windlass_web::chat;
use windlass_web::rooms::Rooms;
use windlass_web::server::serve;
use windlass_web::stop_at_signals;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7012");
    windlass::block_on(async {
        let stop = stop_at_signals()?;
        let listener = TcpListener::bind(addr).await?;
        println!("chatting on http://{}", listener.local_addr()?);
        let rooms = Rc::new(Rooms::new());
        serve(listener, &stop, |stream| {
            chat::serve(stream, rooms.clone(), stop.clone(), chat::limits())
        })
        .await
    })
}
