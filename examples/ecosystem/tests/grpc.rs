//! A client and a server of tonic.

use std::time::Duration;

use futures::TryStreamExt;
use tonic::Code;
use windlass::http::Client;
use windlass::net::TcpListener;
use windlass::time::timeout;
use windlass_ecosystem::grpc::{HarbourClient, Ship, serve};
use windlass_ecosystem::services::threads;

fn ship(name: &str, masts: u32) -> Ship {
    let name = name.to_owned();
    Ship { name, masts }
}

#[test]
fn unary_calls_streams_and_errors_on_one_thread() {
    windlass::block_on(async {
        let before = threads();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let _server = windlass::spawn(serve(listener));

        let client = Client::builder().http2_only().build().unwrap();
        let mut harbour = HarbourClient::new(client, origin.parse().unwrap());
        let rigged = harbour.rig(ship("Windlass", 2)).await.unwrap();
        assert_eq!(rigged, ship("Windlass", 3));

        let error = harbour.rig(ship("", 2)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.message(), "a ship has a name");

        let fleet = harbour.fleet(ship("Windlass", 100)).await.unwrap();
        let fleet: Vec<Ship> = fleet.try_collect().await.unwrap();
        assert_eq!((fleet.len(), &fleet[99]), (100, &ship("Windlass", 99)));

        // A deadline is a time limit of windlass. It resets the stream of the call.
        let late = timeout(Duration::ZERO, harbour.rig(ship("Windlass", 2))).await;
        assert!(late.is_err());
        harbour.rig(ship("Windlass", 2)).await.unwrap();

        let client = Client::builder().http2_only().build().unwrap();
        let mut harbour = HarbourClient::new(client, "http://127.0.0.1:1".parse().unwrap());
        let error = harbour.rig(ship("Windlass", 2)).await.unwrap_err();
        assert!(error.to_string().contains("can't connect"), "{error}");
        assert_eq!(threads(), before);
    });
}
