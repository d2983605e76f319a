//! A hundred thousand Redis commands of a thousand tasks, over one connection.
//!
//! ```text
//! redis-server --port 7011 --save ''                     # in a second terminal
//! cargo run -p windlass-web --bin redis_pipeline     # an address may follow: -- host:6379
//! ```
//!
//! Each task repeatedly sets a key, reads it back, and waits for each reply, as if it were alone.
//! Because many commands are in flight at the same time, they share system calls.

use std::env;
use std::rc::Rc;
use std::time::Instant;

use windlass::task::TaskGroup;
use windlass_web::redis::{Client, Error, IN_FLIGHT, Reply};

const TASKS: usize = 1_000;
const ROUNDS: usize = 50;

fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7011");
    windlass::block_on(async {
        let client = Rc::new(Client::connect(addr).await?);
        let (start, tasks) = (Instant::now(), TaskGroup::new());
        for task in 0..TASKS {
            tasks.spawn(set_and_get(client.clone(), task));
        }
        tasks.close().await?;
        let (commands, seconds) = (2 * TASKS * ROUNDS, start.elapsed().as_secs_f64());
        println!("{commands} commands, {IN_FLIGHT} at once at most: {seconds:.2} s");
        println!("all answers were those expected");

        if let Err(error) = client.call(&["INCR", "windlass:0"]).await {
            println!("INCR of a text is {error}");
        }
        for task in 0..TASKS {
            client.call(&["DEL", &format!("windlass:{task}")]).await?;
        }
        Ok(())
    })
}

async fn set_and_get(client: Rc<Client>, task: usize) -> Result<(), Error> {
    let key = format!("windlass:{task}");
    for round in 0..ROUNDS {
        let value = format!("round {round} of {task}");
        let set = client.call(&["SET", &key, &value]).await?;
        assert_eq!(set, Reply::Status("OK".into()));
        let get = client.call(&["GET", &key]).await?;
        assert_eq!(get, Reply::Bytes(value.into_bytes()));
    }
    Ok(())
}
