//! The application of `axum_hello` on other runtimes, each through the adapter for hyper that its
//! project publishes. Their only limit is the time for the head of a request. The part `services`
//! of the benchmarks starts them.
//!
//! ```text
//! cargo run --release -p windlass-web --example axum_peers -- tokio 127.0.0.1:8085
//! ```
//!
//! The others are `smol`, `monoio` and `compio`. glommio has no adapter for hyper 1.

#[cfg(target_os = "linux")]
mod peers {
    use std::net;
    use std::sync::Arc;
    use std::time::Duration;

    use anyhow::Result;
    use hyper::rt::Timer;
    use hyper_util::server::conn::auto;
    use hyper_util::service::TowerToHyperService;
    use windlass_web::greeting;

    /// The limit of `axum_hello`.
    const HEAD_TIME: Duration = Duration::from_secs(15);

    fn http<E>(executor: E, timer: impl Timer + Clone + Send + Sync + 'static) -> auto::Builder<E> {
        let mut builder = auto::Builder::new(executor);
        builder
            .http1()
            .timer(timer.clone())
            .header_read_timeout(HEAD_TIME);
        builder.http2().timer(timer).keep_alive_interval(HEAD_TIME);
        builder
    }

    pub(super) fn tokio(addr: &str) -> Result<()> {
        use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
        use tokio::net::TcpListener;
        use tokio::runtime::Builder;

        let http = http(TokioExecutor::new(), TokioTimer::new());
        let service = TowerToHyperService::new(greeting::router());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind(addr).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let (http, service) = (http.clone(), service.clone());
                tokio::spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        })
    }

    pub(super) fn smol(addr: &str) -> Result<()> {
        use async_executor::Executor;
        use async_io::Async;
        use smol_hyper::rt::{FuturesIo, SmolExecutor, SmolTimer};

        let executor = Arc::new(Executor::new());
        let http = http(SmolExecutor::new(executor.clone()), SmolTimer::new());
        let service = TowerToHyperService::new(greeting::router());
        let listener = Async::new(net::TcpListener::bind(addr)?)?;
        async_io::block_on(executor.run(async {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.get_ref().set_nodelay(true)?;
                let (http, service) = (http.clone(), service.clone());
                let connection = async move {
                    let _ = http.serve_connection(FuturesIo::new(stream), service).await;
                };
                executor.spawn(connection).detach();
            }
        }))
    }

    pub(super) fn monoio(addr: &str) -> Result<()> {
        use monoio::io::IntoPollIo;
        use monoio::net::TcpListener;
        use monoio::{FusionDriver, RuntimeBuilder};
        use monoio_compat::hyper::{MonoioExecutor, MonoioIo, MonoioTimer};

        let http = http(MonoioExecutor, MonoioTimer);
        let service = TowerToHyperService::new(greeting::router());
        let mut runtime = RuntimeBuilder::<FusionDriver>::new()
            .enable_timer()
            .build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind(addr)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let stream = MonoioIo::new(stream.into_poll_io()?);
                let (http, service) = (http.clone(), service.clone());
                monoio::spawn(async move {
                    let _ = http.serve_connection(stream, service).await;
                });
            }
        })
    }

    pub(super) fn compio(addr: &str) -> Result<()> {
        use compio::net::TcpListener;
        use compio::runtime::Runtime;
        use cyper_core::{CompioExecutor, CompioTimer, HyperStream};

        let http = http(CompioExecutor, CompioTimer);
        let service = TowerToHyperService::new(greeting::router());
        Runtime::new()?.block_on(async {
            let listener = TcpListener::bind(addr).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let stream = HyperStream::new_plain(stream);
                let (http, service) = (http.clone(), service.clone());
                let connection = async move {
                    let _ = http.serve_connection(stream, service).await;
                };
                compio::runtime::spawn(connection).detach();
            }
        })
    }
}

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tokio", addr] => peers::tokio(addr),
        ["smol", addr] => peers::smol(addr),
        ["monoio", addr] => peers::monoio(addr),
        ["compio", addr] => peers::compio(addr),
        _ => anyhow::bail!("RUNTIME ADDRESS, with tokio, smol, monoio or compio"),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("monoio and compio use io_uring here, which is for Linux");
}
