//! The suite: plan, rounds, report.

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("nothing planned: {args:?}")
}
