//! A clean release build, with its duration and the number of crates.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command, Output},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use super::{contender::Contender, noise::own_cpu, results::Outcome};

/// The features of tokio for the parts that windlass has without its default features.
const TOKIO_FEATURES: &str = "\"rt\", \"net\", \"time\", \"io-util\", \"macros\", \"sync\", \"signal\", \
                              \"process\", \"fs\"";

/// The dependencies of a server, with files, child processes, signals and channels.
fn dependencies(who: Contender) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no workspace")?;
    Ok(match who {
        Contender::Windlass => {
            format!("windlass = {{ path = {root:?}, default-features = false }}\n")
        }
        Contender::Tokio => {
            format!("tokio = {{ version = \"1\", features = [{TOKIO_FEATURES}] }}\n")
        }
        Contender::Smol => "smol = \"2\"\n".to_owned(),
        _ => bail!("not planned for {who}"),
    })
}

pub(crate) fn measure(who: Contender) -> Result<Outcome> {
    let folder = Folder::new(who)?;
    let manifest = format!(
        "[package]\nname = \"probe\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{}",
        dependencies(who)?
    );
    fs::create_dir_all(folder.0.join("src"))?;
    fs::write(folder.0.join("src/lib.rs"), "")?;
    fs::write(folder.0.join("Cargo.toml"), manifest)?;
    folder.cargo(&["fetch"])?;
    let tree = folder.cargo(&["tree", "--edges", "normal,build", "--prefix", "none"])?;
    let others = count_others(&String::from_utf8(tree.stdout)?);

    let (began, cpu) = (Instant::now(), own_cpu());
    folder.cargo(&["build", "--release", "--offline"])?;
    let figures = [
        ("wall_ns", began.elapsed().as_nanos() as f64),
        ("build_cpu_ns", (own_cpu() - cpu) * 1e9),
        ("dependencies", others as f64),
    ];
    Ok(Outcome::Figures(
        figures.map(|(name, value)| (name.to_owned(), value)).into(),
    ))
}

/// Without the probe and the crates of this workspace, because users have to trust and update the
/// others.
fn count_others(tree: &str) -> usize {
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let others: BTreeSet<_> = names
        .filter(|name| *name != "probe" && !name.starts_with("windlass"))
        .collect();
    others.iter().filter(|name| !name.is_empty()).count()
}

/// Deleted on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(who: Contender) -> Result<Folder> {
        let folder = env::temp_dir().join(format!("windlass-benches-{}-{who}", process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Folder(folder))
    }

    fn cargo(&self, args: &[&str]) -> Result<Output> {
        let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
        let output = Command::new(cargo)
            .args(args)
            .current_dir(&self.0)
            .env("CARGO_TARGET_DIR", self.0.join("target"))
            .output()
            .context("can't start cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo {}: {said}", args.join(" "));
        Ok(output)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_counted_once_and_our_own_not() {
        let tree = "probe v0.0.0 (path)\nwindlass-executor v0.1.0 (path)\nparking v2.2.1\n\
                    windlass-reactor v0.1.0 (path)\nparking v2.2.1 (*)\nrustix v1.1.0\n";
        assert_eq!(count_others(tree), 2);
    }
}
