//! `windlass::http` against nginx: keep-alive, chunked bodies, redirects, TLS with a CA of our own,
//! HTTP/2 by ALPN, and a tunnel through a proxy. `tests/http` of the facade has the rest.

use std::cell::Cell;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join, stream};
use http::Version;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use windlass::http::{Body, Client, ErrorKind, Request};
use windlass::net::{TcpListener, TcpStream};
use windlass::{Task, block_on, spawn};
use windlass_ecosystem::service_or_skip;
use windlass_ecosystem::services::{Service, free_addr, threads};

/// A CA, and a certificate of it for `localhost` in the folder, for nginx.
fn certificates(folder: &Path) -> String {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_params(&params, &ca_key);
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    ca.pem()
}

/// nginx with plain HTTP, TLS with HTTP/1.1, and TLS with HTTP/2.
struct Nginx {
    service: Service,
    tls: SocketAddr,
    http2: SocketAddr,
    ca: String,
}

fn nginx() -> io::Result<Option<Nginx>> {
    let (tls, http2) = (free_addr()?, free_addr()?);
    let mut ca = String::new();
    let service = Service::nginx(|plain, folder| {
        ca = certificates(folder);
        fs::write(folder.join("large"), vec![b'x'; 3_000_000]).unwrap();
        let ssl = "ssl_certificate server.pem; ssl_certificate_key server.key;";
        let locations = format!(
            r#"root {};
            # The number of the connection, and of its request.
            location = /count {{ return 200 "$connection $connection_requests $server_protocol"; }}
            location = /moved {{ return 302 /count; }}
            location = /endless {{ return 302 /endless; }}
            location = /away {{ return 307 https://localhost:{}/count; }}"#,
            folder.display(),
            tls.port()
        );
        format!(
            "server {{ listen {plain}; keepalive_requests 1000000; {locations} }}
             server {{ listen {tls} ssl; {ssl} {locations} }}
             server {{ listen {http2} ssl http2; {ssl} {locations} }}
             server {{ listen 127.0.0.1:{}; keepalive_requests 3; {locations} }}",
            free_addr().unwrap().port()
        )
    })?;
    Ok(service.map(|service| Nginx {
        service,
        tls,
        http2,
        ca,
    }))
}

async fn get(client: &Client, url: &str) -> (Version, String) {
    let response = client.get(url).await.unwrap();
    assert_eq!(response.status(), 200);
    let version = response.version();
    (version, response.into_body().text(1000).await.unwrap())
}

/// A proxy for `CONNECT`, and the number of its tunnels.
async fn tunnels() -> (SocketAddr, Rc<Cell<u32>>, Task<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let task = spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counted.set(counted.get() + 1);
            let tunnel = async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    client.read_exact(&mut byte).await?;
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap();
                let server = TcpStream::connect(target).await?;
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                let (mut to_server, mut to_client) = (&server, &client);
                let (up, down) = join!(
                    futures::io::copy(&client, &mut to_server),
                    futures::io::copy(&server, &mut to_client)
                );
                up.and(down)
            };
            spawn(tunnel).detach();
        }
    });
    (addr, count, task)
}

#[test]
fn requests_share_connections_that_nginx_counts() {
    let nginx = service_or_skip!(nginx());
    block_on(async {
        let client = Client::new();
        let url = format!("http://{}/count", nginx.service.addr);
        let (_, first) = get(&client, &url).await;
        let connection = first.split(' ').next().unwrap().to_owned();
        for number in 2..100 {
            let (version, text) = get(&client, &url).await;
            assert_eq!(version, Version::HTTP_11);
            assert_eq!(text, format!("{connection} {number} HTTP/1.1"));
        }
    });
}

#[test]
fn redirects_and_large_bodies_over_a_loopback_interface() {
    let nginx = service_or_skip!(nginx());
    block_on(async {
        let client = Client::builder()
            .root_certificates(nginx.ca.as_bytes())
            .build()
            .unwrap();
        let url = |path| format!("http://{}{path}", nginx.service.addr);
        assert!(get(&client, &url("/moved")).await.1.contains("HTTP/1.1"));
        let error = client.get(url("/endless").as_str()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Redirect);
        // To another origin, with TLS.
        let post = Request::post(url("/away")).body("cargo").unwrap();
        let moved = client.request(post).await.unwrap();
        assert_eq!(moved.status(), 200);
        let body = client
            .get(url("/large").as_str())
            .await
            .unwrap()
            .into_body();
        let error = body.bytes(2_999_999).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BodyLimit);
        let body = client
            .get(url("/large").as_str())
            .await
            .unwrap()
            .into_body();
        assert_eq!(body.bytes(3_000_000).await.unwrap().len(), 3_000_000);
    });
}

#[test]
fn tls_trusts_our_ca_and_negotiates_http2() {
    let nginx = service_or_skip!(nginx());
    block_on(async {
        let client = Client::builder()
            .root_certificates(nginx.ca.as_bytes())
            .build()
            .unwrap();
        let url = format!("https://localhost:{}/count", nginx.tls.port());
        assert_eq!(get(&client, &url).await.0, Version::HTTP_11);
        let before = threads();
        let url = format!("https://localhost:{}/count", nginx.http2.port());
        assert_eq!(get(&client, &url).await.0, Version::HTTP_2);

        // A hundred requests share the connection.
        let requests = stream::iter(0..100).map(|_| get(&client, &url));
        let texts: Vec<_> = requests.buffer_unordered(20).collect().await;
        let connection = |text: &str| text.split(' ').next().unwrap().to_owned();
        let first = connection(&texts[0].1);
        assert!(texts.iter().all(|(_, text)| connection(text) == first));
        assert!(threads() <= before);

        let url = format!("https://localhost:{}/large", nginx.http2.port());
        let body = client.get(url.as_str()).await.unwrap().into_body();
        assert_eq!(body.bytes(3_000_000).await.unwrap().len(), 3_000_000);
    });
}

#[test]
fn an_unknown_ca_and_a_wrong_name_are_errors_of_tls() {
    let nginx = service_or_skip!(nginx());
    block_on(async {
        let url = format!("https://localhost:{}/count", nginx.tls.port());
        let error = Client::new().get(url.as_str()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        // Without roots of the system, the error is about these.
        let text = error.to_string();
        assert!(
            text.contains("unknown issuer") || text.contains("no root"),
            "{text}"
        );

        let client = Client::builder()
            .root_certificates(nginx.ca.as_bytes())
            .build()
            .unwrap();
        let url = format!("https://127.0.0.2:{}/count", nginx.tls.port());
        let error = client.get(url.as_str()).await.unwrap_err();
        assert!(
            [ErrorKind::Tls, ErrorKind::Connect].contains(&error.kind()),
            "{error}"
        );
        let url = format!("https://{}/count", nginx.service.addr);
        let error = client.get(url.as_str()).await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Tls,
            "a server without TLS: {error}"
        );
    });
}

#[test]
fn a_tunnel_carries_tls_and_http2() {
    let nginx = service_or_skip!(nginx());
    block_on(async {
        let (proxy, tunnels, _task) = tunnels().await;
        let client = Client::builder()
            .root_certificates(nginx.ca.as_bytes())
            .proxy(&format!("http://{proxy}"))
            .build()
            .unwrap();
        let url = format!("https://localhost:{}/count", nginx.http2.port());
        for _ in 0..3 {
            assert_eq!(get(&client, &url).await.0, Version::HTTP_2);
        }
        let url = format!("https://localhost:{}/count", nginx.tls.port());
        for _ in 0..3 {
            assert_eq!(get(&client, &url).await.0, Version::HTTP_11);
        }
        assert_eq!(tunnels.get(), 2);
    });
}

#[test]
fn a_streamed_body_is_chunked() {
    let nginx = service_or_skip!(nginx());
    block_on(async {
        let pieces = stream::iter(0..100).map(|_| io::Result::Ok("x".repeat(1000)));
        let request = Request::post(format!("http://{}/count", nginx.service.addr));
        let request = request.body(Body::stream(pieces)).unwrap();
        let response = Client::new().request(request).await.unwrap();
        assert_eq!(response.status(), 200);
    });
}
