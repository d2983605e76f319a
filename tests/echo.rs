//! Echo over real connections on one thread, compared byte for byte.

mod common;

use std::io;
use std::net::Shutdown;

use common::{Count, pair, run};
use futures::future::{try_join, try_join_all};
use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::spawn;

/// Sends back all input until the stream ends.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.close().await,
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

/// Bytes that differ per client and per offset.
fn bytes(client: usize, length: usize) -> Vec<u8> {
    let byte = |place: usize| (client * 31 + place * 7 + place / 251) as u8;
    (0..length).map(byte).collect()
}

#[test]
fn a_thousand_concurrent_clients_are_echoed() -> io::Result<()> {
    const CLIENTS: usize = 1000;
    let served = Count::default();
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let count = served.clone();
        let server = spawn(async move {
            let mut connections = Vec::new();
            for _ in 0..CLIENTS {
                let (stream, _) = listener.accept().await?;
                let count = count.clone();
                connections.push(spawn(async move {
                    echo(stream).await?;
                    count.add();
                    io::Result::Ok(())
                }));
            }
            try_join_all(connections).await
        });
        // All connect before the first one sends, so that all are open at the same time.
        let connects = (0..CLIENTS).map(|_| TcpStream::connect(addr));
        let streams = try_join_all(connects).await?;
        let clients = streams.into_iter().enumerate().map(|(client, mut stream)| {
            spawn(async move {
                for length in [1, 700, 5000] {
                    let sent = bytes(client, length);
                    stream.write_all(&sent).await?;
                    let mut back = vec![0; length];
                    stream.read_exact(&mut back).await?;
                    assert_eq!(back, sent, "client {client}");
                }
                stream.close().await?;
                assert_eq!(stream.read(&mut [0]).await?, 0, "client {client}");
                io::Result::Ok(())
            })
        });
        try_join_all(clients).await?;
        server.await?;
        assert_eq!(served.get(), CLIENTS);
        Ok(())
    })
}

#[test]
fn one_task_writes_while_another_reads_the_same_stream() -> io::Result<()> {
    run(async {
        let (near, far) = pair().await?;
        spawn(async move { echo(far).await.expect("the connection holds") }).detach();
        let sent = bytes(7, 16 << 20);
        let mut back = vec![0; sent.len()];
        let (mut reader, mut writer) = (&near, &near);
        let writing = async {
            writer.write_all(&sent).await?;
            writer.close().await
        };
        try_join(writing, reader.read_exact(&mut back)).await?;
        assert!(back == sent, "other bytes came back");
        assert_eq!(reader.read(&mut [0]).await?, 0);
        Ok(())
    })
}

#[test]
fn a_half_closed_connection_keeps_the_other_direction() -> io::Result<()> {
    run(async {
        let (mut near, mut far) = pair().await?;
        near.write_all(b"question").await?;
        near.shutdown(Shutdown::Write)?;
        let mut question = String::new();
        far.read_to_string(&mut question).await?; // ends at the half-close
        assert_eq!(question, "question");
        far.write_all(b"answer").await?;
        far.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        near.read_to_string(&mut answer).await?;
        assert_eq!(answer, "answer");
        Ok(())
    })
}
