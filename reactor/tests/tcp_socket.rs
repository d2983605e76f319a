//! TCP sockets with options.

mod common;

use std::io::ErrorKind;
use std::net::SocketAddr;

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, join};
use socket2::SockRef;
use windlass_reactor::net::{TcpListener, TcpSocket, TcpStream};

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[test]
fn connects_from_a_chosen_address_with_options() {
    run(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        let listener = socket.listen(16).unwrap();

        let socket = TcpSocket::new_v4().unwrap();
        SockRef::from(&socket)
            .set_recv_buffer_size(1 << 16)
            .unwrap();
        SockRef::from(&socket).set_tcp_nodelay(true).unwrap();
        socket.bind(loopback()).unwrap();
        let source = socket.local_addr().unwrap();
        let mut client = socket
            .connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        assert!(client.nodelay().unwrap());
        assert!(SockRef::from(&client).recv_buffer_size().unwrap() >= 1 << 16);

        let (mut server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, source);
        let mut text = String::new();
        let (written, read) = join!(
            async {
                client.write_all(b"ahoy").await?;
                client.close().await
            },
            server.read_to_string(&mut text)
        );
        written.unwrap();
        assert_eq!(read.unwrap(), 4);
        assert_eq!(text, "ahoy");
    });
}

#[test]
fn reused_address_is_free_while_connections_are_in_time_wait() {
    run(async {
        let first = TcpListener::bind(loopback()).await.unwrap();
        let addr = first.local_addr().unwrap();
        let client = TcpStream::connect(addr).await.unwrap();
        let (server, _) = first.accept().await.unwrap();
        drop(server); // the end that closes first is in TIME_WAIT
        drop(client);
        drop(first);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(addr).unwrap();
        socket.listen(16).unwrap();
    });
}

#[test]
fn errors_name_the_address() {
    run(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        let taken = socket.local_addr().unwrap();
        let other = TcpSocket::new_v4().unwrap();
        let error = other.bind(taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(
            error
                .to_string()
                .starts_with(&format!("can't bind to {taken}: "))
        );
        // The socket is bound, but does not listen.
        let error = other.connect(taken).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(
            error
                .to_string()
                .starts_with(&format!("can't connect to {taken}: "))
        );
    });
}

#[test]
fn unused_socket_closes_its_descriptor() {
    run(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        let addr = socket.local_addr().unwrap();
        drop(socket);
        TcpListener::bind(addr).await.unwrap();
    });
}

#[test]
fn try_accept_returns_what_is_there() {
    run(async {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let error = listener.try_accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        let second = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        // The handshake is over, so the connection is in the queue.
        let accepted = loop {
            match listener.try_accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    windlass_reactor::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                accepted => break accepted.unwrap(),
            }
        };
        assert_eq!(accepted.1, second.local_addr().unwrap());
    });
}
