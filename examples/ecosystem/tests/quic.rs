//! quinn with itself over loopback: streams of QUIC, and a request of HTTP/3.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::poll_fn;
use futures::join;
use http::{Request, Response};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use windlass_ecosystem::quic::endpoint;
use windlass_ecosystem::services::threads;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server, and a client that trusts it.
fn endpoints(protocol: &str) -> (Endpoint, Endpoint) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![protocol.into()];
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![protocol.into()];

    let server = QuicServerConfig::try_from(server).unwrap();
    let server = endpoint(LOOPBACK, Some(ServerConfig::with_crypto(Arc::new(server)))).unwrap();
    let mut from = endpoint(LOOPBACK, None).unwrap();
    let client = QuicClientConfig::try_from(client).unwrap();
    from.set_default_client_config(ClientConfig::new(Arc::new(client)));
    (server, from)
}

#[test]
fn streams_and_http3_on_one_thread() {
    windlass::block_on(async {
        let before = threads();
        megabytes_go_both_ways().await;
        http3_requests().await;
        assert_eq!(threads(), before);
    });
}

async fn megabytes_go_both_ways() {
    let (server, client) = endpoints("echo");
    let addr = server.local_addr().unwrap();
    let echo = windlass::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            windlass::spawn(async move {
                while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.unwrap() {
                    send.write_chunk(chunk.bytes).await.unwrap();
                }
                send.finish().unwrap();
            })
            .detach();
        }
    });

    let connection = client.connect(addr, "localhost").unwrap().await.unwrap();
    let sent: Vec<u8> = (0..4_000_000).map(|at: u32| at as u8).collect();
    for _ in 0..3 {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        let sending = async {
            send.write_all(&sent).await.unwrap();
            send.finish().unwrap();
        };
        let (_, received) = join!(sending, receive.read_to_end(sent.len()));
        assert!(received.unwrap() == sent);
    }
    connection.close(0_u8.into(), b"");
    echo.await;
    client.wait_idle().await;
}

async fn http3_requests() {
    let (server, client) = endpoints("h3");
    let addr = server.local_addr().unwrap();
    let serving = windlass::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let quic = h3_quinn::Connection::new(connection);
        let mut http = h3::server::Connection::<_, Bytes>::new(quic).await.unwrap();
        while let Ok(Some(resolver)) = http.accept().await {
            windlass::spawn(async move {
                let (request, mut stream) = resolver.resolve_request().await.unwrap();
                let body = format!("{} {}", request.method(), request.uri().path());
                stream.send_response(Response::new(())).await.unwrap();
                stream.send_data(body.into()).await.unwrap();
                stream.finish().await.unwrap();
            })
            .detach();
        }
    });

    let connection = client.connect(addr, "localhost").unwrap().await.unwrap();
    let quic = h3_quinn::Connection::new(connection);
    let (mut driver, mut http) = h3::client::new(quic).await.unwrap();
    let driver = windlass::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    for path in ["/a", "/b"] {
        let request = Request::get(format!("https://localhost{path}"))
            .body(())
            .unwrap();
        let mut stream = http.send_request(request).await.unwrap();
        stream.finish().await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        let mut body = BytesMut::new();
        while let Some(mut piece) = stream.recv_data().await.unwrap() {
            body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        assert_eq!(body, format!("GET {path}"));
    }
    drop(http);
    assert!(driver.await.is_h3_no_error());
    drop(serving);
    client.wait_idle().await;
}
