//! The load generator.

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("no such load: {args:?}")
}
