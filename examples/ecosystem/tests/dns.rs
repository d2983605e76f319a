//! hickory-resolver against a name server on loopback, which answers over UDP and TCP.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use futures::{AsyncReadExt, AsyncWriteExt, join};
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use windlass::net::{TcpListener, UdpSocket};
use windlass_ecosystem::dns::{Provider, connect};
use windlass_ecosystem::services::threads;

/// Answers for each name: many IPv4 addresses for names with `many`, otherwise one of each family.
fn answer(query: &[u8], is_udp: bool) -> Vec<u8> {
    let mut message = Message::from_vec(query).unwrap().into_response();
    let query = message.queries[0].clone();
    let name = query.name().clone();
    let is_many = name.to_string().starts_with("many");
    message.metadata.truncation = is_many && is_udp;
    let mut add = |data| {
        message.add_answer(Record::from_rdata(name.clone(), 60, data));
    };
    match query.query_type() {
        RecordType::A if is_many && is_udp => {}
        RecordType::A if is_many => {
            (0..100).for_each(|last| add(RData::A(A::new(127, 0, 0, last))))
        }
        RecordType::A => add(RData::A(A(Ipv4Addr::LOCALHOST))),
        RecordType::AAAA if !is_many => add(RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))),
        _ => {}
    }
    message.to_vec().unwrap()
}

/// Serves names, and counts the queries over UDP and TCP.
async fn serve(udp: UdpSocket, tcp: TcpListener, queries: Rc<[Cell<u32>; 2]>) {
    let over_udp = async {
        let mut buf = [0; 4096];
        loop {
            let (length, from) = udp.recv_from(&mut buf).await.unwrap();
            queries[0].set(queries[0].get() + 1);
            udp.send_to(&answer(&buf[..length], true), from)
                .await
                .unwrap();
        }
    };
    let over_tcp = async {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut length = [0; 2];
            while stream.read_exact(&mut length).await.is_ok() {
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).await.unwrap();
                queries[1].set(queries[1].get() + 1);
                let answer = answer(&query, false);
                let length = (answer.len() as u16).to_be_bytes();
                stream
                    .write_all(&[&length, &answer[..]].concat())
                    .await
                    .unwrap();
            }
        }
    };
    let ((), ()) = join!(over_udp, over_tcp);
}

#[test]
fn names_are_found_over_udp_and_tcp_without_a_thread() {
    windlass::block_on(async {
        let before = threads();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(server).await.unwrap();
        let queries = Rc::new([Cell::new(0), Cell::new(0)]);
        let _server = windlass::spawn(serve(udp, tcp, queries.clone()));

        let connections =
            [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
        let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
        name_server.connections = connections.into();
        let config = ResolverConfig::from_parts(None, vec![], vec![name_server]);
        let resolver = Resolver::builder_with_config(config, Provider)
            .build()
            .unwrap();

        let found = resolver.lookup_ip("ship.test.").await.unwrap();
        let found: Vec<IpAddr> = found.iter().collect();
        assert!(
            found.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)),
            "{found:?}"
        );
        assert!(queries[0].get() > 0);

        // The answer over UDP is truncated, so the resolver repeats the query over TCP.
        let found = resolver.lookup_ip("many.test.").await.unwrap();
        assert_eq!(found.iter().count(), 100);
        assert!(queries[1].get() > 0);

        // Nothing listens on the IPv6 address, so the IPv4 address is used.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stream, accepted) = join!(connect(&resolver, "ship.test.", port), listener.accept());
        let peer: SocketAddr = stream.unwrap().peer_addr().unwrap();
        assert_eq!(peer, listener.local_addr().unwrap());
        accepted.unwrap();
        assert_eq!(threads(), before);
    });
}
