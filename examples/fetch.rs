//! Fetches URLs concurrently, at most four at a time, with a limit of 10 MB per page.
//!
//! ```sh
//! cargo run --features http --example fetch -- https://www.rust-lang.org/ https://docs.rs/
//! ```

use std::env;
use std::time::Instant;

use futures::{StreamExt, stream};
use windlass::http::{Client, Error, FinalUri};

async fn fetch(client: &Client, url: &str) -> Result<String, Error> {
    let start = Instant::now();
    let response = client.get(url).await?;
    let (status, version) = (response.status(), response.version());
    let uri = response
        .extensions()
        .get::<FinalUri>()
        .map(|uri| uri.0.to_string());
    let length = response.into_body().bytes(10_000_000).await?.len();
    let uri = uri.unwrap_or_default();
    Ok(format!(
        "{uri}: {status} {version:?}, {length} bytes in {:?}",
        start.elapsed()
    ))
}

fn main() {
    let urls: Vec<String> = env::args().skip(1).collect();
    windlass::block_on(async {
        let client = Client::new();
        let fetches = stream::iter(&urls).map(|url| fetch(&client, url));
        let mut lines = fetches.buffer_unordered(4);
        while let Some(line) = lines.next().await {
            match line {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("{error}"),
            }
        }
    });
}
