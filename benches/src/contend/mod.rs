//! The contenders, and the works that they do.

pub(crate) fn work(args: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("no such work: {args:?}")
}

pub(crate) fn serve(args: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("no such server: {args:?}")
}
