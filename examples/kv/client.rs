//! A client: each call is retried until the primary answers.

use std::io;

use windlass::time::sleep;

use crate::connection::{Connection, PAUSE};

pub(crate) struct Client {
    primary: String,
    name: String,
    writes: u64,
    connection: Option<Connection>,
}

impl Client {
    /// Creates a client of the primary. No other client has this name, before or after.
    pub(crate) fn new(primary: &str, name: &str) -> Client {
        Client {
            primary: primary.to_owned(),
            name: name.to_owned(),
            writes: 0,
            connection: None,
        }
    }

    /// Writes a value. Returns when the primary and a majority of the nodes have synced it.
    pub(crate) async fn put(&mut self, key: &str, value: &str) {
        self.writes += 1;
        let (name, number) = (&self.name, self.writes);
        let request = format!("put {name} {number} {key} {value}");
        self.call(&request).await;
    }

    /// Reads the last value of a key.
    pub(crate) async fn get(&mut self, key: &str) -> Option<String> {
        let answer = self.call(&format!("get {key}")).await;
        answer.strip_prefix("value ").map(str::to_owned)
    }

    async fn call(&mut self, request: &str) -> String {
        loop {
            match self.attempt(request).await {
                Ok(answer) => return answer,
                Err(_) => self.connection = None, // late answers go with the connection
            }
            sleep(PAUSE).await;
        }
    }

    async fn attempt(&mut self, request: &str) -> io::Result<String> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(&self.primary).await?),
        };
        connection.call(request).await
    }
}
