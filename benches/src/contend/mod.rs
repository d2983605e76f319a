//! The contenders, and the works that they run.

mod compio;
mod floor;
mod glommio;
mod meter;
mod monoio;
mod runtime;
mod server;
mod smol;
mod threads;
mod tokio;
mod wake;
mod windlass;
mod works;

use anyhow::{Context, Result, bail};

pub(crate) use meter::{Params, percentile, print, read};
use server::Server;
pub(crate) use server::raise_descriptors;

/// `work <contender> <work> [key=value …]`: runs a work and prints the results.
pub(crate) fn work(args: &[String]) -> Result<()> {
    let (contender, work, params) = parse(args)?;
    match contender {
        "windlass" => works::run::<windlass::Windlass>(work, &params),
        "windlass-precise" => works::run::<windlass::Precise>(work, &params),
        "tokio" => works::run::<tokio::Tokio>(work, &params),
        "smol" => works::run::<smol::Smol>(work, &params),
        "monoio-uring" => works::run::<monoio::Uring>(work, &params),
        "monoio-epoll" => works::run::<monoio::Epoll>(work, &params),
        "glommio" => works::run::<glommio::Glommio>(work, &params),
        "compio" => works::run::<compio::Compio>(work, &params),
        "threads" => threads::work(work, &params),
        "floor" => floor::work(work, &params),
        other => bail!("no such contender: {other}"),
    }
}

/// `serve <contender> <proto> [key=value …]`: serves until the standard input ends.
pub(crate) fn serve(args: &[String]) -> Result<()> {
    let (contender, proto, params) = parse(args)?;
    let server = Server::new(proto, &params)?;
    match contender {
        "windlass" | "windlass-precise" => windlass::serve(&server),
        "tokio" => tokio::serve(&server),
        "smol" => smol::serve(&server),
        "monoio-uring" => monoio::serve::<monoio::Uring>(&server),
        "monoio-epoll" => monoio::serve::<monoio::Epoll>(&server),
        "glommio" => glommio::serve(&server),
        "compio" => compio::serve(&server),
        "threads" => threads::serve(&server),
        "floor" => floor::serve(&server),
        other => bail!("no such contender: {other}"),
    }
}

fn parse(args: &[String]) -> Result<(&str, &str, Params)> {
    let [contender, what, params @ ..] = args else {
        bail!("say a contender and what it is to do")
    };
    let params = Params::parse(params).context("parameters are key=value")?;
    Ok((contender, what, params))
}

/// A work that a contender doesn't support. The suite shows it.
fn unsupported(why: &str) -> Result<()> {
    println!("unsupported {why}");
    Ok(())
}
