//! Where a row comes from.

use std::path::Path;
use std::process::Command;

/// The same for all cells of one run.
#[derive(Clone, Debug)]
pub struct Provenance {
    pub commit: String,
    pub dirty: bool,
    pub machine: String,
    pub versions: String,
}

impl Provenance {
    /// Of the project at `root`, on this machine.
    pub fn collect(root: &Path) -> Self {
        let commit = git(root, &["rev-parse", "HEAD"]);
        // What a run writes must not make the next cell's row look as if the code had changed.
        let changes = git(root, &["status", "--porcelain", "--", ".", ":!results", ":!report/out", ":!README.md"]);
        Self {
            dirty: changes.is_none_or(|changes| !changes.is_empty()),
            commit: commit.unwrap_or_else(|| "unknown".into()),
            machine: machine(),
            versions: versions(),
        }
    }
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The CPU's model name where the system tells it, else its architecture.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |model| model.trim().to_owned())
}

/// The lock file fixes every crate's version; its hash says which it was.
fn versions() -> String {
    let lock = blake3::hash(include_bytes!("../../../Cargo.lock")).to_hex();
    format!("sandglass {}, Cargo.lock {}", env!("CARGO_PKG_VERSION"), &lock[..12])
}

/// Now, in UTC, as `2026-01-31T12:00:00Z`.
pub fn timestamp() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = chrono::DateTime::from_timestamp(since.as_secs() as i64, 0).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
