//! gRPC by tonic, without its transport: the server's routes run on windlass's hyper adapters, and
//! the client on [`windlass::http`]. The messages and the service are written by hand, as
//! tonic-build generates them from a `.proto` file.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper::server::conn::http2;
use hyper_util::service::TowerToHyperService;
use tonic::body::Body;
use tonic::server::{NamedService, ServerStreamingService, UnaryService};
use tonic::service::Routes;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::ServiceExt as _;
use tower::util::MapRequest;
use windlass::http::Client;
use windlass::hyper::{Executor, Io};
use windlass::net::TcpListener;

/// `message Ship { string name = 1; uint32 masts = 2; }`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ship {
    /// The name, which is not empty.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The number of masts.
    #[prost(uint32, tag = "2")]
    pub masts: u32,
}

/// `service Harbour { rpc Rig(Ship) returns (Ship); rpc Fleet(Ship) returns (stream Ship); }`
#[derive(Clone, Debug)]
pub struct Harbour;

impl NamedService for Harbour {
    const NAME: &'static str = "windlass.Harbour";
}

/// Returns the ship with one more mast. A ship without a name is an error.
impl UnaryService<Ship> for Harbour {
    type Response = Ship;
    type Future = BoxFuture<'static, Result<tonic::Response<Ship>, Status>>;

    fn call(&mut self, request: tonic::Request<Ship>) -> Self::Future {
        Box::pin(async move {
            let Ship { name, masts } = request.into_inner();
            windlass::time::sleep(std::time::Duration::from_millis(1)).await;
            if name.is_empty() {
                return Err(Status::invalid_argument("a ship has a name"));
            }
            Ok(tonic::Response::new(Ship {
                name,
                masts: masts + 1,
            }))
        })
    }
}

/// Returns a ship per mast.
impl ServerStreamingService<Ship> for Harbour {
    type Response = Ship;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Ship, Status>> + Send>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Ship>) -> Self::Future {
        let Ship { name, masts } = request.into_inner();
        let fleet = futures::stream::iter((0..masts).map(move |masts| {
            Ok(Ship {
                name: name.clone(),
                masts,
            })
        }));
        Box::pin(async { Ok(tonic::Response::new(Box::pin(fleet) as Self::ResponseStream)) })
    }
}

impl tower::Service<Request<Body>> for Harbour {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<Ship, Ship>::default());
        match request.uri().path() {
            "/windlass.Harbour/Rig" => {
                Box::pin(async move { Ok(grpc.unary(Harbour, request).await) })
            }
            "/windlass.Harbour/Fleet" => {
                Box::pin(async move { Ok(grpc.server_streaming(Harbour, request).await) })
            }
            _ => Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}

/// Serves connections, each as a task.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let routes = Routes::new(Harbour).prepare();
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(routes.clone());
        let connection = http2::Builder::new(Executor).serve_connection(Io::new(stream), service);
        windlass::spawn(connection).detach();
    }
}

type Transport = MapRequest<Client, fn(Request<Body>) -> Request<windlass::http::Body>>;

/// The generated client.
#[derive(Debug)]
pub struct HarbourClient {
    grpc: tonic::client::Grpc<Transport>,
}

impl HarbourClient {
    /// Sends requests over the connections of a client, which speaks HTTP/2.
    pub fn new(client: Client, origin: Uri) -> HarbourClient {
        let convert: fn(Request<Body>) -> _ = |request| request.map(windlass::http::Body::new);
        let grpc = tonic::client::Grpc::with_origin(client.map_request(convert), origin);
        HarbourClient { grpc }
    }

    /// Calls `Rig`.
    pub async fn rig(&mut self, ship: Ship) -> Result<Ship, Status> {
        let path = PathAndQuery::from_static("/windlass.Harbour/Rig");
        let codec = ProstCodec::<Ship, Ship>::default();
        let response = self
            .grpc
            .unary(tonic::Request::new(ship), path, codec)
            .await?;
        Ok(response.into_inner())
    }

    /// Calls `Fleet`.
    pub async fn fleet(&mut self, ship: Ship) -> Result<Streaming<Ship>, Status> {
        let path = PathAndQuery::from_static("/windlass.Harbour/Fleet");
        let codec = ProstCodec::<Ship, Ship>::default();
        let request = tonic::Request::new(ship);
        let response = self.grpc.server_streaming(request, path, codec).await?;
        Ok(response.into_inner())
    }
}
