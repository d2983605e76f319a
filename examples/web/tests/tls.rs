//! TLS handshakes, valid and invalid ones.

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, join, join_all, select};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::pki_types::{CertificateDer, ServerName};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::timeout;
use windlass_web::tls::{Acceptor, Identity, LIMIT, connector};

/// An acceptor, and the certificate that its clients must trust.
fn acceptor(limit: Duration) -> io::Result<(Acceptor, CertificateDer<'static>)> {
    let identity = Identity::self_signed()?;
    let root = identity.chain[0].clone();
    Ok((
        Acceptor::new(identity, &["h2", "http/1.1"])?.with_limit(limit),
        root,
    ))
}

/// Both ends of a connection.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (accepted, connected) = join(listener.accept(), TcpStream::connect(addr)).await;
    Ok((accepted?.0, connected?))
}

async fn ahoy(acceptor: &Acceptor, root: CertificateDer<'static>) -> io::Result<()> {
    let (server, client) = pair().await?;
    let serving = async {
        let mut stream = acceptor.accept(server).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(b"ahoy").await?;
        stream.close().await
    };
    let asking = async {
        let name = ServerName::try_from("localhost").unwrap();
        let connector = connector([root], &["http/1.1"])?;
        let mut stream = connector.connect(name, client).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        assert_eq!(text, "ahoy");
        Ok(())
    };
    let (served, asked) = join(serving, asking).await;
    served.and(asked)
}

#[test]
fn a_handshake_negotiates_a_protocol() -> io::Result<()> {
    let (acceptor, root) = acceptor(LIMIT)?;
    windlass::block_on(ahoy(&acceptor, root))
}

/// That many clients stall, every second one after half of its hello.
async fn crowd(
    acceptor: &Acceptor,
) -> io::Result<(
    Vec<TcpStream>,
    Vec<impl Future<Output = io::Result<impl Debug>>>,
)> {
    let (mut clients, mut accepting) = (Vec::new(), Vec::new());
    for number in 0..200 {
        let (server, mut client) = pair().await?;
        if number % 2 == 0 {
            client.write_all(&[22, 3, 1, 2, 0, 1]).await?;
        }
        accepting.push(acceptor.accept(server));
        clients.push(client);
    }
    Ok((clients, accepting))
}

#[test]
fn stalled_handshakes_time_out() -> io::Result<()> {
    let (acceptor, _) = acceptor(Duration::from_millis(20))?;
    windlass::block_on(async {
        let (clients, accepting) = crowd(&acceptor).await?;
        for accepted in join_all(accepting).await {
            assert_eq!(accepted.unwrap_err().kind(), ErrorKind::TimedOut);
        }
        for mut client in clients {
            assert_eq!(client.read(&mut [0]).await?, 0, "it is disconnected");
        }
        Ok(())
    })
}

#[test]
fn stalled_handshakes_delay_no_others() -> io::Result<()> {
    let (acceptor, root) = acceptor(Duration::from_secs(3600))?;
    windlass::block_on(async {
        let (_clients, accepting) = crowd(&acceptor).await?;
        let served = timeout(Duration::from_secs(60), ahoy(&acceptor, root));
        match select(join_all(accepting), pin!(served)).await {
            Either::Left(_) => panic!("none of them has timed out yet"),
            Either::Right((served, _)) => served?,
        }
    })
}

#[test]
fn unknown_protocols_and_untrusted_certificates_are_errors() -> io::Result<()> {
    let ((acceptor, _), (_, other_root)) = (acceptor(LIMIT)?, acceptor(LIMIT)?);
    windlass::block_on(async {
        let (server, mut client) = pair().await?;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        let refused = acceptor.accept(server).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidData);
        let distrusted = ahoy(&acceptor, other_root).await.unwrap_err();
        assert_eq!(distrusted.kind(), ErrorKind::InvalidData);
        Ok(())
    })
}
